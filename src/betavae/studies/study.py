"""A study: a sweep over settings and seeds in one folder.

    study.json             recipe, betavae version that created it and its defaults, number and digest of runs
    runs/<run id>/         run folders, as `betavae train` writes them
    failed/<run id>.json   last error of a failed run
    lock, holder, locks/   locks of the study and of each run while they are executed
    results.parquet        one row per run and metric
    report.html            settings, statistics, figures

The state of each run is read from its folder alone, so the same call starts a study, resumes it and completes it.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from betavae import config_files
from betavae.config import Config
from betavae.files import schemas
from betavae.files.atomic import write_atomically
from betavae.files.schemas import STUDY_FORMAT, Failure, StudyFile
from betavae.objectives.registry import objective_name
from betavae.studies import sweep
from betavae.studies.workers import Event, file_lock

if TYPE_CHECKING:
    from betavae.data.factor_data import FactorData

_TEMPORARY = re.compile(r"lock|holder|locks|\.(study\.json|holder)\.\d+")
"""Files that a folder may contain before it is a study."""
_PERMANENT = re.compile(r"runs|failed|results\.parquet|report\.html|study\.json\.\S+")
"""Files that it may contain in addition if it has a `lock`: those of a study whose study.json was moved away."""

RunState = Literal["done", "failed", "begun", "waiting"]
"""State of a run in its study. A "begun" run has a folder and is not finished: it is resumed."""
Jobs = Mapping[str, tuple[Config, Path]]
"""Settings and folder of each run, by run id."""
Executor = Callable[[Jobs], Iterator[Event]]
"""Executes runs and yields their events, as `workers.execute` does on this machine."""


@dataclass(frozen=True)
class Study:
    """A study folder, its recipe, and the settings of its runs by run id."""

    folder: Path
    recipe: Mapping[str, Any]
    runs: Mapping[str, Config]

    def path(self, run: str) -> Path:
        """Folder of a run."""
        return self.folder / "runs" / run


TRAINING_FRACTION = 0.95
"""Estimated fraction of a run's time that training takes. Scores and figures take the rest."""


@dataclass
class Tally:
    """Progress of a study.

    Attributes:
        total: Number of runs.
        done: Number of finished runs.
        failed: Number of failed runs.
        fractions: For each running run, the fraction of it that is done.
        completed: Number of runs, counted in fractions, that were completed since the driver started.
        started: Start of the driver, by `time.monotonic`.
    """

    total: int
    done: int = 0
    failed: int = 0
    fractions: dict[str, float] = field(default_factory=dict)
    completed: float = 0.0
    started: float = field(default_factory=time.monotonic)
    _first_fractions: dict[str, float] = field(default_factory=dict)

    def count(self, event: Event) -> None:
        """Update the counts with an event."""
        if event.kind == "progress":
            fraction = TRAINING_FRACTION * event.fraction
            self._first_fractions.setdefault(event.run, fraction)
            self.completed += fraction - max(self.fractions[event.run], self._first_fractions[event.run])
            self.fractions[event.run] = fraction
            return
        if event.kind == "started":
            self.fractions[event.run] = 0.0
            return
        fraction = self.fractions.pop(event.run, 0.0)
        first = self._first_fractions.pop(event.run, 0.0)
        if event.kind == "done":
            self.done += 1
            self.completed += 1 - max(fraction, first)
        elif event.kind == "failed":
            self.failed += 1

    @property
    def per_hour(self) -> float:
        """Models per hour since the driver started, counted in fractions."""
        return 3600 * self.completed / max(time.monotonic() - self.started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until all runs are done; None before the first progress."""
        runs_left = self.total - self.done - self.failed - sum(self.fractions.values())
        return 3600 * runs_left / self.per_hour if self.completed > 0 else None


def create_study(
    folder: str | Path,
    recipe: Mapping[str, Any],
    *,
    extend: bool = False,
    overwrite: bool = False,
    where: str = "study",
    check: Callable[[Mapping[str, Config]], None] | None = None,
    wait: bool = False,
) -> Study:
    """Create the study of a recipe in a folder, or open it if it exists.

    Args:
        folder: study folder; its parents are created.
        recipe: see `betavae.studies.sweep`.
        extend: accept a changed recipe if it keeps every run of the old one.
        overwrite: delete a study with another recipe, or a damaged one, with all its runs. A folder that is not a study
            is never deleted.
        where: name of the recipe in error messages.
        check: called with the runs that are neither done nor failed, before anything is written or deleted. It may
            raise an error.
        wait: wait while another process creates the study, instead of raising an error.

    Raises:
        ValueError: the recipe is invalid, or it differs from the recipe of the existing study.
        FileExistsError: the folder holds something else.
        RuntimeError: another driver works in the folder.

    Example:
        >>> import tempfile
        >>> recipe = {"seeds": 2, "grid": {"latent_dim": [5, 10]}}
        >>> study = create_study(tempfile.mkdtemp(), recipe)
        >>> len(study.runs), study == open_study(study.folder)
        (4, True)
    """
    folder = Path(folder)
    study, old = Study(folder, recipe, sweep.expand(recipe, where)), Study(folder, {}, {})
    exists = (folder / "study.json").is_file()
    if exists:
        try:
            old = open_study(folder)
        except ValueError:
            if not overwrite:
                raise
        if old.runs.keys() == study.runs.keys():
            unfinished = [run for run, state in states(old).items() if state in ("begun", "waiting")]
            if check and unfinished:
                check({run: old.runs[run] for run in unfinished})
            return old
        if not overwrite:
            _check_change(old, study, extend)
    elif folder.exists() and not _may_become_study(folder):
        raise FileExistsError(f"{folder} exists and is not a study; name another folder with --out")
    if check:
        finished = {run for run, state in states(old).items() if state in ("done", "failed")}
        check({run: config for run, config in study.runs.items() if overwrite or run not in finished})
    if overwrite and exists:
        with driver_lock(folder):
            for name in ("runs", "failed", "results.parquet", "report.html", "study.json"):
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if _write_study(study, replace=exists, wait=wait):
        return study
    return create_study(folder, recipe, extend=extend, where=where, check=check, wait=wait)


def _check_change(old: Study, new: Study, extend: bool) -> None:
    """Refuse a changed recipe, except that `extend` allows added runs.

    Raises:
        ValueError: the recipe drops runs, or it adds runs without `extend`.
    """
    dropped, added = old.runs.keys() - new.runs.keys(), new.runs.keys() - old.runs.keys()
    if dropped or not extend:
        changes = "; ".join(sweep.differences([*old.runs.values()], [*new.runs.values()]))
        raise ValueError(
            f"{old.folder} holds a study with another recipe ({changes or 'other combinations'}): the new recipe drops "
            f"{len(dropped)} of its runs and adds {len(added)}. Name another folder with --out, add runs with --extend "
            "(only if none is dropped), or delete the study and start again with --overwrite"
        )


def _write_study(study: Study, *, replace: bool, wait: bool) -> bool:
    """Write study.json.

    Args:
        study: what to write.
        replace: whether to replace an existing file.
        wait: as for `create_study`.

    Returns:
        False if another process has created the study in the meantime; then nothing is written.
    """
    values = {
        "format": STUDY_FORMAT,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "betavae": metadata.version("betavae"),
        "runs": len(study.runs),
        "digest": _digest(study),
        "defaults": _defaults(study),
        "recipe": study.recipe,
    }
    path = study.folder / "study.json"
    with driver_lock(study.folder, wait):
        if path.is_file():
            if not replace:
                return False
            existing = _read(path)
            values |= {"began": existing["began"], "betavae": existing["betavae"]}
        write_atomically(path, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())
    return True


def open_study(folder: str | Path) -> Study:
    """Open the study in a folder.

    Raises:
        FileNotFoundError: the folder is not a study.
        ValueError: study.json is damaged or from another version, or its recipe is no longer valid.
    """
    folder = Path(folder)
    path = folder / "study.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} contains no study.json, so it is not a study; give the folder that `betavae study` printed"
        )
    values = _read(path)
    recipe, old_defaults = values["recipe"], values.get("defaults", {})
    study = Study(folder, recipe, sweep.expand(recipe, str(path)))
    changed = [
        name
        for kind, table in _defaults(study).items()
        for name, value in table.items()
        if old_defaults.get(kind, {}).get(name, value) != value and _is_used(study, kind, name, value)
    ]
    if changed or values["digest"] != _digest(study):
        reason = f", because the default of {' and '.join(changed)} has changed" if changed else ""
        raise ValueError(
            f"{path} was created by betavae {values['betavae']}, and in {metadata.version('betavae')} its recipe means "
            f"other runs{reason}; use the version that created it, restore the file if it was edited, or delete the "
            "study and start again with --overwrite"
        )
    return study


def _may_become_study(folder: Path) -> bool:
    """Whether a folder is empty, or contains only the files of a study."""
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else [""]
    permanent = [name for name in names if not _TEMPORARY.fullmatch(name)]
    return not permanent or ("lock" in names and all(map(_PERMANENT.fullmatch, permanent)))


def _read(path: Path) -> StudyFile:
    remedy = "move it away: `betavae study` with the same recipe and --out writes it again and keeps the runs"
    values: StudyFile = schemas.read_json(path, StudyFile, remedy, STUDY_FORMAT)
    return values


def _digest(study: Study) -> str:
    """SHA-256 of the ids of all runs. An id changes with every setting that is not at its default."""
    return hashlib.sha256("\n".join(study.runs).encode()).hexdigest()


def _defaults(study: Study) -> dict[str, dict[str, Any]]:
    """The defaults of runs and of each objective in the study, as JSON values."""
    kinds: dict[str, type] = {objective_name(run.objective): type(run.objective) for run in study.runs.values()}
    defaults = {name: config_files.defaults(kind) for name, kind in {"run": Config, **kinds}.items()}
    tables: dict[str, dict[str, Any]] = json.loads(json.dumps(defaults))
    return tables


def _is_used(study: Study, kind: str, name: str, default: Any) -> bool:
    """Whether any run has a setting at its default. Other values are part of the run id."""
    runs = map(config_files.to_dict, study.runs.values())
    tables = [run if kind == "run" else run["objective"] for run in runs if kind in ("run", run["objective"]["name"])]
    return any(json.dumps(table[name]) == json.dumps(default) for table in tables)


def check_runs(runs: Mapping[str, Config], load: Callable[[Config], "FactorData"]) -> None:
    """Validate the settings of runs against their data, before anything is written.

    Args:
        runs: settings by run id. Runs that differ only in their seed are checked once.
        load: loads the data of a run.

    Raises:
        ValueError: the settings of a run do not work with its data.
        FileNotFoundError: a data file does not exist.
    """
    from betavae.data.prepared.preparation import preparation_of
    from betavae.experiment import check

    settings = {config_files.run_id(dataclasses.replace(config, seed=0)): (config, run) for run, config in runs.items()}
    for setting, run in sorted(settings.values(), key=lambda item: f"{item[0].data} {preparation_of(item[0])}"):
        try:
            check(setting, load(setting))
        except ValueError as error:
            raise ValueError(f"{run}: {error}") from None


def states(study: Study) -> dict[str, RunState]:
    """The state of each run, read from its folder.

    Example:
        >>> import tempfile
        >>> set(states(create_study(tempfile.mkdtemp(), {"seeds": 3})).values())
        {'waiting'}
    """
    return {run: _state(study, run) for run in study.runs}


def failures(study: Study) -> dict[str, str]:
    """The last error of each failed run."""
    errors = {}
    for run, state in states(study).items():
        if state == "failed":
            try:
                errors[run] = schemas.read_json(_failure_path(study, run), Failure, "resume the run with --retry")[
                    "error"
                ]
            except (OSError, ValueError) as error:
                errors[run] = f"unknown: {error}"
    return errors


def run_study(
    study: Study,
    execute: Executor,
    *,
    retry: bool = False,
    watch: Callable[[Tally], None] | None = None,
    share: Sequence[str] | None = None,
) -> Tally:
    """Execute the unfinished runs of a study. Interrupted runs are resumed first.

    Args:
        study: what to run.
        execute: executes the runs, on this machine or elsewhere.
        retry: resume the failed runs, too, from their last checkpoints.
        watch: called after each event.
        share: ids of the runs to execute; all if None. Several processes may execute shares of a study at once: the
            study is not locked, and each run is locked while it is executed.

    Returns:
        The final counts, of the share if there is one.

    Raises:
        RuntimeError: another driver works in the folder.
        KeyboardInterrupt: interrupted. The same call resumes the study.
    """
    with driver_lock(study.folder) if share is None else nullcontext():
        state_of = {run: _state(study, run) for run in (study.runs if share is None else share)}
        unfinished = ("begun", "waiting", "failed") if retry else ("begun", "waiting")
        runs = [run for run in state_of if state_of[run] in unfinished]
        runs.sort(key=lambda run: state_of[run] != "begun")
        tally = Tally(len(state_of), done=sum(state == "done" for state in state_of.values()))
        tally.failed = 0 if retry else sum(state == "failed" for state in state_of.values())
        jobs = {run: (study.runs[run], study.path(run)) for run in runs}
        with closing(execute(jobs)) as events:  # type: ignore[type-var]
            for event in events:
                path = _failure_path(study, event.run)
                if event.kind == "failed":
                    failure = {"error": event.error, "when": datetime.now(UTC).isoformat(timespec="seconds")}
                    with suppress(OSError):  # the disk is full; the run counts as unfinished
                        path.parent.mkdir(exist_ok=True)
                        write_atomically(path, json.dumps(failure, ensure_ascii=False).encode(errors="replace"))
                elif event.kind == "done":
                    path.unlink(missing_ok=True)
                tally.count(event)
                if watch:
                    watch(tally)
    return tally


@contextmanager
def driver_lock(folder: Path, wait: bool = False) -> Iterator[None]:
    """Lock a study folder during a block, so that no second driver works in it; optionally wait for the lock."""
    holder = folder / "holder"  # a file of its own, because Windows lets nobody read a locked file
    driver = holder.read_text(encoding="utf-8", errors="replace")[:200] if holder.is_file() else ""
    message = f"{folder} is in use by {driver or 'another process'}; wait until it ends, or stop it and try again"
    with file_lock(folder / "lock", "" if wait else message):
        write_atomically(holder, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def _failure_path(study: Study, run: str) -> Path:
    return study.folder / "failed" / f"{run}.json"


def _state(study: Study, run: str) -> RunState:
    folder = study.path(run)
    if (folder / "DONE").exists():
        return "done"
    if _failure_path(study, run).exists():
        return "failed"
    return "begun" if (folder / "config.json").exists() else "waiting"
