"""Reads MNIST and FashionMNIST: files in the IDX format, plain or compressed with gzip.

Source:
    The MNIST database of handwritten digits (LeCun, Cortes & Burges). Fashion-MNIST: a Novel Image Dataset for
    Benchmarking Machine Learning Algorithms (Xiao, Rasul & Vollgraf, 2017). https://arxiv.org/abs/1708.07747
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from betavae.data.factor_table import factor_table
from betavae.data.readers.source import Blocks, Source, block_length, check_count, reading

_IMAGES, _LABELS = 2051, 2049
_HALVES = ("train", "t10k")
_KIND = "an IDX file"
CLOTHES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
"""Classes of FashionMNIST."""


def read(path: Path, name: str = "") -> Source:
    """Open a folder with the four files (or one half of them), or a single file of images.

    The factor is the class. The labels of a single file are looked for beside it.

    Args:
        path: folder or file.
        name: `fashionmnist` names the classes; otherwise they are numbers.

    Raises:
        ValueError: a file is missing or damaged, or images and labels have different numbers.
    """
    files = [file for half in _HALVES if (file := _find(path, f"{half}-images"))] if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path} has no file train-images-idx3-ubyte.gz; download the files of MNIST into it")
    parts, classes = [], []
    for file in files:
        with _opened(file, _IMAGES, 3) as (_, shape):
            parts.append((file, shape))
        labels = _find(file.parent, file.name.split("-images")[0] + "-labels") if "-images" in file.name else None
        if labels is None and path.is_dir():
            raise ValueError(
                f"{path} has no labels for {file.name}; download {file.name.replace('images-idx3', 'labels-idx1')}"
            )
        if labels:
            classes.append(_labels(labels, shape[0]))
    if len({shape[1:] for _, shape in parts}) > 1:
        raise ValueError(f"{path}: the two halves have images of different sizes")
    count = sum(shape[0] for _, shape in parts)
    numbers = np.concatenate(classes).astype(np.int64) if classes else None
    factors = factor_table({} if numbers is None else {"class": numbers}, count)
    if name == "fashionmnist" and factors.sizes == (len(CLOTHES),):
        factors = replace(factors, values=(np.array(CLOTHES),))  # class i stays i
    height, width = parts[0][1][1:]
    half = np.repeat([file.name.split("-")[0] for file, _ in parts], [shape[0] for _, shape in parts])
    return Source(
        name or path.stem,
        count,
        (height, width, 1),
        factors,
        lambda: _blocks(parts),
        labels={"half": half} if len(parts) > 1 else {},
    )


def is_images(start: bytes) -> bool:
    """Whether the first bytes are those of a file of images."""
    return int.from_bytes(start[:4], "big") == _IMAGES


def _blocks(parts: list[tuple[Path, tuple[int, ...]]]) -> Blocks:
    first = 0
    for file, (count, height, width) in parts:
        step = block_length(height * width)
        with _opened(file, _IMAGES, 3) as (stream, _):
            for start in range(0, count, step):
                num = min(step, count - start)
                block = np.frombuffer(_exactly(stream, num * height * width), np.uint8)
                yield slice(first, first + num), block.reshape(num, height, width, 1)
                first += num


def _labels(file: Path, num_images: int) -> npt.NDArray[np.uint8]:
    with _opened(file, _LABELS, 1) as (stream, (count,)):
        check_count("it", count, num_images)
        return np.frombuffer(_exactly(stream, count), np.uint8)


def _find(folder: Path, start: str) -> Path | None:
    return next(iter(sorted(file for file in folder.glob(f"{start}-idx*") if file.is_file())), None)


@contextmanager
def _opened(file: Path, magic: int, axes: int) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Yields the stream of the elements and the shape."""
    with reading(file, _KIND):
        with file.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(file) if compressed else file.open("rb") as stream:
            found, *shape = np.frombuffer(_exactly(stream, 4 * (1 + axes)), ">u4").tolist()
            if found != magic:
                raise ValueError(
                    f"it starts with {found}; IDX files of {'images' if axes == 3 else 'labels'} start with {magic}"
                )
            if 0 in shape or np.prod(shape[1:], dtype=float) > 1 << 26:
                raise ValueError(f"it has the shape {tuple(shape)}, which cannot be images")
            yield stream, tuple(shape)


def _exactly(stream: Any, count: int) -> bytes:
    content: bytes = stream.read(count)
    if len(content) < count:
        raise EOFError("it ends too early")
    return content
