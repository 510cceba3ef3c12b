"""Images with known factors: packed in memory, addressed by row or by factors, split into seeded subsets.

Drawn, or read from a file as `npz` describes, and written to one.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from betavae import dsprites, npz
from betavae.config import IN_MEMORY
from betavae.files import replacing
from betavae.npz import Progress


class PackedImages(Protocol):
    """What images are kept in: an array (N, bytes) uint8, or what is indexed by its rows like one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> npt.NDArray[np.uint8]: ...


def _blocks(packed: PackedImages) -> Iterator[tuple[slice, npt.NDArray[np.uint8]]]:
    """All packed images, about a megabyte at a time, each part with its rows."""
    step = max(1, npz.CHUNK_BYTES // max(1, packed.shape[1]))
    for start in range(0, len(packed), step):
        rows = slice(start, start + step)
        yield rows, packed[rows]


@dataclass(frozen=True, eq=False)
class FactorData:
    """A data set: N images and the K factors that each was made from.

    Attributes:
        name: what the data set is called in reports.
        packed: images (N, bytes) uint8, an array or what is indexed by rows like one: ``np.packbits`` of each image's
            C * H * W pixels when ``max_value`` is 1, the pixels themselves otherwise.
        image_shape: (C, H, W).
        max_value: the value of a white pixel, 1 or 255.
        factors: factor indices (N, K) int32, column k in [0, factor_sizes[k]).
        factor_names: K names.
        factor_sizes: the number of values of each factor.
        source: what `load_data` read it from; "" for images made in Python.
        factor_values: for each factor the class that each index stands for, as its source numbers the classes; empty
            where index i is class i. A part of a data set may lack classes, and indices have no gaps.

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

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the packed images."""
        digest = hashlib.sha256()
        for _, block in _blocks(self.packed):
            digest.update(np.ascontiguousarray(block).data)
        return digest.hexdigest()

    def image_numbers(self) -> npt.NDArray[np.int64]:
        """Number the different images, so that equal images get equal numbers (N,), from 0 on.

        Images are compared by a 64-bit hash: among 10^6 different ones two collide with a probability below 10^-7.

        Example:
            >>> dots = np.array([[128], [64], [128]], np.uint8)
            >>> data = FactorData("dots", dots, (1, 2, 2), 1, np.array([[0], [1], [2]], np.int32), ("at",), (3,))
            >>> data.image_numbers().tolist() in ([0, 1, 0], [1, 0, 1])
            True
        """
        num_words = -(-self.packed.shape[1] // 8)
        random = np.random.default_rng(0).integers(1 << 63, size=num_words, dtype=np.uint64)
        multipliers = random << np.uint64(1) | np.uint64(1)  # odd ones
        digest = np.zeros(len(self), np.uint64)
        for rows, images in _blocks(self.packed):
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
                f"packed is {self.packed.dtype} of shape {self.packed.shape}; {stored[0]} images {self.image_shape} "
                f"with max_value {self.max_value} are uint8 of shape {stored}."
            )
        if self.factors.shape[1:] != (len(self.factor_names),) or len(self.factor_names) != len(self.factor_sizes):
            raise ValueError(
                f"factors has shape {self.factors.shape} with {len(self.factor_names)} names and "
                f"{len(self.factor_sizes)} sizes; there must be a name and a size for each column."
            )
        sizes = np.array(self.factor_sizes)
        if self.factors.size and self.factors.dtype.kind not in "iu":
            raise ValueError(f"factors is {self.factors.dtype}; it must hold integers, such as int32.")
        if self.factors.size and (self.factors.min() < 0 or (self.factors.max(0) >= sizes).any()):
            row, column = np.argwhere((self.factors < 0) | (self.factors >= sizes))[0]
            raise ValueError(
                f"factors[{row}] has {self.factor_names[column]} {self.factors[row, column]}; its indices go from 0 to "
                f"{sizes[column] - 1}."
            )

        if self.factor_values and tuple(map(len, self.factor_values)) != tuple(self.factor_sizes):
            raise ValueError(
                f"factor_values has {[len(values) for values in self.factor_values]} values; factor_sizes says "
                f"{list(self.factor_sizes)}."
            )

    def __len__(self) -> int:
        return len(self.packed)

    def classes(self) -> npt.NDArray[np.int64]:
        """The factors (N, K) as the source numbers their classes.

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

    @property
    def is_dsprites(self) -> bool:
        """Whether factors and classes are those of dSprites, or a part of them in which every factor varies."""
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
        """Rows (B,) of the images that have the given factors (B, K): the inverse of ``data.factors[rows]``.

        Where several images share their factors, the first is returned.

        Raises:
            ValueError: if the factors are out of range, or no image has them.
        """
        wanted = np.asarray(factors)
        if wanted.ndim != 2 or wanted.shape[1] != len(self.factor_names) or not self.factor_names:
            raise ValueError(
                f"factors must have shape (B, {len(self.factor_names)}), one column for each factor of {self.name!r} "
                f"({', '.join(self.factor_names) or 'it has none'}); got shape {wanted.shape}."
            )
        wrong = np.argwhere((wanted < 0) | (wanted >= np.array(self.factor_sizes)))
        if len(wrong):
            row, column = wrong[0]
            raise ValueError(
                f"factors[{row}] has {self.factor_names[column]} {wanted[row, column]}; "
                f"{self.factor_names[column]} indices of {self.name!r} go from 0 to {self.factor_sizes[column] - 1}."
            )
        found = self.find(wanted)
        missing = np.flatnonzero(found < 0)
        if len(missing):
            raise ValueError(f"no image of {self.name!r} has the factors {wanted[missing[0]].tolist()}.")
        return found

    def find(self, factors: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Rows (B,) of the images that have the given factors (B, K), all in range; -1 where there is no such image.

        Where several images share their factors, the first is returned.
        """
        keys, rows = self.index
        key = self.keys(factors)
        place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        return np.where(keys[place] == key, rows[place], -1)

    def keys(self, factors: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """A number (B,) for each combination of factors (B, K), all in range."""
        keys: npt.NDArray[np.int64] = np.ravel_multi_index(tuple(factors.T), self.factor_sizes)
        return keys

    @cached_property
    def index(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The `keys` of all images in ascending order, and the row of each; equal ones in the order of the rows."""
        keys = self.keys(self.factors)
        order = np.argsort(keys, kind="stable")
        return keys[order], order


@dataclass(frozen=True, eq=False)
class Split:
    """Rows (int64, in random order) for training, validation and test; no row is in two of them."""

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def split_rows(
    num_rows: int, train: int | float = 1.0, validation: int | float = 0, test: int | float = 0, seed: int = 0
) -> Split:
    """Choose disjoint random subsets of the rows.

    Each share is a count (an int) or a fraction of all rows (a float in (0, 1]), rounded down; 0 means none. A training
    share of 1.0 is all rows but the held-out ones. The held-out rows depend on the seed and on their own sizes only,
    not on the size of the training set.

    Args:
        num_rows: how many rows there are.
        train: share to train on.
        validation: share held out to watch the training.
        test: share held out to the end.
        seed: seed of the shuffle.

    Raises:
        ValueError: if a share is not a count or a fraction, if it comes to no rows, or if the shares together are more
            than the data.

    Example:
        >>> split = split_rows(737_280, train=150_000, validation=15_000)
        >>> len(split.train), len(split.validation), len(split.test)
        (150000, 15000, 0)
        >>> [len(rows) for rows in vars(split_rows(10, 0.8, 0.1, 0.1)).values()]
        [8, 1, 1]
    """
    counts = {
        name: _count(name, share, num_rows)
        for name, share in (("train", train), ("validation", validation), ("test", test))
    }
    if isinstance(train, float) and train == 1:
        counts["train"] -= min(num_rows, counts["validation"] + counts["test"])
    if not counts["train"]:
        raise ValueError(
            f"of {num_rows} images train is {train!r}, validation {validation!r} and test {test!r}, which leaves "
            "nothing to train on: hold out fewer, such as a tenth with validation_images 0.1"
        )
    wanted = sum(counts.values())
    if wanted > num_rows:
        parts = " + ".join(f"{name} {count}" for name, count in counts.items() if count)
        raise ValueError(f"the split takes {parts} = {wanted} rows, but the data have {num_rows}; take fewer.")
    order = np.random.default_rng(seed).permutation(num_rows)
    test_end, validation_end = counts["test"], counts["test"] + counts["validation"]
    return Split(train=order[validation_end:wanted], validation=order[test_end:validation_end], test=order[:test_end])


def _count(name: str, share: int | float, num_rows: int) -> int:
    if isinstance(share, bool) or not 0 <= share <= (1.0 if isinstance(share, float) else math.inf):
        raise ValueError(
            f"{name} is {share!r}; it must be a number of rows (an integer, such as 150000) "
            "or a fraction of them (between 0.0 and 1.0)."
        )
    count = math.floor(share * num_rows + 1e-9) if isinstance(share, float) else share
    if share and not count:
        raise ValueError(f"{name} is {share!r}, which is less than one of the {num_rows} rows; give 0 for none.")
    return count


def load_data(source: str | Path, *, progress: Progress | None = None) -> FactorData:
    """Load a data set into memory.

    From a file, a factor that never changes is dropped (such as the original's colour), and the classes that occur are
    numbered 0, 1, 2, ... in ascending order; `factor_values` keeps what they were. A file without ``factor_names`` that
    is laid out like dSprites has the names of dSprites; otherwise its factors are called by the number of their column.

    Args:
        source: ``"dsprites"`` draws all 737,280 images (in a second or two); anything else is the path of a file.
        progress: called as a file is read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, its contents are not as `npz` describes, or images were given in Python.

    Example:
        >>> data = load_data("dsprites")
        >>> len(data), data.image_shape, data.factor_names
        (737280, (1, 64, 64), ('shape', 'scale', 'orientation', 'posX', 'posY'))
    """
    if source == "dsprites":
        return FactorData(
            name="dsprites",
            packed=dsprites.draw_all(),
            image_shape=dsprites.IMAGE_SHAPE,
            max_value=1,
            factors=dsprites.factor_table(),
            factor_names=dsprites.FACTOR_NAMES,
            factor_sizes=dsprites.FACTOR_SIZES,
            source="dsprites",
        )
    if source == IN_MEMORY:
        raise ValueError(
            "the images were given in Python, so there is nothing to load them from: pass them again as `data`, for "
            "instance experiment(config, data=images), score_run(run, images) or draw_run(run, images)"
        )
    contents = npz.read(source, progress)
    columns = [np.unique(column, return_inverse=True) for column in contents.classes.T]
    kept = [k for k, (classes, _) in enumerate(columns) if len(classes) > 1]
    factors = np.zeros((len(contents.packed), len(kept)), np.int32)
    for place, k in enumerate(kept):
        factors[:, place] = columns[k][1]
    sprites = None
    if npz.looks_like_dsprites(contents.classes, contents.image_shape, contents.max_value):
        sprites = dsprites.windowed(contents.packed, contents.classes[:, 1:])
    return FactorData(
        name=Path(source).stem,
        packed=contents.packed if sprites is None else sprites,
        image_shape=contents.image_shape,
        max_value=contents.max_value,
        factors=factors,
        factor_names=tuple(contents.names[k] for k in kept),
        factor_sizes=tuple(len(columns[k][0]) for k in kept),
        factor_values=tuple(columns[k][0].astype(np.int64) for k in kept),
        source=str(source),
    )


def export_npz(
    data: FactorData, path: str | Path, *, overwrite: bool = False, progress: Progress | None = None
) -> None:
    """Write a data set in the layout of the original dSprites file, so that any loader of that file reads it.

    The members are ``imgs``, ``latents_values`` and ``latents_classes``; for dSprites the two tables start with the
    constant colour, as in the original, and for other data ``factor_names`` is added. The original's ``metadata`` is a
    pickle and is left out. The file appears under its name only when it is complete.

    Args:
        data: what to write.
        path: where to.
        overwrite: replace a file that is there already.
        progress: called as images are written.

    Raises:
        FileExistsError: if the file exists and ``overwrite`` is false.
        OSError: if it cannot be written; nothing is left behind.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name or ask for it to be overwritten.")
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive,
    ):
        _write_images(archive, data, progress)
        for name, table in _tables(data).items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, table, allow_pickle=False)


@dataclass(frozen=True, eq=False)
class Comparison:
    """How the images of a dSprites file differ from the drawn ones of the same factors.

    Attributes:
        num_images: images in the file.
        rows: rows (D,) of the images that differ.
        factors: their factor indices (D, 5).
        wrong_pixels: the number of pixels (D,) in which each differs.
        tables_agree: whether the file has every image in the original's order, with the original's classes and values.
    """

    num_images: int
    rows: npt.NDArray[np.int64]
    factors: npt.NDArray[np.int64]
    wrong_pixels: npt.NDArray[np.int64]
    tables_agree: bool

    @property
    def num_different(self) -> int:
        """The number of images that differ in at least one pixel."""
        return len(self.rows)

    def summary(self, limit: int = 10) -> str:
        """A few lines for a person to read, with at most ``limit`` of the images that differ."""
        lines = [
            f"{self.num_different:,} of {self.num_images:,} images differ from the drawn ones"
            + (f", by {self.wrong_pixels.sum():,} pixels in all." if self.num_different else "."),
            "The factor tables are those of the original."
            if self.tables_agree
            else f"The factor tables are not those of the original and its {dsprites.NUM_IMAGES:,} images.",
        ]
        for row, factors, wrong in list(zip(self.rows, self.factors, self.wrong_pixels, strict=True))[:limit]:
            named = ", ".join(f"{name} {index}" for name, index in zip(dsprites.FACTOR_NAMES, factors, strict=True))
            lines.append(f"  row {row}: {wrong} wrong pixels ({named})")
        if self.num_different > limit:
            lines.append(f"  and {self.num_different - limit:,} more")
        return "\n".join(lines)


def compare_npz(path: str | Path, *, progress: Progress | None = None) -> Comparison:
    """Compare the images of a dSprites file with the drawn ones that have the same factors.

    Args:
        path: a file in the layout of the original; it may hold a part of the images, in any order.
        progress: called as the file is read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, or is not dSprites.
    """
    contents = npz.read(path, progress)
    classes, values = contents.classes, contents.values
    if not npz.looks_like_dsprites(classes, contents.image_shape, contents.max_value):
        raise ValueError(
            f"{path}: it is not dSprites, so there is nothing to compare it with; dSprites has images of 64x64 pixels "
            f"0 and 1 and a table latents_classes with the columns color, {', '.join(dsprites.FACTOR_NAMES)}."
        )
    factors = classes[:, 1:].astype(np.int64)
    drawn, drawn_rows = dsprites.draw_all(), np.ravel_multi_index(tuple(factors.T), dsprites.FACTOR_SIZES)
    wrong_pixels = np.empty(len(factors), np.int64)
    for rows, packed in _blocks(contents.packed):
        wrong_pixels[rows] = np.bitwise_count(packed ^ drawn[drawn_rows[rows]]).sum(axis=1)
    different = np.flatnonzero(wrong_pixels)
    return Comparison(
        num_images=len(factors),
        rows=different,
        factors=factors[different],
        wrong_pixels=wrong_pixels[different],
        tables_agree=np.array_equal(drawn_rows, np.arange(dsprites.NUM_IMAGES))
        and not classes[:, 0].any()
        and values is not None
        and values.shape == classes.shape
        and np.allclose(values, dsprites.latent_values(factors)),
    )


def _tables(data: FactorData) -> dict[str, npt.NDArray[Any]]:
    """The members of a file beside the images."""
    classes = data.classes()
    if data.is_dsprites:
        return {"latents_values": dsprites.latent_values(classes), "latents_classes": dsprites.latent_classes(classes)}
    return {
        "latents_values": classes.astype(np.float64),
        "latents_classes": classes,
        "factor_names": np.array(data.factor_names, np.str_),
    }


def _write_images(archive: zipfile.ZipFile, data: FactorData, progress: Progress | None) -> None:
    channels, height, width = data.image_shape
    shape = (len(data), height, width) if channels == 1 else (len(data), height, width, channels)
    step = max(1, npz.CHUNK_BYTES // math.prod(data.image_shape))
    with archive.open("imgs.npy", "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for start in range(0, len(data), step):
            images = data.images(slice(start, start + step))
            stream.write(np.ascontiguousarray(np.moveaxis(images, 1, -1)).data)
            if progress:
                progress(start + len(images), len(data))
