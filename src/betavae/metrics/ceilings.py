"""How good can a score get when different labels lie on the same image?"""

import numpy as np

from betavae.metrics.information import entropy
from betavae.metrics.inputs import check_tables

_ACCURACIES = ("dci.informativeness", *(f"downstream.accuracy_{number}" for number in (10, 100, 1_000, 10_000)))
_SHARES = ("mig", "mig_chen", "infomec.infoe")


def accuracy_ceiling(factors: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Best accuracy that any classifier can reach, for each factor, when some images carry several labels.

    The best guess for an image is its most frequent label; its other labels are lost.

    Args:
        factors: (N, K) integer factors of all rows.
        images: (N,) number of each row's image; rows with the same image have the same number.

    Returns:
        (K,) accuracies in 0..1.

    Raises:
        ValueError: ``images`` does not hold one number for each row.

    Example:
        >>> accuracy_ceiling(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 2, 2]))
        array([1.  , 0.75])
    """
    _check(factors, images)
    best = []
    for column in factors.T:
        values, label = np.unique(column, return_inverse=True)
        pairs, counts = np.unique(images * len(values) + label, return_counts=True)
        owner = pairs // len(values)
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        best.append(np.maximum.reduceat(counts, starts).sum() / len(column))
    return np.array(best)


def information_ceiling(factors: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Share of each factor's entropy that its images tell, which bounds what codes can tell; 1 without ambiguity.

    Args:
        factors: (N, K) integer factors of all rows.
        images: (N,) number of each row's image; rows with the same image have the same number.

    Returns:
        (K,) I(image; factor) / H(factor) in 0..1; ``nan`` for a constant factor.

    Raises:
        ValueError: ``images`` does not hold one number for each row.

    Example:
        >>> information_ceiling(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 2, 2]))
        array([1. , 0.5])
    """
    _check(factors, images)
    image_entropy = entropy(np.unique(images, return_counts=True)[1])
    shares = []
    for column in factors.T:
        values, label = np.unique(column, return_inverse=True)
        joint = entropy(np.unique(images * len(values) + label, return_counts=True)[1])
        total = entropy(np.bincount(label))
        shares.append((image_entropy + total - joint) / total if total > 0 else np.nan)
    return np.array(shares)


def score_ceilings(factors: np.ndarray, images: np.ndarray) -> dict[str, float]:
    """Best values of the scores that ambiguous labels bound, by name.

    An accuracy cannot exceed `accuracy_ceiling`, and a share of entropy cannot exceed `information_ceiling`, each
    averaged over the factors that vary. Give all rows of a data set: among few of them, images that coincide are rare
    and the ceiling comes out too high.

    Args:
        factors: (N, K) integer factors of all rows.
        images: (N,) number of each row's image; rows with the same image have the same number.

    Returns:
        Ceilings in 0..1; empty when no factor varies.

    Raises:
        ValueError: ``images`` does not hold one number for each row.

    Example:
        >>> ceilings = score_ceilings(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 2, 2]))
        >>> ceilings["dci.informativeness"], round(ceilings["mig"], 3)
        (0.875, 0.75)
    """
    accuracy, information = accuracy_ceiling(factors, images), information_ceiling(factors, images)
    varying = ~np.isnan(information)
    if not varying.any():
        return {}
    best_accuracy, best_information = float(accuracy[varying].mean()), float(information[varying].mean())
    return dict.fromkeys(_ACCURACIES, best_accuracy) | dict.fromkeys(_SHARES, best_information)


def _check(factors: np.ndarray, images: np.ndarray) -> None:
    check_tables(factors, factors)
    if images.shape != (len(factors),):
        raise ValueError(
            f"images must hold one number for each of the {len(factors):,} rows, got the shape {images.shape}"
        )
