"""Modularity (one factor per latent) and explicitness (factors are linearly separable)."""

import numpy as np

from betavae.metrics.estimators.logistic import Logistic
from betavae.metrics.information import Information, information_of_kept
from betavae.metrics.inputs import standardised, varying_factors
from betavae.metrics.protocol import Protocol, choose, draw_sample
from betavae.metrics.record import Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined


def modularity(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_bins: int = 20,
    with_replacement: bool | None = None,
    bias_correction: bool | None = None,
) -> dict[str, float]:
    """Compute the modularity: does each latent have information about only one factor?

    For a latent with information m_k about factor k and maximum m = max_k m_k, modularity is
    1 - sum over the other factors of m_k^2 / (m^2 (K - 1)). The score is the mean over latents.

    A latent without information about any factor counts as 0. With bias correction, information that is not significant
    in a G test (level 1e-4) is set to 0, if there are at least as many rows as bins times values. The reason is that
    modularity is a ratio, which is large even for noise: on 10,000 rows of dSprites, pure noise scores about 0.65 with
    plug-in estimates, because their bias is larger for factors with more values, and about 0.75 with corrected
    estimates, because the largest of the remaining errors dominates. Noisy inactive latents would then dominate the
    mean.

    Source:
        Learning Deep Disentangled Embeddings With the F-Statistic Loss (Ridgeway & Mozer, 2018), section 4.
        https://arxiv.org/abs/1802.05312

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of rows drawn; see `sample_sizes`.
        num_bins: number of equal-width bins for each latent.
        with_replacement: draw rows with replacement; defaults to the preset's value.
        bias_correction: apply the Miller-Madow correction to entropies; defaults to the preset's value.

    Returns:
        ``modularity`` in 0..1, larger is better; ``nan`` with a warning when fewer than two factors vary.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(4, size=(1000, 2))
        >>> round(modularity(factors.astype(float), factors, seed=0, num_train=1000)["modularity"], 2)
        1.0
    """
    protocol = choose(preset, with_replacement=with_replacement, bias_correction=bias_correction)
    information = information_of_kept(latents, factors, protocol, seed=seed, num_train=num_train, num_bins=num_bins)
    return modularity_of(information)


def modularity_of(information: Information) -> dict[str, float]:
    """Compute the modularity from an information matrix; see `modularity`.

    Example:
        >>> shared = np.array([[0.5, 0.25, 0.0], [0.0, 0.0, 0.0]])  # 1 - 0.25 / 2, and 0 for the second latent
        >>> modularity_of(Information(shared, np.ones((2, 3)), np.ones(2), np.ones(3), 20))
        {'modularity': 0.4375}
    """
    kept = information.varying
    if kept.sum() < 2:
        warn_undefined("modularity", f"it needs two factors that vary, got {kept.sum()}")
        return {"modularity": float("nan")}
    squares = np.where(information.shared > information.noise, information.shared, 0)[:, kept] ** 2
    largest = squares.max(axis=1)
    rest = (squares.sum(axis=1) - largest) / (kept.sum() - 1)
    return {"modularity": float(np.where(largest > 0, 1 - rest / np.where(largest > 0, largest, 1), 0).mean())}


def explicitness(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_test: int | None = None,
    with_replacement: bool | None = None,
) -> dict[str, float]:
    """Compute the explicitness: area under the ROC curve of linear classifiers on all latents.

    For each factor, fit a multinomial logistic regression (L2 penalty 1, standardised latents) and compute the area
    under the ROC curve of each value against the rest on the test rows. The score is the mean over the values that
    occur in the test rows, then over factors.

    Source:
        Learning Deep Disentangled Embeddings With the F-Statistic Loss (Ridgeway & Mozer, 2018), section 4.
        https://arxiv.org/abs/1802.05312

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of training rows; see `sample_sizes`.
        num_test: number of test rows; see `sample_sizes`.
        with_replacement: draw rows with replacement; defaults to the preset's value.

    Returns:
        ``explicitness`` on test rows and ``train`` on training rows; at most 1, chance level 0.5; ``nan`` with a
        warning when no factor varies.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(2, size=(1000, 2))
        >>> explicitness(factors.astype(float), factors, seed=0, num_train=800, num_test=200)["explicitness"]
        1.0
    """
    protocol = choose(preset, with_replacement=with_replacement)
    sample = draw_sample(latents, factors, protocol, seed=seed, num_train=num_train, num_test=num_test)
    latents, factors, _, train, test = sample[:5]
    varying = np.flatnonzero(varying_factors(factors[train]) & varying_factors(factors[test]))
    if not len(varying):
        warn_undefined("explicitness", "no factor varies")
        return {"explicitness": float("nan"), "train": float("nan")}
    train_latents, test_latents = standardised(latents[train], latents[test])
    areas = []
    for k in varying:
        model = Logistic.fit(train_latents, factors[train, k])
        areas.append(
            [
                np.mean(roc_areas(model.log_probabilities(x), model.classes, factors[rows, k]))
                for x, rows in ((test_latents, test), (train_latents, train))
            ]
        )
    test_area, train_area = np.mean(areas, axis=0)
    return {"explicitness": float(test_area), "train": float(train_area)}


def roc_areas(scores: np.ndarray, classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute the area under the ROC curve of each class against the rest.

    Args:
        scores: (N, C) predicted score of each class; larger means more likely.
        classes: (C,) label of each column.
        labels: (N,) true labels.

    Returns:
        One area in 0..1 for each class that occurs in some but not all rows. Ties count half.

    Example:
        >>> roc_areas(np.array([[0.1], [0.4], [0.4], [0.8]]), np.array([1]), np.array([0, 0, 1, 1]))
        array([0.875])
    """
    from scipy.stats import rankdata

    areas = []
    for column, label in zip(scores.T, classes, strict=True):
        member = labels == label
        num = int(member.sum())
        if 0 < num < len(labels):
            excess = rankdata(column)[member].sum() - num * (num + 1) / 2
            areas.append(excess / (num * (len(labels) - num)))
    return np.array(areas)


MODULARITY = Metric(
    "modularity",
    modularity,
    {"modularity": ScoreInfo(0, 1, True, "does each latent have information about one factor only?", 2)},
    "how far the information of each latent is about a single factor",
    counts_classes=True,
    shared=lambda evaluation: (modularity_of(evaluation.information), {}),
)
EXPLICITNESS = Metric(
    "explicitness",
    explicitness,
    {
        "explicitness": ScoreInfo(0, 1, True, "can a linear classifier rank each value of each factor first?"),
        "train": ScoreInfo(0, 1, True, "explicitness on the training rows", 0),
    },
    "area under the ROC curve of linear classifiers",
    counts_classes=True,
)
