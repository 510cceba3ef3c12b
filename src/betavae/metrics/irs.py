"""Interventional robustness: does a latent stay put while the other factors change?"""

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
    """Interventional robustness score.

    Hold factor i at value v and let all else vary: e is the mean of latent d there, and D the 0.99 quantile of |z_d -
    e|. With R the same quantile of |z_d - mean z_d| over all rows, IRS[d, i] = 1 - mean over v of D / R. A latent's
    score is its best over factors; the total weights latents by R.

    disentanglement_lib takes the maximum for R, so that latents of pure noise score about 0.37, and bins factors of
    more than 20 values, so that perfect latents miss 1; ``reference_quantile=1`` and ``num_factor_bins=20`` do the
    same.

    Source:
        Robustly Disentangled Causal Mechanisms (Suter, Miladinović, Schölkopf & Bauer, 2019), section 4.
        https://arxiv.org/abs/1811.00007

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors.
        seed: seed of the rows drawn.
        preset: name of a protocol, or a `Protocol`; see `PRESETS`. What is given besides replaces its part.
        num_train: rows drawn; see `sample_sizes`.
        quantile: quantile of the deviations D.
        reference_quantile: quantile of the deviations R; if unset, as the preset says.
        num_factor_bins: bin factors into so many equal-width bins; if unset, as the preset says.
        with_replacement: draw rows with replacement; if unset, as the preset says.

    Returns:
        ``irs``, 1 at best and about 0 for latents that know nothing; ``nan`` with a warning when no latent or no
        factor varies. Noise scores more where a value has few rows.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed, or holds too few rows.

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
    reach = np.quantile(np.abs(z - z.mean(axis=0)), reference, axis=0)
    z, reach = z[:, reach > 0], reach[reach > 0]
    if not len(reach):
        warn_undefined("IRS", "latents stay at one value but for the rarest rows")
        return {"irs": float("nan")}
    scores = np.stack([1 - _mean_deviation(z, column, quantile) / reach for column in y.T], axis=1)
    return {"irs": float(np.average(scores.max(axis=1), weights=reach))}


def _mean_deviation(latents: np.ndarray, factor: np.ndarray, quantile: float) -> np.ndarray:
    deviations = []
    for value in np.unique(factor):
        held = latents[factor == value]
        deviations.append(np.quantile(np.abs(held - held.mean(axis=0)), quantile, axis=0))
    return np.asarray(np.mean(deviations, axis=0))


METRIC = Metric(
    "irs",
    irs,
    {"irs": ScoreInfo(-math.inf, 1, True, "does each latent stay the same while other factors change?")},
    "robustness of each latent to changes of the other factors",
    counts_classes=True,
)
