"""A study: many settings, many seeds, one folder; run what is not done yet, and say what came of it.

    study.json          recipe, version that began it and its defaults, number and digest of runs
    runs/<run id>/      run folders, each as `betavae train` leaves it
    failed/<run id>.json   last error of a run that failed
    lock, holder, locks/   who runs the study, and each run, at this moment
    results.parquet     one row a run and metric
    report.html         settings, statistics, figures

What is done is read from the folders alone, so the same call begins a study, continues it, and finishes it.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from betavae import config as configuration
from betavae.config import Config
from betavae.files import schemas
from betavae.files.atomic import write_atomically
from betavae.files.schemas import STUDY_FORMAT, Failure, StudyFile
from betavae.objectives.registry import objective_name
from betavae.studies import sweep
from betavae.studies.workers import Event, held

if TYPE_CHECKING:
    from betavae.data.factor_data import FactorData

_PASSING = re.compile(r"lock|holder|locks|\.(study\.json|holder)\.\d+")
"""What a folder may hold before it is a study."""
_KEPT = re.compile(r"runs|failed|results\.parquet|report\.html|study\.json\.\S+")
"""What it may hold besides, where there is a `lock`: of a study whose study.json was moved away."""

State = Literal["done", "failed", "begun", "waiting"]
Jobs = Mapping[str, tuple[Config, Path]]
Execute = Callable[[Jobs], Iterator[Event]]
"""Performs runs somewhere and tells what happens to them, as `workers.work` does on this machine."""


@dataclass(frozen=True)
class Study:
    """A folder and the runs that belong in it, by their id."""

    folder: Path
    recipe: Mapping[str, Any]
    runs: Mapping[str, Config]

    def path(self, run: str) -> Path:
        """Folder of a run."""
        return self.folder / "runs" / run


TRAINING_SHARE = 0.95
"""Of a run's work, as an estimate: scores and figures follow."""


@dataclass
class Tally:
    """How far a study is.

    Attributes:
        total: Runs.
        done: Of them finished.
        failed: Of them given up.
        shares: Runs in work, with the share of their work that is done.
        gained: Runs' worth of work done since the driver began.
        began: When it did, by `time.monotonic`.
    """

    total: int
    done: int = 0
    failed: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    gained: float = 0.0
    began: float = field(default_factory=time.monotonic)
    _first: dict[str, float] = field(default_factory=dict)

    def count(self, event: Event) -> None:
        """Take note of an event."""
        if event.kind == "share":
            share = TRAINING_SHARE * event.share
            self._first.setdefault(event.run, share)
            self.gained += share - max(self.shares[event.run], self._first[event.run])
            self.shares[event.run] = share
            return
        if event.kind == "started":
            self.shares[event.run] = 0.0
            return
        share = self.shares.pop(event.run, 0.0)
        first = self._first.pop(event.run, 0.0)
        if event.kind == "done":
            self.done += 1
            self.gained += 1 - max(share, first)
        elif event.kind == "failed":
            self.failed += 1

    @property
    def per_hour(self) -> float:
        """Models an hour since the driver began; parts of models count."""
        return 3600 * self.gained / max(time.monotonic() - self.began, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Until all is done at this speed; unknown before anything was trained."""
        left = self.total - self.done - self.failed - sum(self.shares.values())
        return 3600 * left / self.per_hour if self.gained > 0 else None


def create_study(
    folder: str | Path,
    recipe: Mapping[str, Any],
    *,
    extend: bool = False,
    overwrite: bool = False,
    where: str = "study",
    check: Callable[[Mapping[str, Config]], None] | None = None,
) -> Study:
    """The study of a recipe in a folder: begun now, or found there.

    Args:
        folder: of the study; parents are made.
        recipe: see `betavae.studies.sweep`.
        extend: the recipe may have changed since, if it still has every run that it had.
        overwrite: delete a study of another recipe, or a damaged one, with all its runs. A folder that is no study is
            never deleted.
        where: what to call the recipe in error messages.
        check: given the runs that are neither done nor failed, before anything is written or deleted; may refuse them.

    Raises:
        ValueError: the recipe is refused, or has changed since the study began.
        FileExistsError: the folder holds something else.
        RuntimeError: another driver is at work in the folder.

    Example:
        >>> import tempfile
        >>> recipe = {"seeds": 2, "grid": {"latents": [5, 10]}}
        >>> study = create_study(tempfile.mkdtemp(), recipe)
        >>> len(study.runs), study == open_study(study.folder)
        (4, True)
    """
    folder = Path(folder)
    study, before = Study(folder, recipe, sweep.expand(recipe, where)), Study(folder, {}, {})
    begun = (folder / "study.json").is_file()
    if begun:
        try:
            before = open_study(folder)
        except ValueError:
            if not overwrite:
                raise
        if before.runs.keys() == study.runs.keys():
            waiting = [run for run, state in states(before).items() if state in ("begun", "waiting")]
            if check and waiting:
                check({run: before.runs[run] for run in waiting})
            return before
        gone, new = before.runs.keys() - study.runs.keys(), study.runs.keys() - before.runs.keys()
        if not overwrite and (gone or not extend):
            changes = "; ".join(sweep.differences([*before.runs.values()], [*study.runs.values()]))
            raise ValueError(
                f"{folder} was begun with another recipe ({changes or 'other combinations'}): it has {len(gone)} runs "
                f"that this one has not, and lacks {len(new)}. Name another folder with --out, add runs with --extend "
                "(where none is dropped), or delete the study and begin anew with --overwrite"
            )
    elif folder.exists() and not _may_become_study(folder):
        raise FileExistsError(f"{folder} exists and is not a study; name another folder with --out")
    if check:
        ended = {run for run, state in states(before).items() if state in ("done", "failed")}
        check({run: config for run, config in study.runs.items() if overwrite or run not in ended})
    if overwrite and begun:
        with alone(folder):
            for name in ("runs", "failed", "results.parquet", "report.html", "study.json"):
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    values = {
        "format": STUDY_FORMAT,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "betavae": metadata.version("betavae"),
        "runs": len(study.runs),
        "digest": _digest(study),
        "defaults": _defaults(study),
        "recipe": recipe,
    }
    path = folder / "study.json"
    with alone(folder):
        overtaken = path.is_file() and not begun
        if not overtaken:
            if path.is_file():
                written = _read(path)
                values |= {"began": written["began"], "betavae": written["betavae"]}
            write_atomically(path, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())
    return create_study(folder, recipe, extend=extend, where=where, check=check) if overtaken else study


def open_study(folder: str | Path) -> Study:
    """The study in a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it was made by another version, is damaged, or its recipe is refused by now.
    """
    folder = Path(folder)
    path = folder / "study.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no study.json, so it is no study; give the folder that `study` printed"
        )
    values = _read(path)
    recipe, before = values["recipe"], values.get("defaults", {})
    study = Study(folder, recipe, sweep.expand(recipe, str(path)))
    moved = [
        name
        for kind, table in _defaults(study).items()
        for name, value in table.items()
        if before.get(kind, {}).get(name, value) != value and _is_used(study, kind, name, value)
    ]
    if moved or values["digest"] != _digest(study):
        why = f", for the default of {' and '.join(moved)} is another" if moved else ""
        raise ValueError(
            f"{path} was begun with betavae {values['betavae']}, and in {metadata.version('betavae')} its recipe means "
            f"other runs{why}; go on with the version that began it, bring the file back if it was edited, or delete "
            "the study and begin anew with --overwrite"
        )
    return study


def _may_become_study(folder: Path) -> bool:
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else [""]
    left = [name for name in names if not _PASSING.fullmatch(name)]
    return not left or ("lock" in names and all(map(_KEPT.fullmatch, left)))


def _read(path: Path) -> StudyFile:
    cure = "move it away: `betavae study` with the same recipe and --out writes it again and keeps the runs"
    values: StudyFile = schemas.read_json(path, StudyFile, cure, STUDY_FORMAT)
    return values


def _digest(study: Study) -> str:
    """Of the names of all runs, which change with any setting that is not at its default."""
    return hashlib.sha256("\n".join(study.runs).encode()).hexdigest()


def _defaults(study: Study) -> dict[str, dict[str, Any]]:
    """Defaults of runs, and of each objective that has one in the study, as JSON holds them."""
    kinds: dict[str, type] = {objective_name(run.objective): type(run.objective) for run in study.runs.values()}
    found = {name: configuration.defaults(kind) for name, kind in {"run": Config, **kinds}.items()}
    tables: dict[str, dict[str, Any]] = json.loads(json.dumps(found))
    return tables


def _is_used(study: Study, kind: str, name: str, default: Any) -> bool:
    """Whether a run leaves a setting at its default; others have theirs in their names."""
    told = map(configuration.to_dict, study.runs.values())
    tables = [run if kind == "run" else run["objective"] for run in told if kind in ("run", run["objective"]["name"])]
    return any(json.dumps(table[name]) == json.dumps(default) for table in tables)


def check_runs(runs: Mapping[str, Config], load: Callable[[str], "FactorData"]) -> None:
    """Refuse runs, before anything is written, if a setting cannot work with its data.

    Args:
        runs: settings by the run's id; seeds make no difference.
        load: gives the data of a name.

    Raises:
        ValueError: the first setting that cannot, and why.
        FileNotFoundError: data are not there.
    """
    from betavae.experiment import check

    settings = {
        configuration.run_id(dataclasses.replace(config, seed=0)): (config, run) for run, config in runs.items()
    }
    for setting, run in sorted(settings.values(), key=lambda item: item[0].data):
        try:
            check(setting, load(setting.data))
        except ValueError as error:
            raise ValueError(f"{run}: {error}") from None


def states(study: Study) -> dict[str, State]:
    """Where each run is, as its folder tells.

    Example:
        >>> import tempfile
        >>> set(states(create_study(tempfile.mkdtemp(), {"seeds": 3})).values())
        {'waiting'}
    """
    return {run: _state(study, run) for run in study.runs}


def failures(study: Study) -> dict[str, str]:
    """Last error of each run that failed."""
    found = {}
    for run, state in states(study).items():
        if state == "failed":
            note = study.folder / "failed" / f"{run}.json"
            try:
                found[run] = schemas.read_json(note, Failure, "run it again with --retry")["error"]
            except (OSError, ValueError) as error:
                found[run] = f"unknown: {error}"
    return found


def run_study(
    study: Study, execute: Execute, *, retry: bool = False, watch: Callable[[Tally], None] | None = None
) -> Tally:
    """Run what is not done yet: finished runs stay, begun ones continue, failed ones wait until retried.

    Args:
        study: what to run.
        execute: where.
        retry: give the failed runs another chance; they continue from their last checkpoint.
        watch: told after each event.

    Returns:
        How it ended.

    Raises:
        RuntimeError: another driver is at work in the folder.
        KeyboardInterrupt: interrupted; the same call continues.
    """
    with alone(study.folder):
        now = states(study)
        again = ("begun", "waiting", "failed") if retry else ("begun", "waiting")
        runs = sorted((run for run in now if now[run] in again), key=lambda run: again.index(now[run]) > 0)
        tally = Tally(len(now), done=sum(state == "done" for state in now.values()))
        tally.failed = 0 if retry else sum(state == "failed" for state in now.values())
        jobs = {run: (study.runs[run], study.path(run)) for run in runs}
        with closing(execute(jobs)) as events:  # type: ignore[type-var]
            for event in events:
                note = study.folder / "failed" / f"{event.run}.json"
                if event.kind == "failed":
                    text = {"error": event.error, "when": datetime.now(UTC).isoformat(timespec="seconds")}
                    with suppress(OSError):  # of a full disk; the run stays begun
                        note.parent.mkdir(exist_ok=True)
                        write_atomically(note, json.dumps(text, ensure_ascii=False).encode(errors="replace"))
                elif event.kind == "done":
                    note.unlink(missing_ok=True)
                tally.count(event)
                if watch:
                    watch(tally)
    return tally


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other drivers off a study."""
    holder = folder / "holder"  # not in the lock itself, which Windows lets nobody read
    told = holder.read_text(encoding="utf-8", errors="replace")[:200] if holder.is_file() else ""
    busy = f"{folder} is being run by {told or 'somebody else'}; wait until that ends, or stop it and try again"
    with held(folder / "lock", busy):
        write_atomically(holder, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def _state(study: Study, run: str) -> State:
    folder = study.path(run)
    if (folder / "DONE").exists():
        return "done"
    if (study.folder / "failed" / f"{run}.json").exists():
        return "failed"
    return "begun" if (folder / "config.json").exists() else "waiting"
