"""Reads CelebA: aligned faces in a folder or a zip, with the 40 attributes of `list_attr_celeba.txt`.

The factors are the attributes. Person and partition are labels, if their files are there.

Source:
    Deep Learning Face Attributes in the Wild (Liu, Luo, Wang & Tang, 2015).
    https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html
"""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from betavae.data.factor_table import factor_table
from betavae.data.readers.images import decoded_blocks, same_size, size_and_channels
from betavae.data.readers.source import Blocks, Source, reading

TABLE = "list_attr_celeba.txt"
ARCHIVE = "img_align_celeba.zip"
_LABELS = {"person": "identity_CelebA.txt", "partition": "list_eval_partition.txt"}
_LARGEST_IMAGE = 1 << 24


def is_folder(path: Path) -> bool:
    """Whether a folder has the layout of CelebA."""
    return (path / TABLE).is_file() or (path / ARCHIVE).is_file() or (path / "img_align_celeba").is_dir()


def is_archive(names: list[str]) -> bool:
    """Whether the names in a zip are those of CelebA."""
    return any(name.startswith("img_align_celeba/") for name in names[:100])


def read(path: Path) -> Source:
    """Open the zip, the folder of the images, or the folder with the zip or the images and `list_attr_celeba.txt`.

    Raises:
        ValueError: a file is missing or damaged, or an image has no attributes.
    """
    images, table = _places(path)
    attributes, names, rows = _attributes(table)
    entries = _entries(images)
    absent = next((name for name in names if name not in entries), "")
    if absent:
        raise ValueError(f"{images} has no image {absent}, which {table} names; copy or download it again")
    shown = [f"{images}: {name}" for name in names]
    with reading(images, "a zip of images"):
        first = _reader(images)
        height, width, _ = size_and_channels(first(entries[names[0]]), shown[0])
    shape = (height, width, 3)
    columns = dict(zip(attributes, rows.T, strict=True))
    labels = {
        label: _label(table.parent / file, names) for label, file in _LABELS.items() if (table.parent / file).is_file()
    }
    return Source(
        "celeba",
        len(names),
        shape,
        factor_table(columns, len(names)),
        lambda: _blocks(images, [entries[name] for name in names], shown, shape),
        labels=labels,
    )


def _places(path: Path) -> tuple[Path, Path]:
    """The zip or folder of the images, and the table of attributes."""
    images = path
    if path.is_dir():
        inside = [path / ARCHIVE, path / "img_align_celeba", path / "img_align_celeba" / "img_align_celeba"]
        images = next((place for place in inside if place.is_file() or any(place.glob("*.jpg"))), path)
    beside = [folder / TABLE for folder in (path, path.parent, images.parent)]
    table = next((file for file in beside if file.is_file()), None)
    if table is None:
        raise ValueError(f"{path} has no {TABLE} in it or beside it; download it with the images")
    return images, table


def _attributes(file: Path) -> tuple[list[str], list[str], npt.NDArray[np.int8]]:
    """Names of the attributes, file names, and the table of -1 and 1."""
    with reading(file, "the table of CelebA"):
        count, header, *lines = file.read_text(encoding="utf-8").splitlines()
        attributes = header.split()
        words = [line.split() for line in lines if line.strip()]
        if int(count) != len(words):
            raise ValueError(f"its first line says {count.strip()} images, and it has {len(words)}; download it again")
        if wrong := next((number for number, line in enumerate(words) if len(line) != 1 + len(attributes)), None):
            raise ValueError(f"line {wrong + 3} has {len(words[wrong]) - 1} values for {len(attributes)} attributes")
        return attributes, [line[0] for line in words], np.array([line[1:] for line in words], np.int8)


def _label(file: Path, names: list[str]) -> npt.NDArray[np.int64]:
    with reading(file, "a table of CelebA"):
        pairs = dict(line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
        if absent := next((name for name in names if name not in pairs), ""):
            raise ValueError(f"it has no line for {absent}")
        return np.array([int(pairs[name]) for name in names])


def _entries(images: Path) -> dict[str, Any]:
    """The images by file name: paths, or names in the zip."""
    if images.is_dir():
        return {file.name: file for file in images.glob("*.jpg")}
    with reading(images, "a zip of images"), zipfile.ZipFile(images) as archive:
        return {PurePosixPath(name).name: name for name in archive.namelist() if name.endswith(".jpg")}


def _reader(images: Path, archive: zipfile.ZipFile | None = None) -> Callable[[Any], Path | bytes]:
    """Function that returns the content of an image."""
    if images.is_dir():
        return lambda file: file
    lock = threading.Lock()

    def content(name: str) -> bytes:
        with lock, (archive or zipfile.ZipFile(images)).open(name) as stream:
            return stream.read(_LARGEST_IMAGE)

    return content


def _blocks(images: Path, entries: list[Any], shown: list[str], shape: tuple[int, int, int]) -> Blocks:
    if images.is_dir():
        yield from same_size(decoded_blocks(entries, shown, 3), shape, shown)
        return
    with reading(images, "a zip of images"), zipfile.ZipFile(images) as archive:
        yield from same_size(decoded_blocks(entries, shown, 3, _reader(images, archive)), shape, shown)
