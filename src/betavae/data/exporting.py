"""Writing data as an .npz file like the original of dSprites, and comparing with one."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from betavae.data import dsprites, npz
from betavae.data.factor_data import FactorData, iterate_blocks
from betavae.data.npz import Progress
from betavae.files.atomic import replacing


def export_npz(
    data: FactorData, path: str | Path, *, overwrite: bool = False, progress: Progress | None = None
) -> None:
    """Write a data set in the layout of the original dSprites file, so that any loader of that file reads it.

    The members are ``imgs``, ``latents_values`` and ``latents_classes``; for dSprites the two tables start with the
    constant colour, as in the original, and for other data ``factor_names`` is added. The original's ``metadata`` is a
    pickle and is left out. The file appears under its name only when it is complete.

    Args:
        data: what to write.
        path: where to.
        overwrite: replace a file that is there already.
        progress: called as images are written.

    Raises:
        FileExistsError: if the file exists and ``overwrite`` is false.
        OSError: if it cannot be written; nothing is left behind.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name or ask for it to be overwritten.")
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
    """How the images of a dSprites file differ from the drawn ones of the same factors.

    Attributes:
        num_images: images in the file.
        rows: rows (D,) of the images that differ.
        factors: their factor indices (D, 5).
        wrong_pixels: the number of pixels (D,) in which each differs.
        tables_agree: whether the file has every image in the original's order, with the original's classes and values.
    """

    num_images: int
    rows: npt.NDArray[np.int64]
    factors: npt.NDArray[np.int64]
    wrong_pixels: npt.NDArray[np.int64]
    tables_agree: bool

    @property
    def num_different(self) -> int:
        """The number of images that differ in at least one pixel."""
        return len(self.rows)

    def summary(self, limit: int = 10) -> str:
        """A few lines for a person to read, with at most ``limit`` of the images that differ."""
        lines = [
            f"{self.num_different:,} of {self.num_images:,} images differ from the drawn ones"
            + (f", by {self.wrong_pixels.sum():,} pixels in all." if self.num_different else "."),
            "The factor tables are those of the original."
            if self.tables_agree
            else f"The factor tables are not those of the original and its {dsprites.NUM_IMAGES:,} images.",
        ]
        for row, factors, wrong in list(zip(self.rows, self.factors, self.wrong_pixels, strict=True))[:limit]:
            named = ", ".join(f"{name} {index}" for name, index in zip(dsprites.FACTOR_NAMES, factors, strict=True))
            lines.append(f"  row {row}: {wrong} wrong pixels ({named})")
        if self.num_different > limit:
            lines.append(f"  and {self.num_different - limit:,} more")
        return "\n".join(lines)


def compare_npz(path: str | Path, *, progress: Progress | None = None) -> Comparison:
    """Compare the images of a dSprites file with the drawn ones that have the same factors.

    Args:
        path: a file in the layout of the original; it may hold a part of the images, in any order.
        progress: called as the file is read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, or is not dSprites.
    """
    contents = npz.read(path, progress)
    classes, values = contents.classes, contents.values
    if not npz.looks_like_dsprites(classes, contents.image_shape, contents.max_value):
        raise ValueError(
            f"{path}: it is not dSprites, so there is nothing to compare it with; dSprites has images of 64x64 pixels "
            f"0 and 1 and a table latents_classes with the columns color, {', '.join(dsprites.FACTOR_NAMES)}."
        )
    factors = classes[:, 1:].astype(np.int64)
    drawn, drawn_rows = dsprites.draw_all(), np.ravel_multi_index(tuple(factors.T), dsprites.FACTOR_SIZES)
    wrong_pixels = np.empty(len(factors), np.int64)
    for rows, packed in iterate_blocks(contents.packed):
        wrong_pixels[rows] = np.bitwise_count(packed ^ drawn[drawn_rows[rows]]).sum(axis=1)
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
    """The members of a file beside the images."""
    classes = data.classes()
    if data.is_dsprites:
        return {"latents_values": dsprites.latent_values(classes), "latents_classes": dsprites.latent_classes(classes)}
    return {
        "latents_values": classes.astype(np.float64),
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
