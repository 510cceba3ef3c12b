"""Computation of several metrics in several evaluations, in parallel."""

import inspect
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from betavae.metrics.evaluation import Evaluation
from betavae.metrics.inputs import num_threads
from betavae.metrics.record import Measured, Metric
from betavae.metrics.registry import METRICS
from betavae.metrics.undefined import MetricSkipped


def measure_all(
    evaluations: Sequence[Evaluation],
    names: Sequence[str],
    progress: Callable[[str, int, int], None] | None,
    *,
    must_succeed: bool,
) -> list[Measured]:
    """Compute all metrics of all evaluations, with the evaluations in parallel.

    A metric that fails raises its error if ``must_succeed``; otherwise it is left out of all evaluations.
    """
    from threadpoolctl import threadpool_limits

    num_tasks, num_done, lock = len(names) * len(evaluations), 0, threading.Lock()

    def report(task: str, done: int = 0) -> None:
        nonlocal num_done
        with lock:
            num_done += done
            if progress is not None:
                progress(task, num_done, num_tasks)

    def run(evaluation: Evaluation) -> dict[str, Measured | ValueError]:
        results: dict[str, Measured | ValueError] = {}
        for name in names:
            report(f"{name} ({evaluation.label})")
            try:
                results[name] = _measure(METRICS[name], evaluation)
            except ValueError as error:
                if must_succeed:
                    raise
                results[name] = error
            report(f"{name} ({evaluation.label})", done=1)
        return results

    # One thread per matrix product: the products are small, and sums do not depend on the number of cores.
    with _each_warning_once(), threadpool_limits(1, "blas"), ThreadPoolExecutor(num_threads()) as pool:
        futures = [pool.submit(run, evaluation) for evaluation in evaluations]
        try:
            outcomes = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    errors = {
        name: result for results in outcomes for name, result in results.items() if isinstance(result, ValueError)
    }
    for name, error in errors.items():
        warnings.warn(MetricSkipped(name, str(error)), stacklevel=3)
    return [_flatten({name: result for name, result in results.items() if name not in errors}) for results in outcomes]


def _flatten(results: Mapping[str, Any]) -> Measured:
    """Merge the results of all metrics under names such as ``"dci.disentanglement"`` and ``"mig"``."""
    scores: dict[str, float] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, (values, tables) in results.items():
        scores |= {key if key == name else f"{name}.{key}": value for key, value in values.items()}
        arrays |= {f"{name}.{key}": table for key, table in tables.items()}
    return scores, arrays


@contextmanager
def _each_warning_once() -> Iterator[None]:
    """Collect the warnings of all evaluations and repeat each distinct one once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for category, text in dict.fromkeys((warning.category, str(warning.message)) for warning in caught):
        warnings.warn(text, category, stacklevel=5)


def _measure(metric: Metric, evaluation: Evaluation) -> Measured:
    """Compute the scores and arrays of one metric, from shared quantities if the metric supports that."""
    if metric.shared is not None:
        return metric.shared(evaluation)
    if METRICS.is_shipped(metric.name):
        return _call(metric, evaluation), {}
    try:
        return {str(key): float(value) for key, value in _call(metric, evaluation).items()}, {}
    except Exception as error:
        raise ValueError(
            f"metric {metric.name} failed ({type(error).__name__}: {error}); it is called with latents (N, D), factors "
            "(N, K) and a seed, and must return a dict of numbers by name"
        ) from error


def _call(metric: Metric, evaluation: Evaluation) -> dict[str, float]:
    options: dict[str, Any] = {"preset": evaluation.protocol, "discrete": evaluation.discrete}
    if not METRICS.is_shipped(metric.name):  # these metrics need not know the defaults of the protocol
        options |= dict(zip(("num_train", "num_test"), evaluation.sizes, strict=True))
    elif not metric.own_sizes:
        options |= evaluation.requested_sizes
    latents = evaluation.sampled() if metric.takes_sampled else evaluation.latents
    factors = evaluation.factors if metric.takes_continuous else evaluation.labels
    parameters = inspect.signature(metric.function).parameters
    accepted = {key: value for key, value in options.items() if key in parameters}
    return metric(latents, factors, seed=evaluation.seed, **accepted)
