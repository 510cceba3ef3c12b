"""Interventional robustness score: does a latent stay constant while the other factors change?"""

import math

import numpy as np

from betavae.metrics.information import discretise
from betavae.metrics.inputs import check_classes, draw_rows, standard_deviation, varying_factors
from betavae.metrics.protocol import Protocol, choose, prepare, sample_sizes
from betavae.metrics.record import Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined


def irs(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    quantile: float = 0.99,
    reference_quantile: float | None = None,
    num_factor_bins: int | None = None,
    with_replacement: bool | None = None,
) -> dict[str, float]:
    """Compute the interventional robustness score (IRS).

    Fix factor i to value v and let all other factors vary. Let e be the mean of latent d over these rows, and D the
    0.99 quantile of |z_d - e|. Let R be the same quantile of |z_d - mean z_d| over all rows. Then
    IRS[d, i] = 1 - mean over v of D / R. The score of a latent is its maximum over factors. The total score is the mean
    over latents, weighted by R.

    disentanglement_lib uses the maximum for R, so latents of pure noise score about 0.37. It also bins factors with
    more than 20 values, so perfect latents score below 1. ``reference_quantile=1`` and ``num_factor_bins=20`` reproduce
    both.

    Source:
        Robustly Disentangled Causal Mechanisms (Suter, Miladinović, Schölkopf & Bauer, 2019), section 4.
        https://arxiv.org/abs/1811.00007

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of rows drawn; see `sample_sizes`.
        quantile: quantile of the deviations D.
        reference_quantile: quantile of the deviations R; defaults to the preset's value.
        num_factor_bins: number of equal-width bins for each factor; defaults to the preset's value.
        with_replacement: draw rows with replacement; defaults to the preset's value.

    Returns:
        ``irs``, at most 1, about 0 for latents without information about any factor; ``nan`` with a warning when no
        latent or no factor varies. Noise scores higher if a factor value has few rows.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(4, size=(1000, 2))
        >>> irs(factors.astype(float), factors, seed=0, num_train=1000)
        {'irs': 1.0}
    """
    protocol = choose(
        preset, with_replacement=with_replacement, irs_reference=reference_quantile, irs_bins=num_factor_bins
    )
    latents, factors = prepare(latents, factors, protocol)
    size, _ = sample_sizes(len(latents), protocol, num_train)
    (rows,) = draw_rows(len(latents), (size,), np.random.default_rng(seed), with_replacement=protocol.with_replacement)
    z, y = latents[rows].astype(np.float64), factors[rows]
    check_classes(y)
    if protocol.irs_bins is not None:
        y = discretise(
            np.stack([np.unique(column, return_inverse=True)[1] for column in y.T], axis=1), protocol.irs_bins
        )
    z, y = z[:, standard_deviation(z) > 0], y[:, varying_factors(y)]
    if not z.shape[1] or not y.shape[1]:
        warn_undefined("IRS", "no latent varies" if y.shape[1] else "no factor varies")
        return {"irs": float("nan")}
    reference = quantile if protocol.irs_reference is None else protocol.irs_reference
    deviation = np.quantile(np.abs(z - z.mean(axis=0)), reference, axis=0)
    z, deviation = z[:, deviation > 0], deviation[deviation > 0]
    if not len(deviation):
        warn_undefined("IRS", "every latent is constant except in very few rows")
        return {"irs": float("nan")}
    scores = np.stack([1 - _mean_deviation(z, column, quantile) / deviation for column in y.T], axis=1)
    return {"irs": float(np.average(scores.max(axis=1), weights=deviation))}


def _mean_deviation(latents: np.ndarray, factor: np.ndarray, quantile: float) -> np.ndarray:
    deviations = []
    for value in np.unique(factor):
        rows = latents[factor == value]
        deviations.append(np.quantile(np.abs(rows - rows.mean(axis=0)), quantile, axis=0))
    return np.asarray(np.mean(deviations, axis=0))


METRIC = Metric(
    "irs",
    irs,
    {"irs": ScoreInfo(-math.inf, 1, True, "does each latent stay the same while other factors change?")},
    "robustness of each latent to changes of the other factors",
    counts_classes=True,
)
