"""Recognises the format of a file or a folder by its content, and opens it."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path

from betavae.data import npz
from betavae.data.readers import (
    array_files,
    cars3d,
    celeba,
    grid_folder,
    hdf5,
    ident3d,
    idx,
    image_folder,
    mpi3d,
    parquet,
    small_norb,
)
from betavae.data.readers.source import Source, is_web_page, reading, web_page
from betavae.files.arrays import names_in, open_member

FORMATS = (
    "npz and npy arrays, HDF5, parquet, MNIST's IDX, SmallNORB's .mat.gz, the archive of Cars3D, zips of CelebA, and "
    "folders of images"
)
_START = 512
_DATA_SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".gz", ".tgz", ".tar", ".parquet", ".zip")


def open_source(path: Path, name: str = "") -> Source | npz.Contents:
    """Open the images of a file or a folder.

    Args:
        path: the file or folder.
        name: name of the data set, if it is known; see `betavae.data.catalogue`.

    Returns:
        Images that are decoded later. For files with the layout of dSprites also their tables.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: the format is not known, or the data are damaged.
    """
    if path.is_dir():
        return _open_folder(path, name)
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file; give a file or a folder of images")
    with path.open("rb") as file:
        start = file.read(_START)
    if start.startswith(b"PK") or (path.suffix.lower() == ".npz" and not is_web_page(start)):
        return _open_zip(path, name)
    if start.startswith(b"\x1f\x8b"):
        return _open_unpacked(path, _unpacked_start(path), name)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return _open_hdf5(path)
    if start.startswith(b"PAR1"):
        return parquet.read(path)
    if start.startswith(b"\x93NUMPY"):
        return array_files.read_npy_file(path)
    return _open_unpacked(path, start, name)


def _open_folder(path: Path, name: str) -> Source | npz.Contents:
    if name in grid_folder.GRIDS or (name := name or grid_folder.which(path)) in grid_folder.GRIDS:
        return grid_folder.read(path, name)
    if name in ("smallnorb", "smallnorb-stereo") or any(path.glob("*-dat.mat*")):
        return small_norb.read(path, cameras=2 if name == "smallnorb-stereo" else 1)
    cars = (path, path / "cars", path / "data" / "cars")
    if any((folder / "list.txt").is_file() or any(folder.glob("car_*.mat")) for folder in cars):
        return cars3d.read(path)
    if celeba.is_folder(path):
        return celeba.read(path)
    if any(path.glob("*-images-idx3*")):
        return idx.read(path, name)
    if ident3d.is_folder(path):
        return ident3d.read(path)
    if any(path.rglob("*.parquet")):
        return parquet.read(path)
    files = [file for file in path.iterdir() if file.name.lower().endswith(_DATA_SUFFIXES) and file.is_file()]
    if len(files) == 1 and not (path / image_folder.TABLE).exists():
        return open_source(files[0], name)
    return image_folder.read(path)


def _open_zip(path: Path, name: str) -> Source | npz.Contents:
    with reading(path, "an .npz file" if path.suffix.lower() == ".npz" else "a zip"), zipfile.ZipFile(path) as archive:
        members, arrays = archive.namelist(), names_in(archive)
        if celeba.is_archive(members):
            return celeba.read(path)
        if name in mpi3d.GRIDS:
            return mpi3d.read(path, name)
        if arrays == ["images"]:
            with open_member(archive, "images") as (_, header):
                if mpi3d.has_its_number(header.shape[0]) and header.shape[3:] == (3,):
                    return mpi3d.read(path)
        if "imgs" not in arrays and any(member in arrays for member in array_files.IMAGES):
            return array_files.read_npz_file(path, arrays)
        if not arrays and path.suffix.lower() != ".npz":
            raise ValueError("it is a zip without arrays; unpack it and give the folder")
        return npz.read(path)


def _open_hdf5(path: Path) -> Source | npz.Contents:
    if not hdf5.has(path, "imgs"):
        return hdf5.read(path)
    shape, classes, values = hdf5.read_dsprites(path)
    with reading(path, "an HDF5 file"):
        return npz.described(path, shape, classes, values, None, lambda: hdf5.dsprites_blocks(path))


def _open_unpacked(path: Path, start: bytes, name: str) -> Source:
    """Open what is recognised by the first bytes after decompression."""
    if start[257:262] == b"ustar":
        return cars3d.read(path)
    if idx.is_images(start):
        return idx.read(path, name)
    if small_norb.is_file(start):
        raise ValueError(f"{path} is one of the six files of SmallNORB; give the folder that has all of them")
    if is_web_page(start):
        raise ValueError(web_page(path))
    if not start:
        raise ValueError(f"{path} is empty; copy or download it again")
    if path.suffix.lower() in (*image_folder.SUFFIXES, ".mat"):
        raise ValueError(f"{path} is a single file of a data set; give the folder that has all of them")
    raise ValueError(f"{path} has no format that betavae reads: {FORMATS}")


def _unpacked_start(path: Path) -> bytes:
    with reading(path, "a gzip file"):
        try:
            with gzip.open(path) as stream:
                return stream.read(_START)
        except (EOFError, zlib.error) as error:
            raise EOFError("it ends too early") from error
