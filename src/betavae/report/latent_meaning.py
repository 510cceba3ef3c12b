"""What each latent stands for: how well it predicts each factor, and in which direction the factor grows with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from betavae.metrics.ceilings import accuracy_ceiling

Kind = Literal["number", "class", "angle"]

_ANGLES = ("orientation", "rotation", "angle", "azimuth")
"""Words in the names of factors whose last value is next to the first."""
_SYMMETRIES = (1, 2, 4)
"""A shape with this symmetry looks the same after a full, half or quarter turn."""
_BINS = 60
_ROWS_PER_BIN = 25
WEAK = 0.5
"""A latent whose gain is below this is weak: it goes less than half of the way from chance to a perfect prediction."""
_CLEAR = 0.3
"""Smallest correlation that decides the direction of a latent."""
_MOVES = 0.6
"""Smallest correlation of a latent with the place of the object in the image, if the latent moves the object."""


def kind_of(name: str, labels: Sequence[float | str]) -> Kind:
    """Tell classes, angles and ordered numbers apart, by the labels of a factor's values and by its name.

    Example:
        >>> kind_of("shape", ("square", "heart")), kind_of("orientation", (0.0, 3.1)), kind_of("scale", (0.5, 1.0))
        ('class', 'angle', 'number')
    """
    if any(isinstance(label, str) for label in labels):
        return "class"
    return "angle" if any(word in name.lower() for word in _ANGLES) else "number"


@dataclass(frozen=True)
class Predictions:
    """How well each latent alone predicts each factor.

    Attributes:
        values: (D, K), 0 to 1. The share of explained variance (R²) of a number or an angle; the accuracy for a class.
        chance: (K,) what a guess without the latent achieves: 0 for R², the share of the most frequent class.
        kinds: K kinds.
        ceilings: (K,) what the best possible latent achieves: below 1 if equal images have different labels.
    """

    values: NDArray[np.float64]
    chance: NDArray[np.float64]
    kinds: tuple[Kind, ...]
    ceilings: NDArray[np.float64]

    def gain(self) -> NDArray[np.float64]:
        """The part of the way from chance to a perfect prediction (D, K), 0 to 1, which compares R² and accuracy."""
        return np.clip((self.values - self.chance) / np.maximum(1 - self.chance, 1e-9), 0, 1)


def latent_name(index: int, sign: int | np.integer = 1) -> str:
    """The name of a latent with the sign that pages and figures show.

    Example:
        >>> latent_name(3), latent_name(3, -1)
        ('z3', '−z3')
    """
    return f"−z{index}" if sign < 0 else f"z{index}"


def predict_factors(
    latents: NDArray[np.floating],
    factors: NDArray[np.integer],
    kinds: Sequence[Kind],
    ceilings: NDArray[np.float64] | None = None,
) -> Predictions:
    """Predict each factor from each latent alone.

    The range of a latent is cut into bins of equal numbers of images. In each bin, the prediction is the mean, or the
    most frequent class, of one half of the images; the other half tests it. An angle is predicted as a point on a
    circle. If its shape looks the same after a half or quarter turn, the best of these symmetries counts.

    Args:
        latents: posterior means (N, D).
        factors: factor indices (N, K).
        kinds: kind of each factor.
        ceilings: best possible value for each factor, see `prediction_ceilings`; 1 if None.

    Returns:
        The predictions; 0 for factors that do not vary.

    Raises:
        ValueError: the tables have other sizes, or fewer than four rows.

    Example:
        >>> z = np.linspace(-1, 1, 1000)[:, None]
        >>> predict_factors(z, np.round(10 * z + 10).astype(int), ["number"]).values.round(1).item()
        1.0
    """
    if len(latents) != len(factors) or factors.shape[1:] != (len(kinds),) or len(latents) < 4:
        raise ValueError(
            f"latents {latents.shape}, factors {factors.shape} and {len(kinds)} kinds do not fit together: pass "
            "(N, D), (N, K) and K kinds for at least 4 images"
        )
    order = np.random.default_rng(0).permutation(len(latents))
    train, test = order[::2], order[1::2]
    bins = int(np.clip(len(train) // _ROWS_PER_BIN, 2, _BINS))
    values = np.zeros((latents.shape[1], len(kinds)))
    for d, latent in enumerate(latents.T):
        edges = np.unique(np.quantile(latent[train], np.linspace(0, 1, bins + 1)[1:-1]))
        cells = np.searchsorted(edges, latent)
        for k, kind in enumerate(kinds):
            values[d, k] = _score(cells, factors[:, k], kind, train, test)
    chance = [_majority(factors[:, k]) if kind == "class" else 0.0 for k, kind in enumerate(kinds)]
    best = np.ones(len(kinds)) if ceilings is None else ceilings
    return Predictions(values, np.array(chance), tuple(kinds), best)


def prediction_ceilings(
    factors: NDArray[np.integer], images: NDArray[np.integer], kinds: Sequence[Kind]
) -> NDArray[np.float64]:
    """The best value of `predict_factors` for each factor (K,), if equal images have different labels.

    No latent can tell equal images apart. The best prediction is their mean, or their most frequent class.

    Args:
        factors: factor indices of all rows (N, K).
        images: image number of each row (N,); equal images have equal numbers.
        kinds: kind of each factor.

    Example:
        >>> factors = np.array([[0, 0], [1, 0], [2, 1], [3, 1]])
        >>> prediction_ceilings(factors, np.array([0, 0, 1, 1]), ["number", "class"])
        array([0.8, 1. ])
    """
    _, numbers = np.unique(images, return_inverse=True)
    if not len(numbers) or numbers.max() + 1 == len(numbers):
        return np.ones(len(kinds))
    rows = np.arange(len(numbers))
    best = [
        accuracy_ceiling(column[:, None], numbers)[0] if kind == "class" else _score(numbers, column, kind, rows, rows)
        for column, kind in zip(factors.T, kinds, strict=True)
    ]
    return np.array(best)


def _score(
    cells: NDArray[np.integer],
    factor: NDArray[np.integer],
    kind: Kind,
    train: NDArray[np.integer],
    test: NDArray[np.integer],
) -> float:
    """The accuracy or the R² on the test rows of predictions that are constant in each cell."""
    size, count = int(factor.max()) + 1, int(cells.max()) + 1
    if kind == "class":
        table = np.bincount(cells[train] * size + factor[train], minlength=count * size).reshape(count, size)
        return float((table.argmax(1)[cells[test]] == factor[test]).mean())
    if kind == "number":
        return _explained(cells, factor[:, None].astype(float), train, test)
    turns = 2 * np.pi * factor / max(size - 1, 1)
    return max(_explained(cells, np.stack([np.cos(k * turns), np.sin(k * turns)], 1), train, test) for k in _SYMMETRIES)


def _explained(
    cells: NDArray[np.integer], targets: NDArray[np.float64], train: NDArray[np.integer], test: NDArray[np.integer]
) -> float:
    """R² of the targets (N, T) on the test rows, at least 0."""
    count = np.bincount(cells[train], minlength=int(cells.max()) + 1)
    means = np.stack([np.bincount(cells[train], column, len(count)) for column in targets[train].T], 1)
    means = np.where(count[:, None] > 0, means / np.maximum(count, 1)[:, None], targets[train].mean(0))
    total = ((targets[test] - targets[train].mean(0)) ** 2).sum()
    missed = ((targets[test] - means[cells[test]]) ** 2).sum()
    return float(max(0.0, 1 - missed / total)) if total > 0 else 0.0


def _majority(factor: NDArray[np.integer]) -> float:
    return float(np.bincount(factor).max() / len(factor))


def signs(latents: NDArray[np.floating], factors: NDArray[np.integer], kinds: Sequence[Kind]) -> NDArray[np.int64]:
    """The sign by which pages multiply each latent so that its factor grows to the right (D,): 1 or -1.

    The number with the largest correlation decides. Without a clear one, the sign is 1.

    Example:
        >>> signs(np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 0.5]]), np.array([[0], [1], [2]]), ["number"]).tolist()
        [-1, 1]
    """
    numbers = factors[:, [kind == "number" for kind in kinds]]
    if not numbers.shape[1]:
        return np.ones(latents.shape[1], np.int64)
    found = correlations(latents, numbers)
    best = found[np.arange(len(found)), abs(found).argmax(1)]
    return np.where(best < -_CLEAR, -1, 1)


def correlations(
    latents: NDArray[np.floating], columns: NDArray[np.floating] | NDArray[np.integer]
) -> NDArray[np.float64]:
    """Pearson correlation of each latent with each column (D, K); 0 where one of them is constant."""
    first, second = (table - table.mean(0, dtype=np.float64) for table in (latents, columns))
    sizes = np.outer(np.sqrt((first**2).sum(0)), np.sqrt((second**2).sum(0)))
    found: NDArray[np.float64] = np.where(sizes > 1e-12, first.T @ second / np.maximum(sizes, 1e-12), 0.0)
    return found


@dataclass(frozen=True)
class Motion:
    """How each latent moves the object on the screen.

    Attributes:
        across: (D,) 1 if the object moves right as the latent grows, -1 if left, 0 if neither.
        up: (D,) 1 if it moves up, -1 if down, 0 if neither.
    """

    across: NDArray[np.int64]
    up: NDArray[np.int64]


def motion(latents: NDArray[np.floating], images: NDArray[np.uint8]) -> Motion:
    """Find the latents that move the object, from the centre of what differs from the mean image.

    Args:
        latents: posterior means (N, D).
        images: images (N, C, H, W).

    Example:
        >>> images = np.eye(5, dtype=np.uint8)[:, None, None, :] * np.ones((5, 1, 3, 1), np.uint8)  # a line moves right
        >>> found = motion(np.arange(5.0)[:, None], images)
        >>> found.across.tolist(), found.up.tolist()
        ([1], [0])
    """
    shapes = abs(images - images.mean(0, dtype=np.float32)).sum(1)
    weights = np.maximum(shapes.sum((1, 2)), 1e-9)
    column = (shapes.sum(1) * np.arange(shapes.shape[2])).sum(1) / weights
    row = (shapes.sum(2) * np.arange(shapes.shape[1])).sum(1) / weights
    found = correlations(latents, np.stack([column, -row], 1).round(6))  # constant but for rounding errors is constant
    across, up = (np.sign(r).astype(np.int64) * (abs(r) > _MOVES) for r in found.T)
    return Motion(across, up)
