"""Modularity and explicitness: one factor a latent, and every factor linearly there."""

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
    """Does each latent tell about one factor only, whichever?

    For a latent with information m_k about factor k and the largest of them m, modularity is
    1 - sum over the other factors of m_k^2 / (m^2 (K - 1)); the score is the mean over latents.

    A latent that tells nothing counts 0, and with the bias correction, information that a G test cannot tell from none
    (level 1e-4) is none, where there are as many rows as bins times values. Being a ratio, modularity would else be
    high for an inactive latent that still wobbles: pure noise scores about 0.65 on 10,000 rows of dSprites by plain
    estimates, because they are biased upwards, the more so the more values a factor has, and 0.75 by corrected ones,
    among whose remains of noise the largest stands out. The mean over latents would then mostly count inactive ones.

    Source:
        Learning Deep Disentangled Embeddings With the F-Statistic Loss (Ridgeway & Mozer, 2018), section 4.
        https://arxiv.org/abs/1802.05312

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors.
        seed: seed of the rows drawn.
        preset: name of a protocol, or a `Protocol`; see `PRESETS`. What is given besides replaces its part.
        num_train: rows drawn; see `sample_sizes`.
        num_bins: equal-width bins of each latent.
        with_replacement: draw rows with replacement; if unset, as the preset says.
        bias_correction: correct entropies by Miller and Madow; if unset, as the preset says.

    Returns:
        ``modularity`` in 0..1, larger is better; ``nan`` with a warning when fewer than two factors vary.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed, or holds too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(4, size=(1000, 2))
        >>> round(modularity(factors.astype(float), factors, seed=0, num_train=1000)["modularity"], 2)
        1.0
    """
    protocol = choose(preset, with_replacement=with_replacement, bias_correction=bias_correction)
    information = information_of_kept(latents, factors, protocol, seed=seed, num_train=num_train, num_bins=num_bins)
    return modularity_of(information)


def modularity_of(information: Information) -> dict[str, float]:
    """Modularity from a matrix; see `modularity`.

    Example:
        >>> shared = np.array([[0.5, 0.25, 0.0], [0.0, 0.0, 0.0]])  # 1 - 0.25 / 2 and nothing
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
    """How well does a linear classifier on all latents rank each value of each factor above the others?

    For each factor a multinomial logistic regression (L2 penalty 1, standardised latents) and the area under the ROC
    curve of each value against the rest, on held-out rows; mean over the values that occur there, then over factors.

    Source:
        Learning Deep Disentangled Embeddings With the F-Statistic Loss (Ridgeway & Mozer, 2018), section 4.
        https://arxiv.org/abs/1802.05312

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors.
        seed: seed of the rows drawn.
        preset: name of a protocol, or a `Protocol`; see `PRESETS`. What is given besides replaces its part.
        num_train: rows that the classifiers are fitted to; see `sample_sizes`.
        num_test: rows that they are tested on; see `sample_sizes`.
        with_replacement: draw rows with replacement; if unset, as the preset says.

    Returns:
        ``explicitness`` and, on the training rows, ``train``; 0.5 by chance and 1 at best; ``nan`` with a warning when
        no factor varies.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed, or holds too few rows.

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
    held_out, fitted = np.mean(areas, axis=0)
    return {"explicitness": float(held_out), "train": float(fitted)}


def roc_areas(scores: np.ndarray, classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest, for the classes that some but not all rows have.

    Args:
        scores: (N, C) larger for the rows that should belong to a class.
        classes: (C,) label of each column.
        labels: (N,) true labels.

    Returns:
        One area in 0..1 for each such class; ties count half.

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
