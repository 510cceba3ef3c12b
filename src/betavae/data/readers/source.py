"""Images of a file that are not decoded yet, and the error messages that all readers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from betavae.data.factor_table import FactorTable

Rows = slice | npt.NDArray[np.integer]
Blocks = Iterator[tuple[Rows, npt.NDArray[np.uint8]]]
"""Rows, and their images (B, H, W, C). Every row occurs once."""

BLOCK_BYTES = 1 << 24
"""Number of bytes of images that are decoded at once."""

Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of images in total."""


@dataclass(frozen=True, eq=False)
class Source:
    """N images that are decoded block by block, with their factors.

    Attributes:
        name: name of the data set in reports.
        num_images: N.
        shape: height, width and channels of the images.
        factors: the factors.
        blocks: function that decodes all images.
        labels: further labels (N,) that are no factors, by name.
        continuous: whether continuous factors are expected; otherwise they are refused.
        may_be_binary: whether pixels may be 0 and 1 instead of 0 to 255. Such images are packed to bits in memory.
        other_size: "" or a sentence on two images of different size; such images must be cropped or resized.
    """

    name: str
    num_images: int
    shape: tuple[int, int, int]
    factors: FactorTable
    blocks: Callable[[], Blocks]
    labels: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    continuous: bool = False
    may_be_binary: bool = False
    other_size: str = ""


def block_length(bytes_per_image: int) -> int:
    """Number of images in a block."""
    return max(1, BLOCK_BYTES // max(1, bytes_per_image))


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn every failure of a library on a damaged file into a ValueError that names the file and the cure.

    Args:
        path: the file that is read inside the block.
        kind: what it should be, such as "an HDF5 file".

    Example:
        >>> with reading(Path("x.h5"), "an HDF5 file"):
        ...     raise OSError("truncated file")
        Traceback (most recent call last):
        ValueError: x.h5 is damaged, or not an HDF5 file (truncated file); copy or download it again
    """
    try:
        yield
    except (MemoryError, FileNotFoundError, PermissionError, ModuleNotFoundError):
        raise
    except Exception as error:  # a damaged file raises any of the errors of its library
        if type(error) is ValueError:  # readers raise it themselves; those of libraries are subclasses
            if str(path) in str(error):
                raise
            raise ValueError(f"{path}: {error}") from error
        if is_web_page(_start(path)):
            raise ValueError(web_page(path)) from error
        reason = " ".join(str(error).split()) or "it ends too early"
        raise ValueError(f"{path} is damaged, or not {kind} ({reason}); copy or download it again") from error


def is_web_page(start: bytes) -> bool:
    """Whether the first bytes are those of a web page."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml"))


def web_page(path: Path) -> str:
    """What to do with a web page that was saved as data."""
    return (
        f"{path} is a web page, not data: the host may have answered that its quota is exceeded, or that the file has "
        "moved; download it again, in a browser if need be"
    )


def _start(path: Path) -> bytes:
    """The first bytes of a file; none of a folder."""
    if not path.is_file():
        return b""
    with path.open("rb") as stream:
        return stream.read(512)


def check_count(what: str, count: int, num_images: int) -> None:
    """Refuse labels of another length than the images."""
    if count != num_images:
        raise ValueError(f"{what} has {count:,} rows for {num_images:,} images; it must have one for each image")


def pack_bits(source: Source, progress: Progress | None = None) -> npt.NDArray[np.uint8] | None:
    """Read all images and pack them to bits (N, bytes), each in the order (C, H, W); None if a pixel is above 1.

    Args:
        source: images with ``may_be_binary``.
        progress: called while images are read.
    """
    packed = np.empty((source.num_images, -(-int(np.prod(source.shape)) // 8)), np.uint8)
    done = 0
    for rows, images in source.blocks():
        if images.max() > 1:
            return None
        flat = np.moveaxis(images, -1, 1).reshape(len(images), -1)
        packed[rows] = np.packbits(flat, axis=1)
        done += len(images)
        if progress:
            progress(done, source.num_images)
    return packed
