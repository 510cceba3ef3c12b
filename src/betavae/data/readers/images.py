"""Decodes image files with Pillow."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from betavae.data.readers.source import Blocks

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
"""Suffixes of the files that count as images in a folder."""
_MOST_PIXELS = 1 << 26
_GREY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I;16L")
_TOGETHER = 256
_ORIENTATION = 0x0112
"""Number of the EXIF entry."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply a function to all items in several threads, in order and with bounded memory. Pillow leaves the GIL."""
    from betavae.metrics.inputs import num_threads

    remaining = iter(items)
    with ThreadPoolExecutor(num_threads()) as pool:
        while group := [*islice(remaining, _TOGETHER)]:  # `map` alone would submit all items at once
            yield from pool.map(function, group)


def size_and_channels(file: Path | bytes, name: str) -> tuple[int, int, int]:
    """Height, width and channels (1 or 3) of an image, from its header."""
    with _opened(file, name) as image:
        turned = image.format == "JPEG" and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)  # by 90 degrees
        width, height = image.size[::-1] if turned else image.size
        return height, width, 1 if image.mode in _GREY_MODES else 3


def decode(file: Path | bytes, name: str, channels: int) -> npt.NDArray[np.uint8]:
    """Decode an image (H, W, C) uint8. Transparency is dropped, 16 bits are reduced to 8, JPEG photos are upright.

    Args:
        file: path or content.
        name: name of the image in error messages.
        channels: 1 or 3; grey images are repeated in three channels.

    Raises:
        ValueError: the image cannot be decoded.
    """
    with _opened(file, name) as image:
        try:
            upright: Image.Image = ImageOps.exif_transpose(image) if image.format == "JPEG" else image
            if upright.mode.startswith("I;16"):
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            pixels = np.asarray(upright.convert("L" if channels == 1 else "RGB"))
        except Exception as error:  # a damaged image raises any of the errors of Pillow's decoders
            raise _unreadable(name, error) from error
    return pixels[:, :, None] if channels == 1 else pixels


def decoded_blocks(
    files: Sequence[Any], names: Sequence[str], channels: int, read: Callable[[Any], Path | bytes] = lambda file: file
) -> Blocks:
    """Decode images in order; a block has images of one size.

    Args:
        files: the images, as ``read`` takes them.
        names: their names in error messages.
        channels: 1 or 3.
        read: function that returns the path or the content of an image.
    """
    pixels = in_threads(lambda item: decode(read(item[0]), item[1], channels), zip(files, names, strict=True))
    block: list[npt.NDArray[np.uint8]] = []
    start = 0
    for image in pixels:
        if block and (image.shape != block[0].shape or len(block) == _TOGETHER):
            yield slice(start, start + len(block)), np.stack(block)
            start, block = start + len(block), []
        block.append(image)
    if block:
        yield slice(start, start + len(block)), np.stack(block)


def same_size(blocks: Blocks, shape: tuple[int, int, int], names: Sequence[str]) -> Blocks:
    """Pass blocks on; refuse the first image that has another size."""
    for rows, images in blocks:
        if images.shape[1:] != shape:
            first = rows.start if isinstance(rows, slice) else int(rows[0])
            raise ValueError(size_mismatch(names[0], shape, names[first], images.shape[1:]))
        yield rows, images


def size_mismatch(first: str, shape: Sequence[int], second: str, other: Sequence[int]) -> str:
    """The error message for images of different sizes."""
    return (
        f"{first} has {shape[1]}x{shape[0]} pixels and {second} has {other[1]}x{other[0]}; all images must have one "
        "size: resize them with --image-size 64, after --crop if they should keep their proportions"
    )


def _opened(file: Path | bytes, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, and of large images, which are checked here
            image = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # a damaged image raises any of the errors of Pillow's decoders
        raise _unreadable(name, error) from error
    if image.width * image.height > _MOST_PIXELS:
        raise ValueError(f"{name} has {image.width}x{image.height} pixels; at most 67 million are read")
    return image


def _unreadable(name: str, error: Exception) -> ValueError:
    reason = "it is no image that Pillow knows" if isinstance(error, Image.UnidentifiedImageError) else str(error)
    return ValueError(f"{name} cannot be read as an image ({reason or 'it is damaged'}); replace it or leave it out")
