"""Reads .npy and .npz files from untrusted sources: no pickles, and no more memory than the file contains data."""

import math
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compressions that NumPy writes. They expand at most a thousand times; others could expand without such a limit."""


class PickledObjects(ValueError):
    """The file contains an array of Python objects, which only a pickle can store."""


class NotAnArray(ValueError):
    """The data do not start with the header of a NumPy array."""


class Header(NamedTuple):
    """Header of an array. Its size matches the number of bytes in the file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


def names_in(archive: zipfile.ZipFile) -> list[str]:
    """The names of the arrays in an .npz file."""
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


@contextmanager
def open_member(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[IO[bytes], Header]]:
    """Open one array of an .npz file without reading the others; yields the stream of its elements and its header.

    Raises:
        KeyError: there is no array with this name.
        ValueError: the member is not an array, contains Python objects, or has a compression that NumPy does not write.
        EOFError: the member has more or fewer bytes than its shape needs.
    """
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in _COMPRESSIONS:
        raise ValueError(f"{name} has a compression that NumPy does not write; write the file with numpy.savez")
    with archive.open(member) as stream:
        yield stream, _header(stream, name, member.file_size)


def read_npz(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Read arrays of an .npz file: those with the given names, or all.

    Raises:
        KeyError, ValueError, EOFError: as `open_member`.
        zipfile.BadZipFile, OSError: the archive is damaged.
    """
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for name in names or names_in(archive):
            with open_member(archive, name) as (stream, header):
                arrays[name] = _elements(stream.read(), header, name)
    return arrays


def read_npy(path: Path) -> NDArray[Any]:
    """Read an .npy file.

    Raises:
        ValueError: the file is not an array, or it contains Python objects.
        EOFError: the file has more or fewer bytes than its shape needs.
    """
    with path.open("rb") as stream:
        header = _header(stream, "it", path.stat().st_size)
        return _elements(stream.read(), header, "it")


@contextmanager
def open_npy(path: Path) -> Iterator[tuple[IO[bytes], Header]]:
    """Open an .npy file; yields the stream of its elements and its header. Raises as `read_npy`."""
    with path.open("rb") as stream:
        yield stream, _header(stream, "it", path.stat().st_size)


def _header(stream: IO[bytes], name: str, size: int) -> Header:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns about headers that Python 2 wrote, but reads them correctly
            shape, fortran, dtype = read(stream)
    except (ValueError, TokenError) as error:
        raise NotAnArray(f"{name} is not a NumPy array") from error
    if dtype.hasobject:
        raise PickledObjects(f"{name} contains pickled Python objects, which betavae never reads")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"{name} has the invalid shape {shape}")
    expected, actual = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if actual != expected:
        raise EOFError(f"{name} has {actual:,} bytes, but its shape {shape} needs {expected:,}")
    return Header(shape, dtype, fortran)


def _elements(content: bytes, header: Header, name: str) -> NDArray[Any]:
    if len(content) != math.prod(header.shape) * header.dtype.itemsize:
        raise EOFError(f"{name} ends too early")
    if not content:
        return np.empty(header.shape, header.dtype)
    array = np.frombuffer(bytearray(content), header.dtype)  # a writable copy
    return array.reshape(header.shape, order="F" if header.fortran else "C")
