"""Reads SmallNORB from its six `.mat.gz` files, which have a binary format of their own and are not MATLAB files.

Source:
    Learning Methods for Generic Object Recognition with Invariance to Pose and Lighting (LeCun, Huang & Bottou, 2004).
    https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from betavae.data.factor_table import FactorTable
from betavae.data.readers.source import Blocks, Source, block_length, check_count, reading

VALUES: dict[str, npt.NDArray[Any]] = {
    "category": np.array(["animal", "human", "airplane", "truck", "car"]),
    "elevation": np.arange(30, 75, 5),
    "azimuth": np.arange(0, 360, 20),
    "lighting": np.arange(6),
}
"""Values of the factors; angles are in degrees."""
MAGIC: dict[int, type] = {
    0x1E3D4C51: np.float32,
    0x1E3D4C53: np.float64,
    0x1E3D4C54: np.int32,
    0x1E3D4C55: np.uint8,
    0x1E3D4C56: np.int16,
}
"""Element types by magic number."""
_HALVES = ("training", "testing")
_KIND = "a file of SmallNORB"


def read(path: Path, cameras: int = 1) -> Source:
    """Open the folder with both halves: training, then testing.

    Factors are category, elevation (degrees), azimuth (degrees) and lighting. The instance is a label, not a factor:
    instance 3 of the animals and instance 3 of the cars have nothing in common.

    Args:
        path: folder with `*-dat.mat.gz`, `*-cat.mat.gz` and `*-info.mat.gz` of one half or both.
        cameras: 1 for the first camera only; 2 for both, with the camera as a factor.

    Raises:
        ValueError: a file is missing or damaged, or the files have different numbers of images.
    """
    halves = [half for half in _HALVES if _find(path, half, "dat")]
    if not halves:
        raise ValueError(f"{path} has no file *-training-dat.mat.gz; download the six files of SmallNORB into it")
    images, columns, sizes = [], [], []
    for half in halves:
        file = _needed(path, half, "dat")
        with _opened(file) as (_, dtype, shape):
            if dtype != np.uint8 or len(shape) != 4 or shape[1] != 2:
                raise ValueError(f"it has {np.dtype(dtype)} of shape {shape}; it must be uint8 of shape (N, 2, 96, 96)")
        category, info = _table(_needed(path, half, "cat"), 1), _table(_needed(path, half, "info"), 2)
        for name, table in (("cat", category), ("info", info)):
            with reading(_needed(path, half, name), _KIND):
                check_count("it", len(table), shape[0])
        columns.append(np.column_stack([category, info]))
        images.append((file, shape))
        sizes.append(shape[2:])
    if len(set(sizes)) > 1:
        raise ValueError(f"{path}: the two halves have images of different sizes, {sizes[0]} and {sizes[1]}")
    table = np.repeat(np.concatenate(columns), cameras, axis=0)
    category, instance, elevation, azimuth, lighting = table.T
    indices, values = [category, elevation, azimuth // 2, lighting], dict(VALUES)
    with reading(path, _KIND):
        if (azimuth % 2).any() or any(
            index.min() < 0 or index.max() >= len(known) for index, known in zip(indices, values.values(), strict=True)
        ):
            raise ValueError("a label is out of range; download the files *-cat.mat.gz and *-info.mat.gz again")
    if cameras == 2:
        indices.append(np.tile([0, 1], len(table) // 2))
        values["camera"] = np.arange(2)
    factors = FactorTable(
        np.stack(indices, 1).astype(np.int32), tuple(values), tuple(values.values()), (False,) * len(values)
    )
    return Source(
        "smallnorb",
        len(table),
        (*sizes[0], 1),
        factors,
        lambda: _blocks(images, cameras),
        labels={"instance": instance.astype(np.int64), "half": np.repeat(halves, _counts(images, cameras))},
    )


def is_file(start: bytes) -> bool:
    """Whether the first bytes are those of a file of SmallNORB."""
    return int.from_bytes(start[:4], "little") in MAGIC


def _counts(images: Sequence[tuple[Path, tuple[int, ...]]], cameras: int) -> list[int]:
    return [cameras * shape[0] for _, shape in images]


def _blocks(images: Sequence[tuple[Path, tuple[int, ...]]], cameras: int) -> Blocks:
    first = 0
    for file, (count, _, height, width) in images:
        step = block_length(2 * height * width)
        with _opened(file) as (stream, _, _):
            for start in range(0, count, step):
                num = min(step, count - start)
                pair = np.frombuffer(_exactly(stream, 2 * num * height * width), np.uint8)
                block = pair.reshape(num, 2, height, width)[:, :cameras].reshape(-1, height, width, 1)
                yield slice(first, first + len(block)), block
                first += len(block)


def _find(path: Path, half: str, kind: str) -> Path | None:
    files = sorted([*path.glob(f"*-{half}-{kind}.mat.gz"), *path.glob(f"*-{half}-{kind}.mat")])
    return files[0] if files else None


def _needed(path: Path, half: str, kind: str) -> Path:
    if (file := _find(path, half, kind)) is None:
        raise ValueError(f"{path} has no file *-{half}-{kind}.mat.gz; download all six files of SmallNORB into it")
    return file


def _table(file: Path, axes: int) -> npt.NDArray[np.int32]:
    with _opened(file) as (stream, dtype, shape):
        if dtype != np.int32 or len(shape) != axes or (axes == 2 and shape[1] != 4):
            raise ValueError(f"it has {np.dtype(dtype)} of shape {shape}; it must be int32 of {axes} axes")
        if np.prod(shape) > 1 << 24:
            raise ValueError(f"it has the shape {shape}, which is too large for labels")
        return np.frombuffer(_exactly(stream, 4 * int(np.prod(shape))), "<i4").reshape(shape).astype(np.int32)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[Any, type, tuple[int, ...]]]:
    """Yields the stream of the elements, their type, and the shape."""
    with reading(file, _KIND):
        with file.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(file) if compressed else file.open("rb") as stream:
            magic, axes = np.frombuffer(_exactly(stream, 8), "<i4").tolist()
            if magic not in MAGIC:
                raise ValueError(f"it starts with {magic:#x}, which is no magic number of SmallNORB; download it again")
            if not 1 <= axes <= 4:
                raise ValueError(f"it has {axes} axes, which is no file of SmallNORB; download it again")
            sizes = np.frombuffer(_exactly(stream, 4 * max(3, axes)), "<i4").tolist()
            if min(sizes) < 1:
                raise ValueError(f"it has the shape {tuple(sizes[:axes])}; download it again")
            yield stream, MAGIC[magic], tuple(sizes[:axes])


def _exactly(stream: Any, count: int) -> bytes:
    content: bytes = stream.read(count)
    if len(content) < count:
        raise EOFError("it ends too early")
    return content
