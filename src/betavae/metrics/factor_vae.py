"""FactorVAE score and its relatives: which latent varied least, or most? A majority vote answers."""

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
    """Accuracy of a majority vote that tells which factor was held, from the latent that varied least.

    One point: draw a factor k and a row; draw ``batch_size`` rows that agree with it in factor k; the feature is the
    latent with the smallest variance, relative to its variance over all rows; the label is k. Each latent votes for the
    factor it met most often among the training points; among equals the first factor wins.

    Latents that hardly vary must not take part: 0 / 0 decides nothing. By default the inactive latents of
    `active_latents` stay out, whatever the latents' unit; disentanglement_lib drops latents whose standard deviation is
    below 0.05.

    Source:
        Disentangling by Factorising (Kim & Mnih, 2018), section 4. https://arxiv.org/abs/1802.05983

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors; every value of a factor needs two rows.
        seed: seed of the factors and rows drawn.
        preset: name of a protocol, or a `Protocol`; see `PRESETS`. What is given besides replaces its part.
        num_train: points that vote; see `sample_sizes`.
        num_test: points that the votes are tested on; see `sample_sizes`.
        batch_size: rows of one point.
        num_variance: rows, drawn with replacement, that a latent's overall variance is taken from.
        min_std: keep the latents whose standard deviation reaches this; if unset, as the preset says.

    Returns:
        ``accuracy``, ``accuracy_train`` in 0..1, larger is better, chance 1 / (factors that vary); ``num_active``. With
        no latent left the accuracies are 0, as in disentanglement_lib; ``nan`` with a warning when fewer than two
        factors vary.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed, or a factor value has a single row.

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
    held, winner = _least_varying(
        latents, active, factors, varying, variance[active], num_train + num_test, batch_size, rng
    )
    accuracy_train, accuracy = _vote(held, winner, num_train)
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
    """The FactorVAE score at the paper's own sizes (800 votes, 200 rows each), rescaled so that chance is 0.

    Source:
        Disentangling by Factorising (Kim & Mnih, 2018), section 4. https://arxiv.org/abs/1802.05983

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors; every value of a factor needs two rows.
        seed: seed of the factors and rows drawn.
        preset: name of a protocol, or a `Protocol`; see `PRESETS`. What is given besides replaces its part.
        num_train: points that vote.
        num_test: points that the votes are judged on.
        batch_size: rows of one point.
        min_std: keep the latents whose standard deviation reaches this; if unset, as the preset says.

    Returns:
        ``z_min_variance``: (accuracy - 1/K) / (1 - 1/K) with K factors that vary; 1 at best, about 0 by chance.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed, or a factor value has a single row.

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
    """The reverse of the FactorVAE score: vary one factor alone and vote by the latent that varies most.

    One point: draw a factor k and a row; draw rows that agree with it in all other factors; the feature is the latent
    with the largest variance, relative to its variance over all rows. Rescaled so that chance is 0.

    Source:
        Relevance Factor VAE: Learning and Identifying Disentangled Factors (Kim, Wang, Sahu & Pavlovic, 2019).
        https://arxiv.org/abs/1902.01568

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors; at least two rows for each combination of all factors but one.
        seed: seed of the factors and rows drawn.
        preset: name of a protocol, or a `Protocol`; see `PRESETS`. What is given besides replaces its part.
        num_train: points that vote.
        num_test: points that the votes are judged on.
        batch_size: rows of one point, drawn with replacement.

    Returns:
        ``z_max_variance``: (accuracy - 1/K) / (1 - 1/K) with K factors that vary; 1 at best, about 0 by chance; 0 with
        no active latent; ``nan`` with a warning when fewer than two factors vary.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed, or holds too few rows with all factors but one in common.

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
    moved = rng.choice(varying, size=num_train + num_test)
    winner = np.empty(len(moved), np.int64)
    for k in varying:
        mine = np.flatnonzero(moved == k)
        others = [int(other) for other in varying if other != k]
        groups = Groups.by_value(factors, others, "Z-max variance")
        rows = groups.draw_like(rng.integers(len(latents), size=len(mine)), rng, batch_size)
        local = latents[rows][:, :, active].var(axis=1, ddof=1, dtype=np.float64)
        winner[mine] = (local / variance).argmax(axis=1)
    return {"z_max_variance": _rescale(_vote(moved, winner, num_train)[1], factors)}


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
    held = rng.choice(varying, size=num_points)
    winner = np.empty(num_points, np.int64)
    for k in varying:
        mine = np.flatnonzero(held == k)
        groups = Groups.by_value(factors, [int(k)], "the FactorVAE score")
        rows = groups.draw_like(rng.integers(len(latents), size=len(mine)), rng, batch_size)
        local = latents[rows][:, :, active].var(axis=1, ddof=1, dtype=np.float64)
        winner[mine] = (local / variance).argmin(axis=1)
    return held, winner


def _vote(factor: np.ndarray, latent: np.ndarray, num_train: int) -> tuple[float, float]:
    """Accuracy on the first ``num_train`` points, which vote, and on the rest."""
    votes = np.zeros((int(latent.max()) + 1, int(factor.max()) + 1), np.int64)
    np.add.at(votes, (latent[:num_train], factor[:num_train]), 1)
    right = votes.argmax(axis=1)[latent] == factor
    return float(right[:num_train].mean()), float(right[num_train:].mean())


def _rescale(accuracy: float, factors: np.ndarray) -> float:
    chance = 1 / max(int(varying_factors(factors).sum()), 1)
    return (accuracy - chance) / (1 - chance) if chance < 1 else float("nan")


FACTOR_VAE = Metric(
    "factor_vae",
    factor_vae,
    {
        "accuracy": ScoreInfo(0, 1, True, "does the latent that varies least tell which factor was fixed?", 3),
        "accuracy_train": ScoreInfo(0, 1, True, "the FactorVAE score on the points that vote", 0),
        "num_active": ScoreInfo(0, math.inf, None, "number of latents that take part in the vote", 0, True),
    },
    "a majority vote of the latent that varies least names the fixed factor",
)
Z_MIN_VARIANCE = Metric(
    "z_min_variance",
    z_min_variance,
    {"z_min_variance": ScoreInfo(-math.inf, 1, True, "the FactorVAE score at its paper's sizes, with chance at 0")},
    "the FactorVAE score at its paper's sizes, rescaled",
    own_sizes=True,
)
Z_MAX_VARIANCE = Metric(
    "z_max_variance",
    z_max_variance,
    {"z_max_variance": ScoreInfo(-math.inf, 1, True, "does the latent that varies most tell which factor moved?")},
    "a majority vote of the latent that varies most names the factor that moved",
    own_sizes=True,
)
