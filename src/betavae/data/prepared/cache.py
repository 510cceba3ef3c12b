"""Prepares images once and keeps them: an uncompressed uint8 file (N, H, W, C), its factors, and their description.

A prepared set is a folder whose name is a digest of the source, the preparation and the version of this layout:
`images.npy`, `numbers.npy` (numbers of equal images), `factors.npz` and `data.json`. The folder appears complete or not
at all. A lock lets two processes prepare once.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from betavae.data.factor_table import FactorTable, check_no_continuous
from betavae.data.prepared.image_file import NUMBERS, ImageFile, scan
from betavae.data.prepared.places import cache_folder, prepared_folder
from betavae.data.prepared.preparation import Preparation
from betavae.data.readers.source import Progress, Source
from betavae.files.arrays import open_npy, read_npz

VERSION = 1
"""Version of the layout, and of what readers and preparation make of a file."""
_SPARE_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class PreparedImages:
    """Prepared images with their factors.

    Attributes:
        name: name of the data set.
        images: the images.
        table: the factors.
        labels: further labels.
        continuous: whether continuous factors are expected.
    """

    name: str
    images: ImageFile
    table: FactorTable
    labels: dict[str, npt.NDArray[Any]]
    continuous: bool


def prepared(
    identity: str, open_source: Callable[[], Source], preparation: Preparation, progress: Progress | None = None
) -> PreparedImages:
    """Return prepared images from the cache; prepare them first if they are not in it.

    Args:
        identity: text that identifies the content of the source and its reader.
        open_source: opens the source; called only if the images are not in the cache.
        preparation: what to do with the images. The factors stay as they are.
        progress: called while images are prepared.

    Raises:
        ValueError: the source is damaged, or its images do not fit the preparation.
        OSError: there is not enough disk space, or the cache cannot be written. Nothing incomplete remains.
    """
    images = (preparation.crop, preparation.image_size, preparation.channels)
    key = hashlib.sha256(json.dumps([VERSION, identity, images]).encode()).hexdigest()[:32]
    parent = prepared_folder()
    folder = parent / key
    if found := _opened(folder):
        return found
    with _writable(parent):
        parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(parent)
        with _lock(key):
            if found := _opened(folder):
                return found
            shutil.rmtree(folder, ignore_errors=True)  # damaged
            source = open_source()
            temporary = parent / f".{key}.{os.getpid()}"
            try:
                temporary.mkdir()
                _write(source, preparation, temporary, progress)
                os.replace(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    if found := _opened(folder):
        return found
    raise OSError(f"the prepared images in {folder} cannot be read back; check the disk, or set BETAVAE_CACHE")


def _write(source: Source, preparation: Preparation, folder: Path, progress: Progress | None) -> None:
    """Write all files of a prepared set into an empty folder."""
    if not source.continuous and preparation.bins is None:
        check_no_continuous(source.factors)
    shape = preparation.shape_of(source.shape)
    if source.other_size and preparation.crop is preparation.image_size is None:
        raise ValueError(source.other_size)
    images = ImageFile(folder / "images.npy", (source.num_images, *shape))
    _check_space(folder, int(np.prod(images.images_shape)))
    written = np.zeros(source.num_images, bool)
    with images.path.open("wb") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": images.images_shape}
        np.lib.format.write_array_header_1_0(stream, header)
        start = stream.tell()
        for rows, block in source.blocks():
            pixels = np.ascontiguousarray(preparation.apply(block))
            if pixels.shape[1:] != shape:
                raise ValueError(f"{source.name} has images of shape {pixels.shape[1:]} and of shape {shape}")
            if isinstance(rows, slice):
                stream.seek(start + rows.start * images.shape[1])
                stream.write(pixels.data)
            else:
                for row, image in zip(rows.tolist(), pixels, strict=True):
                    stream.seek(start + row * images.shape[1])
                    stream.write(image.data)
            written[rows] = True
            if progress:
                progress(int(np.count_nonzero(written)), source.num_images)
        if not written.all():
            raise ValueError(f"{source.name} ends after {np.count_nonzero(written):,} of {len(written):,} images")
        _sync(stream)
    digest, numbers = scan(images)
    table = source.factors
    values = {f"values_{k}": value for k, value in enumerate(table.values)}
    labels = {f"label_{k}": _plain(label) for k, label in enumerate(source.labels.values())}
    with (folder / NUMBERS).open("wb") as stream:
        np.save(stream, numbers, allow_pickle=False)
        _sync(stream)
    with (folder / "factors.npz").open("wb") as stream:
        np.savez(stream, allow_pickle=False, factors=table.factors, **values, **labels)
        _sync(stream)
    description = {
        "name": source.name,
        "shape": images.images_shape,
        "sha256": digest,
        "factors": table.names,
        "continuous_factors": table.continuous,
        "labels": list(source.labels),
        "continuous": source.continuous,
    }
    with (folder / "data.json").open("wb") as stream:
        stream.write(json.dumps(description, indent=2).encode())
        _sync(stream)


def _opened(folder: Path) -> PreparedImages | None:
    """Open a prepared set; None if it is missing or damaged, since it can be prepared again."""
    try:
        description = json.loads((folder / "data.json").read_bytes())
        num_images, *shape = map(int, description["shape"])
        with open_npy(folder / "images.npy") as (_, header):
            if header.shape != (num_images, *shape) or header.dtype != np.uint8 or header.fortran:
                return None
        with open_npy(folder / NUMBERS) as (_, header):
            if header.shape != (num_images,):
                return None
        arrays = read_npz(folder / "factors.npz")
        names, continuous = tuple(description["factors"]), tuple(description["continuous_factors"])
        values = tuple(arrays[f"values_{k}"] for k in range(len(names)))
        factors = arrays["factors"]
        sizes = np.array([len(value) for value in values])
        if factors.dtype != np.int32 or factors.shape != (num_images, len(names)) or (factors >= sizes).any():
            return None
        labels = {name: arrays[f"label_{k}"] for k, name in enumerate(description["labels"])}
        full_shape = (num_images, shape[0], shape[1], shape[2])
        images = ImageFile(folder / "images.npy", full_shape, str(description["sha256"]))
        table = FactorTable(factors, names, values, continuous)
        return PreparedImages(str(description["name"]), images, table, labels, bool(description["continuous"]))
    except MemoryError:
        raise
    except Exception:  # a damaged file raises any of the errors of JSON, zipfile and NumPy
        return None


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + _SPARE_BYTES > free:
        raise OSError(
            f"the prepared images take {needed / 1e9:,.2f} GB, and {prepared_folder()} has {free / 1e9:,.2f} GB free: "
            "free disk space, set the environment variable BETAVAE_CACHE to another folder, or reduce --image-size"
        )


@contextmanager
def _writable(parent: Path) -> Iterator[None]:
    """Explain errors of writing: a full disk, or a folder that cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(
                f"the disk of {parent} is full, so the images could not be prepared: free disk space, set the "
                "environment variable BETAVAE_CACHE to another folder, or reduce --image-size"
            ) from error
        place = Path(str(error.filename or ""))
        denied = error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
        if denied and (prepared_folder().parent in (place, *place.parents) or place in parent.parents):
            raise OSError(
                f"{parent} cannot be written ({error.strerror}): set the environment variable BETAVAE_CACHE to a "
                "folder that can"
            ) from error
        raise


def _lock(key: str, timeout: float = -1) -> FileLock:
    """The lock of a prepared set. Its file stays: removing it would let two processes hold it."""
    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{key}.lock", timeout=timeout)


def _remove_abandoned(parent: Path) -> None:
    """Remove what killed processes have left: temporary folders whose lock is free."""
    for folder in parent.glob(".*.*"):
        key = folder.name[1:].rpartition(".")[0]
        with suppress(Timeout, OSError), _lock(key, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)


def _plain(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return labels.astype(np.str_) if labels.dtype.kind == "O" else labels


def _sync(stream: Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())
