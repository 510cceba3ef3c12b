"""Many runs on one machine: a process a worker, one thread each, and what they tell of their runs.

On a CPU that is the fastest way to train many small models: a process a core shares nothing and waits for nobody.
"""

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

from betavae import config as configuration
from betavae import plugins
from betavae.config import Config

if TYPE_CHECKING:
    from betavae.data.factor_data import FactorData

MAX_LOSSES = 3
"""Workers of a run that are killed until it counts as failed."""
STOP_SECONDS = 60.0
"""How long a worker may take to save its checkpoint when told to stop."""

Share = Callable[[float], None]
"""Told from time to time which share of a run's steps is done."""
Perform = Callable[[Config, Path, Share], None]
"""Brings the run in a folder to its end, from wherever it is."""


@dataclass(frozen=True)
class Event:
    """What happened to a run: it began, got somewhere, is done, failed for good, or lost its worker and waits again."""

    run: str
    kind: Literal["started", "share", "done", "failed", "lost"]
    share: float = 0.0
    error: str = ""


def perform(config: Config, folder: Path, share: Share) -> None:
    """Train, score and draw the run of a folder, or continue it to its end; a finished one is left as it is.

    A second process that is given the same folder waits for the first, and then finds the run finished.

    Args:
        config: settings, for a folder that holds no run yet.
        folder: of the run, in the folder `runs` of a study.
        share: see `Share`.

    Raises:
        ValueError: the folder holds a run of other settings.
        Whatever `betavae.experiment` raises.
    """
    from betavae.experiment import experiment, resume

    with held(folder.parent.parent / "locks" / folder.name):
        same_settings(config, folder)
        if (folder / "DONE").exists():
            return
        data = load_once(config.data)
        if (folder / "config.json").exists():
            resume(folder, data=data, watch=lambda record: share(record.step / config.steps))
            return
        if folder.exists():
            shutil.rmtree(folder)  # the beginning of a run that was killed before its settings were written
        experiment(config, folder, data=data, watch=lambda record: share(record.step / config.steps))


def same_settings(config: Config, folder: Path) -> None:
    """Refuse a folder that holds a run of other settings, as another version may mean by the same name.

    Raises:
        ValueError: it does.
    """
    path = folder / "config.json"
    if path.exists() and configuration.run_id(found := configuration.load(path)) != configuration.run_id(config):
        differing = [key for key, value in vars(config).items() if repr(value) != repr(getattr(found, key))]
        raise ValueError(
            f"{folder} holds a run of other settings ({', '.join(differing)}); name another folder or --url, or delete "
            "that run"
        )


@contextmanager
def held(path: Path, busy: str = "") -> Iterator[None]:
    """Hold the lock of a file; it ends with the block, or with the process however that ends.

    Args:
        path: file, made if need be. Windows lets nobody read it meanwhile.
        busy: what to say where somebody holds it; if empty, wait.

    Raises:
        RuntimeError: somebody holds it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "lock"
        >>> with held(path), held(path, "taken"):
        ...     pass
        Traceback (most recent call last):
        RuntimeError: taken
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0 if busy else -1)
    except Timeout:
        raise RuntimeError(busy) from None
    try:
        yield
    finally:
        lock.release()


def work(jobs: Mapping[str, tuple[Config, Path]], workers: int, perform: Perform = perform) -> Iterator[Event]:
    """Perform runs in processes of this machine, and tell what happens to them.

    A run that raises has failed, and one whose process is killed `MAX_LOSSES` times; before, it is given to a new one.
    Closing the generator stops the processes; a run in training saves its checkpoint first.

    Args:
        jobs: settings and folder of each run, by its id.
        workers: processes.
        perform: what to do; importable, for the processes are spawned.

    Yields:
        Events, in the order in which they happen.

    Raises:
        ValueError: there is no worker.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1, and a good number is that of the cores")
    waiting, losses = deque(jobs), Counter[str]()
    staff = [_Worker(perform) for _ in range(min(workers, len(jobs)))]
    try:
        while True:
            for place, worker in enumerate(staff):
                if worker.run or not waiting:
                    continue
                if not worker.process.is_alive():
                    worker = staff[place] = _Worker(perform)
                run = waiting.popleft()
                worker.begin(run, *jobs[run])
                yield Event(run, "started")
            busy = {worker.connection: worker for worker in staff if worker.run}
            if not busy:
                return
            for connection in wait(list(busy)):
                event = busy[connection].hear()  # type: ignore[index]
                if event.kind == "lost":
                    losses[event.run] += 1
                    if losses[event.run] == MAX_LOSSES:
                        event = Event(event.run, "failed", error=f"{event.error}, {MAX_LOSSES} times")
                    else:
                        waiting.append(event.run)
                yield event
    finally:
        for worker in staff:
            worker.process.terminate()
        for worker in staff:
            worker.process.join(STOP_SECONDS)
            worker.process.kill()
            worker.connection.close()


class _Worker:
    """A process that performs one run after another."""

    def __init__(self, perform: Perform) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, there = context.Pipe()
        self.process = context.Process(target=_serve, args=(there, perform), daemon=True)
        self.process.start()
        there.close()
        self.run = ""

    def begin(self, run: str, config: Config, folder: Path) -> None:
        """Hand over a run."""
        self.run = run
        with suppress(OSError):  # it has died since; `hear` will say so
            self.connection.send((config, folder))

    def hear(self) -> Event:
        """What the process tells of its run, or that it is no more."""
        run = self.run
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code, self.run = self.process.exitcode or 0, ""
            killed = f"its process was killed by signal {-code}; is there enough memory?"
            return Event(run, "lost", error=killed if code < 0 else f"its process ended with exit code {code}")
        if kind == "share":
            return Event(run, "share", share=value)
        self.run = ""
        return Event(run, kind, error=value)


def _serve(connection: Connection, perform: Perform) -> None:
    """The life of a worker: runs come in, news go out, until the other side is gone."""
    if hasattr(os, "setpgid"):  # so that Ctrl-C reaches the driver alone, which then stops its workers one by one
        os.setpgid(0, 0)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    broken = ""
    try:
        plugins.again()
    except Exception as error:  # of the user's own file
        broken = f"{type(error).__name__}: {error}"
    threading.Thread(target=_follow, daemon=True).start()
    while True:
        try:
            config, folder = connection.recv()
        except EOFError:
            return
        news: tuple[str, Any] = ("failed", broken) if broken else ("done", "")
        try:
            if not broken:
                perform(config, folder, lambda share: connection.send(("share", share)))
        except KeyboardInterrupt:
            return  # told to stop: the checkpoint is saved
        except Exception as error:
            news = ("failed", f"{type(error).__name__}: {error}")
        connection.send(news)


def _follow() -> None:
    """End with the driver: nobody is left to tell, and the next driver will start the run again."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


@lru_cache(maxsize=1)
def load_once(source: str) -> "FactorData":
    """`betavae.load_data`, remembered: the data of the last run are most often those of the next."""
    from betavae.data.loading import load_data

    return load_data(source)
