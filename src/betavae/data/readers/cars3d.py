"""Reads Cars3D from `nips2015-analogy-data.tar.gz`, or from a folder with its `.mat` files and `list.txt`.

Each of the 183 MATLAB files has one car: `im` (height, width, 3, azimuths, elevations). `list.txt` defines the order of
the cars; the order in which a file system lists them differs between machines.

Source:
    Deep Visual Analogy-Making (Reed, Zhang, Zhang & Lee, 2015).
    https://papers.nips.cc/paper/5845-deep-visual-analogy-making
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from betavae.data.factor_table import grid_table
from betavae.data.readers.source import Blocks, Source, reading

_LARGEST_MEMBER = 1 << 26
_KIND = "the archive of Cars3D"


def read(path: Path) -> Source:
    """Open the archive or the folder. The order of the grid is elevation, azimuth, object type.

    Raises:
        ValueError: `list.txt` or a car is missing, or a file is damaged.
    """
    with reading(path, _KIND):
        cars = _listed(path)
        first, pixels = next(iter(_files(path, set(cars))), ("", b""))
        if not first:
            raise ValueError(f"it has none of the {len(cars)} cars of list.txt, such as {cars[0]}.mat")
        height, width, channels, azimuths, elevations = _car(first, pixels).shape
    table = grid_table(
        {"elevation": range(elevations), "azimuth": range(azimuths), "object type": np.array(cars, np.str_)}
    )
    shape = (height, width, channels)
    return Source(
        "cars3d", len(table.factors), shape, table, lambda: _blocks(path, cars, (*shape, azimuths, elevations))
    )


def _blocks(path: Path, cars: list[str], shape: tuple[int, ...]) -> Blocks:
    height, width, channels, azimuths, elevations = shape
    views = np.arange(elevations * azimuths)
    number = {name: c for c, name in enumerate(cars)}
    with reading(path, _KIND):
        missing = dict(number)
        for name, content in _files(path, set(cars)):
            car = _car(name, content)
            if car.shape != shape:
                raise ValueError(f"{name}.mat has im of shape {car.shape}, and another car has {shape}")
            if missing.pop(name, None) is None:
                raise ValueError(f"{name}.mat occurs twice")
            images = car.transpose(4, 3, 0, 1, 2).reshape(len(views), height, width, channels)
            yield views * len(cars) + number[name], images
        if missing:
            raise ValueError(f"{len(missing)} cars of list.txt are missing, such as {next(iter(missing))}.mat")


def _car(name: str, content: bytes) -> npt.NDArray[np.uint8]:
    """The images (height, width, 3, azimuths, elevations) of one car."""
    from scipy.io import loadmat, whosmat

    try:
        contents = {found: (shape, kind) for found, shape, kind in whosmat(io.BytesIO(content))}
        shape, kind = contents.get("im", ((), ""))
        if kind == "uint8" and len(shape) == 5 and shape[2] == 3 and np.prod(shape) <= _LARGEST_MEMBER:
            return np.asarray(loadmat(io.BytesIO(content), variable_names=["im"])["im"], np.uint8)
    except Exception as error:  # a damaged file raises any of the errors of scipy and zlib
        raise ValueError(f"{name}.mat is damaged ({error}); copy or download it again") from error
    raise ValueError(f"{name}.mat has {kind or 'no'} im {shape or ''}; it must be uint8 of shape (128, 128, 3, 24, 4)")


def _listed(path: Path) -> list[str]:
    """The names in list.txt."""
    if path.is_dir():
        file = _folder(path) / "list.txt"
        text = file.read_bytes() if file.is_file() else None
    else:
        with tarfile.open(path, "r|*") as archive:
            text = next((_content(archive, member) for member in archive if _is_member(member, "list.txt")), None)
    if text is None:
        cure = (
            "copy it from the original archive" if path.is_dir() else "if the archive is cut, copy or download it again"
        )
        raise ValueError(f"list.txt is missing, which has the order of the cars; {cure}")
    cars = [name.removesuffix(".mat") for name in text.decode("utf-8", "replace").split()]
    if not cars or len(set(cars)) < len(cars):
        raise ValueError("list.txt is empty or names a car twice; copy it from the original archive")
    return cars


def _files(path: Path, cars: set[str]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the cars' files, in the order of the archive or the folder."""
    if path.is_dir():
        for file in sorted(_folder(path).glob("*.mat")):
            if file.stem in cars:
                yield file.stem, file.read_bytes()
        return
    with tarfile.open(path, "r|*") as archive:  # a stream: going back would decompress from the start
        for member in archive:
            name = PurePosixPath(member.name)
            if name.suffix == ".mat" and name.stem in cars and name.parent.name == "cars":
                yield name.stem, _content(archive, member)


def _folder(path: Path) -> Path:
    """The folder with the .mat files."""
    nested = path / "data" / "cars"
    return nested if nested.is_dir() else path / "cars" if (path / "cars").is_dir() else path


def _is_member(member: tarfile.TarInfo, name: str) -> bool:
    return PurePosixPath(member.name).name == name and PurePosixPath(member.name).parent.name == "cars"


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > _LARGEST_MEMBER:
        raise ValueError(f"{member.name} has {member.size:,} bytes, which is no file of Cars3D")
    stream = archive.extractfile(member)
    if stream is None:
        raise ValueError(f"{member.name} is not a regular file")
    with stream:
        return stream.read()
