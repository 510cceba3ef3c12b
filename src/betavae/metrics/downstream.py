"""Downstream accuracy and statistical efficiency: how many labels are needed to predict factors from latents?"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from betavae.metrics.dci import fit_trees
from betavae.metrics.inputs import varying_factors
from betavae.metrics.protocol import Protocol, choose, draw_sample, sample_sizes
from betavae.metrics.record import Measured, Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined

if TYPE_CHECKING:
    from betavae.metrics.evaluation import Evaluation

NUM_LABELS = (10, 100, 1_000, 10_000)


def downstream(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_labels: Sequence[int] | None = None,
    num_train: int | None = None,
    num_test: int | None = None,
    with_replacement: bool | None = None,
) -> dict[str, float]:
    """Compute the test accuracy of boosted trees trained on 10, 100, 1,000 and 10,000 labels, and their efficiency.

    The statistical efficiency at n labels is the accuracy with n labels divided by the accuracy with the largest number
    of labels. The classifier is the same as in `dci`. disentanglement_lib uses this classifier and also a
    cross-validated logistic regression.

    Source:
        Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        2019), section 5.6. https://arxiv.org/abs/1811.12359

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_labels: sizes of the training sets, ascending. Each set is the first part of the next. By default the powers
            of ten from 10 to 10,000 that are below ``num_train``, and ``num_train``.
        num_train: size of the largest training set if ``num_labels`` is unset; see `sample_sizes`.
        num_test: number of test rows; see `sample_sizes`.
        with_replacement: draw rows with replacement; defaults to the preset's value.

    Returns:
        ``accuracy_N``, averaged over the factors that vary, and ``efficiency_N`` for all N except the largest; larger
        is better; ``nan`` with a warning when no factor varies. If a factor has a single value in the training rows,
        this value is predicted.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(2, size=(1000, 2))
        >>> downstream(factors.astype(float), factors, seed=0, num_labels=(10, 100), num_test=100)
        {'accuracy_10': 1.0, 'accuracy_100': 1.0, 'efficiency_10': 1.0}
    """
    protocol = choose(preset, with_replacement=with_replacement)
    if num_labels is None:
        num_labels = label_counts(sample_sizes(len(latents), protocol, num_train)[0])
    sample = draw_sample(latents, factors, protocol, seed=seed, num_train=max(num_labels), num_test=num_test)
    latents, factors, _, train, test = sample[:5]
    accuracies = [tree_accuracy(latents, factors, train[:number], test, seed) for number in num_labels]
    return efficiencies(num_labels, accuracies)


def label_counts(num_train: int) -> list[int]:
    """Return the default sizes of the training sets: powers of ten below ``num_train``, and ``num_train`` itself.

    Example:
        >>> label_counts(300), label_counts(10_000)
        ([10, 100, 300], [10, 100, 1000, 10000])
    """
    return [number for number in NUM_LABELS if number < num_train] + [num_train]


def tree_accuracy(latents: np.ndarray, factors: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> float:
    """Return the test accuracy of trees fitted to the training rows, averaged over factors that vary in the test rows.

    The accuracy is ``nan`` if no factor varies.

    Example:
        >>> factors = np.arange(40)[:, None] % 2
        >>> tree_accuracy(factors.astype(float), factors, np.arange(20), np.arange(20, 40), seed=0)
        1.0
    """
    varying = varying_factors(factors[test])
    if not varying.any():
        return float("nan")
    predicted = fit_trees(latents[train], factors[train], latents[test], seed=seed).predicted
    return float((predicted == factors[test])[:, varying].mean())


def efficiencies(num_labels: Sequence[int], accuracies: Sequence[float]) -> dict[str, float]:
    """Return accuracies and efficiencies by name; warn if they are undefined.

    Example:
        >>> efficiencies((10, 100), (0.25, 0.5))
        {'accuracy_10': 0.25, 'accuracy_100': 0.5, 'efficiency_10': 0.5}
    """
    scores = {f"accuracy_{number}": accuracy for number, accuracy in zip(num_labels, accuracies, strict=True)}
    last = accuracies[-1]
    if np.isnan(last):
        warn_undefined("downstream accuracy", "no factor varies")
    return scores | {
        f"efficiency_{number}": accuracy / last if last > 0 else float("nan")
        for number, accuracy in zip(num_labels[:-1], accuracies[:-1], strict=True)
    }


def _shared(evaluation: "Evaluation") -> Measured:
    train, test = evaluation.rows
    sizes = label_counts(evaluation.sizes[0])
    accuracies = [
        tree_accuracy(evaluation.latents, evaluation.labels, train[:number], test, evaluation.seed)
        for number in sizes[:-1]
    ]
    return efficiencies(sizes, [*accuracies, evaluation.dci.scores()["informativeness"]]), {}


METRIC = Metric(
    "downstream",
    downstream,
    {
        "accuracy_#": ScoreInfo(0, 1, True, "accuracy of boosted trees with # labels"),
        "efficiency_#": ScoreInfo(0, math.inf, True, "accuracy with # labels over the accuracy with all labels", 0),
    },
    "accuracy of boosted trees from few labels",
    counts_classes=True,
    shared=_shared,
)
