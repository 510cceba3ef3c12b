"""The runs of a study as tasks on a Ray cluster; the only file that imports ray.

Ray places the tasks and repeats those whose worker or node is lost; a repeated one continues from the last checkpoint.
"""

import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from betavae import plugins
from betavae.config import Config
from betavae.studies import storage, workers
from betavae.studies.results import require
from betavae.studies.workers import Event, Perform

_OTHER_VERSION = "the worker has betavae"
_STOPPED = "its process was told to stop"
WAITING = 2
"""Tasks handed over for each that can run at once: enough for a cluster to grow, few enough to stop soon."""
KNOCK_SECONDS = 10.0
"""How long a cluster may take to accept a connection."""


def work(
    jobs: Mapping[str, tuple[Config, Path]],
    address: str = "auto",
    *,
    url: str = "",
    perform: Perform = workers.perform,
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> Iterator[Event]:
    """Perform runs on an existing Ray cluster, and tell what happens to them.

    Args:
        jobs: settings and folder of each run, by its id. Without `url` all machines must see these folders.
        address: of the cluster; `auto` is the one that this machine belongs to, `local` starts one here.
        url: where run folders are kept, if machines share none; of each finished run the files that tables need are
            brought to its folder here.
        perform: what to do; importable on the workers.
        cpus: cores that a run takes; each gets one thread.
        gpus: share of a GPU that a run takes.

    Yields:
        Events, in the order in which they are heard of; a run has "started" when it is handed over.

    Raises:
        ModuleNotFoundError: ray is not installed; the message has the command.
        ConnectionError: no cluster answers at the address.
        ValueError: the URL cannot be written to.
    """
    require("ray", "--ray needs", "ray")
    import ray

    if url:
        storage.check(url)
    began = not ray.is_initialized()
    if began:
        _connect(ray, address)
    try:
        yield from _perform_all(ray, jobs, url, perform, cpus, gpus)
    finally:
        if began:
            ray.shutdown()


def _perform_all(
    ray: Any, jobs: Mapping[str, tuple[Config, Path]], url: str, perform: Perform, cpus: float, gpus: float
) -> Iterator[Event]:
    settings: dict[str, Any] = {"num_cpus": cpus, "max_retries": workers.MAX_LOSSES - 1, "max_calls": 0}
    if gpus:
        settings["num_gpus"] = gpus
    task = ray.remote(**settings)(_task)
    waiting, handed, stops = deque(jobs), dict[Any, str](), Counter[str]()
    try:
        while waiting or handed:
            room = WAITING * max(1, int(ray.cluster_resources().get("CPU", 1) / max(cpus, 1e-3)))
            while waiting and len(handed) < room:
                run = waiting.popleft()
                config, folder = jobs[run]
                place = url or str(folder.resolve())
                own = plugins.imported()
                handed[task.remote(config, run, place, bool(url), perform, metadata.version("betavae"), own)] = run
                yield Event(run, "started")
            ready, _ = ray.wait(list(handed), num_returns=1, timeout=5.0)
            for reference in ready:
                run = handed.pop(reference)
                try:
                    error = ray.get(reference)
                except ray.exceptions.RayError as lost:
                    error = f"{type(lost).__name__}: {' '.join(str(lost).split())}"
                if error == _STOPPED:
                    stops[run] += 1
                    if stops[run] < workers.MAX_LOSSES:
                        waiting.append(run)
                        yield Event(run, "lost", error=error)
                        continue
                if error.startswith(_OTHER_VERSION):
                    raise RuntimeError(error)  # that worker would take, and fail, one run after another
                if not error and url:
                    storage.pull(f"{url.rstrip('/')}/runs/{run}", jobs[run][1], storage.SMALL_FILES)
                yield Event(run, "failed" if error else "done", error=error)
    finally:
        for reference in handed:
            ray.cancel(reference, force=False)
        if handed:
            ray.wait(list(handed), num_returns=len(handed), timeout=workers.STOP_SECONDS)


def _task(
    config: Config, run: str, place: str, remote: bool, perform: Perform, version: str, own: Sequence[str] = ()
) -> str:
    """One run, on some worker; its error in words, or nothing."""
    found = metadata.version("betavae")
    if found != version:
        return f"{_OTHER_VERSION} {found} and the driver {version}; install the same version everywhere"
    try:
        plugins.load(own)
        if remote:
            storage.perform_at(perform, place, config, run, lambda share: None)
        else:
            perform(config, Path(place), lambda share: None)
    except KeyboardInterrupt:
        return _STOPPED
    except Exception as error:
        return f"{type(error).__name__}: {error} (on {socket.gethostname()})"
    return ""


def _connect(ray: Any, address: str) -> None:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    before = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address)
        ray.init(address=address, runtime_env={"env_vars": threads}, log_to_driver=False, logging_level="error")
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # ray's own would abort the driver, and no checkpoint be saved
    except (OSError, ValueError, RuntimeError) as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({' '.join(str(error).split())}); start one with `ray start --head` "
            "on one machine and `ray start --address=HOST:6379` on the others, then give --ray auto on one of them, or "
            "--ray HOST:6379"
        ) from None


def _knock(address: str) -> None:
    """Try a HOST:PORT before ray does, which would go on trying for minutes.

    Raises:
        OSError: nobody listens there.
        ValueError: the port is no number.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()
