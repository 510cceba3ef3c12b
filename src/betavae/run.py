"""The run folder: what one training leaves on disk, written so that it can be interrupted at any moment.

    config.json             settings; repeats the run with `betavae train --from config.json`
    provenance.json         versions, machine, commit, command, data digest, seconds; when continued
    curve.jsonl             one record a line: step, wall_seconds, split, terms in nats
    checkpoint.safetensors  weights, optimiser, step and what else the objective needs; continues the run
    model.safetensors       trained weights
    codes.npz               posterior `mean` and `log_var` (N, D) float32 of the data's `rows` (N,) int64
    scores.json             metrics, importance and information matrices, which code carries which factor
    figures/                PNG and GIF
    report.html             all of it on one page
    DONE                    empty; written last
    .lock, .holder.json     hold off a second process while one trains; say which one that is

Every file but curve.jsonl is replaced whole. Nothing is a pickle. What each must hold is in `schemas`.
"""

import errno
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import nn

from betavae import config as configuration
from betavae import schemas
from betavae.arrays import read_npz
from betavae.config import Config
from betavae.files import replacing, write_atomically
from betavae.metrics.information import entropy
from betavae.model import VAE
from betavae.schemas import CODES, RUN_FORMAT, CheckpointHeader, Holder, ModelHeader
from betavae.settings import needs_of
from betavae.train import Diverged, Record, State

LAYOUT = (
    *("config.json", "provenance.json", "curve.jsonl", "checkpoint.safetensors", "model.safetensors", "codes.npz"),
    *("scores.json", "figures", "report.html", "DONE"),
)
"""The names in a run folder."""
LARGEST_IMAGE = 1 << 24
"""Values of an image, channels counted, whose model is loaded."""
_LOCK, _HOLDER = ".lock", ".holder.json"
_FIGURES = re.compile(
    r"(loss_curves|reconstructions|kl_per_code|factor_strips|importance|traversal_grid_\d+)\.(png|pdf|svg)"
    r"|traversals(\.gif|/seed\d+_z\d+_(fixed|fitted)\.gif)?"
)
"""The names in its folder `figures`."""
_MOMENTS = {"adam": ("step", "exp_avg", "exp_avg_sq"), "muon": ("momentum",)}
_MOMENTS["network_optimiser"] = _MOMENTS["adam"]
"""What a checkpoint has of each optimiser for a parameter that it has moved."""
_HALF_WRITTEN = re.compile(r"(?P<folder>.*/)?\.(?P<name>[^/]+)\.(?P<process>\d+)")
"""What `files.replacing` names a file while it is written."""


@dataclass(frozen=True)
class Codes:
    """Posteriors of images, encoded once and shared by all that comes after training."""

    rows: NDArray[np.int64]
    mean: NDArray[np.float32]
    log_var: NDArray[np.float32]

    @property
    def kl(self) -> NDArray[np.float64]:
        """KL of each code from the prior, averaged over images, in nats (D,).

        Of codes without variance, which are rounded: the entropy of their values, which is what they can tell.
        """
        if np.isneginf(self.log_var).all():
            return np.array([entropy(np.unique(column, return_counts=True)[1]) for column in self.mean.T])
        return np.array([_kl(*code) for code in zip(self.mean.T, self.log_var.T, strict=True)])


@dataclass(frozen=True)
class Run:
    """A run folder and its settings."""

    folder: Path
    config: Config

    def path(self, name: str) -> Path:
        """Path of one of the folder's files."""
        return self.folder / name

    @property
    def done(self) -> bool:
        """Whether everything that the folder should hold is there."""
        return self.path("DONE").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Folders
# ---------------------------------------------------------------------------------------------------------------------


def create_run(folder: str | Path, config: Config, *, overwrite: bool = False) -> Run:
    """A new run folder holding its settings.

    Args:
        folder: where; parents are made.
        config: settings.
        overwrite: delete a run that is there already. A folder that is no run, or holds more, is never deleted.

    Raises:
        FileExistsError: the folder holds something, and it was not told to be overwritten or is no run.
        ValueError: its name is not UTF-8, or the settings could not be read back.
    """
    folder = Path(folder)
    try:
        configuration.from_dict(json.loads(json.dumps(configuration.to_dict(config))), "these settings")
    except TypeError as error:
        raise ValueError(f"these settings cannot be kept as JSON ({error}); give numbers, words and lists") from None
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{str(folder)!r} has no name that pages and JSON can hold (UTF-8); name another folder"
        ) from None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else [""]
        if "config.json" not in names and not all(map(_HALF_WRITTEN.fullmatch, names)):
            raise FileExistsError(f"{folder} exists and is not a run; name another folder with --out")
        if not (foreign := [name for name in sorted(names) if not _of_a_run(_whole(name))]):
            inside = (path.relative_to(folder).as_posix() for path in sorted((folder / "figures").rglob("*")))
            foreign = [name for name in inside if not _of_a_run(_whole(name))]
        if foreign:
            raise FileExistsError(
                f"{folder} holds what is no part of a run ({', '.join(foreign[:5])}); name another folder with --out"
            )
        if "config.json" in names and not overwrite:
            raise FileExistsError(
                f"{folder} holds a run already; continue it with --resume {shlex.quote(str(folder))}, replace it with "
                "--overwrite, or name another folder with --out"
            )
        if folder.is_symlink():
            raise FileExistsError(f"{folder} is a link, which cannot be replaced; give the folder that it leads to")
        with locked(Run(folder, config)):  # nobody trains in it
            pass
        for path in (folder, *folder.rglob("*/")):
            if not os.access(path, os.W_OK | os.X_OK):
                raise PermissionError(
                    errno.EACCES, "cannot be written to, so nothing of the run is replaced", str(path)
                )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, config)
    write_json(run, "config.json", configuration.to_dict(config))
    return run


@contextmanager
def locked(run: Run) -> Iterator[None]:
    """Keep a run folder to this process: two that train in one folder would mix their records and checkpoints.

    Where the file system has no locks, such as some network shares, nothing is held off.

    Raises:
        BlockingIOError: another process holds it; the message names the process.
    """
    lock, holder = FileLock(run.path(_LOCK)), run.path(_HOLDER)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(f"{run.folder} is in use{_told(holder)}: wait until that ends, or stop it") from None
    except (NotImplementedError, PermissionError):
        yield
        return
    try:
        facts = {"host": socket.gethostname(), "process": os.getpid(), "since": f"{datetime.now():%Y-%m-%d %H:%M}"}
        with suppress(OSError):  # a full disk is told where it matters
            write_atomically(holder, json.dumps(facts).encode())
        yield
    finally:
        holder.unlink(missing_ok=True)
        if run.done:  # until then it stays: a process that had just opened it would lock a file that is no more
            with suppress(PermissionError):  # of Windows, which removes no file that is open
                run.path(_LOCK).unlink(missing_ok=True)
        lock.release()


def _told(holder: Path) -> str:
    try:
        facts: Holder = schemas.read_json(holder, Holder, "")
    except (OSError, ValueError):
        return " by another process"
    return f" by process {facts['process']} on {facts['host']}, since {facts['since']}"


def drop_half_written(run: Run) -> None:
    """Remove the temporary files of a run that a process left when it was killed while it wrote."""
    for path in run.folder.rglob(".*"):
        found = _HALF_WRITTEN.fullmatch(path.relative_to(run.folder).as_posix())
        if found and _of_a_run(_whole(found[0])) and not _alive(int(found["process"])):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    """Whether a process of this machine runs; True where that cannot be known."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return process != os.getpid()  # an earlier one had this number


def _whole(name: str) -> str:
    """What a file is once it is written."""
    found = _HALF_WRITTEN.fullmatch(name)
    return (found["folder"] or "") + found["name"] if found else name


def _of_a_run(name: str) -> bool:
    if name.endswith((".DS_Store", "Thumbs.db")):  # of file managers
        return True
    return name in (*LAYOUT, _LOCK, _HOLDER) or bool(
        _FIGURES.fullmatch(name.removeprefix("figures/")) and name.startswith("figures/")
    )


def open_run(folder: str | Path) -> Run:
    """The run in a folder.

    Raises:
        FileNotFoundError: no folder, or no run in it.
        ValueError: its settings cannot be read, or it was made by another version.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such run folder")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no config.json, so it is no run; give the folder that `train` printed")
    if (folder / "provenance.json").exists():
        schemas.read_provenance(folder)
    path, cure = folder / "config.json", "bring it back, or repeat the run"
    values = schemas.read_json(path, dict[str, Any], cure)
    try:
        return Run(folder, configuration.from_dict(values, str(path)))
    except ValueError as error:
        raise ValueError(f"{error}; {cure}") from None


# ---------------------------------------------------------------------------------------------------------------------
# Small files
# ---------------------------------------------------------------------------------------------------------------------


def write_json(run: Run, name: str, values: Mapping[str, Any]) -> None:
    """Write one of a run's JSON files; numbers must be finite."""
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(run.path(name), (text + "\n").encode())


def read_json(run: Run, name: str) -> dict[str, Any]:
    """Read one of a run's JSON files.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is damaged, or does not fit the run's settings.
    """
    path = _there(run, name)
    if name == "scores.json":
        return dict(schemas.read_scores(run.folder, run.config.codes))
    if name == "provenance.json":
        return dict(schemas.read_provenance(run.folder))
    return dict(schemas.read_json(path, dict[str, Any], "bring it back, or repeat the run"))


def _there(run: Run, name: str) -> Path:
    """Path of a file that a finished run has."""
    if not (path := run.path(name)).exists():
        again = shlex.quote(str(run.folder))
        raise FileNotFoundError(f"{path} is missing: the run is not finished; continue it with --resume {again}")
    schemas.check_file(path, "bring the file back, or repeat the run with --overwrite")
    return path


def append_record(run: Run, record: Record) -> None:
    """Add a line to the curve."""
    with run.path("curve.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record.to_dict()) + "\n")


def read_curve(run: Run) -> list[dict[str, Any]]:
    """All records of the curve; a last line cut off by an interruption is left out. Undefined terms are None.

    Raises:
        ValueError: it is damaged.
    """
    return schemas.read_curve(run.folder) if run.path("curve.jsonl").exists() else []


def cut_curve(run: Run, step: int) -> None:
    """Drop what a run continued from a step will write again: records after it, and at step 0 the very first."""
    kept = [json.dumps(record) + "\n" for record in read_curve(run) if step and record["step"] <= step]
    write_atomically(run.path("curve.jsonl"), "".join(kept).encode())


# ---------------------------------------------------------------------------------------------------------------------
# Weights and codes
# ---------------------------------------------------------------------------------------------------------------------


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
    path = _there(run, "checkpoint.safetensors")
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
    path = _there(run, "model.safetensors")
    tensors, header = _load(run, path, ModelHeader)
    shape, config, needs = header["image_shape"], run.config, needs_of(run.config.objective)
    if min(shape) < 1 or math.prod(shape) > LARGEST_IMAGE:
        raise ValueError(f"{path} is damaged (image_shape is {shape}); repeat the run with --overwrite")
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # nobody else's random numbers change
        model = VAE(config.model, shape, config.codes, config.likelihood, needs.values_per_code)
    _restore(model, tensors, path)
    return model.eval()


def save_codes(run: Run, codes: Codes) -> None:
    """Save encoded posteriors."""
    with replacing(run.path("codes.npz")) as temporary, temporary.open("wb") as file:
        np.savez(file, rows=codes.rows, mean=codes.mean, log_var=codes.log_var)


def load_codes(run: Run | str | Path) -> Codes:
    """Encoded posteriors of a run or in its folder.

    Raises:
        FileNotFoundError: there is no run, or no codes yet.
        ValueError: the file is damaged or does not fit the run's settings.
    """
    run = run if isinstance(run, Run) else open_run(run)
    path = _there(run, "codes.npz")
    again = f"delete it and encode again with `betavae score {shlex.quote(str(run.folder))}`"
    try:
        arrays = read_npz(path, *CODES)
    except Exception as error:  # a damaged archive raises any of zipfile's, zlib's and numpy's errors
        raise ValueError(f"{path} is damaged ({error}); {again}") from None
    for name, (kinds, axes) in CODES.items():
        if arrays[name].dtype.kind not in kinds or arrays[name].ndim != axes:
            raise ValueError(f"{path} is damaged ({name} is {arrays[name].dtype} of {axes} axes); {again}")
    codes = Codes(**arrays)
    if codes.mean.shape != (len(codes.rows), run.config.codes) or codes.log_var.shape != codes.mean.shape:
        raise ValueError(f"{path} holds codes of shape {codes.mean.shape}, not those of this run; {again}")
    whole = len(codes.rows) > 0 and codes.rows.min() >= 0
    if not whole or not (abs(codes.mean) < 1e30).all() or not (codes.log_var < 700).all():  # else their KL overflows
        raise ValueError(f"{path} holds codes that are not finite, or rows that are no numbers of images; {again}")
    return codes


def _kl(mean: NDArray[np.float32], log_var: NDArray[np.float32]) -> float:
    """Of one code: of all at once, doubles of dSprites would take 200 MB."""
    mean, log_var = mean.astype(np.float64), log_var.astype(np.float64)
    return float(0.5 * (mean**2 + np.exp(log_var) - log_var - 1).mean())


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
