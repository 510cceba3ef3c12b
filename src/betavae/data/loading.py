"""Data sets by name or file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from betavae.config import IN_MEMORY
from betavae.data import dsprites, npz
from betavae.data.factor_data import FactorData
from betavae.data.npz import Progress


def load_data(source: str | Path, *, progress: Progress | None = None) -> FactorData:
    """Load a data set into memory.

    From a file, a factor that never changes is dropped (such as the original's colour), and the classes that occur are
    numbered 0, 1, 2, ... in ascending order; `factor_values` keeps what they were. A file without ``factor_names`` that
    is laid out like dSprites has the names of dSprites; otherwise its factors are called by the number of their column.

    Args:
        source: ``"dsprites"`` draws all 737,280 images (in a second or two); anything else is the path of a file.
        progress: called as a file is read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, its contents are not as `npz` describes, or images were given in Python.

    Example:
        >>> data = load_data("dsprites")
        >>> len(data), data.image_shape, data.factor_names
        (737280, (1, 64, 64), ('shape', 'scale', 'orientation', 'posX', 'posY'))
    """
    if source == "dsprites":
        return FactorData(
            name="dsprites",
            packed=dsprites.draw_all(),
            image_shape=dsprites.IMAGE_SHAPE,
            max_value=1,
            factors=dsprites.factor_table(),
            factor_names=dsprites.FACTOR_NAMES,
            factor_sizes=dsprites.FACTOR_SIZES,
            source="dsprites",
        )
    if source == IN_MEMORY:
        raise ValueError(
            "the images were given in Python, so there is nothing to load them from: pass them again as `data`, for "
            "instance experiment(config, data=images), score_run(run, images) or draw_run(run, images)"
        )
    contents = npz.read(source, progress)
    columns = [np.unique(column, return_inverse=True) for column in contents.classes.T]
    kept = [k for k, (classes, _) in enumerate(columns) if len(classes) > 1]
    factors = np.zeros((len(contents.packed), len(kept)), np.int32)
    for place, k in enumerate(kept):
        factors[:, place] = columns[k][1]
    sprites = None
    if npz.looks_like_dsprites(contents.classes, contents.image_shape, contents.max_value):
        sprites = dsprites.windowed(contents.packed, contents.classes[:, 1:])
    return FactorData(
        name=Path(source).stem,
        packed=contents.packed if sprites is None else sprites,
        image_shape=contents.image_shape,
        max_value=contents.max_value,
        factors=factors,
        factor_names=tuple(contents.names[k] for k in kept),
        factor_sizes=tuple(len(columns[k][0]) for k in kept),
        factor_values=tuple(columns[k][0].astype(np.int64) for k in kept),
        source=str(source),
    )
