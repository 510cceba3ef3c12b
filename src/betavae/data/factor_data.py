"""Images with known factors: packed in memory, accessed by row or by factors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from betavae.data import npz
from betavae.data.generated import dsprites
from betavae.data.prepared.preparation import NOTHING, Preparation
from betavae.data.readers.array_layouts import Layout


class PackedImages(Protocol):
    """Storage of images: an array (N, bytes) uint8, or an object that is indexed by rows like one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def nbytes(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> npt.NDArray[np.uint8]: ...


@runtime_checkable
class DigestedImages(PackedImages, Protocol):
    """Images, generated or on disk, that know what would otherwise be computed from all of them."""

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
            otherwise the pixels themselves. See ``channels_last`` for their order.
        image_shape: (C, H, W).
        max_value: value of a white pixel, 1 or 255.
        factors: factor indices (N, K) int32, column k in [0, factor_sizes[k]).
        factor_names: names of the K factors.
        factor_sizes: number of values of each factor.
        factor_values: for each factor, the class or value of each index: integers, floats or strings in ascending
            order. Empty if index i is class i. They differ if a file does not have all classes, because indices have no
            gaps.
        source: the argument of `load_data`; "" for images made in Python.
        channels_last: whether the pixels of an image are in the order (H, W, C); otherwise (C, H, W).
        continuous: for each factor, whether it is a measurement with its own value for nearly every image. Metrics then
            use the values instead of the indices. Empty if no factor is.
        labels: further labels (N,) that are no factors, by name, such as the instance of SmallNORB.
        preparation: what was done to the images and factors of the source.
        factor_labels: for each factor, the value or the name of each index, for axes and expressions. If empty,
            `value_labels` finds them.

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
    factor_values: tuple[npt.NDArray[Any], ...] = ()
    source: str = ""
    channels_last: bool = False
    continuous: tuple[bool, ...] = ()
    labels: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    preparation: Preparation = NOTHING
    factor_labels: tuple[tuple[float | str, ...], ...] = ()

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        factors: Any = None,
        names: Sequence[str] | None = None,
        *,
        name: str = "arrays",
        layout: Layout | None = None,
        bins: int | None = None,
        continuous: bool = False,
    ) -> FactorData:
        """Make a data set of arrays. Images that need no conversion are not copied.

        Args:
            images: NumPy array or PyTorch tensor (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels; uint8,
                booleans, or floats in [0, 1].
            factors: labels (N,) or (N, K), a DataFrame, or a mapping from names to columns (N,): integers, floats,
                booleans or strings. Constant columns are left out.
            names: names of the K factors.
            name: name of the data set.
            layout: ``"NHWC"``, ``"NCHW"`` or ``"NHW"``, if both the second and the last axis can be the channels.
            bins: merge the values of a factor that has more into this number of intervals of equal width.
            continuous: accept factors of which nearly every image has its own value. Only some metrics take them.

        Raises:
            ValueError: the layout or the type of the images is not clear, a pixel is out of range, or the factors do
                not fit.

        Example:
            >>> data = FactorData.from_arrays(np.zeros((4, 8, 8, 3)), [[0, 0.5], [0, 1], [1, 0.5], [1, 1]], ["x", "y"])
            >>> data.image_shape, data.factor_sizes, data.factor_values[1].tolist()
            ((3, 8, 8), (2, 2), [0.5, 1.0])
        """
        from betavae.data.in_memory import from_arrays

        return from_arrays(images, factors, names, name, layout, bins, continuous)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        image_size: int | None = None,
        crop: int | None = None,
        channels: int | None = None,
        bins: int | None = None,
    ) -> FactorData:
        """Read a folder of images, sorted by name; ``factors.csv`` in it may have the factors. As `load_data`.

        Args:
            folder: the folder.
            image_size: resize the images to this side.
            crop: cut a square of this side from the centre first.
            channels: 1 for grey, 3 for colour.
            bins: as in `from_arrays`.
        """
        from betavae.data.loading import load_data

        return load_data(folder, image_size=image_size, crop=crop, channels=channels, bins=bins)

    @classmethod
    def from_dataset(
        cls, dataset: Any, names: Sequence[str] | None = None, *, name: str = "dataset", bins: int | None = None
    ) -> FactorData:
        """Read all items of a PyTorch data set into memory.

        Args:
            dataset: its items are images, or tuples of an image and its labels. An image is a PIL image, an array
                (H, W) or (H, W, C), or a tensor (C, H, W); labels are a number, or a vector of one per factor.
            names: names of the factors.
            name: name of the data set.
            bins: as in `from_arrays`.

        Raises:
            ValueError: the items are of another kind, or images have different sizes.
        """
        from betavae.data.in_memory import from_dataset

        return from_dataset(dataset, names, name, bins)

    @classmethod
    def from_hf(cls, dataset: Any, *, name: str = "dataset", bins: int | None = None) -> FactorData:
        """Read a ``datasets.Dataset`` of Hugging Face with a column of images into memory.

        The other columns are factors, as in parquet files of the hub: see `betavae.data.readers.parquet`.

        Args:
            dataset: one split of a data set.
            name: name of the data set.
            bins: as in `from_arrays`.

        Raises:
            ValueError: there is no column of images, or images have different sizes.
        """
        from betavae.data.in_memory import from_hf

        return from_hf(dataset, name, bins)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the packed images, pixels in the order (C, H, W). `DigestedImages` know theirs."""
        if isinstance(self.packed, DigestedImages):
            return self.packed.digest()
        digest = hashlib.sha256()
        for rows, block in iterate_blocks(self.packed):
            if self.channels_last and self.image_shape[0] > 1:
                block = self.images(rows)
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
        if isinstance(self.packed, DigestedImages):
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
        if self.continuous and len(self.continuous) != len(self.factor_names):
            raise ValueError(
                f"continuous has {len(self.continuous)} values for {len(self.factor_names)} factors; give one for each."
            )

    def __len__(self) -> int:
        return len(self.packed)

    def classes(self) -> npt.NDArray[np.int64]:
        """The classes of the factors (N, K), as the source numbers them; indices where values are no integers.

        Example:
            >>> dots = np.zeros((2, 1), np.uint8)
            >>> factors, values = np.array([[0], [1]], np.int32), (np.array([3, 7]),)
            >>> FactorData("dots", dots, (1, 2, 2), 1, factors, ("at",), (2,), values).classes().tolist()
            [[3], [7]]
        """
        if not self.factor_values:
            return self.factors.astype(np.int64)
        columns = [
            values[column] if values.dtype.kind in "iu" else column
            for values, column in zip(self.factor_values, self.factors.T, strict=True)
        ]
        return np.stack(columns, 1).astype(np.int64) if columns else self.factors.astype(np.int64)

    def scored_factors(self) -> npt.NDArray[Any]:
        """The factors as metrics take them (N, K): indices, and the values of continuous factors.

        Example:
            >>> data = FactorData.from_arrays(np.zeros((3, 2, 2)), [0.5, 0.1, 0.9], ["angle"], continuous=True)
            >>> data.scored_factors().ravel().tolist()
            [0.5, 0.1, 0.9]
        """
        if not any(self.continuous):
            return self.factors
        columns = zip(self.continuous, self.factor_values, self.factors.T, strict=True)
        return np.stack([values[column] if measured else column for measured, values, column in columns], axis=1)

    def value_labels(self) -> tuple[tuple[float | str, ...], ...]:
        """For each factor, the value or the name of each index: `factor_labels`, those of dSprites, or the classes.

        Example:
            >>> factors, values = np.array([[0], [1]], np.int32), (np.array([3, 7]),)
            >>> data = FactorData("dots", np.zeros((2, 1), np.uint8), (1, 2, 2), 1, factors, ("at",), (2,), values)
            >>> data.value_labels()
            ((3, 7),)
        """
        if self.factor_labels:
            return self.factor_labels
        classes: list[list[Any]] = [values.tolist() for values in self.factor_values]
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
        return all(values.dtype.kind in "iu" and values.min() >= 0 and values.max() < size for values, size in kinds)

    def images(self, rows: npt.NDArray[Any] | list[int] | slice) -> npt.NDArray[np.uint8]:
        """Images (B, C, H, W) of the given rows (indices, a mask or a slice), pixels from 0 to ``max_value``."""
        packed = self.packed[rows]
        if self.max_value == 1:
            packed = np.unpackbits(packed, axis=-1, count=math.prod(self.image_shape))
        channels, height, width = self.image_shape
        if self.channels_last:
            return packed.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
        return packed.reshape(-1, channels, height, width)

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
        """A unique number (B,) for each combination of factors (B, K), which must be in range.

        If there are more combinations than 64-bit integers, combinations that no image has get a negative number.
        """
        keys = np.zeros(len(factors), np.int64)
        for columns, known in self._key_stages:
            keys = _extended(keys, factors, columns, self.factor_sizes)
            if known is not None:
                place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
                keys = np.where(known[place] == keys, place, -1)
        return keys

    @cached_property
    def _key_stages(self) -> list[tuple[range, npt.NDArray[np.int64] | None]]:
        """Ranges of factors whose combinations fit into 64 bits, and the keys that occur up to the end of each.

        Before the next range, keys are replaced by their rank among those that occur. The last range needs none.
        """
        stages: list[tuple[range, npt.NDArray[np.int64] | None]] = []
        first, combinations = 0, 1
        keys = np.zeros(len(self.factors), np.int64)
        for k, size in enumerate(self.factor_sizes):
            if combinations * size >= 1 << 62:
                known, keys = np.unique(
                    _extended(keys, self.factors, range(first, k), self.factor_sizes), return_inverse=True
                )
                stages.append((range(first, k), known))
                first, combinations = k, len(known)
            combinations *= size
        return [*stages, (range(first, len(self.factor_sizes)), None)]

    @cached_property
    def index(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The `keys` of all images in ascending order, and their rows. Equal keys are in the order of the rows."""
        keys = self.keys(self.factors)
        order = np.argsort(keys, kind="stable")
        return keys[order], order


def _extended(
    keys: npt.NDArray[np.int64], factors: npt.NDArray[np.integer], columns: range, sizes: Sequence[int]
) -> npt.NDArray[np.int64]:
    """Keys (B,) that also count further columns of factors. Negative keys stay negative."""
    for k in columns:
        keys = keys * sizes[k] + np.where(keys < 0, 0, factors[:, k])
    return keys
