"""Generates `xyobject`: 75,000 images of one coloured square on black.

Its centre has 25 x 25 places, 2 pixels apart. Its side is 7, 9, 11, 13 or 15 pixels. Its colour is red, yellow, green,
cyan, blue or magenta, each in 4 shades.

Source:
    Overlooked Implications of the Reconstruction Loss for VAE Disentanglement (Michlo, Klein & James, 2023).
    https://arxiv.org/abs/2202.13341
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from betavae.data.factor_data import FactorData
from betavae.data.generated.grids import drawn_data

FACTOR_NAMES = ("x", "y", "scale", "color")
FACTOR_SIZES = (25, 25, 5, 24)
IMAGE_SHAPE = (3, 64, 64)

_HUES = {
    "red": (1, 0, 0),
    "yellow": (1, 1, 0),
    "green": (0, 1, 0),
    "cyan": (0, 1, 1),
    "blue": (0, 0, 1),
    "magenta": (1, 0, 1),
}
_SHADES = (64, 128, 192, 255)
_COLOURS = np.array([[shade * part for part in hue] for hue in _HUES.values() for shade in _SHADES], np.uint8)
FACTOR_LABELS = (
    tuple(range(25)),
    tuple(range(25)),
    (7, 9, 11, 13, 15),
    tuple(f"{hue}_{shade}" for hue in _HUES for shade in _SHADES),
)


def draw(factors: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Images (B, 3, 64, 64) of factor indices (B, 4): x, y, scale and color.

    Example:
        >>> image = draw(np.array([[0, 0, 0, 3]]))[0]
        >>> image[0, 7].nonzero()[0].tolist(), image[:, 7, 7].tolist()
        ([4, 5, 6, 7, 8, 9, 10], [255, 0, 0])
    """
    x, y, scale, color = factors.T[:, :, None]
    pixels, reach = np.arange(64), 3 + scale
    columns, rows = abs(pixels - (7 + 2 * x)) <= reach, abs(pixels - (7 + 2 * y)) <= reach
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    images: npt.NDArray[np.uint8] = inside * _COLOURS[color[:, 0]][:, :, None, None]
    return images


def load() -> FactorData:
    """Return 75,000 images of one coloured square on black.

    Example:
        >>> len(load())
        75000
    """
    return drawn_data("xyobject", draw, dict(zip(FACTOR_NAMES, FACTOR_SIZES, strict=True)), IMAGE_SHAPE, FACTOR_LABELS)
