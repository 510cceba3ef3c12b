"""FactorVAE score and its variants: a majority vote over the latent with the smallest or largest variance."""

import math

import numpy as np

from betavae.metrics.inputs import active_latents, standard_deviation, varying_factors
from betavae.metrics.interventions import Groups
from betavae.metrics.protocol import Protocol, choose, prepare, sample_sizes
from betavae.metrics.record import Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined


def factor_vae(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_test: int | None = None,
    batch_size: int = 64,
    num_variance: int = 10_000,
    min_std: float | None = None,
) -> dict[str, float]:
    """Compute the accuracy of a majority vote that predicts the fixed factor from the latent with least variance.

    For each point, draw a factor k and a row, then ``batch_size`` rows with the same value of factor k. The feature is
    the latent with the smallest variance, relative to its variance over all rows; the label is k. Each latent predicts
    its most frequent label among the training points. The first factor wins ties.

    Latents that hardly vary are excluded, because their ratio of variances is 0 / 0. By default, these are the inactive
    latents (see `active_latents`), independent of the unit of the latents. disentanglement_lib excludes latents with a
    standard deviation below 0.05.

    Source:
        Disentangling by Factorising (Kim & Mnih, 2018), section 4. https://arxiv.org/abs/1802.05983

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors; each value of a factor must occur in at least two rows.
        seed: seed for drawing factors and rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of training points, which vote; see `sample_sizes`.
        num_test: number of test points; see `sample_sizes`.
        batch_size: number of rows per point.
        num_variance: number of rows, drawn with replacement, for the overall variance of the latents.
        min_std: minimum standard deviation of a latent that votes; defaults to the preset's value.

    Returns:
        ``accuracy`` and ``accuracy_train`` in 0..1, larger is better, chance level 1 / (number of factors that vary),
        and ``num_active``, the number of latents that vote. If no latent votes, the accuracies are 0, as in
        disentanglement_lib. ``nan`` with a warning when fewer than two factors vary.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid, or a factor value occurs in only one row.

    Example:
        >>> factors = np.random.default_rng(0).integers(4, size=(1000, 3))
        >>> factor_vae(factors.astype(float), factors, seed=0, num_train=300, num_test=100)["accuracy"]
        1.0
    """
    protocol = choose(preset, min_std=min_std)
    latents, factors = prepare(latents, factors, protocol)
    num_train, num_test = sample_sizes(len(latents), protocol, num_train, num_test)
    varying = np.flatnonzero(varying_factors(factors))
    if len(varying) < 2:
        warn_undefined("FactorVAE score", f"it needs two factors that vary, got {len(varying)}")
        return {"accuracy": float("nan"), "accuracy_train": float("nan"), "num_active": float("nan")}
    rng = np.random.default_rng(seed)
    variance = latents[rng.integers(len(latents), size=num_variance)].var(axis=0, ddof=1, dtype=np.float64)
    active = active_latents(latents) if protocol.min_std is None else np.sqrt(variance) >= protocol.min_std
    active &= variance > 0
    if not active.any():
        return {"accuracy": 0.0, "accuracy_train": 0.0, "num_active": 0.0}
    fixed, latent = _least_varying(
        latents, active, factors, varying, variance[active], num_train + num_test, batch_size, rng
    )
    accuracy_train, accuracy = _vote(fixed, latent, num_train)
    return {"accuracy": accuracy, "accuracy_train": accuracy_train, "num_active": float(active.sum())}


def z_min_variance(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int = 800,
    num_test: int = 800,
    batch_size: int = 200,
    min_std: float | None = None,
) -> dict[str, float]:
    """Compute the FactorVAE score with the paper's sizes (800 points of 200 rows), rescaled to a chance level of 0.

    Source:
        Disentangling by Factorising (Kim & Mnih, 2018), section 4. https://arxiv.org/abs/1802.05983

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors; each value of a factor must occur in at least two rows.
        seed: seed for drawing factors and rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of training points, which vote.
        num_test: number of test points.
        batch_size: number of rows per point.
        min_std: minimum standard deviation of a latent that votes; defaults to the preset's value.

    Returns:
        ``z_min_variance``: (accuracy - 1/K) / (1 - 1/K) with K factors that vary; at most 1, chance level about 0.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid, or a factor value occurs in only one row.

    Example:
        >>> factors = np.random.default_rng(0).integers(4, size=(1000, 3))
        >>> z_min_variance(factors.astype(float), factors, seed=0)
        {'z_min_variance': 1.0}
    """
    protocol = choose(preset, min_std=min_std)
    latents, factors = prepare(latents, factors, protocol)
    scores = factor_vae(
        latents, factors, seed=seed, preset=protocol, num_train=num_train, num_test=num_test, batch_size=batch_size
    )
    return {"z_min_variance": _rescale(scores["accuracy"], factors)}


def z_max_variance(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int = 800,
    num_test: int = 800,
    batch_size: int = 200,
) -> dict[str, float]:
    """Compute the reverse of the FactorVAE score: vary only one factor, and vote by the latent with most variance.

    For each point, draw a factor k and a row, then rows with the same values of all other factors. The feature is the
    latent with the largest variance, relative to its variance over all rows. The accuracy is rescaled to a chance level
    of 0.

    Source:
        Relevance Factor VAE: Learning and Identifying Disentangled Factors (Kim, Wang, Sahu & Pavlovic, 2019).
        https://arxiv.org/abs/1902.01568

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors; each combination of all factors except one must occur in at least two rows.
        seed: seed for drawing factors and rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of training points, which vote.
        num_test: number of test points.
        batch_size: number of rows per point, drawn with replacement.

    Returns:
        ``z_max_variance``: (accuracy - 1/K) / (1 - 1/K) with K factors that vary; at most 1, chance level about 0; 0
        without active latents; ``nan`` with a warning when fewer than two factors vary.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid, or a combination of all factors except one occurs in only one row.

    Example:
        >>> factors = np.array([[i, j, k] for i in range(3) for j in range(3) for k in range(3)])
        >>> z_max_variance(factors.astype(float), factors, seed=0)
        {'z_max_variance': 1.0}
    """
    latents, factors = prepare(latents, factors, choose(preset))
    varying = np.flatnonzero(varying_factors(factors))
    if len(varying) < 2:
        warn_undefined("Z-max variance", f"it needs two factors that vary, got {len(varying)}")
        return {"z_max_variance": float("nan")}
    rng = np.random.default_rng(seed)
    active = active_latents(latents)
    if not active.any():
        return {"z_max_variance": 0.0}
    variance = standard_deviation(latents)[active] ** 2
    varied = rng.choice(varying, size=num_train + num_test)
    latent = np.empty(len(varied), np.int64)
    for k in varying:
        points = np.flatnonzero(varied == k)
        others = [int(other) for other in varying if other != k]
        groups = Groups.by_value(factors, others, "Z-max variance")
        rows = groups.draw_like(rng.integers(len(latents), size=len(points)), rng, batch_size)
        local = latents[rows][:, :, active].var(axis=1, ddof=1, dtype=np.float64)
        latent[points] = (local / variance).argmax(axis=1)
    return {"z_max_variance": _rescale(_vote(varied, latent, num_train)[1], factors)}


def _least_varying(
    latents: np.ndarray,
    active: np.ndarray,
    factors: np.ndarray,
    varying: np.ndarray,
    variance: np.ndarray,
    num_points: int,
    batch_size: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    fixed = rng.choice(varying, size=num_points)
    latent = np.empty(num_points, np.int64)
    for k in varying:
        points = np.flatnonzero(fixed == k)
        groups = Groups.by_value(factors, [int(k)], "the FactorVAE score")
        rows = groups.draw_like(rng.integers(len(latents), size=len(points)), rng, batch_size)
        local = latents[rows][:, :, active].var(axis=1, ddof=1, dtype=np.float64)
        latent[points] = (local / variance).argmin(axis=1)
    return fixed, latent


def _vote(factor: np.ndarray, latent: np.ndarray, num_train: int) -> tuple[float, float]:
    """Return the accuracy on the first ``num_train`` points, which vote, and on the other points."""
    votes = np.zeros((int(latent.max()) + 1, int(factor.max()) + 1), np.int64)
    np.add.at(votes, (latent[:num_train], factor[:num_train]), 1)
    correct = votes.argmax(axis=1)[latent] == factor
    return float(correct[:num_train].mean()), float(correct[num_train:].mean())


def _rescale(accuracy: float, factors: np.ndarray) -> float:
    chance = 1 / max(int(varying_factors(factors).sum()), 1)
    return (accuracy - chance) / (1 - chance) if chance < 1 else float("nan")


FACTOR_VAE = Metric(
    "factor_vae",
    factor_vae,
    {
        "accuracy": ScoreInfo(
            0,
            1,
            True,
            "with one factor fixed, does the latent that varies least tell which?",
            3,
            title="FactorVAE score",
        ),
        "accuracy_train": ScoreInfo(0, 1, True, "the FactorVAE score on the training points", 0),
        "num_active": ScoreInfo(0, math.inf, None, "number of latents that take part in the vote", 0, True),
    },
    "a majority vote of the latent that varies least names the fixed factor",
)
Z_MIN_VARIANCE = Metric(
    "z_min_variance",
    z_min_variance,
    {"z_min_variance": ScoreInfo(-math.inf, 1, True, "the FactorVAE score with the paper's sizes, chance level 0")},
    "the FactorVAE score at its paper's sizes, rescaled",
    own_sizes=True,
)
Z_MAX_VARIANCE = Metric(
    "z_max_variance",
    z_max_variance,
    {"z_max_variance": ScoreInfo(-math.inf, 1, True, "does the latent that varies most identify the varied factor?")},
    "a majority vote of the latent that varies most names the factor that moved",
    own_sizes=True,
)
