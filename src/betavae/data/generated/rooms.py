"""Generates `rooms`: 480,000 colour images of an object in a room, without a download.

Six factors determine an image: the hues of floor, wall and object, and the scale, shape and orientation of the view.
Their numbers of values are those of Shapes3D (Burgess & Kim, 2018), so settings for that data set can be tried here.
The pictures are others, so scores are not comparable.

An image is computed when it is asked for, from 8 MB of views (`room_geometry`). All images are distinct.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from betavae.data.factor_data import FactorData
from betavae.data.generated import room_geometry
from betavae.data.generated.grids import factor_table

FACTOR_NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
FACTOR_SIZES = (10, 10, 10, 8, 4, 15)
NUM_IMAGES = math.prod(FACTOR_SIZES)
IMAGE_SHAPE = (3, room_geometry.SIDE, room_geometry.SIDE)

HUES = tuple(index / 10 for index in range(10))
FACTOR_LABELS = (HUES, HUES, HUES, room_geometry.SCALES, room_geometry.SHAPES, room_geometry.ORIENTATIONS)

_COLOURS = np.array(
    [
        [232, 76, 74],  # red
        [242, 153, 56],  # orange
        [245, 214, 77],  # yellow
        [153, 209, 84],  # lime
        [64, 184, 107],  # green
        [56, 189, 184],  # teal
        [71, 153, 230],  # blue
        [82, 97, 219],  # indigo
        [153, 97, 217],  # purple
        [235, 117, 184],  # pink
    ],
    np.uint16,
)
_TOGETHER = 16
"""Number of images that are computed at once. They fit into the cache of a core."""


class Rooms:
    """The images of `rooms`. They behave as a read-only array (480000, 12288) of pixels and take 8 MB.

    Example:
        >>> images = Rooms()
        >>> images.shape, images[[0, -1]].shape, images[:0].shape
        ((480000, 12288), (2, 12288), (0, 12288))
    """

    shape = (NUM_IMAGES, math.prod(IMAGE_SHAPE))
    dtype = np.dtype(np.uint8)

    nbytes = math.prod(FACTOR_SIZES[3:]) * 4 * room_geometry.SIDE**2
    """Bytes in memory: those of the views."""

    def __len__(self) -> int:
        return NUM_IMAGES

    def __getitem__(self, rows: Any) -> npt.NDArray[np.uint8]:
        """Pixels (B, 12288) of indices, a mask or a slice.

        Raises:
            IndexError: a row does not exist.
        """
        numbers = _row_numbers()[rows]
        images = np.empty((numbers.size, self.shape[1]), np.uint8)
        for start in range(0, numbers.size, _TOGETHER):
            part = slice(start, start + _TOGETHER)
            images[part] = _draw(numbers.reshape(-1)[part])
        return images.reshape(*numbers.shape, self.shape[1])

    def digest(self) -> str:
        """SHA-256 of what the images are computed from."""
        return hashlib.sha256(room_geometry.draw_views().tobytes() + _COLOURS.astype("<u2").tobytes()).hexdigest()

    def image_numbers(self) -> npt.NDArray[np.int64]:
        """A number for each distinct image (480000,)."""
        return np.arange(NUM_IMAGES)


@lru_cache
def _row_numbers() -> npt.NDArray[np.int32]:
    return np.arange(NUM_IMAGES, dtype=np.int32)


def _draw(rows: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Pixels (B, 12288): the weighted sum of the colours of floor, wall and object, and white."""
    views = room_geometry.draw_views()
    hues, view = np.divmod(rows, len(views))
    weights = views[view].astype(np.uint16)
    white = 255 * weights[:, 3] + 255  # rounds up, so that weights of 255 in total give the colour itself
    pixels = np.repeat(white[:, None], 3, axis=1)
    part = np.empty_like(pixels)
    for material, hue in enumerate(np.unravel_index(hues, FACTOR_SIZES[:3])):
        np.multiply(weights[:, None, material], _COLOURS[hue][:, :, None], out=part)
        pixels += part
    pixels >>= 8
    return pixels.astype(np.uint8).reshape(len(rows), -1)


def load() -> FactorData:
    """Return 480,000 colour images of an object in a room.

    The views are drawn with the first image, in one or two seconds.

    Example:
        >>> data = load()
        >>> len(data), data.image_shape, data.factor_sizes
        (480000, (3, 64, 64), (10, 10, 10, 8, 4, 15))
    """
    return FactorData(
        name="rooms",
        packed=Rooms(),
        image_shape=IMAGE_SHAPE,
        max_value=255,
        factors=factor_table(FACTOR_SIZES),
        factor_names=FACTOR_NAMES,
        factor_sizes=FACTOR_SIZES,
        factor_labels=FACTOR_LABELS,
    )
