"""Many metrics on one pair of tables: presets, shared work, intervals, chance levels, and what comes back."""

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


@dataclass(frozen=True)
class Scores:
    """What `evaluate` returns. Keys are flat and dotted: ``"dci.disentanglement"``, ``"mig"``.

    Attributes:
        scores: value of each score; ``nan`` where it is undefined.
        intervals: 95 % interval of each score: where the same evaluation with another seed falls (see `evaluate`).
        chance: the same score with the latents' rows shuffled against the factors'; not for scores that ignore factors.
        ceilings: best score that the labels allow, where images with several labels lower it.
        arrays: matrices and per-latent, per-factor values: ``"dci.importance"`` (D, K), ``"dci.per_latent"`` (D,),
            ``"mig.mutual_information"`` (D, K) nats, ``"active"`` (D,). Rows of latents that were left out are 0.
        captures: which latent captures which factor.
        preset: name of the protocol.
        seed: seed of the evaluation.
        num_rows: rows of the tables.
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
        """Return plain lists, strings and numbers, ready for `json.dump`; ``nan`` becomes ``None``.

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
    """Scores and arrays of one metric, from shared parts where there are any."""
    if metric.shared is not None:
        return metric.shared(evaluation)
    if METRICS.is_shipped(metric.name):
        return _call(metric, evaluation), {}
    try:
        return {str(key): float(value) for key, value in _call(metric, evaluation).items()}, {}
    except Exception as error:
        raise ValueError(
            f"metric {metric.name} failed ({type(error).__name__}: {error}); it is called with latents (N, D), factors "
            "(N, K) and a seed, and returns a dict of numbers by name"
        ) from error


def _call(metric: Metric, evaluation: Evaluation) -> dict[str, float]:
    accepted = inspect.signature(metric.function).parameters
    given: dict[str, Any] = {"preset": evaluation.protocol, "discrete": evaluation.discrete}
    if not metric.own_sizes:
        given |= evaluation.given
    latents = evaluation.sampled() if metric.takes_sampled else evaluation.latents
    factors = evaluation.factors if metric.takes_continuous else evaluation.labels
    options = {key: value for key, value in given.items() if key in accepted}
    return metric(latents, factors, seed=evaluation.seed, **options)


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
    """Run many metrics on one pair of tables, on all cores.

    An interval comes from ``repeats`` whole evaluations with different seeds: other rows, other interventions, other
    fits. With their mean m and standard deviation s, the evaluation with one more seed falls into
    m +- t s sqrt(1 + 1 / repeats) in 95 % of cases (t of Student's distribution with repeats - 1 degrees of freedom).
    It says how far a score moves when the same model is scored once more, not how far it moves when the model is
    trained once more. Evaluations of a table of little more than ``num_train + num_test`` rows share most of them,
    and the interval is then too narrow; `mig_chen`, which takes every row, has no interval.

    The chance level is the same evaluation with the rows of the latents shuffled once.

    Args:
        latents: (N, D) latents, all of them: rows are drawn here.
        factors: (N, K) labels of any kind, also a DataFrame, or (N,) for one factor. If one is continuous, the metrics
            remain that take continuous factors.
        names: metrics to run, keys of `METRICS`. By default all but `unibound`, which takes long, and `mig_chen` only
            where ``sampled`` is given; one that the table cannot serve is then left out with a warning.
        preset: ``"dlib"``, the protocol of disentanglement_lib; ``"default"``, corrected; or a `Protocol` of your own.
        discrete: whether latents are discrete, as those of a quantised latent space; see `infomec`.
        seed: seed of everything random.
        factor_names: K names; by default those of a DataFrame's columns, or ``factor 0``, ...
        kl: (D,) mean KL divergence of each latent in nats; helps to tell inactive latents.
        sampled: (N, D) latents drawn from the posteriors, which `mig_chen` takes instead of ``latents``.
        images: (N,) number of each row's image, equal for rows whose images are identical; gives ceilings (see
            `betavae.metrics.ceilings`).
        num_train: rows (or points) that metrics are fitted to; by default as `sample_sizes` says.
        num_test: rows (or points) that they are tested on; likewise.
        repeats: evaluations, with the seeds ``seed``, ``seed + 1``, ...; two or more give intervals.
        chance: also score latents whose rows are shuffled.
        progress: called with what is being done, how many parts are done, and how many there are; from several threads,
            one at a time.

    Returns:
        `Scores`; the scores themselves are those of ``seed``, whatever the number of cores.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed or holds too few rows; an unknown metric or preset.

    Example:
        >>> factors = np.random.default_rng(0).integers(3, size=(600, 2))
        >>> found = evaluate(factors.astype(float), factors, names=["mig"], num_train=500)
        >>> found.scores["mig"] > 0.95, found.chance["mig"] < 0.05
        (True, True)
    """
    if names is not None and (isinstance(names, str) or not names):
        raise ValueError(f"names must list at least one metric of {', '.join(METRICS)}, got {names!r}")
    wanted = list(METRICS if names is None else names)
    for name in wanted:
        check_name("metric", name, METRICS)
    if names is None:
        wanted = [
            name
            for name in wanted
            if not METRICS[name].on_request and (sampled is not None or not METRICS[name].takes_sampled)
        ]
    if factor_names is None and hasattr(factors, "columns"):
        factor_names = [str(name) for name in factors.columns]
    latents, factors = check_tables(latents, factors, integer_factors=False)
    labels, continuous = by_kind(factors)
    if continuous.any() and names is None:
        left_out = [name for name in wanted if METRICS.is_shipped(name) and not METRICS[name].takes_continuous]
        wanted = [name for name in wanted if name not in left_out]
        which = ", ".join(f"factor {k}" for k in np.flatnonzero(continuous))
        warnings.warn(
            f"{which} {'is' if continuous.sum() == 1 else 'are'} continuous: metrics by class are left out "
            f"({', '.join(left_out)}); merge values, for instance with np.digitize, to have them",
            stacklevel=2,
        )
    protocol = choose(preset)
    seed, repeats = check_whole("seed", seed, 0), check_whole("repeats", repeats, 1)
    sample_sizes(len(latents), protocol, num_train, num_test)  # refuse wrong sizes before any work
    if sampled is None:
        sampled = latents
        if "mig_chen" in wanted:
            warnings.warn(
                "mig_chen is that of the latents given; the paper's takes sampled ones (sampled)", stacklevel=2
            )
    elif np.shape(sampled) != latents.shape:
        raise ValueError(f"sampled must have the shape of latents, {latents.shape}, got {np.shape(sampled)}")
    else:
        sampled, _ = check_tables(sampled, factors, integer_factors=False)
    if factor_names is None:
        factor_names = [f"factor {k}" for k in range(factors.shape[1])]
    if len(factor_names) != factors.shape[1]:
        raise ValueError(f"factor_names must name {factors.shape[1]} factors, got {len(factor_names)}: {factor_names}")
    active = active_latents(latents, kl)
    kept = active if protocol.drop_inactive and active.any() else np.ones_like(active)
    if protocol.drop_inactive and not active.any():
        warnings.warn("no latent is in use, by KL or spread: all are scored", stacklevel=2)
    if kl is None and (narrow := np.flatnonzero(~kept & (standard_deviation(latents) > 0))).size:
        warnings.warn(
            f"latents {narrow.tolist()} are left out: they vary by less than 5 % of what the widest does; if they "
            "are in use, bring all latents to one scale",
            stacklevel=2,
        )
    if not kept.all():
        latents = latents[:, kept]

    chosen = replace(protocol, drop_inactive=False)  # they are left out already

    def draw(label: str, number: int, rows: np.ndarray | slice) -> Evaluation:
        return Evaluation(
            label=label,
            names=wanted,
            latents=latents[rows],
            sampled=lambda: sampled[rows],  # a table of all images is large, and few metrics want this one
            factors=factors,
            labels=labels,
            continuous=continuous,
            seed=seed + number,
            given={"num_train": num_train, "num_test": num_test},
            protocol=chosen,
            discrete=discrete,
        )

    everything = slice(None)
    draws = [draw(f"evaluation {i + 1} of {repeats}", i, everything) for i in range(repeats)]
    if chance:
        draws.append(draw("shuffled", 0, np.random.default_rng(seed).permutation(len(latents))))
    if names is None:
        _ = draws[0].rows  # too few rows would leave out nearly all metrics: one error instead
    measured = _measure_all(draws, wanted, progress, must_succeed=names is not None)
    scores, arrays = measured[0]
    return Scores(
        scores=scores,
        intervals=_intervals([others for others, _ in measured[:repeats]]),
        chance={key: value for key, value in measured[-1][0].items() if not score_info(key).ignores_factors}
        if chance
        else {},
        ceilings=_ceilings(factors, images, scores),
        arrays={name: _widen(name, array, kept) for name, array in arrays.items()} | {"active": active},
        captures=_captures(draws[0], kept, factor_names, active),
        preset=preset if isinstance(preset, str) else "custom",
        seed=seed,
        num_rows=len(latents),
    )


def _captures(draw: Evaluation, kept: np.ndarray, names: Sequence[str], active: np.ndarray) -> tuple[Capture, ...]:
    """Which latent captures which factor; nothing where factors cannot serve as classes."""
    try:
        found = draw.information
    except ValueError:
        return ()
    return find_captures(_widen("mig.mutual_information", found.shared, kept), found.factor_entropy, names, active)


def _measure_all(
    draws: Sequence[Evaluation],
    names: Sequence[str],
    progress: Callable[[str, int, int], None] | None,
    *,
    must_succeed: bool,
) -> list[Measured]:
    """Every metric on every draw, draws side by side; what fails is an error, or is left out of all draws."""
    from threadpoolctl import threadpool_limits

    num_parts, num_done, lock = len(names) * len(draws), 0, threading.Lock()

    def report(doing: str, done: int = 0) -> None:
        nonlocal num_done
        with lock:
            num_done += done
            if progress is not None:
                progress(doing, num_done, num_parts)

    def run(draw: Evaluation) -> dict[str, Measured | ValueError]:
        found: dict[str, Measured | ValueError] = {}
        for name in names:
            report(f"{name} ({draw.label})")
            try:
                found[name] = _measure(METRICS[name], draw)
            except ValueError as error:
                if must_succeed:
                    raise
                found[name] = error
            report(f"{name} ({draw.label})", done=1)
        return found

    # One thread for each matrix product: they are small, and sums come out alike on any number of cores.
    with _each_warning_once(), threadpool_limits(1, "blas"), ThreadPoolExecutor(num_threads()) as pool:
        futures = [pool.submit(run, draw) for draw in draws]
        try:
            outcomes = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    errors = {name: result for found in outcomes for name, result in found.items() if isinstance(result, ValueError)}
    for name, error in errors.items():
        warnings.warn(f"{name} is left out: {error}", stacklevel=3)
    return [_flatten({name: result for name, result in found.items() if name not in errors}) for found in outcomes]


def _flatten(found: Mapping[str, Any]) -> Measured:
    """Dotted names: ``"dci.disentanglement"``, but ``"mig"``."""
    scores: dict[str, float] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, (values, tables) in found.items():
        scores |= {key if key == name else f"{name}.{key}": value for key, value in values.items()}
        arrays |= {f"{name}.{key}": table for key, table in tables.items()}
    return scores, arrays


@contextmanager
def _each_warning_once() -> Iterator[None]:
    """Hold back what the evaluations warn of, and pass it on without repetitions."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for category, text in dict.fromkeys((warning.category, str(warning.message)) for warning in caught):
        warnings.warn(text, category, stacklevel=5)


def _widen(name: str, array: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Put zeros where latents were left out."""
    metric, _, part = name.partition(".")
    if part not in METRICS[metric].per_latent:
        return array
    wide = np.zeros((len(kept), *array.shape[1:]))
    wide[kept] = array
    return wide


def _intervals(repeats: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Where another evaluation falls in 95 % of cases, from mean and spread of the repeats (Student's t)."""
    if len(repeats) < 2:
        return {}
    from scipy.stats import t

    reach = float(t.ppf(0.975, len(repeats) - 1)) * math.sqrt(1 + 1 / len(repeats))
    intervals = {}
    for name in repeats[0]:
        if METRICS[name.partition(".")[0]].takes_sampled:  # it uses every row: nothing is drawn that could vary
            continue
        values = np.array([repeat[name] for repeat in repeats])
        if not np.isfinite(values).all():
            intervals[name] = (math.nan, math.nan)
            continue
        meaning = score_info(name)
        ends = np.clip(values.mean() + reach * values.std(ddof=1) * np.array([-1, 1]), meaning.low, meaning.high)
        intervals[name] = (float(ends[0]), float(ends[1]))
    return intervals


def _ceilings(factors: np.ndarray, images: np.ndarray | None, scores: Mapping[str, float]) -> dict[str, float]:
    if images is None:
        return {}
    return {name: best for name, best in score_ceilings(factors, images).items() if name in scores}
