"""Generates `xysquares`: 262,144 images of a red, a green and a blue square on black.

The squares have 8 x 8 pixels and lie on a grid of 8 x 8 places, so two images of a square either are equal or do not
overlap. All different images of a square are equally far apart in pixels. So the reconstruction loss does not order
positions, and VAEs that rely on this order fail.

Source:
    Overlooked Implications of the Reconstruction Loss for VAE Disentanglement (Michlo, Klein & James, 2023).
    https://arxiv.org/abs/2202.13341
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from betavae.data.factor_data import FactorData
from betavae.data.generated.grids import drawn_data

FACTOR_NAMES = ("x_R", "y_R", "x_G", "y_G", "x_B", "y_B")
FACTOR_SIZES = (8,) * 6
IMAGE_SHAPE = (3, 64, 64)
_SIDE = 8


def draw(factors: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Images (B, 3, 64, 64) of factor indices (B, 6): x and y of each square, in units of its side.

    Example:
        >>> image = draw(np.array([[1, 0, 0, 0, 0, 7]]))[0]
        >>> image[0, 0, 7:17].tolist(), int(image[2, 63, 0])
        ([0, 255, 255, 255, 255, 255, 255, 255, 255, 0], 255)
    """
    cells = np.zeros((len(factors), 3, _SIDE, _SIDE), np.uint8)
    images, channels = np.ogrid[: len(factors), :3]
    cells[images, channels, factors[:, 1::2], factors[:, ::2]] = 255
    return cells.repeat(_SIDE, axis=2).repeat(_SIDE, axis=3)


def load() -> FactorData:
    """Return 262,144 images of a red, a green and a blue square on black.

    Example:
        >>> len(load())
        262144
    """
    return drawn_data("xysquares", draw, dict(zip(FACTOR_NAMES, FACTOR_SIZES, strict=True)), IMAGE_SHAPE)
