"""Saves and loads weights and training states as safetensors files with a digest, never as pickles."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from betavae import config_files
from betavae.config import Config
from betavae.files import schemas
from betavae.files.atomic import write_atomically
from betavae.files.schemas import RUN_FORMAT, CheckpointHeader, ModelHeader
from betavae.model import VAE
from betavae.networks.weights import LARGEST_IMAGE, load_tensors, read_tensors
from betavae.runs.folder import Run, existing_file, open_run
from betavae.training.losses import Diverged
from betavae.training.state import State, build_model

_MOMENTS = {"adam": ("step", "exp_avg", "exp_avg_sq"), "muon": ("momentum",)}
_MOMENTS["network_optimiser"] = _MOMENTS["adam"]
"""Names of each optimiser's state tensors for one parameter."""


def save_checkpoint(run: Run, state: State) -> None:
    """Save the training state of a run. Replaces the previous checkpoint.

    Raises:
        Diverged: a weight is not finite. The previous checkpoint remains.
        OSError: writing fails, e.g. on a full disk. The previous checkpoint remains.
    """
    tensors = {f"model.{name}": tensor.contiguous() for name, tensor in state.model.state_dict().items()}
    if state.network:
        tensors |= {f"network.{name}": tensor.contiguous() for name, tensor in state.network.state_dict().items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise Diverged(f"{name} is not finite after step {state.step}")
    for optimiser in state.optimisers:
        tensors |= _moments(_kind(optimiser), state.model, optimiser)
    if state.network and state.network_optimiser:
        tensors |= _moments("network_optimiser", state.network, state.network_optimiser)
    tensors |= {f"memory.{name}": value.contiguous() for name, value in state.memory.items()}
    _save(tensors, run, "checkpoint.safetensors", {"step": state.step, "wall_seconds": state.wall_seconds})


def load_checkpoint(run: Run, state: State) -> None:
    """Restore a new state, in place, from the checkpoint of a run.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the checkpoint is damaged, or it does not match the run's settings.
    """
    path = existing_file(run, "checkpoint.safetensors")
    tensors, header = _load(run, path, CheckpointHeader)
    if not 0 <= header["step"] <= run.config.steps:
        raise ValueError(
            f"{path} is damaged (step is {header['step']} of {run.config.steps}); repeat the run with --overwrite"
        )
    weights = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    _restore(state.model, weights, path)
    for optimiser in state.optimisers:
        _restore_moments(_kind(optimiser), state.model, optimiser, tensors, path)
    if state.network and state.network_optimiser:
        network = {
            name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")
        }
        _restore(state.network, network, path)
        _restore_moments("network_optimiser", state.network, state.network_optimiser, tensors, path)
    device = next(state.model.parameters()).device
    memory = {name: value.to(device, copy=True) for name, value in tensors.items() if name.startswith("memory.")}
    state.memory = {name.removeprefix("memory."): value for name, value in memory.items()}
    state.step, state.wall_seconds = header["step"], header["wall_seconds"]


def load_snapshot(run: Run, image_shape: tuple[int, int, int]) -> VAE:
    """Load the model as it was at the last checkpoint, while the training goes on.

    No random number is drawn, so it is safe in a thread beside the training.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the checkpoint is damaged, or it does not match the run's settings.
    """
    path = existing_file(run, "checkpoint.safetensors")
    tensors, _ = _load(run, path, CheckpointHeader)
    weights = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    with torch.device("meta"):
        model = build_model(run.config, image_shape)
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError:
        raise ValueError(f"{path} does not match the settings of the run") from None
    return model.eval()


def save_model(run: Run, model: VAE) -> None:
    """Save the trained weights and the image shape, from which `load_model` rebuilds the network."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    _save(tensors, run, "model.safetensors", {"image_shape": model.image_shape})


def load_model(run: Run | str | Path) -> VAE:
    """Load the trained model of a run, on the CPU and in evaluation mode.

    Args:
        run: a run, or the path of its folder.

    Raises:
        FileNotFoundError: there is no run in the folder, or its training is not finished.
        ValueError: the file is damaged, or it does not match the run's settings.
    """
    run = run if isinstance(run, Run) else open_run(run)
    path = existing_file(run, "model.safetensors")
    tensors, header = _load(run, path, ModelHeader)
    shape, config = header["image_shape"], run.config
    if min(shape) < 1 or math.prod(shape) > LARGEST_IMAGE:
        raise ValueError(f"{path} is damaged (image_shape is {shape}); repeat the run with --overwrite")
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # keep the caller's random state
        model = build_model(config, shape)
    _restore(model, tensors, path)
    return model.eval()


def _save(tensors: dict[str, torch.Tensor], run: Run, name: str, metadata: dict[str, Any]) -> None:
    """Write tensors and a header. The header is a single JSON text, so that equal states give equal bytes."""
    header = {"format": RUN_FORMAT, **metadata, "settings": _settings_digest(run.config)}
    header["sha256"] = _digest(tensors, header)
    write_atomically(run.path(name), safetensors.torch.save(tensors, {"betavae": json.dumps(header)}))


def _digest(tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> str:
    """SHA-256 of a header and of the names, types, shapes and values of the tensors."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _settings_digest(config: Config) -> str:
    """SHA-256 of the settings that differ from their defaults, except the device, which may change."""
    settings = {key: value for key, value in config_files.changed(config).items() if key != "device"}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _load(run: Run, path: Path, kind: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the tensors and the header of a file; check its digest and that it belongs to the run's settings."""
    remedy = "repeat the run with --overwrite"
    tensors, metadata = read_tensors(path, remedy)
    header = schemas.parse(metadata.get("betavae", "{}"), path, kind, remedy, RUN_FORMAT)
    expected = header.pop("sha256")
    if expected != _digest(tensors, header):
        raise ValueError(f"{path} is damaged (its digest does not match its content); {remedy}")
    if header["settings"] != _settings_digest(run.config):
        raise ValueError(
            f"{run.path('config.json')} has other settings than those that {path.name} was written with: it was edited "
            "or damaged; restore it, or repeat the run with --overwrite"
        )
    return tensors, header


def _kind(optimiser: torch.optim.Optimizer) -> str:
    return type(optimiser).__name__.lower()


def _moments(kind: str, model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state tensors of an optimiser, named by its kind, the parameter and the state."""
    return {
        f"{kind}.{name}.{key}": value.contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def _restore_moments(
    kind: str, model: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], path: Path
) -> None:
    """Restore the state of an optimiser, in place, from the tensors of a checkpoint."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    names = {parameter: name for name, parameter in model.named_parameters()}
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for index, parameter in enumerate(parameters):
        prefix = f"{kind}.{names[parameter]}."
        saved = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        shapes = {key: () if key == "step" else parameter.shape for key in _MOMENTS[kind]}
        if saved and {key: value.shape for key, value in saved.items()} != shapes:
            raise ValueError(
                f"{path} does not match the run's settings: the optimiser state of {names[parameter]} has another shape"
            )
        if saved:
            moments[index] = {
                key: value if value.dim() == 0 else torch.empty_like(parameter).copy_(value)
                for key, value in saved.items()
            }
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})


def _restore(model: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Load weights into a module, in place; check that they match and are finite."""
    load_tensors(model, tensors, path, "the run's settings", "repeat the run with --overwrite")
