"""Logs of a run in tracking tools: curves, images, settings and scores, while it trains.

Each tool has one adapter, a file of this folder with its name, which alone imports its library. The tags are those of
docs/how-to/loggers.md. Logs do not change the numbers of a run: they read its records and weights, draw no random
numbers, and a log that fails is dropped with a warning.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from betavae.config_files import flat
from betavae.data.factor_data import FactorData
from betavae.files import schemas
from betavae.files.validation import check_name
from betavae.model import VAE
from betavae.registry import load_entry
from betavae.runs.contents import split_of
from betavae.runs.folder import Run, read_curve, read_json, write_json
from betavae.training.loop import Record

if TYPE_CHECKING:
    from PIL.Image import Image

LOGGERS = ("tensorboard", "wandb", "mlflow", "trackio")
"""Names of the tools; also those of their libraries, of their adapters and of the extras that install them."""
SHOWN_IMAGES = 10
"""Number of images to reconstruct. The first one is traversed."""
IMAGE_EVENTS = 10
"""Images are logged at the first training record after each tenth of the steps."""
_TAGS = {"rate": "kl"}
_IDS = "logs/ids.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogStart:
    """What an adapter is opened with.

    Attributes:
        name: name of the run in the tool.
        folder: folder for the files of the tool, inside the run folder; it need not exist.
        settings: settings of the run by dotted name; numbers, text, truth values or None.
        id: id of the log of the interrupted run, or None for a new log.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    id: str | None = None


class Logger(Protocol):
    """An open log of one run in one tool. Steps never decrease. Any method may raise any error."""

    id: str
    """Name under which the tool finds the log again."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add finite numbers to the curves, by tag."""

    def images(self, images: Mapping[str, "Image"], step: int) -> None:
        """Add pictures, by tag."""

    def scores(self, values: Mapping[str, float], step: int) -> None:
        """Set the final numbers of the run, by tag."""

    def close(self, finished: bool) -> None:
        """Write what is buffered; `finished` is false for an interrupted run, which may continue."""


def check_loggers(names: Sequence[str]) -> None:
    """Check that tools are known and installed, before a training starts.

    Raises:
        ValueError: a tool is unknown.
        ModuleNotFoundError: its library is not installed. The message names the extra.

    Example:
        >>> check_loggers(["tensorbord"])
        Traceback (most recent call last):
        ValueError: unknown logger 'tensorbord'; did you mean 'tensorboard'? Known: tensorboard, wandb, mlflow, trackio
    """
    for name in names:
        check_name("logger", name, LOGGERS)
        if find_spec(name) is None:
            raise ModuleNotFoundError(
                f"--log {name} needs {name}, which is not installed: pip install 'betavae[{name}]'"
            )


def tagged(record: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a record of the curves, by tag.

    Args:
        record: a line of curve.jsonl, see `Record.to_dict`.

    Example:
        >>> tagged({"step": 5, "wall_seconds": 1.0, "split": "train", "loss": 9.0, "reconstruction": 6.0, "rate": 2.0})
        {'train/loss': 9.0, 'train/reconstruction': 6.0, 'train/kl': 2.0, 'train/elbo': -8.0}
    """
    terms = {key: value for key, value in record.items() if key not in ("step", "wall_seconds", "split")}
    terms = {_TAGS.get(name, name): value for name, value in terms.items()}
    reconstruction, kl = terms.get("reconstruction"), terms.get("kl")
    if reconstruction is not None and kl is not None:
        terms["elbo"] = -(reconstruction + kl)
    return {f"{record['split']}/{name}": value for name, value in terms.items() if _is_finite(value)}


class RunLog:
    """All logs of a run. A log that raises an error is dropped with a warning.

    Args:
        run: the run; its folder keeps the ids of the logs.
        data: the data of the run, whose images are shown.
        names: tools to log to.
    """

    def __init__(self, run: Run, data: FactorData, names: Sequence[str]) -> None:
        self._run, self._data = run, data
        self._loggers: dict[str, Logger] = {}
        records = read_curve(run) if names else []
        self._logged = {(record["step"], record["split"]) for record in records}
        self._last_step = max((record["step"] for record in records), default=0)
        ids = _read_ids(run)
        for name in names:
            with _dropping(name, self._loggers):
                self._loggers[name] = _open(run, name, ids.get(name))
                if name not in ids:  # a log that is added to an interrupted run has its curves from the start
                    for record in records:
                        self._loggers[name].scalars(tagged(record), record["step"])
        if self._loggers:
            with _dropping("logs/ids.json", {}):
                run.path("logs").mkdir(exist_ok=True)
                write_json(run, _IDS, ids | {name: logger.id for name, logger in self._loggers.items()})

    def record(self, record: Record, model: VAE) -> None:
        """Log a record, and at each tenth of the run images. What an interrupted run has logged is not repeated."""
        if not self._loggers or (record.step, record.split) in self._logged:
            return
        values = tagged(record.to_dict())
        self._each(lambda logger: logger.scalars(values, record.step))
        if record.split == "train":
            if self._tenth(record.step) > self._tenth(self._last_step):
                self._show(model, record.step)
            self._last_step = record.step

    def scores(self) -> None:
        """Log the scores of scores.json."""
        if self._loggers:
            scores = read_json(self._run, "scores.json").get("scores", {})
            values = {f"scores/{name}": value for name, value in scores.items() if _is_finite(value)}
            self._each(lambda logger: logger.scores(values, self._run.config.steps))

    def close(self, finished: bool) -> None:
        """Close all logs."""
        self._each(lambda logger: logger.close(finished))
        self._loggers.clear()

    def _tenth(self, step: int) -> int:
        return IMAGE_EVENTS * step // self._run.config.steps

    def _show(self, model: VAE, step: int) -> None:
        """Log reconstructions and traversals."""
        images: dict[str, Image] = {}
        with _dropping("images", {}), torch.random.fork_rng(devices=[]):  # a user's network may draw random numbers
            originals = self._originals()
            images["reconstructions"] = model.reconstruct(originals).to_pil()
            images["traversals"] = model.traverse(originals[:1]).to_pil()
        if images:
            self._each(lambda logger: logger.images(images, step))

    def _originals(self) -> NDArray[np.float32]:
        """The first validation images (N, C, H, W), or training images if there are none."""
        split = split_of(self._run.config, self._data)
        rows = (split.validation if len(split.validation) else split.train)[:SHOWN_IMAGES]
        return np.asarray(self._data.images(rows) / self._data.max_value, np.float32)

    def _each(self, action: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            with _dropping(name, self._loggers):
                action(logger)


@contextmanager
def run_log(run: Run, data: FactorData, names: Sequence[str] | None = None) -> Iterator[RunLog]:
    """Open the logs of a run, and close them at the end of the block.

    Args:
        run: the run.
        data: the data of the run.
        names: tools to log to. If None, those that the interrupted run was logged to.
    """
    if names is None:
        names = [name for name in _read_ids(run) if name in LOGGERS]
    log, finished = RunLog(run, data, tuple(dict.fromkeys(names))), False
    try:
        yield log
        finished = True
    finally:
        log.close(finished)


@contextmanager
def _dropping(name: str, loggers: dict[str, Logger]) -> Iterator[None]:
    """Turn an error into a warning, and drop the log: a training must not end because of a log."""
    try:
        yield
    except Exception as error:
        loggers.pop(name, None)
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        _log.warning("%s: %s", name, reason, exc_info=error)
        warnings.warn(f"{name} logs no more of this run ({reason}); the training goes on", stacklevel=2)


def _open(run: Run, name: str, log_id: str | None) -> Logger:
    start = LogStart(run.folder.resolve().name, run.path("logs").resolve() / name, flat(run.config), log_id)
    logger: Logger = load_entry(f"betavae.integrations.{name}:open_{name}")(start)
    _log.info("%s log opened, id %s", name, logger.id)
    return logger


def _read_ids(run: Run) -> dict[str, str]:
    """The ids of the logs of an interrupted run; empty for a new run."""
    path = run.path(_IDS)
    if not path.exists():
        return {}
    try:
        return dict(schemas.read_json(path, dict[str, str], "delete it; new logs begin"))
    except (OSError, ValueError) as error:
        warnings.warn(f"{error}; new logs begin", stacklevel=2)
        return {}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
