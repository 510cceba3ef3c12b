"""Loads data sets by name, or from their original files."""

from __future__ import annotations

import difflib
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from betavae.config import IN_MEMORY, Config
from betavae.data import npz
from betavae.data.catalogue import CATALOGUE
from betavae.data.downloads import is_complete
from betavae.data.factor_data import FactorData
from betavae.data.factor_table import FactorTable, check_no_continuous, merge_values
from betavae.data.generated import dsprites, dsprites_variants, rooms, xyobject, xysquares
from betavae.data.in_memory import from_arrays, of_table
from betavae.data.prepared.cache import PreparedImages, prepared
from betavae.data.prepared.fingerprints import fingerprint
from betavae.data.prepared.places import download_folder
from betavae.data.prepared.preparation import NOTHING, Preparation, preparation_of
from betavae.data.readers.recognise import open_source
from betavae.data.readers.source import Blocks, Progress, Source, block_length, pack_bits
from betavae.data.registry import DATASETS, register

_MAX_VALUE = 255


def load_data(
    source: str | Path,
    *,
    image_size: int | None = None,
    crop: int | None = None,
    channels: int | None = None,
    bins: int | None = None,
    progress: Progress | None = None,
) -> FactorData:
    """Load a data set.

    Images of 0 and 1 are packed to bits in memory. Other images are prepared once and stay on disk, in the cache.
    Constant factors, such as the colour of the original dSprites, are dropped. The classes that occur are numbered
    0, 1, 2, ... in ascending order, and `factor_values` contains the original classes or values.

    Args:
        source: name of a registered data set; path of a file or folder, whose format is recognised by its content; or
            ``NAME:PATH``, if the content does not determine the data set. ``"dsprites"`` generates all 737,280 images
            in one or two seconds.
        image_size: resize the images to this side, by a Lanczos filter.
        crop: cut a square of this side from the centre first.
        channels: 1 for grey, 3 for colour.
        bins: merge the values of a factor that has more into this number of intervals of equal width.
        progress: called while images are read.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the data are damaged or of no known format, or the source is "in memory".
        ModuleNotFoundError: the format needs a library that is not installed.
        OSError: there is no disk space for the prepared images.

    Example:
        >>> data = load_data("dsprites")
        >>> len(data), data.image_shape, data.factor_names
        (737280, (1, 64, 64), ('shape', 'scale', 'orientation', 'posX', 'posY'))
    """
    preparation = Preparation(crop, image_size, channels, bins)
    if str(source) in DATASETS:
        data = replace(DATASETS[str(source)](), source=str(source))
        return prepare(data, preparation, progress)
    if source == IN_MEMORY:
        raise ValueError(
            "the images were given in Python, so they cannot be loaded: pass them again as `data`, for example "
            "experiment(config, data=images), score_run(run, images) or draw_run(run, images)"
        )
    name, path = split_source(source)
    opened = None
    if not path.is_dir():
        opened = open_source(path, name)
        if binary := _binary(opened, bins, progress):
            return prepare(replace(binary, source=str(source)), preparation, progress)

    def open_again() -> Source:
        found = opened or open_source(path, name)
        return found.source if isinstance(found, npz.Contents) else found

    images = prepared(f"{name}\0{fingerprint(path)}", open_again, preparation, progress)
    found = name or (images.name if path.is_dir() or images.name in CATALOGUE else path.stem)
    return replace(_from_cache(images, preparation), name=found, source=str(source))


def load_for(config: Config, progress: Progress | None = None) -> FactorData:
    """Load the data of a run's settings, prepared as they say; raises as `load_data`."""
    return load_data(
        config.data,
        image_size=config.image_size,
        crop=config.crop,
        channels=config.channels,
        bins=config.bins,
        progress=progress,
    )


def data_for(config: Config, data: object) -> FactorData:
    """Convert data that were given in Python to the data that the settings describe.

    Args:
        config: settings of the run. Their preparation is applied unless it was already.
        data: a `FactorData`, or an array of images as `FactorData.from_arrays` takes it.

    Raises:
        ValueError: the images are of no known layout, or were prepared in another way.
    """
    given = data if isinstance(data, FactorData) else from_arrays(data, bins=config.bins)
    wanted = preparation_of(config)
    if given.preparation == wanted:
        return given
    if given.preparation not in (NOTHING, Preparation(bins=wanted.bins)):
        raise ValueError(
            f"the images were prepared with {given.preparation}, and the settings say {wanted}: give both the same"
        )
    return prepare(given, wanted)


def prepare(data: FactorData, preparation: Preparation, progress: Progress | None = None) -> FactorData:
    """Crop, resize and convert the images of a data set, and merge the values of its factors.

    Raises:
        ValueError: the images are too small for the crop, or a factor cannot be merged.
        OSError: as `load_data`.
    """
    channels, height, width = data.image_shape
    if preparation.changes((height, width, channels)):
        images = prepared(f"images {data.digest}", lambda: _source_of(data), preparation, progress).images
        _, height, width, channels = images.images_shape
        data = replace(
            data, packed=images, image_shape=(channels, height, width), max_value=_MAX_VALUE, channels_last=True
        )
    if preparation.bins is not None:
        table = merge_values(_table_of(data), preparation.bins)
        data = replace(
            data,
            factors=table.factors,
            factor_names=table.names,
            factor_sizes=table.sizes,
            factor_values=table.values,
            continuous=(),
            factor_labels=(),
        )
    return replace(data, preparation=preparation)


def split_source(source: str | Path) -> tuple[str, Path]:
    """The name of the data set, or "", and the path of a source.

    Raises:
        FileNotFoundError: there is no such file, or the data set was not downloaded.
    """
    text = str(source)
    name, colon, rest = text.partition(":")
    if text in CATALOGUE and not Path(text).exists():
        if is_complete(text) or any(download_folder(text).glob("*")):
            return text, download_folder(text)
        raise FileNotFoundError(
            f"{CATALOGUE[text].title} is not here: fetch it with `betavae data fetch {text}`, or say where it is with "
            f"--data {text}:PATH"
        )
    if not colon or name not in CATALOGUE:
        name, rest = "", text
    path = Path(rest).expanduser()
    if not path.exists():
        near = difflib.get_close_matches(text, [*DATASETS, *CATALOGUE])
        raise FileNotFoundError(
            f"there is no file {str(path)!r}; data must be a file or a folder of images, its path relative to the "
            f"current folder, or a name: {', '.join(dict.fromkeys([*DATASETS, *CATALOGUE]))}"
            + (f" (did you mean {near[0]!r}?)." if near else ".")
        )
    return name, path


def resolved_source(source: str) -> str:
    """The source with an absolute path, by which it is found from other folders; "" for the name of a data set."""
    if source in DATASETS or source == IN_MEMORY:
        return ""
    try:
        name, path = split_source(source)
    except OSError:
        return ""
    return f"{name}:{path.resolve()}" if name else str(path.resolve())


def read_file(path: str | Path) -> npz.Contents:
    """Open a file with the layout of dSprites, without reading its images.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, or has another layout.
    """
    _, place = split_source(path)
    contents = open_source(place)
    if not isinstance(contents, npz.Contents):
        raise ValueError(f"{place} does not have the layout of dSprites, an .npz or HDF5 file with imgs")
    return contents


def _binary(opened: Source | npz.Contents, bins: int | None, progress: Progress | None) -> FactorData | None:
    """The data in memory, packed to bits; None if a pixel is neither 0 nor 1."""
    source = opened.source if isinstance(opened, npz.Contents) else opened
    if not source.may_be_binary:
        return None
    packed = pack_bits(source, progress)
    if packed is None:
        return None
    height, width, channels = source.shape
    storage: npt.NDArray[np.uint8] | dsprites.Sprites = packed
    if isinstance(opened, npz.Contents) and npz.looks_like_dsprites(opened.classes, (channels, height, width), 1):
        storage = dsprites.windowed(packed, opened.classes[:, 1:]) or packed
    if bins is None:
        check_no_continuous(source.factors)
    return of_table(source.factors, source.name, storage, (channels, height, width), 1, False, NOTHING)


def _from_cache(images: PreparedImages, preparation: Preparation) -> FactorData:
    table = images.table if preparation.bins is None else merge_values(images.table, preparation.bins)
    if not images.continuous:
        check_no_continuous(table)
    _, height, width, channels = images.images.images_shape
    return of_table(
        table,
        images.name,
        images.images,
        (channels, height, width),
        _MAX_VALUE,
        True,
        preparation,
        labels=images.labels,
    )


def _source_of(data: FactorData) -> Source:
    """The images of a data set in memory, from 0 to 255."""
    channels, height, width = data.image_shape

    def blocks() -> Blocks:
        step = block_length(math.prod(data.image_shape))
        for start in range(0, len(data), step):
            images = data.images(slice(start, start + step)) * np.uint8(_MAX_VALUE // data.max_value)
            yield slice(start, start + len(images)), images.transpose(0, 2, 3, 1)

    no_factors = FactorTable(np.empty((len(data), 0), np.int32), (), (), ())
    return Source(data.name, len(data), (height, width, channels), no_factors, blocks)


def _table_of(data: FactorData) -> FactorTable:
    values = data.factor_values or tuple(np.arange(size) for size in data.factor_sizes)
    continuous = data.continuous or (False,) * len(values)
    return FactorTable(data.factors, data.factor_names, tuple(map(np.asarray, values)), continuous)


def _generate_dsprites() -> FactorData:
    """Return dSprites: 737,280 images of white sprites on black."""
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
