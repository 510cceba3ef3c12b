"""Images on disk that are read row by row: the storage of prepared data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from betavae.files.arrays import open_npy, read_npy

NUMBERS = "numbers.npy"
"""File of the image numbers, beside the images."""


@dataclass(frozen=True)
class ImageFile:
    """Images (N, H, W, C) uint8 in an uncompressed .npy file. They behave as a read-only array (N, H * W * C).

    The file is mapped for each access. So the pages that were read do not add up in the memory of the process.

    Attributes:
        path: the file.
        images_shape: (N, H, W, C).
        sha256: SHA-256 of the pixels, each image in the order (C, H, W).
    """

    path: Path
    images_shape: tuple[int, int, int, int]
    sha256: str = ""

    dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, int]:
        """N and the number of pixels."""
        return self.images_shape[0], int(np.prod(self.images_shape[1:]))

    @property
    def nbytes(self) -> int:
        """Number of bytes in memory: none."""
        return 0

    def __len__(self) -> int:
        return self.images_shape[0]

    def __getitem__(self, rows: Any) -> npt.NDArray[np.uint8]:
        """Pixels (B, H * W * C) of indices, a mask or a slice.

        Raises:
            FileNotFoundError: the file is gone.
        """
        try:
            pixels = np.memmap(self.path, np.uint8, "r", _offset(self.path), self.shape)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"the prepared images {self.path} are gone; run the command again, which prepares them anew"
            ) from None
        return np.array(pixels[rows])

    def digest(self) -> str:
        """SHA-256 of the pixels, as it was computed when the images were prepared."""
        return self.sha256

    def image_numbers(self) -> npt.NDArray[np.int64]:
        """Numbers (N,) of the distinct images: equal images have equal numbers."""
        return read_npy(self.path.with_name(NUMBERS)).astype(np.int64)


def scan(images: ImageFile, block: int = 1 << 24) -> tuple[str, npt.NDArray[np.int64]]:
    """Read all images once; returns `ImageFile.sha256` and `ImageFile.image_numbers`.

    Images are compared by a 64-bit hash. Among 10^6 distinct images, the probability of a collision is below 10^-7.
    """
    digest = hashlib.sha256()
    hashes = np.empty(len(images), np.uint64)
    for start, pixels in _blocks(images, block):
        first = pixels.reshape(-1, *images.images_shape[1:]).transpose(0, 3, 1, 2)
        digest.update(np.ascontiguousarray(first).data)
        for row, image in enumerate(pixels, start):
            hashes[row] = int.from_bytes(hashlib.blake2b(image.data, digest_size=8).digest(), "little")
    return digest.hexdigest(), np.unique(hashes, return_inverse=True)[1].astype(np.int64)


def _blocks(images: ImageFile, block: int) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    step = max(1, block // images.shape[1])
    for start in range(0, len(images), step):
        yield start, images[start : start + step]


def _offset(path: Path) -> int:
    """Position of the first pixel in the file."""
    with open_npy(path) as (stream, _):
        return stream.tell()
