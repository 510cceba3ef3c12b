"""Reads HDF5 files: `images` and `labels` as in Shapes3D, or the layout of dSprites. The only importer of h5py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from betavae.data.factor_table import factor_table
from betavae.data.readers.array_layouts import check_pixel_type
from betavae.data.readers.source import Blocks, Source, block_length, check_count, reading

SHAPES3D_FACTORS = ("floor hue", "wall hue", "object hue", "scale", "shape", "orientation")
_LARGEST_CHUNK = 1 << 28
_KIND = "an HDF5 file"


def read(path: Path) -> Source:
    """Open a file with `images` (N, H, W, C) uint8 and, optionally, `labels` (N, K), the values of the factors.

    Six labels are those of Shapes3D. Others are numbered.

    Raises:
        ValueError: the file is damaged, or has another content.
    """
    with _opened(path) as file:
        shape, chunk = _check_images(file, "images", (4,))
        if shape[3] not in (1, 3):
            raise ValueError(f"images has the shape {shape}; the last axis must be 1 or 3 channels")
        labels = _table(file, "labels") if "labels" in file else np.empty((shape[0], 0))
    with reading(path, _KIND):
        check_count("labels", len(labels), shape[0])
        names = SHAPES3D_FACTORS if labels.shape[1] == 6 else [f"factor_{k}" for k in range(labels.shape[1])]
        table = factor_table(dict(zip(names, labels.T, strict=True)), shape[0])
    height, width, channels = shape[1:]
    return Source(path.stem, shape[0], (height, width, channels), table, lambda: _blocks(path, "images", shape, chunk))


def read_dsprites(path: Path) -> tuple[tuple[int, ...], npt.NDArray[Any], npt.NDArray[Any]]:
    """Read dSprites except its images: the shape of `imgs` (N, H, W), `latents/classes` and `latents/values`.

    Raises:
        ValueError: the file is damaged, or has another content.
    """
    with _opened(path) as file:
        shape, _ = _check_images(file, "imgs", (3,))
        classes, values = _table(file, "latents/classes"), _table(file, "latents/values")
    with reading(path, _KIND):
        for name, table in (("latents/classes", classes), ("latents/values", values)):
            check_count(name, len(table), shape[0])
        if classes.dtype.kind not in "iu":
            raise ValueError(f"latents/classes is {classes.dtype}; it must be integers")
    return shape, classes, values


def dsprites_blocks(path: Path) -> Blocks:
    """The images of dSprites (B, H, W, 1), block by block."""
    with _opened(path) as file:
        shape, step = _check_images(file, "imgs", (3,))
    return _blocks(path, "imgs", shape, step)


def has(path: Path, name: str) -> bool:
    """Whether a file has a data set or a group of this name."""
    with _opened(path) as file:
        return name in file


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{path} is an HDF5 file, and reading it needs h5py: pip install 'betavae[data]'"
        ) from None
    with reading(path, _KIND), h5py.File(path, "r") as file:
        yield file


def _check_images(file: Any, name: str, axes: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The shape of the images, and how many of them to read at once."""
    images = _dataset(file, name)
    shape = tuple(map(int, images.shape))
    if len(shape) not in axes or 0 in shape:
        raise ValueError(f"{name} has the shape {shape}; it must have {axes[0]} axes, and at least one image and pixel")
    check_pixel_type(images.dtype)
    if images.dtype != np.uint8:
        raise ValueError(f"{name} is {images.dtype}; it must be uint8")
    bytes_per_image = int(np.prod(shape[1:]))
    chunk = images.chunks or (1,) * len(shape)
    if int(np.prod(chunk)) > _LARGEST_CHUNK:
        raise ValueError(f"{name} is stored in chunks of {chunk}, which are too large to read")
    step = -(-block_length(bytes_per_image) // chunk[0]) * chunk[0]  # whole chunks: each is decompressed once
    return shape, step if step * bytes_per_image <= _LARGEST_CHUNK else block_length(bytes_per_image)


def _dataset(file: Any, name: str) -> Any:
    import h5py

    if name not in file or not isinstance(file[name], h5py.Dataset):
        raise ValueError(
            f"it has no data set {name}, only {', '.join(sorted(map(str, file))) or 'nothing'}; images are expected as "
            "`images` with `labels`, as in 3dshapes.h5, or as `imgs` with `latents`, as in dSprites"
        )
    if file[name].external or file[name].is_virtual:
        raise ValueError(f"{name} is stored in another file; copy the data into one file")
    return file[name]


def _table(file: Any, name: str) -> npt.NDArray[Any]:
    table = _dataset(file, name)
    if table.ndim != 2 or table.shape[1] > 1_000 or table.dtype.kind not in "iuf":
        raise ValueError(f"{name} is {table.dtype} of shape {table.shape}; it must be numbers of shape (N, K)")
    return np.asarray(table[:])


def _blocks(path: Path, name: str, shape: tuple[int, ...], step: int) -> Blocks:
    with _opened(path) as file:
        images = file[name]
        for start in range(0, shape[0], step):
            block = images[start : start + step]
            yield slice(start, start + len(block)), block if block.ndim == 4 else block[..., None]
