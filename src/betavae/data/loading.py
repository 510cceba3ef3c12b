"""Loads data sets by name or from a file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from betavae.config import IN_MEMORY
from betavae.data import dsprites, dsprites_variants, npz, rooms, xyobject, xysquares
from betavae.data.factor_data import FactorData
from betavae.data.npz import Progress
from betavae.data.registry import DATASETS, register


def load_data(source: str | Path, *, progress: Progress | None = None) -> FactorData:
    """Load a data set into memory.

    Constant factors of a file, such as the colour of the original dSprites, are dropped. The classes that occur are
    numbered 0, 1, 2, ... in ascending order, and `factor_values` contains the original classes. If a file has no
    ``factor_names``, its factors have the names of dSprites if it has the layout of dSprites, and otherwise the numbers
    of their columns.

    Args:
        source: name of a registered data set, or the path of a file. ``"dsprites"`` generates all 737,280 images in one
            or two seconds.
        progress: called while a file is read.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, it does not have the layout that `npz` describes, or the source is "in memory".

    Example:
        >>> data = load_data("dsprites")
        >>> len(data), data.image_shape, data.factor_names
        (737280, (1, 64, 64), ('shape', 'scale', 'orientation', 'posX', 'posY'))
    """
    if str(source) in DATASETS:
        return replace(DATASETS[str(source)](), source=str(source))
    if source == IN_MEMORY:
        raise ValueError(
            "the images were given in Python, so they cannot be loaded: pass them again as `data`, for example "
            "experiment(config, data=images), score_run(run, images) or draw_run(run, images)"
        )
    contents = npz.read(source, progress)
    columns = [np.unique(column, return_inverse=True) for column in contents.classes.T]
    kept = [k for k, (classes, _) in enumerate(columns) if len(classes) > 1]
    factors = np.zeros((len(contents.packed), len(kept)), np.int32)
    for column, k in enumerate(kept):
        factors[:, column] = columns[k][1]
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


def _generate_dsprites() -> FactorData:
    return FactorData(
        name="dsprites",
        packed=dsprites.draw_all(),
        image_shape=dsprites.IMAGE_SHAPE,
        max_value=1,
        factors=dsprites.factor_table(),
        factor_names=dsprites.FACTOR_NAMES,
        factor_sizes=dsprites.FACTOR_SIZES,
    )


register("dsprites", _generate_dsprites)
for _variant in dsprites_variants.VARIANTS:
    register(f"dsprites-{_variant}", partial(dsprites_variants.load, _variant))
register("rooms", rooms.load)
register("xysquares", xysquares.load)
register("xyobject", xyobject.load)
DATASETS.seal()
