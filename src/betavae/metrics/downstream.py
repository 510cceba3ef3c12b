"""How many labels does it take to learn the factors from the codes?"""

from collections.abc import Sequence

import numpy as np

from betavae.metrics.dci import fit_trees
from betavae.metrics.inputs import check_classes, check_tables, draw_rows, varying_factors
from betavae.metrics.undefined import warn_undefined

NUM_LABELS = (10, 100, 1_000, 10_000)


def downstream(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    num_labels: Sequence[int] = NUM_LABELS,
    num_test: int = 5_000,
    with_replacement: bool = False,
) -> dict[str, float]:
    """Held-out accuracy of boosted trees that saw 10, 100, 1,000 and 10,000 labelled rows, and statistical efficiency.

    Efficiency at n labels is the accuracy there over the accuracy with the most labels. The classifier is the one of
    `dci`; disentanglement_lib has it too, beside a cross-validated logistic regression.

    Source:
        Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        2019), section 5.6. https://arxiv.org/abs/1811.12359

    Args:
        codes: (N, D) codes.
        factors: (N, K) integer factors.
        seed: seed of the rows drawn.
        num_labels: sizes of the training sets, ascending; each is the beginning of the next.
        num_test: rows that accuracies are taken on.
        with_replacement: draw rows with replacement, as disentanglement_lib does.

    Returns:
        ``accuracy_N``, mean over the factors that vary, and ``efficiency_N`` for all but the largest N; larger is
        better; ``nan`` with a warning when no factor varies. A factor of which the labels show one value is predicted
        as that value.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed, or holds too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(2, size=(1000, 2))
        >>> downstream(factors.astype(float), factors, seed=0, num_labels=(10, 100), num_test=100)
        {'accuracy_10': 1.0, 'accuracy_100': 1.0, 'efficiency_10': 1.0}
    """
    codes, factors = check_tables(codes, factors)
    rng = np.random.default_rng(seed)
    train, test = draw_rows(len(codes), (max(num_labels), num_test), rng, with_replacement=with_replacement)
    check_classes(factors[train])
    accuracies = [tree_accuracy(codes, factors, train[:number], test, seed) for number in num_labels]
    return efficiencies(num_labels, accuracies)


def tree_accuracy(codes: np.ndarray, factors: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> float:
    """Mean accuracy, over the factors that vary among the test rows, of trees fitted to the training rows.

    ``nan`` when none varies.

    Example:
        >>> factors = np.arange(40)[:, None] % 2
        >>> tree_accuracy(factors.astype(float), factors, np.arange(20), np.arange(20, 40), seed=0)
        1.0
    """
    varying = varying_factors(factors[test])
    if not varying.any():
        return float("nan")
    predicted = fit_trees(codes[train], factors[train], codes[test], seed=seed).predicted
    return float((predicted == factors[test])[:, varying].mean())


def efficiencies(num_labels: Sequence[int], accuracies: Sequence[float]) -> dict[str, float]:
    """Name the accuracies, and put each in relation to the last; warn when they do not exist.

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
