"""Reads 3DIdent: a folder `images` of PNG files beside `raw_latents.npy`, the ten continuous factors.

Source:
    Contrastive Learning Inverts the Data Generating Process (Zimmermann, Sharma, Schneider, Bethge & Brendel, 2021).
    https://zenodo.org/records/4502485
"""

from __future__ import annotations

from pathlib import Path

from betavae.data.factor_table import factor_table
from betavae.data.readers.images import decoded_blocks, same_size, size_and_channels
from betavae.data.readers.source import Source, check_count, reading
from betavae.files.arrays import read_npy

FACTORS = (
    *("x", "y", "z"),
    *("rotation 1", "rotation 2", "rotation 3"),
    "spotlight angle",
    *("object hue", "spotlight hue", "background hue"),
)
_TABLES = ("raw_latents.npy", "latents.npy")


def is_folder(path: Path) -> bool:
    """Whether a folder has the layout of 3DIdent."""
    return _half(path) is not None


def read(path: Path) -> Source:
    """Open the folder; the half `train` if it has both halves. The factors stay continuous.

    Raises:
        ValueError: a file is missing or damaged.
    """
    folder = _half(path)
    if folder is None:
        raise ValueError(f"{path} has no folder images beside raw_latents.npy, nor has its folder train")
    table_file = next(folder / name for name in _TABLES if (folder / name).is_file())
    with reading(table_file, "an .npy file"):
        table = read_npy(table_file)
        if table.ndim != 2 or table.shape[1] != len(FACTORS) or table.dtype.kind != "f":
            raise ValueError(f"it has {table.dtype} of shape {table.shape}; it must be floats of shape (N, 10)")
        files = sorted((folder / "images").glob("*.png"), key=lambda file: (len(file.stem), file.stem))
        check_count("it", len(table), len(files))
        factors = factor_table(dict(zip(FACTORS, table.T, strict=True)), len(files))
    names = [str(file) for file in files]
    shape = (*size_and_channels(files[0], names[0])[:2], 3)
    blocks = lambda: same_size(decoded_blocks(files, names, 3), shape, names)  # noqa: E731
    return Source("3dident", len(files), shape, factors, blocks, continuous=True)


def _half(path: Path) -> Path | None:
    for folder in (path, path / "train"):
        if (folder / "images").is_dir() and any((folder / name).is_file() for name in _TABLES):
            return folder
    return None
