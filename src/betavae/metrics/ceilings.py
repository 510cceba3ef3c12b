"""Upper bounds of scores for data sets in which identical images have different labels."""

import numpy as np

from betavae.files.conversion import as_array
from betavae.metrics.information import entropy
from betavae.metrics.inputs import check_tables, varying_factors

_ACCURACIES = ("dci.informativeness", *(f"downstream.accuracy_{number}" for number in (10, 100, 1_000, 10_000)))
_SHARES = ("mig", "mig_chen")


def accuracy_ceiling(factors: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Compute the highest accuracy of any classifier, for each factor, if some images have several labels.

    The best prediction for an image is its most frequent label. All rows with other labels are errors.

    Args:
        factors: (N, K) integer factors of all rows.
        images: (N,) image number of each row; identical images have equal numbers.

    Returns:
        (K,) accuracies in 0..1.

    Raises:
        ValueError: ``images`` does not have one number for each row.

    Example:
        >>> accuracy_ceiling(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 2, 2]))
        array([1.  , 0.75])
    """
    images = _image_indices(factors, images)
    accuracies = []
    for column in factors.T:
        values, label = np.unique(column, return_inverse=True)
        pairs, counts = np.unique(images * len(values) + label, return_counts=True)
        image_of_pair = pairs // len(values)
        starts = np.flatnonzero(np.diff(image_of_pair, prepend=-1))
        accuracies.append(np.maximum.reduceat(counts, starts).sum() / len(column))
    return np.array(accuracies)


def information_ceiling(factors: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Compute the share of each factor's entropy that the image determines.

    This is an upper bound of the share that latents can have. It is 1 if identical images have equal labels.

    Args:
        factors: (N, K) integer factors of all rows.
        images: (N,) image number of each row; identical images have equal numbers.

    Returns:
        (K,) I(image; factor) / H(factor) in 0..1; ``nan`` for a constant factor.

    Raises:
        ValueError: ``images`` does not have one number for each row.

    Example:
        >>> information_ceiling(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 2, 2]))
        array([1. , 0.5])
    """
    conditional, total, _ = _entropies(factors, images)
    return np.where(total > 0, 1 - conditional / np.where(total > 0, total, 1), np.nan)


def score_ceilings(factors: np.ndarray, images: np.ndarray) -> dict[str, float]:
    """Compute the upper bounds of all scores that ambiguous labels limit, by name of the score.

    An accuracy is at most `accuracy_ceiling`, and a share of entropy is at most `information_ceiling`, each averaged
    over the factors that vary. InfoE is a share of the entropy that a factor with equally frequent values would have.
    Pass all rows of a data set: in a small subset, identical images are rare, and the ceilings are too high.

    Args:
        factors: (N, K) integer factors of all rows.
        images: (N,) image number of each row; identical images have equal numbers.

    Returns:
        Ceilings in 0..1; empty when no factor varies.

    Raises:
        ValueError: ``images`` does not have one number for each row.

    Example:
        >>> ceilings = score_ceilings(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 2, 2]))
        >>> ceilings["dci.informativeness"], round(ceilings["mig"], 3)
        (0.875, 0.75)
    """
    factors = as_array(factors)
    factors = factors[:, varying_factors(factors)]
    if not factors.shape[1]:
        return {}
    conditional, total, uniform = _entropies(factors, images)
    ceilings = {"infomec.infoe": float((1 - conditional / uniform).mean())}
    ceilings |= dict.fromkeys(_ACCURACIES, float(accuracy_ceiling(factors, images).mean()))
    return ceilings | dict.fromkeys(_SHARES, float((1 - conditional / total).mean()))


def _entropies(factors: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return three (K,) entropies of factors in nats: H(factor | image), H(factor), and log(number of values)."""
    images = _image_indices(factors, images)
    image_entropy = entropy(np.bincount(images))
    rows = []
    for column in factors.T:
        values, label = np.unique(column, return_inverse=True)
        joint = entropy(np.unique(images * len(values) + label, return_counts=True)[1])
        rows.append((max(0.0, joint - image_entropy), entropy(np.bincount(label)), np.log(len(values))))
    conditional, total, uniform = np.array(rows).T
    return conditional, total, uniform


def _image_indices(factors: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Renumber images from 0, as int64, so that products with the number of values do not overflow."""
    check_tables(factors, factors)
    images = as_array(images)
    if images.shape != (len(factors),):
        raise ValueError(
            f"images must have one number for each of the {len(factors):,} rows, got the shape {images.shape}"
        )
    return np.unique(images, return_inverse=True)[1]
