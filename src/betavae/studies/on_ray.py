"""Executes the runs of a study as tasks on a Ray cluster. No other file imports ray.

Ray schedules the tasks and retries those whose worker or node is lost. A retried run resumes from its last checkpoint.
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
from betavae.studies.workers import CompleteRun, Event

_OTHER_VERSION = "the worker has betavae"
_STOPPED = "its process was told to stop"
TASKS_PER_SLOT = 2
"""Tasks submitted per free slot: enough for a cluster to scale up, few enough to stop soon."""
CONNECT_SECONDS = 10.0
"""Time that a cluster has to accept a connection."""


def execute(
    jobs: Mapping[str, tuple[Config, Path]],
    address: str = "auto",
    *,
    url: str = "",
    perform: CompleteRun = workers.complete_run,
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> Iterator[Event]:
    """Execute runs on an existing Ray cluster.

    Args:
        jobs: settings and folder of each run, by run id. Without `url`, all machines must share these folders.
        address: address of the cluster. `auto` is the cluster that this machine belongs to; `local` starts one here.
        url: storage for the run folders if the machines share no folder. The files that the table of results needs are
            downloaded from each finished run.
        perform: completes one run. It must be importable on the workers.
        cpus: cores per run. Each run has one thread.
        gpus: GPUs per run; may be a fraction.

    Yields:
        Events, in the order in which the driver receives them. "started" means that a run is submitted.

    Raises:
        ModuleNotFoundError: ray is not installed. The message contains the command that installs it.
        ConnectionError: no cluster answers at the address.
        ValueError: the URL cannot be written to.
    """
    require("ray", "--ray needs", "ray")
    import ray

    if url:
        storage.check(url)
    connects = not ray.is_initialized()
    if connects:
        _connect(ray, address)
    try:
        yield from _execute_all(ray, jobs, url, perform, cpus, gpus)
    finally:
        if connects:
            ray.shutdown()


def _execute_all(
    ray: Any, jobs: Mapping[str, tuple[Config, Path]], url: str, perform: CompleteRun, cpus: float, gpus: float
) -> Iterator[Event]:
    settings: dict[str, Any] = {"num_cpus": cpus, "max_retries": workers.MAX_LOSSES - 1, "max_calls": 0}
    if gpus:
        settings["num_gpus"] = gpus
    task = ray.remote(**settings)(_task)
    waiting, submitted, stops = deque(jobs), dict[Any, str](), Counter[str]()
    try:
        while waiting or submitted:
            max_submitted = TASKS_PER_SLOT * max(1, int(ray.cluster_resources().get("CPU", 1) / max(cpus, 1e-3)))
            while waiting and len(submitted) < max_submitted:
                run = waiting.popleft()
                config, folder = jobs[run]
                target = url or str(folder.resolve())
                files, version = plugins.imported(), metadata.version("betavae")
                submitted[task.remote(config, run, target, bool(url), perform, version, files)] = run
                yield Event(run, "started")
            ready, _ = ray.wait(list(submitted), num_returns=1, timeout=5.0)
            for reference in ready:
                run = submitted.pop(reference)
                try:
                    error = ray.get(reference)
                except ray.exceptions.RayError as ray_error:
                    error = f"{type(ray_error).__name__}: {' '.join(str(ray_error).split())}"
                if error == _STOPPED:
                    stops[run] += 1
                    if stops[run] < workers.MAX_LOSSES:
                        waiting.append(run)
                        yield Event(run, "lost", error=error)
                        continue
                if error.startswith(_OTHER_VERSION):
                    raise RuntimeError(error)  # every further run would fail on that worker, too
                if not error and url:
                    storage.pull(f"{url.rstrip('/')}/runs/{run}", jobs[run][1], storage.SMALL_FILES)
                yield Event(run, "failed" if error else "done", error=error)
    finally:
        for reference in submitted:
            ray.cancel(reference, force=False)
        if submitted:
            ray.wait(list(submitted), num_returns=len(submitted), timeout=workers.STOP_SECONDS)


def _task(
    config: Config, run: str, target: str, remote: bool, perform: CompleteRun, version: str, files: Sequence[str] = ()
) -> str:
    """Complete one run on a worker; returns its error message, or "".

    Args:
        config: settings of the run.
        run: id of the run.
        target: run folder, or the URL of the study if `remote`.
        remote: whether the run folder is at a URL.
        perform: completes the run.
        version: betavae version of the driver.
        files: plugin files to import.
    """
    own_version = metadata.version("betavae")
    if own_version != version:
        return f"{_OTHER_VERSION} {own_version} and the driver {version}; install the same version everywhere"
    try:
        plugins.load(files)
        if remote:
            storage.complete_remote_run(perform, target, config, run, lambda fraction: None)
        else:
            perform(config, Path(target), lambda fraction: None)
    except KeyboardInterrupt:
        return _STOPPED
    except Exception as error:
        return f"{type(error).__name__}: {error} (on {socket.gethostname()})"
    return ""


def _connect(ray: Any, address: str) -> None:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _check_reachable(address)
        ray.init(address=address, runtime_env={"env_vars": threads}, log_to_driver=False, logging_level="error")
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # ray's handler would abort the driver before checkpoints are saved
    except (OSError, ValueError, RuntimeError) as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({' '.join(str(error).split())}); start one with `ray start --head` "
            "on one machine and `ray start --address=HOST:6379` on the others, then use --ray auto on one of them, or "
            "--ray HOST:6379"
        ) from None


def _check_reachable(address: str) -> None:
    """Connect to HOST:PORT before ray does, because ray would retry for minutes.

    Raises:
        OSError: nothing listens at the address.
        ValueError: the port is not a number.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
