"""Weights and training states as safetensors files, with a digest; never pickles."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from betavae import config as configuration
from betavae.config import Config
from betavae.files import schemas
from betavae.files.atomic import write_atomically
from betavae.files.schemas import RUN_FORMAT, CheckpointHeader, ModelHeader
from betavae.model import VAE
from betavae.runs.folder import Run, existing_file, open_run
from betavae.training.loop import Diverged
from betavae.training.state import State, build_model

LARGEST_IMAGE = 1 << 24
"""Values of an image, channels counted, whose model is loaded."""
_MOMENTS = {"adam": ("step", "exp_avg", "exp_avg_sq"), "muon": ("momentum",)}
_MOMENTS["network_optimiser"] = _MOMENTS["adam"]
"""What a checkpoint has of each optimiser for a parameter that it has moved."""


def save_checkpoint(run: Run, state: State) -> None:
    """Save what continues the run, replacing the checkpoint before.

    Raises:
        Diverged: a weight is not finite; the checkpoint before stays.
        OSError: the disk is full; the checkpoint before stays.
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
    """Restore a fresh state, in place, from the run's checkpoint.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or does not fit the run's settings.
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
        own = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
        _restore(state.network, own, path)
        _restore_moments("network_optimiser", state.network, state.network_optimiser, tensors, path)
    device = next(state.model.parameters()).device
    memory = {name: value.to(device, copy=True) for name, value in tensors.items() if name.startswith("memory.")}
    state.memory = {name.removeprefix("memory."): value for name, value in memory.items()}
    state.step, state.wall_seconds = header["step"], header["wall_seconds"]


def save_model(run: Run, model: VAE) -> None:
    """Save the trained weights with what rebuilds their network."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    _save(tensors, run, "model.safetensors", {"image_shape": model.image_shape})


def load_model(run: Run | str | Path) -> VAE:
    """The trained network of a run or in its folder, on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: there is no run, or its training has not ended.
        ValueError: the file is damaged or does not fit the run's settings.
    """
    run = run if isinstance(run, Run) else open_run(run)
    path = existing_file(run, "model.safetensors")
    tensors, header = _load(run, path, ModelHeader)
    shape, config = header["image_shape"], run.config
    if min(shape) < 1 or math.prod(shape) > LARGEST_IMAGE:
        raise ValueError(f"{path} is damaged (image_shape is {shape}); repeat the run with --overwrite")
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # nobody else's random numbers change
        model = build_model(config, shape)
    _restore(model, tensors, path)
    return model.eval()


def _save(tensors: dict[str, torch.Tensor], run: Run, name: str, facts: dict[str, Any]) -> None:
    """Write tensors and a header; one JSON text, so that the same state gives the same bytes."""
    header = {"format": RUN_FORMAT, **facts, "settings": _settings_digest(run.config)}
    header["sha256"] = _digest(tensors, header)
    write_atomically(run.path(name), safetensors.torch.save(tensors, {"betavae": json.dumps(header)}))


def _digest(tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> str:
    """SHA-256 of a header and of the names, types, shapes and values of tensors."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _settings_digest(config: Config) -> str:
    """SHA-256 of the settings that are not at their defaults, but for the device, which may change."""
    settings = {key: value for key, value in configuration.changed(config).items() if key != "device"}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _load(run: Run, path: Path, kind: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors of a file and what is written beside them, where both are whole and of the run's settings."""
    again = "repeat the run with --overwrite"
    try:
        with safetensors.safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("betavae", "{}")
        tensors = safetensors.torch.load(path.read_bytes())  # tensors in a mapped file die with it, and the process too
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); {again}") from None
    header = schemas.parse(text, path, kind, again, RUN_FORMAT)
    expected = header.pop("sha256")
    if expected != _digest(tensors, header):
        raise ValueError(f"{path} is damaged (its digest does not fit its content); {again}")
    if header["settings"] != _settings_digest(run.config):
        raise ValueError(
            f"{run.path('config.json')} does not hold the settings that {path.name} was written with: it was edited or "
            "damaged; bring it back, or repeat the run with --overwrite"
        )
    return tensors, header


def _kind(optimiser: torch.optim.Optimizer) -> str:
    return type(optimiser).__name__.lower()


def _moments(kind: str, model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """An optimiser's tensors, by the names of the parameters that they belong to."""
    return {
        f"{kind}.{name}.{key}": value.contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def _restore_moments(
    kind: str, model: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], path: Path
) -> None:
    places = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    names = {parameter: name for name, parameter in model.named_parameters()}
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for index, parameter in enumerate(places):
        prefix = f"{kind}.{names[parameter]}."
        own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        shapes = {key: () if key == "step" else parameter.shape for key in _MOMENTS[kind]}
        if own and {key: value.shape for key, value in own.items()} != shapes:
            raise ValueError(f"{path} does not fit the run's settings: moments of {names[parameter]} are others")
        if own:
            moments[index] = {
                key: value if value.dim() == 0 else torch.empty_like(parameter).copy_(value)
                for key, value in own.items()
            }
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})


def _restore(model: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} does not fit the run's settings: {reason}") from None
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {name} holds values that are not finite; repeat the run")
