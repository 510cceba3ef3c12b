"""R2: share of each factor's variance that regressions on all latents explain."""

import math

import numpy as np

from betavae.metrics.inputs import varying_factors
from betavae.metrics.protocol import Protocol, choose, draw_sample
from betavae.metrics.record import Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined


def r2(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_test: int | None = None,
    with_replacement: bool | None = None,
) -> dict[str, float]:
    """Compute the explained variance of regressions from all latents to each factor, on test rows; mean over factors.

    R2 = 1 - sum (y - prediction)^2 / sum (y - mean y)^2. ``linear`` is a least-squares fit with an intercept; it is 1
    if each factor is a linear function of the latents. ``trees`` uses boosted regression trees; it is close to 1 if
    each factor is a smooth function of the latents. Labels are used as numbers, so the order of their values matters.

    Source:
        Greedy Function Approximation: A Gradient Boosting Machine (Friedman, 2001), algorithm 2.
        https://doi.org/10.1214/aos/1013203451
        Self-Supervised Learning with Data Augmentations Provably Isolates Content from Style (von Kuegelgen et al.,
        2021), section 5: use as a score. https://arxiv.org/abs/2106.04619

    Args:
        latents: (N, D) latents.
        factors: (N, K) numbers, continuous or labels.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of training rows; see `sample_sizes`.
        num_test: number of test rows; see `sample_sizes`.
        with_replacement: draw rows with replacement; defaults to the preset's value.

    Returns:
        ``linear`` and ``trees``, at most 1; about 0 for latents without information about the factors, below 0 for
        predictions that are worse than the mean; ``nan`` with a warning when no factor varies.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> latents = np.random.default_rng(0).normal(size=(900, 2))
        >>> scores = r2(latents, latents @ [[1.0, 2.0], [0.5, -1.0]], seed=0)
        >>> round(scores["linear"], 3), scores["trees"] > 0.9
        (1.0, True)
    """
    from betavae.metrics.estimators.boosting import boost_values

    protocol = choose(preset, with_replacement=with_replacement)
    sample = draw_sample(
        latents, factors, protocol, seed=seed, num_train=num_train, num_test=num_test, factors_as="numbers"
    )
    latents, factors, _, train, test = sample[:5]
    varying = varying_factors(factors[train]) & varying_factors(factors[test])
    if not varying.any():
        warn_undefined("R2", "no factor varies")
        return {"linear": float("nan"), "trees": float("nan")}
    factors = factors[:, varying]
    linear = [r_squared(latents[train], y[train], latents[test], y[test]) for y in factors.T]
    predicted = boost_values(latents[train], factors[train], latents[test], seed=seed).test
    trees = [explained_share(y, f) for y, f in zip(factors[test].T, predicted.T, strict=True)]
    return {"linear": float(np.mean(linear)), "trees": float(np.mean(trees))}


def r_squared(train: np.ndarray, values: np.ndarray, test: np.ndarray, test_values: np.ndarray) -> float:
    """Return the share of the variance of ``test_values`` that a linear fit to the training rows explains.

    Example:
        >>> x = np.arange(10.0)[:, None]
        >>> round(r_squared(x, 3 * x[:, 0] + 1, x, 3 * x[:, 0] + 1), 6)
        1.0
    """
    centre = train.mean(axis=0, dtype=np.float64)
    table = np.column_stack([train - centre, np.ones(len(train))])
    weights = np.linalg.lstsq(table, values.astype(np.float64), rcond=None)[0]
    return explained_share(test_values, (test - centre) @ weights[:-1] + weights[-1])


def explained_share(values: np.ndarray, predicted: np.ndarray) -> float:
    """Return 1 - squared error / variance; ``nan`` for constant values.

    Example:
        >>> explained_share(np.array([0.0, 2.0]), np.array([0.0, 1.0]))
        0.5
    """
    total = ((values - values.mean()) ** 2).sum()
    return float(1 - ((values - predicted) ** 2).sum() / total) if total > 0 else float("nan")


METRIC = Metric(
    "r2",
    r2,
    {
        "linear": ScoreInfo(-math.inf, 1, True, "share of the factors' variance that a linear map explains"),
        "trees": ScoreInfo(-math.inf, 1, True, "share of the factors' variance that boosted regression trees explain"),
    },
    "variance of the factors explained by regressions on all latents",
    takes_continuous=True,
)
