"""Executes the runs of a study on this machine, in worker processes with one thread each.

On a CPU this is the fastest way to train many small models, because the processes share nothing and never wait for one
another.
"""

import dataclasses
import multiprocessing
import os
import shutil
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from betavae import config_files, plugins
from betavae.config import Config

if TYPE_CHECKING:
    from betavae.data.factor_data import FactorData
    from betavae.data.prepared.preparation import Preparation

MAX_LOSSES = 3
"""Number of killed workers after which their run counts as failed."""
STOP_SECONDS = 60.0
"""Time that a worker has to save its checkpoint before it is killed."""

ReportProgress = Callable[[float], None]
"""Receives the fraction of a run's steps that are done, from time to time."""
CompleteRun = Callable[[Config, Path, ReportProgress], None]
"""Starts or resumes the run in a folder and completes it."""


@dataclass(frozen=True)
class Event:
    """A change in the state of a run.

    Attributes:
        run: Id of the run.
        kind: "started", "progress", "done", "failed" (for good), or "lost" (its worker died; the run is queued again).
        fraction: Fraction of the steps that are done, for "progress".
        error: Message, for "failed" and "lost".
    """

    run: str
    kind: Literal["started", "progress", "done", "failed", "lost"]
    fraction: float = 0.0
    error: str = ""


def complete_run(config: Config, folder: Path, report: ReportProgress) -> None:
    """Train, score and draw the run in a folder, or resume it. A finished run is left unchanged.

    If another process works on the same folder, wait until it ends.

    Args:
        config: settings of the run.
        folder: run folder, in the folder `runs` of a study.
        report: receives the progress of the training.

    Raises:
        ValueError: the folder holds a run with other settings.
        Exception: as `betavae.experiment.experiment`.
    """
    from betavae.experiment import experiment, resume

    with file_lock(folder.parent.parent / "locks" / folder.name):
        check_same_settings(config, folder)
        if (folder / "DONE").exists():
            return
        data = load_once(config)
        if (folder / "config.json").exists():
            resume(folder, data=data, quiet=True, callbacks=[lambda record: report(record.step / config.steps)])
            return
        if folder.exists():
            shutil.rmtree(folder)  # from a process that was killed before it wrote the settings
        watch = [lambda record: report(record.step / config.steps)]
        experiment(config, folder, data=data, quiet=True, callbacks=watch)


def check_same_settings(config: Config, folder: Path) -> None:
    """Refuse a folder that holds a run with other settings, for example from another version of betavae.

    Raises:
        ValueError: the settings differ.
    """
    path = folder / "config.json"
    if path.exists() and config_files.run_id(existing := config_files.load(path)) != config_files.run_id(config):
        differing = [key for key, value in vars(config).items() if repr(value) != repr(getattr(existing, key))]
        raise ValueError(
            f"{folder} holds a run with other settings ({', '.join(differing)}); name another folder or --url, or "
            "delete that run"
        )


@contextmanager
def file_lock(path: Path, message: str = "") -> Iterator[None]:
    """Lock a file during a block. The operating system releases the lock if the process dies.

    Args:
        path: file to lock; created if it does not exist. On Windows, nobody can read it while it is locked.
        message: error message if another process holds the lock. If empty, wait instead.

    Raises:
        RuntimeError: another process holds the lock.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "lock"
        >>> with file_lock(path), file_lock(path, "the study is busy"):
        ...     pass
        Traceback (most recent call last):
        RuntimeError: the study is busy
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0 if message else -1)
    except Timeout:
        raise RuntimeError(message) from None
    try:
        yield
    finally:
        lock.release()


def execute(
    jobs: Mapping[str, tuple[Config, Path]], workers: int, perform: CompleteRun = complete_run
) -> Iterator[Event]:
    """Execute runs in worker processes on this machine.

    A run fails if it raises an error, or if `MAX_LOSSES` of its workers are killed. Until then, a new worker resumes
    it. Closing the generator stops the workers; each saves the checkpoint of its run first.

    Args:
        jobs: settings and folder of each run, by run id.
        workers: number of processes.
        perform: completes one run. It must be importable, because the processes are spawned.

    Yields:
        Events, in the order in which they happen.

    Raises:
        ValueError: `workers` is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1, and one per core is best")
    waiting, losses = deque(jobs), Counter[str]()
    pool = [_Worker(perform) for _ in range(min(workers, len(jobs)))]
    try:
        while True:
            for index, worker in enumerate(pool):
                if worker.run or not waiting:
                    continue
                if not worker.process.is_alive():
                    worker = pool[index] = _Worker(perform)
                run = waiting.popleft()
                worker.start(run, *jobs[run])
                yield Event(run, "started")
            busy = {worker.connection: worker for worker in pool if worker.run}
            if not busy:
                return
            for connection in wait(list(busy)):
                event = busy[connection].receive()  # type: ignore[index]
                if event.kind == "lost":
                    losses[event.run] += 1
                    if losses[event.run] == MAX_LOSSES:
                        event = Event(event.run, "failed", error=f"{event.error}, {MAX_LOSSES} times")
                    else:
                        waiting.append(event.run)
                yield event
    finally:
        for worker in pool:
            worker.process.terminate()
        for worker in pool:
            worker.process.join(STOP_SECONDS)
            worker.process.kill()
            worker.connection.close()


class _Worker:
    """A process that completes one run after another.

    Attributes:
        run: Id of the current run; "" while the worker is idle.
    """

    def __init__(self, perform: CompleteRun) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, child_end = context.Pipe()
        self.process = context.Process(target=_worker_main, args=(child_end, perform), daemon=True)
        self.process.start()
        child_end.close()
        self.run = ""

    def start(self, run: str, config: Config, folder: Path) -> None:
        """Send a run to the process."""
        self.run = run
        with suppress(OSError):  # the process has died; `receive` reports it
            self.connection.send((config, folder))

    def receive(self) -> Event:
        """Wait for the next event of the current run; "lost" if the process has died."""
        run = self.run
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code, self.run = self.process.exitcode or 0, ""
            killed = f"its process was killed by signal {-code}; is there enough memory?"
            return Event(run, "lost", error=killed if code < 0 else f"its process ended with exit code {code}")
        if kind == "progress":
            return Event(run, "progress", fraction=value)
        self.run = ""
        return Event(run, kind, error=value)


def _worker_main(connection: Connection, perform: CompleteRun) -> None:
    """Main loop of a worker: receive runs and send events until the driver closes the connection."""
    if hasattr(os, "setpgid"):  # Ctrl-C must reach the driver alone, which then stops the workers one by one
        os.setpgid(0, 0)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    import_error = ""
    try:
        plugins.import_again()
    except Exception as error:  # a user's file can raise any error
        import_error = f"{type(error).__name__}: {error}"
    threading.Thread(target=_exit_with_driver, daemon=True).start()
    while True:
        try:
            config, folder = connection.recv()
        except EOFError:
            return
        outcome: tuple[str, Any] = ("failed", import_error) if import_error else ("done", "")
        try:
            if not import_error:
                perform(config, folder, lambda fraction: connection.send(("progress", fraction)))
        except KeyboardInterrupt:
            return  # the driver stops this worker; the checkpoint is saved
        except Exception as error:
            outcome = ("failed", f"{type(error).__name__}: {error}")
        connection.send(outcome)


def _exit_with_driver() -> None:
    """Exit when the driver dies, because the next driver starts the run again."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def load_once(config: Config) -> "FactorData":
    """Load the data of a run, with a cache of one: most runs of a study share their data."""
    from betavae.data.prepared.preparation import preparation_of

    return _load(config.data, preparation_of(config))


@lru_cache(maxsize=1)
def _load(source: str, preparation: "Preparation") -> "FactorData":
    from betavae.data.loading import load_data

    return load_data(source, **dataclasses.asdict(preparation))


def forget_data() -> None:
    """Free the data that `load_once` keeps."""
    _load.cache_clear()
