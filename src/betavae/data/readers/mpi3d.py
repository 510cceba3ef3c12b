"""Reads MPI3D: an .npz with the one member `images`. The position of an image in the file is its label.

Source:
    On the Transfer of Inductive Bias from Simulation to the Real World: a New Disentanglement Dataset (Gondal et al.,
    2019). https://github.com/rr-learning/disentanglement_dataset
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from betavae.data.factor_table import FactorTable, grid_table
from betavae.data.readers.source import Blocks, Source, block_length, reading
from betavae.files.arrays import open_member

_REST: dict[str, list[Any]] = {
    "object size": ["small", "large"],
    "camera height": ["top", "center", "bottom"],
    "background color": ["purple", "sea green", "salmon"],
    "horizontal axis": list(range(40)),
    "vertical axis": list(range(40)),
}
_ALL = {
    "object color": ["white", "green", "red", "blue", "brown", "olive"],
    "object shape": ["cone", "cube", "cylinder", "hexagonal", "pyramid", "sphere"],
    **_REST,
}
GRIDS: dict[str, dict[str, list[Any]]] = {
    "mpi3d-toy": _ALL,
    "mpi3d-realistic": _ALL,
    "mpi3d-real": _ALL,
    "mpi3d-complex": {
        "object color": ["yellow", "green", "olive", "red"],
        "object shape": ["coffee cup", "tennis ball", "croissant", "beer cup"],
        **_REST,
    },
    "mpi3d-toy-first": {
        "object color": ["green", "red", "blue", "brown"],
        "object shape": ["cone", "cube", "hexagonal", "sphere"],
        **_REST,
    },
}
"""Values of the factors by the name of the set. `mpi3d-toy-first` is the first release of the challenge of 2019."""


def num_images(name: str) -> int:
    """Number of images of a set.

    Example:
        >>> num_images("mpi3d-real"), num_images("mpi3d-complex")
        (1036800, 460800)
    """
    return int(np.prod([len(values) for values in GRIDS[name].values()]))


def has_its_number(count: int) -> bool:
    """Whether one of the sets has this number of images."""
    return count in {num_images(name) for name in GRIDS}


def read(path: Path, name: str = "") -> Source:
    """Open a file. The factor sizes follow from the number of images.

    Args:
        path: the .npz file.
        name: name of the set, a key of `GRIDS`. If "", it follows from the number of images.

    Raises:
        ValueError: the number of images is not that of the set; or two sets have this number, and no name is given.
    """
    with reading(path, "an .npz file"):
        with zipfile.ZipFile(path) as archive, open_member(archive, "images") as (_, header):
            shape, dtype, fortran = header
        if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or fortran:
            raise ValueError(f"images is {dtype} of shape {shape}; MPI3D has uint8 of shape (N, 64, 64, 3)")
        table = _factors(name, shape[0])
    return Source(name or path.stem, shape[0], (shape[1], shape[2], 3), table, lambda: _blocks(path, shape))


def _factors(name: str, count: int) -> FactorTable:
    if name and num_images(name) != count:
        raise ValueError(
            f"it has {count:,} images, and {name} has {num_images(name):,}; give the set that this file holds, or "
            "download it again"
        )
    fitting = [name] if name else [known for known in GRIDS if num_images(known) == count]
    if not fitting:
        sizes = " or ".join(f"{size:,}" for size in sorted({num_images(known) for known in GRIDS}))
        raise ValueError(f"it has {count:,} images; MPI3D has {sizes}")
    kinds = [GRIDS[known] for known in fitting]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError(
            f"{' and '.join(fitting)} both have {count:,} images, with other colors and shapes: say which with "
            f"--data {fitting[0]}:FILE"
        )
    return grid_table(kinds[0])


def _blocks(path: Path, shape: tuple[int, ...]) -> Blocks:
    size = int(np.prod(shape[1:]))
    step = block_length(size)
    with reading(path, "an .npz file"), zipfile.ZipFile(path) as archive, open_member(archive, "images") as (stream, _):
        for start in range(0, shape[0], step):
            count = min(step, shape[0] - start)
            block = np.frombuffer(stream.read(count * size), np.uint8)
            if len(block) < count * size:
                raise EOFError("it ends too early")
            yield slice(start, start + count), block.reshape(count, *shape[1:])
