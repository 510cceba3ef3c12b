"""Images with known factors: packed in memory, accessed by row or by factors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from betavae.data import dsprites, npz


class PackedImages(Protocol):
    """Storage of images: an array (N, bytes) uint8, or an object that is indexed by rows like one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> npt.NDArray[np.uint8]: ...


@runtime_checkable
class GeneratedImages(PackedImages, Protocol):
    """Images that are computed when they are asked for. They know what would otherwise need all of them."""

    def digest(self) -> str:
        """A SHA-256 that differs if the images do."""

    def image_numbers(self) -> npt.NDArray[np.int64]:
        """Numbers from 0 on (N,), equal for images that nothing but chance tells apart."""


def iterate_blocks(packed: PackedImages) -> Iterator[tuple[slice, npt.NDArray[np.uint8]]]:
    """Iterate over packed images in blocks of about a megabyte; yields the rows and the images."""
    step = max(1, npz.CHUNK_BYTES // max(1, packed.shape[1]))
    for start in range(0, len(packed), step):
        rows = slice(start, start + step)
        yield rows, packed[rows]


@dataclass(frozen=True, eq=False)
class FactorData:
    """A data set of N images with K generative factors.

    Attributes:
        name: name of the data set in reports.
        packed: images (N, bytes) uint8. If ``max_value`` is 1, ``np.packbits`` of the C * H * W pixels of each image;
            otherwise the pixels themselves.
        image_shape: (C, H, W).
        max_value: value of a white pixel, 1 or 255.
        factors: factor indices (N, K) int32, column k in [0, factor_sizes[k]).
        factor_names: names of the K factors.
        factor_sizes: number of values of each factor.
        factor_values: for each factor, the class of each index. Empty if index i is class i. They differ if a file does
            not have all classes, because indices have no gaps.
        source: the argument of `load_data`; "" for images made in Python.
        factor_labels: for each factor, the value or the name of each index, for axes and expressions. If empty,
            `labels` finds them.

    Example:
        >>> dots = np.array([[0b1000_0000], [0b0100_0000]], np.uint8)
        >>> data = FactorData("dots", dots, (1, 2, 2), 1, np.array([[0], [1]], np.int32), ("at",), (2,))
        >>> len(data), data.images([1]).tolist(), data.rows([[1], [0]]).tolist()
        (2, [[[[0, 1], [0, 0]]]], [1, 0])
    """

    name: str
    packed: PackedImages
    image_shape: tuple[int, int, int]
    max_value: int
    factors: npt.NDArray[np.int32]
    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    factor_values: tuple[npt.NDArray[np.int64], ...] = ()
    source: str = ""
    factor_labels: tuple[tuple[float | str, ...], ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the packed images, or what `GeneratedImages` say."""
        if isinstance(self.packed, GeneratedImages):
            return self.packed.digest()
        digest = hashlib.sha256()
        for _, block in iterate_blocks(self.packed):
            digest.update(np.ascontiguousarray(block).data)
        return digest.hexdigest()

    def image_numbers(self) -> npt.NDArray[np.int64]:
        """Number the distinct images from 0 on. Equal images get equal numbers (N,).

        Images are compared by a 64-bit hash. Among 10^6 distinct images, the probability of a collision is below 10^-7.

        Example:
            >>> dots = np.array([[128], [64], [128]], np.uint8)
            >>> data = FactorData("dots", dots, (1, 2, 2), 1, np.array([[0], [1], [2]], np.int32), ("at",), (3,))
            >>> data.image_numbers().tolist() in ([0, 1, 0], [1, 0, 1])
            True
        """
        if isinstance(self.packed, GeneratedImages):
            return self.packed.image_numbers()
        num_words = -(-self.packed.shape[1] // 8)
        random = np.random.default_rng(0).integers(1 << 63, size=num_words, dtype=np.uint64)
        multipliers = random << np.uint64(1) | np.uint64(1)  # odd numbers
        digest = np.zeros(len(self), np.uint64)
        for rows, images in iterate_blocks(self.packed):
            words = np.zeros((len(images), 8 * num_words), np.uint8)
            words[:, : images.shape[1]] = images
            state = digest[rows]  # a view
            for word, multiplier in zip(words.view(np.uint64).T, multipliers, strict=True):
                mixed = (word ^ (word >> np.uint64(32))) * multiplier
                state += mixed ^ (mixed >> np.uint64(29))
                state *= np.uint64(0x9E3779B97F4A7C15)
        return np.unique(digest, return_inverse=True)[1].astype(np.int64)

    def __post_init__(self) -> None:
        pixels = math.prod(self.image_shape)
        stored = (len(self.factors), -(-pixels // 8) if self.max_value == 1 else pixels)
        if self.packed.shape != stored or self.packed.dtype != np.uint8:
            raise ValueError(
                f"packed is {self.packed.dtype} of shape {self.packed.shape}; for {stored[0]} images "
                f"{self.image_shape} with max_value {self.max_value}, it must be uint8 of shape {stored}."
            )
        if self.factors.shape[1:] != (len(self.factor_names),) or len(self.factor_names) != len(self.factor_sizes):
            raise ValueError(
                f"factors has shape {self.factors.shape} with {len(self.factor_names)} names and "
                f"{len(self.factor_sizes)} sizes; give one name and one size for each column."
            )
        sizes = np.array(self.factor_sizes)
        if self.factors.size and self.factors.dtype.kind not in "iu":
            raise ValueError(f"factors is {self.factors.dtype}; it must contain integers, such as int32.")
        if self.factors.size and (self.factors.min() < 0 or (self.factors.max(0) >= sizes).any()):
            row, column = np.argwhere((self.factors < 0) | (self.factors >= sizes))[0]
            raise ValueError(
                f"factors[{row}] has {self.factor_names[column]} {self.factors[row, column]}; it must be from 0 to "
                f"{sizes[column] - 1}."
            )

        for name, table in (("factor_values", self.factor_values), ("factor_labels", self.factor_labels)):
            if table and tuple(map(len, table)) != tuple(self.factor_sizes):
                raise ValueError(
                    f"{name} has {[len(values) for values in table]} values, but factor_sizes is "
                    f"{list(self.factor_sizes)}; they must be equal."
                )

    def __len__(self) -> int:
        return len(self.packed)

    def classes(self) -> npt.NDArray[np.int64]:
        """The classes of the factors (N, K), as the source numbers them.

        Example:
            >>> dots = np.zeros((2, 1), np.uint8)
            >>> factors, values = np.array([[0], [1]], np.int32), (np.array([3, 7]),)
            >>> FactorData("dots", dots, (1, 2, 2), 1, factors, ("at",), (2,), values).classes().tolist()
            [[3], [7]]
        """
        if not self.factor_values:
            return self.factors.astype(np.int64)
        columns = [values[column] for values, column in zip(self.factor_values, self.factors.T, strict=True)]
        return np.stack(columns, 1).astype(np.int64)

    def labels(self) -> tuple[tuple[float | str, ...], ...]:
        """For each factor, the value or the name of each index: `factor_labels`, those of dSprites, or the classes.

        Example:
            >>> factors, values = np.array([[0], [1]], np.int32), (np.array([3, 7]),)
            >>> FactorData("dots", np.zeros((2, 1), np.uint8), (1, 2, 2), 1, factors, ("at",), (2,), values).labels()
            ((3, 7),)
        """
        if self.factor_labels:
            return self.factor_labels
        classes: list[list[int]] = [values.tolist() for values in self.factor_values]
        classes = classes or [list(range(size)) for size in self.factor_sizes]
        if not self.is_dsprites:
            return tuple(map(tuple, classes))
        known = dsprites.FACTOR_LABELS
        return tuple(tuple(labels[i] for i in column) for labels, column in zip(known, classes, strict=True))

    @property
    def is_dsprites(self) -> bool:
        """Whether the factors are those of dSprites, with all of its classes or some of them."""
        if self.factor_names != dsprites.FACTOR_NAMES:
            return False
        if not self.factor_values:
            return self.factor_sizes == dsprites.FACTOR_SIZES
        kinds = zip(self.factor_values, dsprites.FACTOR_SIZES, strict=True)
        return all(values.min() >= 0 and values.max() < size for values, size in kinds)

    def images(self, rows: npt.NDArray[Any] | list[int] | slice) -> npt.NDArray[np.uint8]:
        """Images (B, C, H, W) of the given rows (indices, a mask or a slice), pixels from 0 to ``max_value``."""
        packed = self.packed[rows]
        if self.max_value == 1:
            packed = np.unpackbits(packed, axis=-1, count=math.prod(self.image_shape))
        return packed.reshape(-1, *self.image_shape)

    def rows(self, factors: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Rows (B,) of the images with the given factors (B, K): the inverse of ``data.factors[rows]``.

        If several images have the same factors, the first one is returned.

        Raises:
            ValueError: the factors are out of range, or no image has them.
        """
        table = np.asarray(factors)
        if table.ndim != 2 or table.shape[1] != len(self.factor_names) or not self.factor_names:
            raise ValueError(
                f"factors must have shape (B, {len(self.factor_names)}), one column for each factor of {self.name!r} "
                f"({', '.join(self.factor_names) or 'it has none'}); got shape {table.shape}."
            )
        wrong = np.argwhere((table < 0) | (table >= np.array(self.factor_sizes)))
        if len(wrong):
            row, column = wrong[0]
            raise ValueError(
                f"factors[{row}] has {self.factor_names[column]} {table[row, column]}; "
                f"{self.factor_names[column]} indices of {self.name!r} go from 0 to {self.factor_sizes[column] - 1}."
            )
        rows = self.find(table)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            raise ValueError(f"no image of {self.name!r} has the factors {table[missing[0]].tolist()}.")
        return rows

    def find(self, factors: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Rows (B,) of the images with the given factors (B, K), which must be in range; -1 if there is no such image.

        If several images have the same factors, the first one is returned.
        """
        keys, rows = self.index
        key = self.keys(factors)
        position = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        return np.where(keys[position] == key, rows[position], -1)

    def keys(self, factors: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """A unique number (B,) for each combination of factors (B, K), which must be in range."""
        keys: npt.NDArray[np.int64] = np.ravel_multi_index(tuple(factors.T), self.factor_sizes)
        return keys

    @cached_property
    def index(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The `keys` of all images in ascending order, and their rows. Equal keys are in the order of the rows."""
        keys = self.keys(self.factors)
        order = np.argsort(keys, kind="stable")
        return keys[order], order
