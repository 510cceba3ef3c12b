"""Reads images and their factors from files with the layout of the original dSprites: ``.npz`` with these members.

- ``imgs``: uint8, (N, H, W) or (N, H, W, C) with 1 or 3 channels; pixels 0 and 1, or 0 to 255
- ``latents_classes``: integers (N, K), the class of each factor (optional: without it the data have no factors)
- ``latents_values``: finite numbers (N, K), the value of each factor (optional, checked but not used)
- ``factor_names``: K strings (optional)

Other members are never opened. A warning names them, except the pickled ``metadata`` of the original. Images are read
in blocks of a megabyte, so the 3 GB of the original are never in memory.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple
from unicodedata import category

import numpy as np
import numpy.typing as npt

from betavae.data.factor_table import factor_table
from betavae.data.generated import dsprites
from betavae.data.readers.source import Blocks, Source, reading
from betavae.files.arrays import Header, NotAnArray, PickledObjects, names_in, open_member

CHUNK_BYTES = 1 << 20
"""Number of bytes that are read or written at once."""

_MEMBERS: dict[str, tuple[tuple[type, ...], tuple[int, ...], str]] = {
    "imgs": ((np.uint8,), (3, 4), "uint8 of shape (N, H, W) or (N, H, W, C)"),
    "latents_classes": ((np.integer,), (2,), "integers of shape (N, K)"),
    "latents_values": ((np.integer, np.floating), (2,), "numbers of shape (N, K)"),
    "factor_names": ((np.str_,), (1,), "strings of shape (K,)"),
}
"""The members that are read: their element types, their numbers of axes, and both as text."""
_MOST_COLUMNS = 1_000
"""Largest number of columns of a table."""


class Contents(NamedTuple):
    """The validated contents of a file: the tables have one row per image, and each column of classes has a name."""

    source: Source
    classes: npt.NDArray[Any]
    values: npt.NDArray[Any] | None


def read(path: Path) -> Contents:
    """Read and validate a file, except its images, which are read block by block later.

    Raises:
        ValueError: the file is damaged, or it does not have the layout that this module describes.
    """
    with reading(path, "an .npz file"), zipfile.ZipFile(path) as archive:
        shape = _image_header(archive).shape
        classes = _read_table(archive, "latents_classes", shape[0])
        values = _read_table(archive, "latents_values", shape[0])
        names = _read_table(archive, "factor_names")
        contents = described(path, shape, classes, values, names, lambda: _blocks(path))
        ignored = [name for name in names_in(archive) if name not in (*_MEMBERS, "metadata")]
    if ignored:
        shown = ", ".join(map(ascii, ignored[:10])) + (f" and {len(ignored) - 10:,} more" if ignored[10:] else "")
        warnings.warn(f"{path}: ignored {shown}; only {', '.join(_MEMBERS)} are read", stacklevel=4)
    return contents


def described(
    path: Path,
    shape: tuple[int, ...],
    classes: npt.NDArray[Any] | None,
    values: npt.NDArray[Any] | None,
    names: npt.NDArray[Any] | None,
    blocks: Callable[[], Blocks],
) -> Contents:
    """Validate the tables that belong to images of a shape (N, H, W) or (N, H, W, C)."""
    num_images, height, width, channels = (*shape, 1)[:4]
    if classes is None:
        classes = np.empty((num_images, 0), np.int64)
    if values is not None and not np.isfinite(values).all():
        row = np.argwhere(~np.isfinite(values))[0, 0]
        raise ValueError(f"latents_values has NaN or infinity in row {row}; all values must be finite.")
    if names is None and looks_like_dsprites(classes, (channels, height, width), 1):
        names = np.array(("color", *dsprites.FACTOR_NAMES))
    elif names is None:
        names = np.array([f"factor_{column}" for column in range(classes.shape[1])], np.str_)
    if len(names) != classes.shape[1] or len(set(names)) != len(names):
        raise ValueError(
            f"factor_names has {', '.join(names)} for the {classes.shape[1]} columns of latents_classes; "
            "each column needs a unique name."
        )
    if bad := [str(name) for name in names if not name or any(category(letter) in ("Cc", "Cs") for letter in name)]:
        raise ValueError(f"factor_names has {bad[0]!r}; names must be printable text.")
    table = factor_table(dict(zip(map(str, names), classes.T, strict=True)), num_images)
    source = Source(path.stem, num_images, (height, width, channels), table, blocks, may_be_binary=True)
    return Contents(source, classes, values)


def looks_like_dsprites(classes: npt.NDArray[Any], image_shape: tuple[int, int, int], max_value: int) -> bool:
    """Whether classes (N, K), image shape and largest value match the original dSprites, or a part of it."""
    sizes = np.array((1, *dsprites.FACTOR_SIZES))
    if (image_shape, max_value, classes.shape[1]) != (dsprites.IMAGE_SHAPE, 1, len(sizes)):
        return False
    return bool(((classes >= 0) & (classes < sizes)).all())


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any], bool]]:
    """Open an array of the archive; yields its stream, shape, type, and whether it is in Fortran order."""
    types, num_axes, required = _MEMBERS[name]
    try:
        with open_member(archive, name) as (stream, (shape, dtype, fortran)):
            if len(shape) not in num_axes or not any(np.issubdtype(dtype, kind) for kind in types):
                raise ValueError(f"{name} is {dtype} of shape {shape}; it must be {required}.")
            yield stream, shape, dtype, fortran
    except PickledObjects as error:
        raise ValueError(f"{error}; it must be {required}.") from None
    except NotAnArray as error:
        raise ValueError(f"{error}; write the file with numpy.savez") from error


def _read_table(archive: zipfile.ZipFile, name: str, num_images: int | None = None) -> npt.NDArray[Any] | None:
    if f"{name}.npy" not in archive.namelist():
        return None
    with _member(archive, name) as (stream, shape, dtype, fortran):
        if num_images is not None and shape[0] != num_images:
            raise ValueError(f"{name} has {shape[0]} rows for {num_images} images; it must have one row per image.")
        if shape[-1] > _MOST_COLUMNS and len(shape) == 2:
            raise ValueError(f"{name} has {shape[1]:,} columns; it must have at most {_MOST_COLUMNS:,}.")
        return np.frombuffer(stream.read(), dtype).reshape(shape, order="F" if fortran else "C")


def _image_header(archive: zipfile.ZipFile) -> Header:
    """The header of the images."""
    members = names_in(archive)
    if "imgs" not in members:
        raise ValueError(f"it has no member 'imgs', only {members}; save the images as an array with that name.")
    with _member(archive, "imgs") as (_, shape, dtype, fortran):
        channels = (*shape, 1)[3]
        if 0 in shape:
            raise ValueError(f"imgs has shape {shape}; it must have at least one image and one pixel.")
        if channels not in (1, 3):
            raise ValueError(f"imgs has shape {shape}, so {channels} channels; it must have 1 or 3 channels.")
        if fortran:
            raise ValueError("imgs is in Fortran order; save numpy.ascontiguousarray(imgs) instead.")
        return Header(shape, dtype, fortran)


def _blocks(path: Path) -> Blocks:
    """Images (B, H, W, C) block by block."""
    with (
        reading(path, "an .npz file"),
        zipfile.ZipFile(path) as archive,
        _member(archive, "imgs") as (stream, shape, _, _),
    ):
        num_images, height, width, channels = (*shape, 1)[:4]
        num_pixels = height * width * channels
        step = max(1, CHUNK_BYTES // num_pixels)
        for start in range(0, num_images, step):
            stop = min(start + step, num_images)
            chunk = np.frombuffer(stream.read((stop - start) * num_pixels), np.uint8)
            yield slice(start, stop), chunk.reshape(-1, height, width, channels)
