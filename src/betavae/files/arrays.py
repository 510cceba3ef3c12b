"""Reads NumPy's files without trusting them: no pickles, no more memory than the file has bytes for."""

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
"""What NumPy writes. Others can hold gigabytes in a few kilobytes; these at most a thousand times their size."""


class PickledObjects(ValueError):
    """An array of Python objects, which only a pickle could give back."""


class NotAnArray(ValueError):
    """What does not begin as NumPy's files do."""


class Header(NamedTuple):
    """What an array is, as its file says; its size is that of the bytes that follow."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


def names_in(archive: zipfile.ZipFile) -> list[str]:
    """Names of the arrays in an .npz."""
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


@contextmanager
def open_member(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[IO[bytes], Header]]:
    """Open one array of an .npz, and no other: the stream of its elements, and its header.

    Raises:
        KeyError: there is no such array.
        ValueError: it is no array, holds Python objects, or is packed in a way that NumPy does not write.
        EOFError: it has more or fewer bytes than its shape needs.
    """
    found = archive.getinfo(f"{name}.npy")
    if found.compress_type not in _COMPRESSIONS:
        raise ValueError(f"{name} is compressed in a way that NumPy does not write; write the file with numpy.savez")
    with archive.open(found) as stream:
        yield stream, _header(stream, name, found.file_size)


def read_npz(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz by name: those asked for, or all; the others are not opened.

    Raises:
        KeyError, ValueError, EOFError: as `open_member`.
        zipfile.BadZipFile, OSError: it is no whole archive.
    """
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for name in names or names_in(archive):
            with open_member(archive, name) as (stream, header):
                arrays[name] = _elements(stream.read(), header, name)
    return arrays


def read_npy(path: Path) -> NDArray[Any]:
    """The array of an .npy.

    Raises:
        ValueError: it is no array, or holds Python objects.
        EOFError: it has more or fewer bytes than its shape needs.
    """
    with path.open("rb") as stream:
        header = _header(stream, "it", path.stat().st_size)
        return _elements(stream.read(), header, "it")


def _header(stream: IO[bytes], name: str, size: int) -> Header:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns of headers that Python 2 wrote; they read well
            shape, fortran, dtype = read(stream)
    except (ValueError, TokenError) as error:
        raise NotAnArray(f"{name} does not begin like a NumPy array") from error
    if dtype.hasobject:
        raise PickledObjects(f"{name} holds pickled Python objects, which are never read")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"{name} has the impossible shape {shape}")
    expected, found = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if found != expected:
        raise EOFError(f"{name} has {found:,} bytes where its shape {shape} needs {expected:,}")
    return Header(shape, dtype, fortran)


def _elements(content: bytes, header: Header, name: str) -> NDArray[Any]:
    if len(content) != math.prod(header.shape) * header.dtype.itemsize:
        raise EOFError(f"{name} ends too early")
    if not content:
        return np.empty(header.shape, header.dtype)
    array = np.frombuffer(bytearray(content), header.dtype)  # a copy that can be written to
    return array.reshape(header.shape, order="F" if header.fortran else "C")
