"""A bounded set of true images with their factors and latents, for the explorer's panel of factors and its map."""

import base64
import io
import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from betavae.data.factor_data import FactorData
from betavae.report.pages.image_uri import data_uri, webp

MOST_IMAGES = 3_000
MOST_SHADED = 1_000
"""Most images of a gallery that are not black and white, which take more bytes."""
_SHEET_BYTES = 500_000
"""Largest size of the images of a gallery in a page."""
_SHEET_WIDTH = 4_096  # pixels; browsers on phones limit the sides of an image
_LATENT_STEPS = 1_000  # stored latents are multiples of 1/1000
_LARGEST_LATENT = 32.0


@dataclass(frozen=True)
class Gallery:
    """Images with their factors and latents.

    Attributes:
        images: (N, C, H, W) uint8, 0 to 255.
        latents: posterior means (N, D).
        factors: factor indices (N, K).
        levels: for each factor, its indices that occur, ascending. If `complete`, image number n has the combination n
            of these levels, the last factor fastest.
        complete: whether there is exactly one image for each combination of levels.
        names: names of the factors.
        labels: for each factor, the texts of its levels.
        classes: for each factor, whether its levels are classes without an order.
    """

    images: NDArray[np.uint8]
    latents: NDArray[np.float32]
    factors: NDArray[np.int32]
    levels: tuple[tuple[int, ...], ...] = ()
    complete: bool = False
    names: tuple[str, ...] = ()
    labels: tuple[tuple[str, ...], ...] = ()
    classes: tuple[bool, ...] = ()


def choose_rows(data: FactorData, most: int | None = None) -> tuple[NDArray[np.int64], list[list[int]]]:
    """Choose the images of a gallery: all combinations of evenly spaced levels of the factors, or a random sample.

    Args:
        data: the data.
        most: largest number of images; if None, `MOST_IMAGES`, or `MOST_SHADED` unless they are black and white.

    Returns:
        Rows of the data, and the levels of each factor; no levels for a random sample, which is taken if the data have
        no factors or lack one of the combinations.

    Example:
        >>> from betavae.data.loading import load_data
        >>> rows, levels = choose_rows(load_data("dsprites"))
        >>> len(rows), [len(level) for level in levels], levels[1]
        (2700, [3, 6, 6, 5, 5], [0, 1, 2, 3, 4, 5])
    """
    if most is None:
        most = MOST_IMAGES if data.max_value == 1 else MOST_SHADED
    counts = _level_counts(data.factor_sizes, most)
    levels = [_spaced(size, count) for size, count in zip(data.factor_sizes, counts, strict=True)]
    if levels and math.prod(counts) > 1:
        rows = data.find(np.array(list(itertools.product(*levels)), np.int64))
        if rows.min() >= 0:
            return rows, levels
    return np.sort(np.random.default_rng(0).choice(len(data), min(len(data), most), replace=False)), []


def _level_counts(sizes: tuple[int, ...], most: int) -> list[int]:
    """Numbers of levels, as equal as the sizes allow, with a product of at most `most`.

    Example:
        >>> _level_counts((3, 6, 40, 32, 32), 3000)
        [3, 6, 6, 5, 5]
    """
    counts = [1] * len(sizes)
    while True:
        able = [k for k, count in enumerate(counts) if count < sizes[k]]
        able = [k for k in able if math.prod(counts) // counts[k] * (counts[k] + 1) <= most]
        if not able:
            return counts
        counts[min(able, key=lambda k: counts[k])] += 1


def _spaced(size: int, count: int) -> list[int]:
    return np.unique(np.linspace(0, size - 1, count).round().astype(int)).tolist() if count > 1 else [(size - 1) // 2]


def pack_gallery(gallery: Gallery) -> dict[str, object] | None:
    """The gallery as JSON: a sheet of all images, their latents and factors; None if the sheet is too large.

    Example:
        >>> images = np.zeros((4, 1, 8, 8), np.uint8)
        >>> packed = pack_gallery(Gallery(images, np.zeros((4, 2), np.float32), np.zeros((4, 0), np.int32)))
        >>> packed["columns"], packed["latents"]
        (4, 'AAAAAAAAAAAAAAAAAAAAAA==')
    """
    columns = max(1, min(len(gallery.images), _SHEET_WIDTH // gallery.images.shape[-1]))
    kind, sheet = _sheet(gallery.images, columns)
    if len(sheet) > _SHEET_BYTES:
        return None
    latents = np.clip(gallery.latents, -_LARGEST_LATENT, _LARGEST_LATENT) * _LATENT_STEPS
    return {
        "sheet": data_uri(sheet, kind),
        "columns": columns,
        "count": len(gallery.images),
        "latents": base64.b64encode(latents.round().astype("<i2").tobytes()).decode(),
        "factors": base64.b64encode(gallery.factors.astype("<i2").tobytes()).decode(),
        "names": gallery.names,
        "levels": gallery.levels,
        "labels": gallery.labels,
        "classes": gallery.classes,
        "complete": gallery.complete,
    }


def _sheet(images: NDArray[np.uint8], columns: int) -> tuple[str, bytes]:
    """All images in rows: black and white as PNG with one bit a pixel, grey as PNG, colour as WebP."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, channels, height, width), np.uint8)
    cells[:count] = images
    sheet = cells.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    sheet = sheet.reshape(rows * height, columns * width, channels)
    if channels > 1:
        return "webp", webp(sheet)
    picture = Image.fromarray(sheet[..., 0])
    if set(np.unique(images)) <= {0, 255}:
        picture = picture.convert("1", dither=Image.Dither.NONE)
    stream = io.BytesIO()
    picture.save(stream, "png", optimize=True)
    return "png", stream.getvalue()
