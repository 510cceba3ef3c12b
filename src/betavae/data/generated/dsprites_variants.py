"""Generates dSprites in colour: `dsprites-color`, `dsprites-noise` and `dsprites-scene`, 737,280 images each.

Each shows the sprites of dSprites, and its factors are those of dSprites. Colours and backgrounds are random, but each
row always has the same image, in any order and in any subset. They depend on the row and a seed alone.

- color: a sprite of one colour, uniform in [0.5, 1]³, on black
- noise: a white sprite on noise, uniform in [0, 1] for each pixel and channel
- scene: a random part of a smooth picture, averaged with one random colour; inverted where the sprite is

In the code that introduced these variants, they are drawn anew for each batch, and the picture is a painting.

Source:
    Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
    2019), section 5.1. https://arxiv.org/abs/1811.12359
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from betavae.data.factor_data import FactorData
from betavae.data.generated import dsprites
from betavae.data.generated.grids import random_bytes, random_words

Variant = Literal["color", "noise", "scene"]

VARIANTS: tuple[Variant, ...] = ("color", "noise", "scene")
IMAGE_SHAPE = (3, 64, 64)
_PIXELS = 64 * 64
_TOGETHER = 128
"""Number of images that are computed at once."""
_PICTURE_SIDE = 256


class ColouredSprites:
    """Images of a variant of dSprites. They behave as a read-only array (N, 12288) of pixels.

    Args:
        sprites: the sprites, in bits.
        variant: what the colours and backgrounds are.
        seed: seed of the colours and backgrounds.

    Example:
        >>> factors = dsprites.factor_table()[::100_000]
        >>> sprites = dsprites.windowed(dsprites.draw_packed(factors), factors)
        >>> images = ColouredSprites(sprites, "color", seed=0)
        >>> images.shape, images[[0, -1]].shape, images[:0].shape
        ((8, 12288), (2, 12288), (0, 12288))
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, sprites: dsprites.Sprites, variant: Variant, seed: int) -> None:
        self.shape = len(sprites), 3 * _PIXELS
        self._sprites, self._variant, self._seed = sprites, variant, seed

    @property
    def nbytes(self) -> int:
        """Bytes in memory: those of the sprites."""
        return self._sprites.nbytes

    def __len__(self) -> int:
        return len(self._sprites)

    def __getitem__(self, rows: Any) -> npt.NDArray[np.uint8]:
        """Pixels (B, 12288) of indices, a mask or a slice.

        Raises:
            IndexError: a row does not exist.
        """
        numbers = np.arange(len(self), dtype=np.int32)[rows]
        images = np.empty((numbers.size, 3, _PIXELS), np.uint8)
        for start in range(0, numbers.size, _TOGETHER):
            some = numbers.reshape(-1)[start : start + _TOGETHER]
            sprites = np.unpackbits(self._sprites[some], axis=1)[:, None]
            images[start : start + _TOGETHER] = _PAINT[self._variant](sprites, some, self._seed)
        return images.reshape(*numbers.shape, self.shape[1])

    def digest(self) -> str:
        """SHA-256 of about a thousand images."""
        return hashlib.sha256(self[:: max(1, len(self) // 1_000)].tobytes()).hexdigest()

    def image_numbers(self) -> npt.NDArray[np.int64]:
        """A number for each distinct sprite (N,): colours and backgrounds tell nothing about the factors."""
        no_factors = np.empty((len(self), 0), np.int32)
        return FactorData("sprites", self._sprites, dsprites.IMAGE_SHAPE, 1, no_factors, (), ()).image_numbers()


def _color(sprites: npt.NDArray[np.uint8], rows: npt.NDArray[np.int32], seed: int) -> npt.NDArray[np.uint8]:
    colour = 128 + random_bytes(rows, 3, seed) // 2
    images: npt.NDArray[np.uint8] = sprites * colour[:, :, None]
    return images


def _noise(sprites: npt.NDArray[np.uint8], rows: npt.NDArray[np.int32], seed: int) -> npt.NDArray[np.uint8]:
    noise = random_bytes(rows, 3 * _PIXELS, seed).reshape(-1, 3, _PIXELS)
    images: npt.NDArray[np.uint8] = np.maximum(noise, 255 * sprites)
    return images


def _scene(sprites: npt.NDArray[np.uint8], rows: npt.NDArray[np.int32], seed: int) -> npt.NDArray[np.uint8]:
    random = random_bytes(rows, 5, seed)
    places = _PICTURE_SIDE - IMAGE_SHAPE[1]
    top, left = (random[:, :2].astype(np.intp) * places >> 8).T
    windows = np.lib.stride_tricks.sliding_window_view(_picture(), IMAGE_SHAPE[1:], axis=(1, 2))
    parts = windows[:, top, left].swapaxes(0, 1).reshape(-1, 3, _PIXELS)
    scene: npt.NDArray[np.uint8] = (parts >> 1) + (random[:, 2:, None] >> 1)
    scene ^= 255 * sprites
    return scene


_PAINT: dict[Variant, Callable[[npt.NDArray[np.uint8], npt.NDArray[np.int32], int], npt.NDArray[np.uint8]]] = {
    "color": _color,
    "noise": _noise,
    "scene": _scene,
}


@lru_cache
def _picture() -> npt.NDArray[np.uint8]:
    """The picture (3, 256, 256) from which scenes are cut: smooth random waves of four sizes."""
    picture = np.zeros((3, _PICTURE_SIDE, _PICTURE_SIDE))
    for octave, cells in enumerate((4, 8, 16, 32)):
        corners = random_words(np.arange(3 * cells), cells, seed=octave) >> np.uint64(40)
        values = corners.astype(np.float64).reshape(3, cells, cells) / 2**24
        picture += _smooth(_smooth(values, 1), 2) / 2**octave
    low, high = picture.min(axis=(1, 2), keepdims=True), picture.max(axis=(1, 2), keepdims=True)
    scaled: npt.NDArray[np.float64] = 255 * (picture - low) / (high - low)
    return scaled.astype(np.uint8)


def _smooth(values: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    """Interpolate along an axis to the size of the picture. The ends meet."""
    cells = values.shape[axis]
    place = np.arange(_PICTURE_SIDE) * cells / _PICTURE_SIDE
    cell = place.astype(np.intp)
    part = place - cell
    part = (part * part * (3 - 2 * part)).reshape([-1 if k == axis else 1 for k in range(3)])
    smooth: npt.NDArray[np.float64] = values.take(cell, axis) * (1 - part)
    smooth += values.take((cell + 1) % cells, axis) * part
    return smooth


def load(variant: Variant, seed: int = 0) -> FactorData:
    """Return dSprites in colour: coloured sprites on black, or white ones on noise or on pictures.

    Args:
        variant: ``"color"``, ``"noise"`` or ``"scene"``.
        seed: seed of the colours and backgrounds.

    Raises:
        ValueError: the variant is unknown.

    Example:
        >>> load("scene").image_shape
        (3, 64, 64)
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant is {variant!r}; it must be one of {', '.join(VARIANTS)}")
    return FactorData(
        name=f"dsprites-{variant}",
        packed=ColouredSprites(dsprites.draw_all(), variant, seed),
        image_shape=IMAGE_SHAPE,
        max_value=255,
        factors=dsprites.factor_table(),
        factor_names=dsprites.FACTOR_NAMES,
        factor_sizes=dsprites.FACTOR_SIZES,
    )
