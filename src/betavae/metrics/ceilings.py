"""How good can a score get when different labels lie on the same image?"""

import numpy as np

from betavae.files.conversion import as_array
from betavae.metrics.information import entropy
from betavae.metrics.inputs import check_tables, varying_factors

_ACCURACIES = ("dci.informativeness", *(f"downstream.accuracy_{number}" for number in (10, 100, 1_000, 10_000)))
_SHARES = ("mig", "mig_chen")


def accuracy_ceiling(factors: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Best accuracy that any classifier can reach, for each factor, when some images have several labels.

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
    images = _numbered(factors, images)
    best = []
    for column in factors.T:
        values, label = np.unique(column, return_inverse=True)
        pairs, counts = np.unique(images * len(values) + label, return_counts=True)
        owner = pairs // len(values)
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        best.append(np.maximum.reduceat(counts, starts).sum() / len(column))
    return np.array(best)


def information_ceiling(factors: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Share of each factor's entropy that its images tell, which bounds what latents can tell; 1 without ambiguity.

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
    missing, total, _ = _entropies(factors, images)
    return np.where(total > 0, 1 - missing / np.where(total > 0, total, 1), np.nan)


def score_ceilings(factors: np.ndarray, images: np.ndarray) -> dict[str, float]:
    """Best values of the scores that ambiguous labels bound, by name.

    An accuracy cannot exceed `accuracy_ceiling`, and a share of entropy cannot exceed `information_ceiling`, each
    averaged over the factors that vary; InfoE is a share of what values would tell that are all as frequent. Give all
    rows of a data set: among few of them, images that coincide are rare and the ceiling comes out too high.

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
    factors = as_array(factors)
    factors = factors[:, varying_factors(factors)]
    if not factors.shape[1]:
        return {}
    missing, total, most = _entropies(factors, images)
    best = {"infomec.infoe": float((1 - missing / most).mean())}
    best |= dict.fromkeys(_ACCURACIES, float(accuracy_ceiling(factors, images).mean()))
    return best | dict.fromkeys(_SHARES, float((1 - missing / total).mean()))


def _entropies(factors: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each factor: what its images leave open, all there is, and all there could be with as many values, in nats."""
    images = _numbered(factors, images)
    told = entropy(np.bincount(images))
    found = []
    for column in factors.T:
        values, label = np.unique(column, return_inverse=True)
        joint = entropy(np.unique(images * len(values) + label, return_counts=True)[1])
        found.append((max(0.0, joint - told), entropy(np.bincount(label)), np.log(len(values))))
    missing, total, most = np.array(found).T
    return missing, total, most


def _numbered(factors: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Numbers of images from 0 on, wide enough to be multiplied."""
    check_tables(factors, factors)
    images = as_array(images)
    if images.shape != (len(factors),):
        raise ValueError(
            f"images must hold one number for each of the {len(factors):,} rows, got the shape {images.shape}"
        )
    return np.unique(images, return_inverse=True)[1]
