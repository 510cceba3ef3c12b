"""Reads arrays of images: .npy files, and .npz files with `images` and, optionally, `labels` and `factor_names`.

An .npz with `imgs` has the layout of dSprites; `betavae.data.npz` reads it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from betavae.data.factor_table import FactorTable, factor_table
from betavae.data.readers.array_layouts import as_bytes, channels_last, check_pixel_type, layout_of, pixels_shape
from betavae.data.readers.source import Blocks, Source, block_length, check_count, reading
from betavae.files.arrays import Header, open_member, open_npy, read_npy, read_npz

IMAGES = ("images", "arr_0")
_LABELS = ("labels", "factors", "latents_classes")
_NAMES = ("factor_names", "names")

Opened = Callable[[], AbstractContextManager[tuple[IO[bytes], Header]]]


def read_npz_file(path: Path, names: list[str]) -> Source:
    """Open an .npz file.

    `labels` (N, K) or (N,) are values or classes; without `factor_names` they are numbered. For `X_images.npz` with the
    single member `arr_0`, the labels may be in `X_labels.npz`.

    Args:
        path: the file.
        names: names of its arrays.

    Raises:
        ValueError: an array is missing, damaged, or has another shape.
    """
    member = next(name for name in IMAGES if name in names)
    with reading(path, "an .npz file"):
        arrays = _first(path, names, _LABELS), _first(path, names, _NAMES)
        labels, factor_names = arrays
        beside = path.with_name(path.name.replace("_images", "_labels"))
        if labels is None and beside != path and beside.is_file():
            with reading(beside, "an .npz file"):
                labels = next(iter(read_npz(beside).values()), None)

        @contextmanager
        def opened() -> Iterator[tuple[IO[bytes], Header]]:
            with reading(path, "an .npz file"), zipfile.ZipFile(path) as archive, open_member(archive, member) as found:
                yield found

        return _source(path, opened, labels, factor_names)


def read_npy_file(path: Path) -> Source:
    """Open an .npy file of images. Labels (N,) or (N, K) may be in `labels.npy` or `factors.npy` beside it."""
    beside = next((path.with_name(f"{name}.npy") for name in _LABELS if path.with_name(f"{name}.npy").is_file()), None)
    labels = None
    if beside is not None and beside != path:
        with reading(beside, "an .npy file"):
            labels = read_npy(beside)

    @contextmanager
    def opened() -> Iterator[tuple[IO[bytes], Header]]:
        with reading(path, "an .npy file"), open_npy(path) as found:
            yield found

    return _source(path, opened, labels, None)


def _source(path: Path, opened: Opened, labels: npt.NDArray[Any] | None, names: npt.NDArray[Any] | None) -> Source:
    with opened() as (_, header):
        check_pixel_type(header.dtype)
        if header.fortran and len(header.shape) > 1:
            raise ValueError("images are in Fortran order; save numpy.ascontiguousarray(images) instead")
        layout = layout_of(header.shape)
    with reading(path, "an array file"):
        table = _factors(labels, names, header.shape[0])

    def blocks() -> Blocks:
        shape, dtype = header.shape, header.dtype
        per_image = int(np.prod(shape[1:]))
        step = block_length(per_image * max(dtype.itemsize, 1))
        with opened() as (stream, _):
            for start in range(0, shape[0], step):
                count = min(step, shape[0] - start)
                content = stream.read(count * per_image * dtype.itemsize)
                if len(content) < count * per_image * dtype.itemsize:
                    raise EOFError("it ends too early")
                block = np.frombuffer(content, dtype).reshape(count, *shape[1:])
                yield slice(start, start + count), as_bytes(channels_last(block, layout))[0]

    shape = pixels_shape(header.shape, layout)
    return Source(path.stem, header.shape[0], shape, table, blocks, may_be_binary=header.dtype.kind in "ub")


def _factors(labels: npt.NDArray[Any] | None, names: npt.NDArray[Any] | None, num_images: int) -> FactorTable:
    if labels is None:
        return factor_table({}, num_images)
    columns = labels[:, None] if labels.ndim == 1 else labels
    if columns.ndim != 2 or columns.shape[1] > 1_000:
        raise ValueError(f"labels have the shape {labels.shape}; they must be (N,) or (N, K)")
    check_count("labels", len(columns), num_images)
    if names is None:
        names = np.array([f"factor_{k}" for k in range(columns.shape[1])] if labels.ndim > 1 else ["label"])
    if names.dtype.kind != "U" or names.shape != (columns.shape[1],) or len(set(names.tolist())) < len(names):
        raise ValueError(f"factor_names must be {columns.shape[1]} different texts, one for each column of labels")
    return factor_table(dict(zip(names.tolist(), columns.T, strict=True)), num_images)


def _first(path: Path, names: list[str], wanted: tuple[str, ...]) -> npt.NDArray[Any] | None:
    name = next((name for name in wanted if name in names), None)
    return None if name is None else read_npz(path, name)[name]
