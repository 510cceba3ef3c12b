"""Reads a folder of images, in any depth, sorted by name; `factors.csv` beside them has the factors."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from betavae.data.factor_table import factor_table
from betavae.data.readers.images import SUFFIXES, decoded_blocks, in_threads, size_and_channels, size_mismatch
from betavae.data.readers.source import Source, reading

TABLE = "factors.csv"
_FILE_COLUMNS = ("file", "filename", "file_name", "name", "image", "path")


def read(path: Path) -> Source:
    """Open a folder.

    `factors.csv` has a header with the names of the factors and one line for each image, in the order of their names;
    or a column `file` with the name of the image of each line.

    Raises:
        ValueError: there are no images, an image is damaged, or the table does not fit.
    """
    files = sorted(_images(path), key=lambda file: file.relative_to(path).as_posix())
    if not files:
        raise ValueError(
            f"{path} has no images; give a folder of PNG or JPEG files, or of the original files of a data set"
        )
    names = [str(file) for file in files]
    sizes = list(in_threads(lambda item: size_and_channels(*item), zip(files, names, strict=True)))
    channels = max(size[2] for size in sizes)
    shape = (*sizes[0][:2], channels)
    other = next((k for k, size in enumerate(sizes) if size[:2] != shape[:2]), None)
    columns = _factors(path / TABLE, [file.relative_to(path).as_posix() for file in files])
    with reading(path / TABLE, "a table"):
        table = factor_table(columns, len(files))
    return Source(
        path.resolve().name,
        len(files),
        shape,
        table,
        lambda: decoded_blocks(files, names, channels),
        other_size="" if other is None else size_mismatch(names[0], shape, names[other], sizes[other]),
    )


def _images(path: Path) -> list[Path]:
    found = []
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in files if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    return found


def _factors(file: Path, images: list[str]) -> dict[str, npt.NDArray[Any]]:
    """The columns of the table, in the order of the images; empty if there is no table."""
    if not file.is_file():
        return {}
    with reading(file, "a table"):
        with file.open(encoding="utf-8-sig", newline="") as stream:
            lines = [line for line in csv.reader(stream) if line]
        if not lines:
            raise ValueError("it is empty; the first line has the names of the factors")
        header, *rows = lines
        names = [name.strip() for name in header]
        if len(set(names)) < len(names) or not all(names):
            raise ValueError(f"its first line has {', '.join(names)}; each column needs a unique name")
        if wrong := next((k for k, row in enumerate(rows) if len(row) != len(names)), None):
            raise ValueError(f"line {wrong + 2} has {len(rows[wrong])} values for {len(names)} columns")
        key = next((k for k, name in enumerate(names) if name.lower() in _FILE_COLUMNS), None)
        if key is not None:
            by_name = {row[key]: row for row in rows}
            if absent := next((name for name in images if name not in by_name), ""):
                raise ValueError(f"it has no line for {absent}; each image needs one")
            rows = [by_name[name] for name in images]
        elif len(rows) != len(images):
            raise ValueError(
                f"it has {len(rows):,} lines after the header for {len(images):,} images; it must have one for each, "
                "or a column file with their names"
            )
        return {name: _parsed([row[k] for row in rows]) for k, name in enumerate(names) if k != key}


def _parsed(words: list[str]) -> npt.NDArray[Any]:
    """Numbers if all words are numbers, otherwise text."""
    for kind in (np.int64, np.float64):
        try:
            return np.array([word.strip() for word in words]).astype(kind)
        except (ValueError, OverflowError):
            continue
    return np.array([word.strip() for word in words])
