"""Evaluation of many metrics on one pair of tables, with intervals and chance levels."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from betavae.files.validation import check_name
from betavae.metrics.captures import Capture, find_captures
from betavae.metrics.ceilings import score_ceilings
from betavae.metrics.evaluation import Evaluation
from betavae.metrics.inputs import active_latents, by_kind, check_tables, check_whole, standard_deviation
from betavae.metrics.measuring import measure_all
from betavae.metrics.protocol import Protocol, choose, sample_sizes
from betavae.metrics.registry import METRICS, score_info
from betavae.metrics.scores import Scores


def evaluate(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    metrics: Sequence[str] | None = None,
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
        metrics: names of the metrics, keys of `METRICS`. By default all metrics except `unibound`, which is slow, and
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
        >>> evaluation = evaluate(factors.astype(float), factors, metrics=["mig"], num_train=500)
        >>> evaluation.scores["mig"] > 0.95, evaluation.chance["mig"] < 0.05
        (True, True)
    """
    if metrics is not None and (isinstance(metrics, str) or not metrics):
        raise ValueError(f"metrics must list at least one metric of {', '.join(METRICS)}, got {metrics!r}")
    for name in metrics or ():
        check_name("metric", name, METRICS)
    if factor_names is None and hasattr(factors, "columns"):
        factor_names = [str(name) for name in factors.columns]
    latents, factors = check_tables(latents, factors, integer_factors=False)
    labels, continuous = by_kind(factors)
    selected = list(metrics) if metrics is not None else _all_metrics(continuous, sampled is not None)
    protocol = choose(preset)
    seed, repeats = check_whole("seed", seed, 0), check_whole("repeats", repeats, 1)
    sample_sizes(len(latents), protocol, num_train, num_test)  # reject invalid sizes before any work
    samples = _check_sampled(sampled, latents, factors, selected)
    factor_names = _check_factor_names(factor_names, factors.shape[1])
    active = active_latents(latents, kl)
    kept = _kept_latents(latents, kl, active) if protocol.drop_inactive else np.ones_like(active)
    if not kept.all():
        latents = latents[:, kept]
    protocol = replace(protocol, drop_inactive=False)  # inactive latents are already removed

    def prepare_evaluation(label: str, number: int, rows: np.ndarray | slice) -> Evaluation:
        return Evaluation(
            label=label,
            names=selected,
            latents=latents[rows],
            sampled=lambda: samples[rows],  # copied on demand: the table is large, and only mig_chen needs it
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
    if metrics is None:
        _ = evaluations[0].rows  # with too few rows, raise one error instead of leaving out nearly all metrics
    measured = measure_all(evaluations, selected, progress, must_succeed=metrics is not None)
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


def _all_metrics(continuous: np.ndarray, with_samples: bool) -> list[str]:
    """The metrics that are computed if none are named. Warns of those that need classes if factors are continuous."""
    names = [
        name for name, metric in METRICS.items() if not metric.on_request and (with_samples or not metric.takes_sampled)
    ]
    if not continuous.any():
        return names
    left_out = [name for name in names if METRICS.is_shipped(name) and not METRICS[name].takes_continuous]
    which = ", ".join(f"factor {k}" for k in np.flatnonzero(continuous))
    warnings.warn(
        f"{which} {'is' if continuous.sum() == 1 else 'are'} continuous: metrics that need classes are left out "
        f"({', '.join(left_out)}); to compute them, merge values, for instance with np.digitize",
        stacklevel=3,
    )
    return [name for name in names if name not in left_out]


def _check_sampled(
    sampled: np.ndarray | None, latents: np.ndarray, factors: np.ndarray, names: Sequence[str]
) -> np.ndarray:
    """Return the sampled latents (N, D). Without any, return the latents, with a warning if a metric takes samples."""
    if sampled is None:
        for name in (name for name in names if METRICS[name].takes_sampled):
            warnings.warn(
                f"{name} uses latents instead of samples from the posteriors; pass samples as sampled to follow the "
                "paper",
                stacklevel=3,
            )
        return latents
    if np.shape(sampled) != latents.shape:
        raise ValueError(f"sampled must have the shape of latents, {latents.shape}, got {np.shape(sampled)}")
    return check_tables(sampled, factors, integer_factors=False)[0]


def _check_factor_names(names: Sequence[str] | None, num_factors: int) -> Sequence[str]:
    """Return one name for each factor."""
    if names is None:
        return [f"factor {k}" for k in range(num_factors)]
    if len(names) != num_factors:
        raise ValueError(
            f"factor_names must have one name for each of the {num_factors} factors, got {len(names)}: {names}"
        )
    return names


def _kept_latents(latents: np.ndarray, kl: np.ndarray | None, active: np.ndarray) -> np.ndarray:
    """Mask (D,) of the latents to score: the active ones, or all if none is active."""
    if not active.any():
        warnings.warn(
            "no latent is active, by KL divergence or standard deviation: all latents are scored", stacklevel=3
        )
        return np.ones_like(active)
    if kl is None and (narrow := np.flatnonzero(~active & (standard_deviation(latents) > 0))).size:
        warnings.warn(
            f"latents {narrow.tolist()} are left out: their standard deviation is below 5 % of the largest one; if "
            "they are active, scale all latents to the same unit",
            stacklevel=3,
        )
    return active


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
