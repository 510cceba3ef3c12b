"""Generates dSprites from its geometry: all 737,280 images, bit-packed, without a download.

An image shows one white sprite (a square, an ellipse or a heart) on black. Five factors determine it: shape, scale,
orientation, posX and posY. The outline of a sprite is a polygon whose vertices are rounded to 1/256 pixel. A pixel is
white if its centre lies inside. If the centre lies exactly on an edge, it is inside on the left and lower sides of the
sprite and outside on the right and upper sides. This reproduces the original, which was rendered on a GPU without
anti-aliasing.

Limits for any model or metric: the images of orientation 39 equal those of orientation 0, and 3,142 more images equal
others through the symmetry of squares and small ellipses. So 715,706 of the 737,280 images are distinct. The best
possible accuracy of predicting a factor from the image is 0.9707 for orientation (0.9957 for the labels of
`fold_orientation`) and 1 for the other four factors.

Known difference: the generated images have 128,328,864 white pixels in total, and the published statistics of the
original imply 128,328,862. So a few images may differ from the original by one pixel.

Source:
    dSprites: Disentanglement testing Sprites dataset (Matthey, Higgins, Hassabis & Lerchner, 2017).
    https://github.com/google-deepmind/dsprites-dataset
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

SHAPES = ("square", "ellipse", "heart")
SCALES = np.linspace(0.5, 1.0, 6)
ORIENTATIONS = np.linspace(0.0, 2.0 * np.pi, 40)
POSITIONS = np.linspace(0.0, 1.0, 32)

FACTOR_NAMES = ("shape", "scale", "orientation", "posX", "posY")
FACTOR_SIZES = (3, 6, 40, 32, 32)
NUM_IMAGES = math.prod(FACTOR_SIZES)
IMAGE_SHAPE = (1, 64, 64)
FACTOR_LABELS: tuple[tuple[float | str, ...], ...] = (
    SHAPES,
    tuple(SCALES.tolist()),
    tuple(ORIENTATIONS.tolist()),
    tuple(POSITIONS.tolist()),
    tuple(POSITIONS.tolist()),
)
"""Name of each shape; values of the other factors, orientations in radians."""

_VALUES = (np.array([1.0, 2.0, 3.0]), SCALES, ORIENTATIONS, POSITIONS, POSITIONS)
_SUBPIXELS = 256
_CENTRES = 16.0 + 32.0 * np.arange(32) / 31.0
_COS, _SIN = np.cos(ORIENTATIONS), np.sin(ORIENTATIONS)

# The window of 32 x 32 pixels around each centre: its lines, and the number of image columns to its right.
_LINES = np.floor(_CENTRES[:, None]).astype(np.intp) - 16 + np.arange(32)
_SHIFTS = 63 - _LINES[:, -1].astype(np.uint64)
_TOGETHER = 4_096
"""Number of images whose windows are cut at once: 2 MB."""

# _FROM_COLUMN[c] is a row of 64 pixels that is white from column c on, in the memory layout of np.packbits.
_FROM_COLUMN = np.array([(1 << (64 - column)) - 1 for column in range(65)], dtype=">u8").view(np.uint64)


def _outlines() -> tuple[npt.NDArray[np.float64], ...]:
    """Closed polygons (vertices + 1, 2) of the three shapes at scale 1 and orientation 0, in pixels from the centre."""
    square = 9.6 * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    t = 2.0 * np.pi * np.arange(100) / 100
    ellipse = np.stack([9.6 * 1.33 * np.cos(t), 9.6 / 1.33 * np.sin(t)], axis=1)
    t = 2.0 * np.pi * np.arange(150) / 150
    lobes = 13.0 * np.cos(t) - 5.0 * np.cos(2 * t) - 2.0 * np.cos(3 * t) - np.cos(4 * t)
    heart = np.stack([9.6 * np.sin(t) ** 3, -(1.44 + 19.2 / 29.0 * lobes)], axis=1)
    return tuple(np.concatenate([outline, outline[:1]]) for outline in (square, ellipse, heart))


_OUTLINES = _outlines()


def _offsets(
    shape: int, scale: npt.NDArray[np.intp], orientation: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Vertices (B, vertices + 1) of scaled, rotated sprites, x to the right and y down, in pixels from the centre."""
    u, v = _OUTLINES[shape].T
    size, cos, sin = SCALES[scale, None], _COS[orientation, None], _SIN[orientation, None]
    return size * (cos * u + sin * v), size * (cos * v - sin * u)


def _fill(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """Rasterise closed polygons.

    For each edge, all pixels to its right are flipped, and an even number of flips cancels out. After the vertices are
    rounded, all numbers are integers below 2**53, so the arithmetic is exact.

    Args:
        x: vertex columns (Q or 1, V + 1, P): P polygons at different columns share the rows of ``y``.
        y: vertex rows (Q, V + 1).

    Returns:
        Packed rows of pixels (P, Q, 64).
    """
    num_rows, num_columns = len(y), x.shape[2]
    # Coordinates count sub-pixels from the first pixel centre, so that pixel centres are the multiples of 256.
    x = np.broadcast_to(np.rint(x * _SUBPIXELS) - _SUBPIXELS / 2, (*y.shape, num_columns))
    vertical = np.rint(y * _SUBPIXELS).astype(np.int64) - _SUBPIXELS // 2
    row = vertical // _SUBPIXELS
    crossings = np.abs(np.diff(row, axis=1))
    polygon, edge = np.nonzero(crossings)
    count = crossings[polygon, edge]
    polygon, edge = np.repeat(polygon, count), np.repeat(edge, count)
    nth = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    crossed = np.minimum(row[polygon, edge], row[polygon, edge + 1]) + 1 + nth

    line = 64 * polygon + crossed
    order = np.argsort(line, kind="stable")
    line, polygon, edge, crossed = line[order], polygon[order], edge[order], crossed[order]
    height = (vertical[polygon, edge + 1] - vertical[polygon, edge])[:, None]
    travelled = (_SUBPIXELS * crossed - vertical[polygon, edge])[:, None]
    column = x[polygon, edge] * (height - travelled) + x[polygon, edge + 1] * travelled
    column = np.ceil(column / (_SUBPIXELS * height)).astype(np.intp)

    start = np.flatnonzero(np.diff(line, prepend=-1))
    image = np.zeros((num_columns, num_rows * 64), np.uint64)
    image[:, line[start]] = np.bitwise_xor.reduceat(_FROM_COLUMN[column], start, axis=0).T
    return image.reshape(num_columns, num_rows, 64)


class Sprites:
    """Bit-packed images of dSprites. They behave as a read-only array (N, 512) and take a quarter of its memory.

    A sprite fits into a window of 32 x 32 pixels, whose position follows from posX and posY. Only the window of each
    image is stored.

    Args:
        windows: lines (N, 32) of the window of each image, leftmost pixel in the highest bit.
        places: 32 posX + posY of each image (N,).

    Example:
        >>> images = draw_all()
        >>> images.shape, images[[0, -1]].shape, images[:0].shape
        ((737280, 512), (2, 512), (0, 512))
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, windows: npt.NDArray[np.uint32], places: npt.NDArray[np.int16]) -> None:
        self.shape = len(windows), math.prod(IMAGE_SHAPE) // 8
        self._windows, self._places = windows, places

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def nbytes(self) -> int:
        """Number of bytes in memory."""
        return int(self._windows.nbytes + self._places.nbytes)

    def __getitem__(self, rows: Any) -> npt.NDArray[np.uint8]:
        """Packed images (B, 512) of indices, a mask or a slice: 64 lines of 8 bytes, leftmost pixel in the highest bit.

        Raises:
            IndexError: a row does not exist.
        """
        pos_x, pos_y = np.divmod(self._places[rows], 32)
        lines = self._windows[rows].astype(np.uint64) << _SHIFTS[pos_x, None]
        image = np.zeros((*pos_x.shape, 64), ">u8")
        np.put_along_axis(image, _LINES[pos_y], lines, axis=-1)
        return image.view(np.uint8)


def windowed(packed: npt.NDArray[np.uint8], factors: npt.ArrayLike) -> Sprites | None:
    """Convert packed images (N, 512) of factors (N, 5) to `Sprites`; None if a pixel lies outside its window."""
    _, _, _, pos_x, pos_y = _checked(factors).T
    sprites = Sprites(np.empty((len(packed), 32), np.uint32), (32 * pos_x + pos_y).astype(np.int16))
    for start in range(0, len(packed), _TOGETHER):
        rows = slice(start, start + _TOGETHER)
        lines = np.take_along_axis(packed[rows].view(">u8"), _LINES[pos_y[rows]], axis=1)
        sprites._windows[rows] = lines >> _SHIFTS[pos_x[rows], None] & 0xFFFF_FFFF
        if not np.array_equal(sprites[rows], packed[rows]):
            return None
    return sprites


def draw_all() -> Sprites:
    """Generate all images of dSprites in the order of the original: C order of the factors, posY fastest."""
    sprites = np.ndindex(*FACTOR_SIZES[:3])
    windows = np.empty((math.prod(FACTOR_SIZES[:3]), 32, 32, 32), np.uint32)
    for window, (shape, scale, orientation) in zip(windows, sprites, strict=True):
        x, y = _offsets(shape, np.array([scale]), np.array([orientation]))
        drawn = _fill((_CENTRES[:, None] + x).T[None], _CENTRES[:, None] + y)
        window[:] = drawn[:, np.arange(32)[:, None], _LINES].view(">u8") >> _SHIFTS[:, None, None]
    return Sprites(windows.reshape(NUM_IMAGES, 32), np.resize(np.arange(32 * 32, dtype=np.int16), NUM_IMAGES))


def draw_packed(factors: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Generate the bit-packed images of the given factors.

    Args:
        factors: indices (B, 5) of shape, scale, orientation, posX and posY.

    Returns:
        Packed images (B, 512), as in `Sprites`.

    Raises:
        ValueError: an index is out of range.
    """
    indices = _checked(factors)
    packed = np.empty((len(indices), 64), np.uint64)
    for shape in np.unique(indices[:, 0]):
        rows = np.flatnonzero(indices[:, 0] == shape)
        _, scale, orientation, pos_x, pos_y = indices[rows].T
        x, y = _offsets(shape, scale, orientation)
        packed[rows] = _fill((_CENTRES[pos_x, None] + x)[:, :, None], _CENTRES[pos_y, None] + y)[0]
    return packed.view(np.uint8)


def draw(factors: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Generate the images of the given factors.

    Args:
        factors: indices (B, 5) of shape, scale, orientation, posX and posY.

    Returns:
        Images (B, 1, 64, 64) of 0 (black) and 1 (white).

    Raises:
        ValueError: an index is out of range.

    Example:
        >>> image = draw([[0, 5, 0, 16, 16]])  # a large upright square near the middle
        >>> image.shape, int(image.sum())
        ((1, 1, 64, 64), 361)
    """
    return np.unpackbits(draw_packed(factors), axis=1).reshape(-1, *IMAGE_SHAPE)


def factor_table() -> npt.NDArray[np.int32]:
    """Factor indices (737280, 5) of all images, in the order of `draw_all`.

    Example:
        >>> factor_table()[[0, 1, 32, -1]].tolist()
        [[0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0], [2, 5, 39, 31, 31]]
    """
    return np.stack(np.unravel_index(np.arange(NUM_IMAGES), FACTOR_SIZES), axis=1).astype(np.int32)


def latent_classes(factors: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The ``latents_classes`` (B, 6) of the original file: a constant colour column of 0, then the factor indices.

    Raises:
        ValueError: an index is out of range.

    Example:
        >>> latent_classes([[2, 5, 39, 31, 0]]).tolist()
        [[0, 2, 5, 39, 31, 0]]
    """
    indices = _checked(factors)
    return np.concatenate([np.zeros((len(indices), 1), np.int64), indices], axis=1)


def latent_values(factors: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The ``latents_values`` (B, 6) of the original file.

    The columns are colour (1), shape (1 to 3), scale (0.5 to 1), orientation (radians) and two positions (0 to 1).

    Raises:
        ValueError: an index is out of range.

    Example:
        >>> latent_values([[2, 5, 0, 31, 0]]).tolist()
        [[1.0, 3.0, 1.0, 0.0, 1.0, 0.0]]
    """
    columns = [values[index] for values, index in zip(_VALUES, _checked(factors).T, strict=True)]
    return np.stack([np.ones_like(columns[0]), *columns], axis=1)


def fold_orientation(factors: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Replace the orientation index by the angle modulo the symmetry of the shape, in units of 1/156 turn.

    A square looks the same after 90 degrees, an ellipse after 180, a heart after 360. The 40 orientations are 1/39 turn
    apart, so 1/156 turn is the largest unit in which all folded angles are integers. Squares get 0 to 38, ellipses even
    numbers from 0 to 76, hearts multiples of four from 0 to 152. Orientation 39 becomes orientation 0.

    No two of a square's first 39 orientations differ by a multiple of 90 degrees. So folding merges only orientations
    39 and 0, but similar images get similar labels.

    Args:
        factors: indices (B, 5) of shape, scale, orientation, posX and posY.

    Returns:
        The same table with the third column in [0, 156).

    Raises:
        ValueError: an index is out of range.

    Example:
        >>> fold_orientation([[0, 0, 10, 0, 0], [1, 0, 20, 0, 0], [2, 0, 20, 0, 0], [2, 0, 39, 0, 0]])[:, 2].tolist()
        [1, 2, 80, 0]
    """
    folded = _checked(factors).astype(np.int32)
    period = np.array([39, 78, 156], np.int32)[folded[:, 0]]
    folded[:, 2] = 4 * folded[:, 2] % period
    return folded


def _checked(factors: npt.ArrayLike) -> npt.NDArray[np.intp]:
    table = np.asarray(factors)
    if table.ndim != 2 or table.shape[1] != len(FACTOR_NAMES) or table.dtype.kind not in "iu":
        raise ValueError(
            f"factors must be integers of shape (B, 5), columns {', '.join(FACTOR_NAMES)}; "
            f"got {table.dtype} of shape {table.shape}."
        )
    wrong = np.argwhere((table < 0) | (table >= np.array(FACTOR_SIZES)))
    if len(wrong):
        row, column = wrong[0]
        raise ValueError(
            f"factors[{row}] has {FACTOR_NAMES[column]} {table[row, column]}; "
            f"{FACTOR_NAMES[column]} indices go from 0 to {FACTOR_SIZES[column] - 1}."
        )
    return table.astype(np.intp)
