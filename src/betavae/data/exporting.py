"""Writes data as an .npz file with the layout of the original dSprites, and compares such files."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from betavae.data import npz
from betavae.data.factor_data import FactorData, iterate_blocks
from betavae.data.generated import dsprites
from betavae.data.loading import read_file
from betavae.data.readers.source import Progress, pack_bits
from betavae.files.atomic import replacing


def export_npz(
    data: FactorData, path: str | Path, *, overwrite: bool = False, progress: Progress | None = None
) -> None:
    """Write a data set with the layout of the original dSprites file, so that any loader of that file reads it.

    The members are ``imgs``, ``latents_values`` and ``latents_classes``. For dSprites, the two tables start with the
    constant colour, as in the original. For other data, ``factor_names`` is added. The ``metadata`` of the original is
    a pickle and is left out. The file is written atomically.

    Args:
        data: the data set.
        path: path of the file.
        overwrite: replace an existing file.
        progress: called while images are written.

    Raises:
        FileExistsError: the file exists and ``overwrite`` is false.
        OSError: writing fails. No incomplete file remains.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; give another name, or replace it with overwrite.")
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive,
    ):
        _write_images(archive, data, progress)
        for name, table in _tables(data).items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, table, allow_pickle=False)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Differences between the images of a dSprites file and the generated images with the same factors.

    Attributes:
        num_images: number of images in the file.
        rows: rows of the images that differ (D,).
        factors: factor indices of these images (D, 5).
        wrong_pixels: number of pixels in which each of these images differs (D,).
        tables_agree: whether the file has all images in the order of the original, with its classes and values.
    """

    num_images: int
    rows: npt.NDArray[np.int64]
    factors: npt.NDArray[np.int64]
    wrong_pixels: npt.NDArray[np.int64]
    tables_agree: bool

    @property
    def num_different(self) -> int:
        """Number of images that differ in at least one pixel."""
        return len(self.rows)

    def summary(self, limit: int = 10) -> str:
        """A text of a few lines, which lists at most ``limit`` of the images that differ."""
        lines = [
            f"{self.num_different:,} of {self.num_images:,} images differ from the generated ones"
            + (f", by {self.wrong_pixels.sum():,} pixels in total." if self.num_different else "."),
            "The factor tables are those of the original."
            if self.tables_agree
            else f"The factor tables differ from those of the original, which has {dsprites.NUM_IMAGES:,} images.",
        ]
        for row, factors, wrong in list(zip(self.rows, self.factors, self.wrong_pixels, strict=True))[:limit]:
            values = ", ".join(f"{name} {index}" for name, index in zip(dsprites.FACTOR_NAMES, factors, strict=True))
            lines.append(f"  row {row}: {wrong} wrong pixels ({values})")
        if self.num_different > limit:
            lines.append(f"  and {self.num_different - limit:,} more")
        return "\n".join(lines)


def compare_npz(path: str | Path, *, progress: Progress | None = None) -> Comparison:
    """Compare the images of a dSprites file with the generated images that have the same factors.

    Args:
        path: a file with the layout of the original. It may contain a part of the images, in any order.
        progress: called while the file is read.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, or it is not dSprites.
    """
    contents = read_file(path)
    source, classes, values = contents.source, contents.classes, contents.values
    height, width, channels = source.shape
    packed = None
    if npz.looks_like_dsprites(classes, (channels, height, width), 1):
        packed = pack_bits(source, progress)
    if packed is None:
        raise ValueError(
            f"{path} is not dSprites, so it cannot be compared; dSprites has images of 64x64 pixels with the values 0 "
            f"and 1 and a table latents_classes with the columns color, {', '.join(dsprites.FACTOR_NAMES)}."
        )
    factors = classes[:, 1:].astype(np.int64)
    drawn, drawn_rows = dsprites.draw_all(), np.ravel_multi_index(tuple(factors.T), dsprites.FACTOR_SIZES)
    wrong_pixels = np.empty(len(factors), np.int64)
    for rows, block in iterate_blocks(packed):
        wrong_pixels[rows] = np.bitwise_count(block ^ drawn[drawn_rows[rows]]).sum(axis=1)
    different = np.flatnonzero(wrong_pixels)
    return Comparison(
        num_images=len(factors),
        rows=different,
        factors=factors[different],
        wrong_pixels=wrong_pixels[different],
        tables_agree=np.array_equal(drawn_rows, np.arange(dsprites.NUM_IMAGES))
        and not classes[:, 0].any()
        and values is not None
        and values.shape == classes.shape
        and np.allclose(values, dsprites.latent_values(factors)),
    )


def _tables(data: FactorData) -> dict[str, npt.NDArray[Any]]:
    """The members of the file other than the images."""
    classes = data.classes()
    if data.is_dsprites:
        return {"latents_values": dsprites.latent_values(classes), "latents_classes": dsprites.latent_classes(classes)}
    values = data.factor_values or (np.arange(0),) * classes.shape[1]
    columns = [
        known[index] if known.dtype.kind == "f" else column
        for known, index, column in zip(values, data.factors.T, classes.T, strict=True)
    ]
    return {
        "latents_values": np.stack(columns, 1).astype(np.float64) if columns else classes.astype(np.float64),
        "latents_classes": classes,
        "factor_names": np.array(data.factor_names, np.str_),
    }


def _write_images(archive: zipfile.ZipFile, data: FactorData, progress: Progress | None) -> None:
    channels, height, width = data.image_shape
    shape = (len(data), height, width) if channels == 1 else (len(data), height, width, channels)
    step = max(1, npz.CHUNK_BYTES // math.prod(data.image_shape))
    with archive.open("imgs.npy", "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for start in range(0, len(data), step):
            images = data.images(slice(start, start + step))
            stream.write(np.ascontiguousarray(np.moveaxis(images, 1, -1)).data)
            if progress:
                progress(start + len(images), len(data))
