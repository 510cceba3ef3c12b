"""The run folder: what one training leaves on disk, written so that it can be interrupted at any moment.

    config.json             settings; repeats the run with `betavae train --from config.json`
    provenance.json         versions, machine, commit, command, data digest, seconds; when continued
    curve.jsonl             one record a line: step, wall_seconds, split, terms in nats
    checkpoint.safetensors  weights, optimiser, step and what else the objective needs; continues the run
    model.safetensors       trained weights
    latents.npz               posterior `mean` and `log_var` (N, D) float32 of the data's `rows` (N,) int64
    scores.json             metrics, importance and information matrices, which latent captures which factor
    figures/                PNG and GIF
    report.html             all of it on one page
    DONE                    empty; written last
    .lock, .holder.json     hold off a second process while one trains; say which one that is

Every file but curve.jsonl is replaced whole. Nothing is a pickle. What each must hold is in `schemas`.
"""

import errno
import json
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

from filelock import FileLock, Timeout

from betavae import config as configuration
from betavae.config import Config
from betavae.files import schemas
from betavae.files.atomic import write_atomically
from betavae.files.schemas import Holder
from betavae.training.loop import Record

LAYOUT = (
    *("config.json", "provenance.json", "curve.jsonl", "checkpoint.safetensors", "model.safetensors", "latents.npz"),
    *("scores.json", "figures", "report.html", "DONE"),
)
"""The names in a run folder."""
_LOCK, _HOLDER = ".lock", ".holder.json"
_FIGURES = re.compile(
    r"(loss_curves|reconstructions|kl_per_latent|factor_strips|importance|traversal_grid_\d+)\.(png|pdf|svg)"
    r"|traversals(\.gif|/seed\d+_z\d+_(fixed|fitted)\.gif)?"
)
"""The names in its folder `figures`."""
_HALF_WRITTEN = re.compile(r"(?P<folder>.*/)?\.(?P<name>[^/]+)\.(?P<process>\d+)")
"""What `files.replacing` names a file while it is written."""


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
        if not (foreign := [name for name in sorted(names) if not _belongs_to_run(_final_name(name))]):
            inside = (path.relative_to(folder).as_posix() for path in sorted((folder / "figures").rglob("*")))
            foreign = [name for name in inside if not _belongs_to_run(_final_name(name))]
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
        raise BlockingIOError(
            f"{run.folder} is in use{_describe_holder(holder)}: wait until that ends, or stop it"
        ) from None
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


def _describe_holder(holder: Path) -> str:
    try:
        facts: Holder = schemas.read_json(holder, Holder, "")
    except (OSError, ValueError):
        return " by another process"
    return f" by process {facts['process']} on {facts['host']}, since {facts['since']}"


def drop_half_written(run: Run) -> None:
    """Remove the temporary files of a run that a process left when it was killed while it wrote."""
    for path in run.folder.rglob(".*"):
        found = _HALF_WRITTEN.fullmatch(path.relative_to(run.folder).as_posix())
        if found and _belongs_to_run(_final_name(found[0])) and not _is_running(int(found["process"])):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
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


def _final_name(name: str) -> str:
    """What a file is once it is written."""
    found = _HALF_WRITTEN.fullmatch(name)
    return (found["folder"] or "") + found["name"] if found else name


def _belongs_to_run(name: str) -> bool:
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
    path = existing_file(run, name)
    if name == "scores.json":
        return dict(schemas.read_scores(run.folder, run.config.latent_dim))
    if name == "provenance.json":
        return dict(schemas.read_provenance(run.folder))
    return dict(schemas.read_json(path, dict[str, Any], "bring it back, or repeat the run"))


def existing_file(run: Run, name: str) -> Path:
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
