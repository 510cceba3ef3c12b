"""Evaluation of many metrics on one pair of tables, with intervals and chance levels."""

import inspect
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from betavae.files.validation import check_name
from betavae.metrics.captures import Capture, find_captures
from betavae.metrics.ceilings import score_ceilings
from betavae.metrics.evaluation import Evaluation
from betavae.metrics.inputs import (
    active_latents,
    by_kind,
    check_tables,
    check_whole,
    num_threads,
    standard_deviation,
)
from betavae.metrics.protocol import Protocol, choose, sample_sizes
from betavae.metrics.record import Measured, Metric
from betavae.metrics.registry import METRICS, score_info
from betavae.metrics.undefined import MetricSkipped


@dataclass(frozen=True)
class Scores:
    """Result of `evaluate`. Keys are flat and dotted: ``"dci.disentanglement"``, ``"mig"``.

    Attributes:
        scores: value of each score; ``nan`` if it is undefined.
        intervals: 95 % prediction interval of each score for another evaluation seed; see `evaluate`.
        chance: each score with the rows of the latents shuffled. Scores that ignore factors have none.
        ceilings: highest score that the labels allow, if identical images with different labels lower it.
        arrays: matrices and values per latent or factor: ``"dci.importance"`` (D, K), ``"dci.per_latent"`` (D,),
            ``"mig.mutual_information"`` (D, K) in nats, ``"active"`` (D,). Rows of latents that are left out are 0
            (`fit_dci` has ``nan`` for their disentanglement).
        captures: the latents that capture each factor.
        preset: name of the preset.
        seed: seed of the evaluation.
        num_rows: number of rows of the tables.
    """

    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    chance: dict[str, float]
    ceilings: dict[str, float]
    arrays: dict[str, np.ndarray] = field(repr=False)
    captures: tuple[Capture, ...]
    preset: str
    seed: int
    num_rows: int

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, strings and numbers for `json.dump`; ``nan`` becomes ``None``.

        Example:
            >>> scores = Scores({"mig": float("nan")}, {}, {}, {}, {"active": np.array([True])}, (), "dlib", 0, 10)
            >>> scores.to_json()["scores"], scores.to_json()["arrays"]
            ({'mig': None}, {'active': [True]})
        """
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["arrays"] = {name: array.tolist() for name, array in self.arrays.items()}
        plain["captures"] = [asdict(capture) for capture in self.captures]
        return {name: _without_nan(value) for name, value in plain.items()}


def _without_nan(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: _without_nan(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_without_nan(entry) for entry in value]
    return value


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


def evaluate(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    preset: str | Protocol = "default",
    discrete: bool = False,
    seed: int = 0,
    factor_names: Sequence[str] | None = None,
    kl: np.ndarray | None = None,
    sampled: np.ndarray | None = None,
    images: np.ndarray | None = None,
    num_train: int | None = None,
    num_test: int | None = None,
    repeats: int = 5,
    chance: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> Scores:
    """Compute many metrics on one pair of tables, on all cores.

    The scores are those of the evaluation with ``seed``. Intervals come from ``repeats`` complete evaluations with
    different seeds, which draw other rows and interventions and fit other models. With their mean m and standard
    deviation s, the interval is m +- t s sqrt(1 + 1 / repeats), where t is the 0.975 quantile of Student's distribution
    with repeats - 1 degrees of freedom. It contains the score of one more evaluation in 95 % of cases.

    An interval describes how much a score varies when the same model is evaluated again, not when the model is trained
    again. If a table has little more than ``num_train + num_test`` rows, the evaluations share most rows and the
    interval is too narrow. `mig_chen` uses all rows and has no interval.

    The chance level is the same evaluation after shuffling the rows of the latents once.

    Args:
        latents: (N, D) all latents; the metrics draw their rows from them.
        factors: (N, K) labels of any kind or a DataFrame, or (N,) for one factor. If a factor is continuous, only
            metrics that accept continuous factors are computed.
        names: names of the metrics, keys of `METRICS`. By default all metrics except `unibound`, which is slow, and
            except `mig_chen` if ``sampled`` is `None`. By default, a metric that fails on the tables is left out with a
            warning.
        preset: ``"dlib"``, the protocol of disentanglement_lib; ``"default"``, the corrected protocol; or a `Protocol`.
        discrete: whether latents are discrete, as in a quantised latent space; see `infomec`.
        seed: seed for everything random.
        factor_names: K names; defaults to the columns of a DataFrame, else ``factor 0``, ...
        kl: (D,) mean KL divergence of each latent in nats; used to find inactive latents.
        sampled: (N, D) latents sampled from the posteriors; `mig_chen` uses them instead of ``latents``.
        images: (N,) image number of each row; identical images have equal numbers. Needed for ceilings, see
            `betavae.metrics.ceilings`.
        num_train: number of training rows (or points); see `sample_sizes` for the default.
        num_test: number of test rows (or points); see `sample_sizes` for the default.
        repeats: number of evaluations, with the seeds ``seed``, ``seed + 1``, ...; intervals need at least two.
        chance: whether to compute chance levels.
        progress: called with the current task, the number of finished tasks, and the total number of tasks. The calls
            come from several threads, but never at the same time.

    Returns:
        `Scores`. They do not depend on the number of cores.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows; an unknown metric or preset.

    Example:
        >>> factors = np.random.default_rng(0).integers(3, size=(600, 2))
        >>> evaluation = evaluate(factors.astype(float), factors, names=["mig"], num_train=500)
        >>> evaluation.scores["mig"] > 0.95, evaluation.chance["mig"] < 0.05
        (True, True)
    """
    if names is not None and (isinstance(names, str) or not names):
        raise ValueError(f"names must list at least one metric of {', '.join(METRICS)}, got {names!r}")
    selected = list(METRICS if names is None else names)
    for name in selected:
        check_name("metric", name, METRICS)
    if names is None:
        selected = [
            name
            for name in selected
            if not METRICS[name].on_request and (sampled is not None or not METRICS[name].takes_sampled)
        ]
    if factor_names is None and hasattr(factors, "columns"):
        factor_names = [str(name) for name in factors.columns]
    latents, factors = check_tables(latents, factors, integer_factors=False)
    labels, continuous = by_kind(factors)
    if continuous.any() and names is None:
        left_out = [name for name in selected if METRICS.is_shipped(name) and not METRICS[name].takes_continuous]
        selected = [name for name in selected if name not in left_out]
        which = ", ".join(f"factor {k}" for k in np.flatnonzero(continuous))
        warnings.warn(
            f"{which} {'is' if continuous.sum() == 1 else 'are'} continuous: metrics that need classes are left out "
            f"({', '.join(left_out)}); to compute them, merge values, for instance with np.digitize",
            stacklevel=2,
        )
    protocol = choose(preset)
    seed, repeats = check_whole("seed", seed, 0), check_whole("repeats", repeats, 1)
    sample_sizes(len(latents), protocol, num_train, num_test)  # reject invalid sizes before any work
    if sampled is None:
        sampled = latents
        for name in (name for name in selected if METRICS[name].takes_sampled):
            warnings.warn(
                f"{name} uses latents instead of samples from the posteriors; pass samples as sampled to follow the "
                "paper",
                stacklevel=2,
            )
    elif np.shape(sampled) != latents.shape:
        raise ValueError(f"sampled must have the shape of latents, {latents.shape}, got {np.shape(sampled)}")
    else:
        sampled, _ = check_tables(sampled, factors, integer_factors=False)
    if factor_names is None:
        factor_names = [f"factor {k}" for k in range(factors.shape[1])]
    if len(factor_names) != factors.shape[1]:
        raise ValueError(
            f"factor_names must have one name for each of the {factors.shape[1]} factors, got {len(factor_names)}: "
            f"{factor_names}"
        )
    active = active_latents(latents, kl)
    kept = active if protocol.drop_inactive and active.any() else np.ones_like(active)
    if protocol.drop_inactive and not active.any():
        warnings.warn(
            "no latent is active, by KL divergence or standard deviation: all latents are scored", stacklevel=2
        )
    if kl is None and (narrow := np.flatnonzero(~kept & (standard_deviation(latents) > 0))).size:
        warnings.warn(
            f"latents {narrow.tolist()} are left out: their standard deviation is below 5 % of the largest one; if "
            "they are active, scale all latents to the same unit",
            stacklevel=2,
        )
    if not kept.all():
        latents = latents[:, kept]

    protocol = replace(protocol, drop_inactive=False)  # inactive latents are already removed

    def prepare_evaluation(label: str, number: int, rows: np.ndarray | slice) -> Evaluation:
        return Evaluation(
            label=label,
            names=selected,
            latents=latents[rows],
            sampled=lambda: sampled[rows],  # copied on demand: the table is large, and only mig_chen needs it
            factors=factors,
            labels=labels,
            continuous=continuous,
            seed=seed + number,
            requested_sizes={"num_train": num_train, "num_test": num_test},
            protocol=protocol,
            discrete=discrete,
        )

    all_rows = slice(None)
    evaluations = [prepare_evaluation(f"evaluation {i + 1} of {repeats}", i, all_rows) for i in range(repeats)]
    if chance:
        shuffled = np.random.default_rng(seed).permutation(len(latents))
        evaluations.append(prepare_evaluation("shuffled", 0, shuffled))
    if names is None:
        _ = evaluations[0].rows  # with too few rows, raise one error instead of leaving out nearly all metrics
    measured = _measure_all(evaluations, selected, progress, must_succeed=names is not None)
    scores, arrays = measured[0]
    return Scores(
        scores=scores,
        intervals=_intervals([repeat for repeat, _ in measured[:repeats]]),
        chance={key: value for key, value in measured[-1][0].items() if not score_info(key).ignores_factors}
        if chance
        else {},
        ceilings=_ceilings(factors, images, scores),
        arrays={name: _widen(name, array, kept) for name, array in arrays.items()} | {"active": active},
        captures=_captures(evaluations[0], kept, factor_names, active),
        preset=preset if isinstance(preset, str) else "custom",
        seed=seed,
        num_rows=len(latents),
    )


def _captures(
    evaluation: Evaluation, kept: np.ndarray, names: Sequence[str], active: np.ndarray
) -> tuple[Capture, ...]:
    """Find the latents that capture each factor; empty if the factors cannot be used as classes."""
    try:
        information = evaluation.information
    except ValueError:
        return ()
    shared = _widen("mig.mutual_information", information.shared, kept)
    return find_captures(shared, information.factor_entropy, names, active)


def _measure_all(
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


def _widen(name: str, array: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Insert rows of zeros for latents that were left out."""
    metric, _, part = name.partition(".")
    if part not in METRICS[metric].per_latent:
        return array
    wide = np.zeros((len(kept), *array.shape[1:]))
    wide[kept] = array
    return wide


def _intervals(repeats: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Compute 95 % prediction intervals for another evaluation (Student's t)."""
    if len(repeats) < 2:
        return {}
    from scipy.stats import t

    factor = float(t.ppf(0.975, len(repeats) - 1)) * math.sqrt(1 + 1 / len(repeats))
    intervals = {}
    for name in repeats[0]:
        if METRICS[name.partition(".")[0]].takes_sampled:  # uses all rows, so repeats do not vary
            continue
        values = np.array([repeat[name] for repeat in repeats])
        if not np.isfinite(values).all():
            intervals[name] = (math.nan, math.nan)
            continue
        info = score_info(name)
        ends = np.clip(values.mean() + factor * values.std(ddof=1) * np.array([-1, 1]), info.low, info.high)
        intervals[name] = (float(ends[0]), float(ends[1]))
    return intervals


def _ceilings(factors: np.ndarray, images: np.ndarray | None, scores: Mapping[str, float]) -> dict[str, float]:
    if images is None:
        return {}
    return {name: best for name, best in score_ceilings(factors, images).items() if name in scores}
