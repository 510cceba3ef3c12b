"""The log file of a run: what happened when, appended by each process that trains or completes the run."""

import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from logging.handlers import RotatingFileHandler

from betavae.runs.folder import Run

LARGEST_BYTES = 1_000_000
"""Size at which run.log becomes run.log.1 and a new file begins. There are never more than these two files."""
_log = logging.getLogger(__name__)
logging.getLogger("betavae").addHandler(logging.NullHandler())  # else Python prints warnings to standard error


@contextmanager
def log_file(run: Run) -> Iterator[None]:
    """Write the messages of the package to run.log during a block, and how the block ends.

    If the file cannot be written, nothing is logged and no error is raised.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from betavae import Config
        >>> run = Run(Path(tempfile.mkdtemp()), Config())
        >>> with log_file(run):
        ...     logging.getLogger("betavae").info("encoding %d images", 7)
        >>> [line.split(maxsplit=2)[2] for line in run.path("run.log").read_text().splitlines()][1:]
        ['INFO encoding 7 images', 'INFO finished']
    """
    package, handler = logging.getLogger("betavae"), _handler(run)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk must not end the run here
    level, propagate, onward = package.level, package.propagate, _Onward(package)
    package.setLevel(min(level or logging.INFO, logging.INFO))
    package.propagate = False
    package.addHandler(handler)
    package.addHandler(onward)
    try:
        with _outcome_logged():
            yield
    finally:
        package.removeHandler(onward)
        package.removeHandler(handler)
        package.propagate = propagate
        package.setLevel(level)
        handler.close()


class _Onward(logging.Handler):
    """Passes messages to the program's own handlers, but only from the level that the program has set."""

    def __init__(self, package: logging.Logger) -> None:
        super().__init__(package.getEffectiveLevel())
        self._program = package.parent if package.propagate else None

    def emit(self, record: logging.LogRecord) -> None:
        if self._program:
            self._program.handle(record)


def _handler(run: Run) -> logging.Handler:
    path = run.path("run.log")
    if path.is_symlink() or (path.exists() and not path.is_file()):  # a pipe would block
        return logging.NullHandler()
    try:
        return RotatingFileHandler(path, maxBytes=LARGEST_BYTES, backupCount=1, encoding="utf-8")
    except OSError:  # the disk is full, or the folder is read-only; the training says so
        return logging.NullHandler()


@contextmanager
def _outcome_logged() -> Iterator[None]:
    """Log the command, and whether the run finishes, fails or is interrupted."""
    command = " ".join(["betavae", *sys.argv[1:]])
    _log.info("%s (betavae %s, process %d on %s)", command, metadata.version("betavae"), os.getpid(), platform.node())
    try:
        yield
    except KeyboardInterrupt:
        _log.warning("interrupted")
        raise
    except Exception as error:
        _log.error("%s: %s", type(error).__name__, error)
        raise
    _log.info("finished")
