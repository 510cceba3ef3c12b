"""The run folder: the files of one run. The process that writes them may be interrupted at any time.

    config.json             settings; `betavae train --from config.json` repeats the run
    provenance.json         versions, machine, commit, command, data digest, duration; the same for each resumption
    curve.jsonl             one record per line: step, wall_seconds, split, loss terms in nats
    checkpoint.safetensors  weights, optimiser state, step and the objective's own state; resumes the run
    model.safetensors       trained weights
    latents.npz             posterior `mean` and `log_var` (N, D) float32 for the `rows` (N,) int64 of the data
    scores.json             metrics, importance and information matrices, the latents that capture each factor
    figures/                PNG and GIF files
    report.html             the report
    run.log, run.log.1      what happened when, at most 1 MB each
    logs/                   files of --log: event files of TensorBoard, runs of W&B ..., and ids.json
    DONE                    empty; written last
    .lock, .holder.json     lock of the folder during training, and the process that holds it

All files but curve.jsonl and the logs are replaced atomically. None is a pickle. `files.schemas` declares their
contents.
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
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from betavae import config_files
from betavae.config import Config
from betavae.files import schemas
from betavae.files.atomic import write_atomically
from betavae.files.schemas import Holder
from betavae.training.loop import Record

if TYPE_CHECKING:
    from betavae.data.factor_data import FactorData
    from betavae.model import VAE
    from betavae.runs.latents import Latents
    from betavae.runs.views import Curve, Pictures, RunScores

LAYOUT = (
    *("config.json", "provenance.json", "curve.jsonl", "checkpoint.safetensors", "model.safetensors", "latents.npz"),
    *("scores.json", "figures", "report.html", "run.log", "run.log.1", "logs", "DONE"),
)
"""Names of the files in a run folder."""
_LOCK, _HOLDER = ".lock", ".holder.json"
_FIGURES = re.compile(
    r"(loss_curves|reconstructions|kl_per_latent|factor_strips|importance|traversal_grid_\d+)\.(png|pdf|svg)"
    r"|traversals(\.gif|/seed\d+_z\d+_(fixed|fitted)\.gif)?"
)
"""Names of the files in the folder `figures`."""
_LOGS = ("logs/ids.json", "logs/tensorboard", "logs/wandb", "logs/mlflow", "logs/trackio")
"""Names in the folder `logs`."""
_HALF_WRITTEN = re.compile(r"(?P<folder>.*/)?\.(?P<name>[^/]+)\.(?P<process>\d+)")
"""Temporary names of files that `files.atomic.replacing` writes."""


@dataclass(frozen=True)
class Run:
    """A run folder and its settings. Files are read when you ask for what they hold; notebooks show a summary.

    Attributes:
        folder: path of the folder.
        config: settings of the run.
        given_data: images and factors that were given in Python; None if the settings name the data.
    """

    folder: Path
    config: Config
    given_data: "FactorData | None" = field(default=None, repr=False, compare=False)

    def path(self, name: str) -> Path:
        """Path of one of the folder's files."""
        return self.folder / name

    @property
    def done(self) -> bool:
        """Whether the run is finished and all its files are written."""
        return self.path("DONE").exists()

    @cached_property
    def model(self) -> "VAE":
        """The trained model, on the CPU and in evaluation mode; raises as `load_model`."""
        from betavae.runs.checkpoints import load_model

        return load_model(self)

    @cached_property
    def data(self) -> "FactorData":
        """Images and factors of the run; raises as `contents.data_of`."""
        from betavae.runs.contents import data_of

        return data_of(self)

    @property
    def latents(self) -> "Latents":
        """Posterior means and log variances of the scored images, their rows and factors; raises as `load_latents`."""
        from betavae.runs.latents import load_latents

        return load_latents(self)

    @property
    def scores(self) -> "RunScores":
        """Scores by name, such as `scores["mig"]`; raises as `read_json`."""
        from betavae.runs.views import RunScores

        return RunScores(read_json(self, "scores.json"))

    @property
    def curve(self) -> "Curve":
        """Training curve: columns by name, such as `curve["loss"]`; raises as `read_curve`."""
        from betavae.runs.views import curve_of

        return curve_of(self)

    @property
    def figures(self) -> "Pictures":
        """Figures by name, such as `figures["traversals"]`."""
        from betavae.runs.views import Pictures

        return Pictures(self.path("figures"))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the trained model to a folder with a model card: data, command, scores with intervals, traversals.

        Args:
            folder: created if it does not exist. A model in it is replaced. `VAE.from_pretrained` reads it.

        Raises:
            FileExistsError: the folder holds other files than a saved model.
            FileNotFoundError: the run is not trained.
        """
        from betavae.runs.model_card import save_with_card

        return save_with_card(self, Path(folder))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        commit_message: str = "Upload the model",
        revision: str | None = None,
    ) -> str:
        """Upload the trained model to the Hugging Face hub, with the card of `save_pretrained`; returns its address.

        Arguments, needs and errors are those of `VAE.push_to_hub`. `betavae.load(repo_id)` loads the model.
        """
        from betavae.integrations import hub
        from betavae.runs.model_card import save_with_card

        return hub.push(
            lambda folder: save_with_card(self, folder, repo_id),
            repo_id,
            private=private,
            commit_message=commit_message,
            revision=revision,
        )

    def _repr_html_(self) -> str:
        from betavae.runs.views import summary_html

        return summary_html(self)


def create_run(folder: str | Path, config: Config, *, overwrite: bool = False) -> Run:
    """Create a run folder and write its settings.

    Args:
        folder: path of the folder; its parents are created.
        config: settings of the run.
        overwrite: delete the run that is in the folder. A folder with other files is never deleted.

    Raises:
        FileExistsError: the folder holds a run and `overwrite` is false, or it holds other files.
        ValueError: the name of the folder is not UTF-8, or the settings cannot be stored as JSON.
    """
    folder = Path(folder)
    try:
        config_files.from_dict(json.loads(json.dumps(config_files.to_dict(config))), "these settings")
    except TypeError as error:
        raise ValueError(f"these settings cannot be stored as JSON ({error}); use numbers, text and lists") from None
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise ValueError(f"the folder name {str(folder)!r} is not valid UTF-8; give another name") from None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else [""]
        if "config.json" not in names and not all(map(_HALF_WRITTEN.fullmatch, names)):
            raise FileExistsError(f"{folder} exists and is not a run; name another folder with --out")
        if not (foreign := [name for name in sorted(names) if not _belongs_to_run(_final_name(name))]):
            inside = [*sorted((folder / "figures").rglob("*")), *sorted(folder.glob("logs/*"))]
            paths = (path.relative_to(folder).as_posix() for path in inside)
            foreign = [name for name in paths if not _belongs_to_run(_final_name(name))]
        if foreign:
            raise FileExistsError(
                f"{folder} holds files that are not part of a run ({', '.join(foreign[:5])}); name another folder with "
                "--out"
            )
        if "config.json" in names and not overwrite:
            raise FileExistsError(
                f"{folder} holds a run already; resume it with --resume {shlex.quote(str(folder))}, replace it with "
                "--overwrite, or name another folder with --out"
            )
        if folder.is_symlink():
            raise FileExistsError(f"{folder} is a link, which cannot be replaced; give the folder that it points to")
        with locked(Run(folder, config)):  # raises if a process trains in the folder
            pass
        for path in (folder, *folder.rglob("*/")):
            if not os.access(path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "cannot be written to, so the run is not replaced", str(path))
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, config)
    write_json(run, "config.json", config_files.to_dict(config))
    return run


@contextmanager
def locked(run: Run) -> Iterator[None]:
    """Lock a run folder for this process, because two processes would mix their records and checkpoints.

    Some file systems, such as some network shares, have no locks. There, nothing is locked.

    Raises:
        BlockingIOError: another process holds the lock. The message names the process.
    """
    lock, holder = FileLock(run.path(_LOCK)), run.path(_HOLDER)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(
            f"{run.folder} is in use{_describe_holder(holder)}: wait until it ends, or stop it"
        ) from None
    except (NotImplementedError, PermissionError):
        yield
        return
    try:
        owner = {"host": socket.gethostname(), "process": os.getpid(), "since": f"{datetime.now():%Y-%m-%d %H:%M}"}
        with suppress(OSError):  # the holder is information only; a full disk is reported elsewhere
            write_atomically(holder, json.dumps(owner).encode())
        yield
    finally:
        holder.unlink(missing_ok=True)
        if run.done:  # before, another process may have opened the file and would lock a deleted one
            with suppress(PermissionError):  # Windows deletes no open file
                run.path(_LOCK).unlink(missing_ok=True)
        lock.release()


def _describe_holder(holder: Path) -> str:
    try:
        owner: Holder = schemas.read_json(holder, Holder, "")
    except (OSError, ValueError):
        return " by another process"
    return f" by process {owner['process']} on {owner['host']}, since {owner['since']}"


def drop_half_written(run: Run) -> None:
    """Delete the temporary files of processes that were killed while they wrote to the run folder."""
    for path in run.folder.rglob(".*"):
        match = _HALF_WRITTEN.fullmatch(path.relative_to(run.folder).as_posix())
        if match and _belongs_to_run(_final_name(match[0])) and not _is_running(int(match["process"])):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Whether a process of this machine is running; True if the system cannot tell."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return process != os.getpid()  # the file is from an earlier process with the same number


def _final_name(name: str) -> str:
    """The final name of a file that may have a temporary name."""
    match = _HALF_WRITTEN.fullmatch(name)
    return (match["folder"] or "") + match["name"] if match else name


def _belongs_to_run(name: str) -> bool:
    """Whether a path, relative to a run folder, is a file of a run."""
    if name.endswith((".DS_Store", "Thumbs.db")):  # file managers create them
        return True
    return name in (*LAYOUT, *_LOGS, _LOCK, _HOLDER) or bool(
        _FIGURES.fullmatch(name.removeprefix("figures/")) and name.startswith("figures/")
    )


def open_run(folder: str | Path) -> Run:
    """Open the run in a folder.

    Raises:
        FileNotFoundError: the folder does not exist, or it is not a run.
        ValueError: the settings are damaged, or the run is from another version.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such run folder")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} contains no config.json, so it is not a run; give the folder that `betavae train` printed"
        )
    if (folder / "provenance.json").exists():
        schemas.read_provenance(folder)
    path, remedy = folder / "config.json", "restore it, or repeat the run"
    values = schemas.read_json(path, dict[str, Any], remedy)
    try:
        return Run(folder, config_files.from_dict(values, str(path)))
    except ValueError as error:
        raise ValueError(f"{error}; {remedy}") from None


def write_json(run: Run, name: str, values: Mapping[str, Any]) -> None:
    """Write a JSON file of a run. All numbers must be finite."""
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(run.path(name), (text + "\n").encode())


def read_json(run: Run, name: str) -> dict[str, Any]:
    """Read a JSON file of a run.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is damaged, or it does not match the run's settings.
    """
    path = existing_file(run, name)
    if name == "scores.json":
        return dict(schemas.read_scores(run.folder, run.config.latent_dim))
    if name == "provenance.json":
        return dict(schemas.read_provenance(run.folder))
    return dict(schemas.read_json(path, dict[str, Any], "restore it, or repeat the run"))


def existing_file(run: Run, name: str) -> Path:
    """The path of a file that every finished run has.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the path is not a regular file.
    """
    if not (path := run.path(name)).exists():
        folder = shlex.quote(str(run.folder))
        raise FileNotFoundError(f"{path} is missing: the run is not finished; resume it with --resume {folder}")
    schemas.check_file(path, "restore the file, or repeat the run with --overwrite")
    return path


def append_record(run: Run, record: Record) -> None:
    """Append a record to the curve file."""
    with run.path("curve.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record.to_dict()) + "\n")


def read_curve(run: Run) -> list[dict[str, Any]]:
    """Read all records of the curve file. Undefined terms are None. An incomplete last line is left out.

    Raises:
        ValueError: the file is damaged.
    """
    return schemas.read_curve(run.folder) if run.path("curve.jsonl").exists() else []


def cut_curve(run: Run, step: int) -> None:
    """Delete the records that a run resumed from `step` writes again: those after it, and for step 0 all records."""
    kept = [json.dumps(record) + "\n" for record in read_curve(run) if step and record["step"] <= step]
    write_atomically(run.path("curve.jsonl"), "".join(kept).encode())
