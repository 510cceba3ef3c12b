"""Reads Falcor3D and Isaac3D: a folder of PNG files whose number is the position in the grid.

The order of Isaac3D's factors follows from the multipliers that its publisher gives; the formula beside them names the
factors in another order.

Source:
    Semi-Supervised StyleGAN for Disentanglement Learning (Nie et al., 2020).
    https://github.com/NVlabs/High-res-disentanglement-datasets
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from betavae.data.factor_table import grid_table
from betavae.data.readers.images import decoded_blocks, same_size, size_and_channels
from betavae.data.readers.source import Source

GRIDS: dict[str, dict[str, int]] = {
    "falcor3d": {
        "lighting intensity": 5,
        "lighting x": 6,
        "lighting y": 6,
        "lighting z": 6,
        "camera x": 6,
        "camera y": 6,
        "camera z": 6,
    },
    "isaac3d": {
        "object shape": 3,
        "robot x": 8,
        "robot y": 5,
        "camera height": 4,
        "object scale": 4,
        "lighting intensity": 4,
        "lighting y": 6,
        "object color": 4,
        "wall color": 4,
    },
}
"""Number of values of each factor; the values are uniform in [0, 1]."""


def num_images(name: str) -> int:
    """Number of images of a set.

    Example:
        >>> num_images("falcor3d"), num_images("isaac3d")
        (233280, 737280)
    """
    return int(np.prod([*GRIDS[name].values()]))


def which(path: Path) -> str:
    """The set that a folder holds, by its last and its next file; "" if it is neither."""
    folder = _folder(path)
    for name in GRIDS:
        last = num_images(name) - 1
        if (folder / f"{last:06}.png").is_file() and not (folder / f"{last + 1:06}.png").exists():
            return name
    return ""


def read(path: Path, name: str) -> Source:
    """Open the folder, or the one above its folder `images`.

    Raises:
        ValueError: an image is missing or damaged.
    """
    folder, count = _folder(path), num_images(name)
    present = {file.name for file in folder.glob("*.png")}
    names = [f"{number:06}.png" for number in range(count)]
    if absent := next((file for file in names if file not in present), ""):
        raise ValueError(f"{folder} has {len(present):,} of the {count:,} images of {name}; {absent} is missing")
    shape = size_and_channels(folder / names[0], str(folder / names[0]))[:2]
    files, full = [folder / file for file in names], (*shape, 3)
    table = grid_table({factor: np.linspace(0, 1, size) for factor, size in GRIDS[name].items()})
    shown = [str(file) for file in files]
    return Source(name, count, full, table, lambda: same_size(decoded_blocks(files, shown, 3), full, shown))


def _folder(path: Path) -> Path:
    return path / "images" if (path / "images").is_dir() else path
