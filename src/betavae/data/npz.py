"""Reads images and their factors from files with the layout of the original dSprites: ``.npz`` with these members.

- ``imgs``: uint8, (N, H, W) or (N, H, W, C) with 1 or 3 channels; pixels 0 and 1, or 0 to 255
- ``latents_classes``: integers (N, K), the class of each factor (optional: without it the data have no factors)
- ``latents_values``: finite numbers (N, K), the value of each factor (optional, checked but not used)
- ``factor_names``: K strings (optional)

Other members are never opened. A warning names them, except the pickled ``metadata`` of the original. The file is read
in blocks of a megabyte, and pixels of 0 and 1 are packed to bits, so the 3 GB of the original are never in memory.
"""

from __future__ import annotations

import difflib
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple
from unicodedata import category

import numpy as np
import numpy.typing as npt

from betavae.data import dsprites
from betavae.data.registry import DATASETS
from betavae.files.arrays import NotAnArray, PickledObjects, names_in, open_member

Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of images in total."""

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

    packed: npt.NDArray[np.uint8]
    image_shape: tuple[int, int, int]
    max_value: int
    classes: npt.NDArray[Any]
    values: npt.NDArray[Any] | None
    names: tuple[str, ...]


def read(source: str | Path, progress: Progress | None) -> Contents:
    """Read and validate a file.

    Args:
        source: path of the file.
        progress: called while images are read.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, or it does not have the layout that this module describes.
    """
    path = Path(source)
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise ValueError(
            f"{path} is {kind}; data must be 'dsprites', which needs no file, or the path of an .npz file."
        )
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        near = difflib.get_close_matches(str(source), DATASETS)
        raise FileNotFoundError(
            f"there is no file {str(path)!r}; data must be 'dsprites', which needs no file, or an .npz file, its path "
            "relative to the current folder" + (f" (did you mean {near[0]!r}?)." if near else ".")
        ) from error
    with file:
        if path.suffix.lower() != ".npz" and not zipfile.is_zipfile(file):
            raise ValueError(
                f"{path} is not an .npz file; write one with numpy.savez(FILE, imgs=images, latents_classes=factors, "
                "factor_names=names), with uint8 images and integer factors, one row for each image."
            )
        try:
            archive = zipfile.ZipFile(file)
            contents = _read_archive(archive, progress)
        except MemoryError:
            raise
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        except Exception as error:  # a damaged archive raises any of the errors of zipfile, its compressions and NumPy
            raise ValueError(
                f"{path} is damaged, or not an .npz file ({str(error) or 'it ends too early'}); copy or download it "
                "again, or write dSprites with `betavae data export FILE.npz`."
            ) from error
        if ignored := [name for name in names_in(archive) if name not in (*_MEMBERS, "metadata")]:
            names = ", ".join(map(ascii, ignored[:10])) + (f" and {len(ignored) - 10:,} more" if ignored[10:] else "")
            warnings.warn(f"{path}: ignored {names}; only {', '.join(_MEMBERS)} are read", stacklevel=3)
    return contents


def _read_archive(archive: zipfile.ZipFile, progress: Progress | None) -> Contents:
    """Read and validate all members. Its errors do not name the file; `read` adds the name."""
    packed, image_shape, max_value = _read_images(archive, progress)
    classes = _read_table(archive, "latents_classes", len(packed))
    values = _read_table(archive, "latents_values", len(packed))
    names = _read_table(archive, "factor_names")
    if classes is None:
        classes = np.empty((len(packed), 0), np.int64)
    if values is not None and not np.isfinite(values).all():
        row = np.argwhere(~np.isfinite(values))[0, 0]
        raise ValueError(f"latents_values has NaN or infinity in row {row}; all values must be finite.")
    if names is None and looks_like_dsprites(classes, image_shape, max_value):
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
    return Contents(packed, image_shape, max_value, classes, values, tuple(map(str, names)))


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


def _read_images(
    archive: zipfile.ZipFile, progress: Progress | None
) -> tuple[npt.NDArray[np.uint8], tuple[int, int, int], int]:
    """Read the images; returns packed, image_shape and max_value as in `FactorData`."""
    members = [member.removesuffix(".npy") for member in archive.namelist()]
    if "imgs" not in members:
        raise ValueError(f"it has no member 'imgs', only {members}; save the images as an array with that name.")
    with _member(archive, "imgs") as (stream, shape, _, fortran):
        num_images, height, width, channels = (*shape, 1)[:4]
        if 0 in shape:
            raise ValueError(f"imgs has shape {shape}; it must have at least one image and one pixel.")
        if channels not in (1, 3):
            raise ValueError(f"imgs has shape {shape}, so {channels} channels; it must have 1 or 3 channels.")
        if fortran:
            raise ValueError("imgs is in Fortran order; save numpy.ascontiguousarray(imgs) instead.")
        num_pixels = height * width * channels
        packed = np.empty((num_images, -(-num_pixels // 8)), np.uint8)
        max_value = 1
        step = max(1, CHUNK_BYTES // num_pixels)
        for start in range(0, num_images, step):
            stop = min(start + step, num_images)
            chunk = np.frombuffer(stream.read((stop - start) * num_pixels), np.uint8)
            images = np.moveaxis(chunk.reshape(-1, height, width, channels), -1, 1).reshape(-1, num_pixels)
            if max_value == 1 and images.max() > 1:
                max_value, packed = 255, np.unpackbits(packed, axis=1, count=num_pixels)
            packed[start:stop] = np.packbits(images, axis=1) if max_value == 1 else images
            if progress:
                progress(stop, num_images)
    return packed, (channels, height, width), max_value
