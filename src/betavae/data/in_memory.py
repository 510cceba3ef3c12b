"""Makes data sets of arrays, PyTorch data sets and Hugging Face data sets in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from betavae.data.factor_data import FactorData
from betavae.data.factor_table import FactorTable, check_no_continuous, factor_table, merge_values
from betavae.data.prepared.preparation import Preparation
from betavae.data.readers.array_layouts import Layout, as_bytes, check_pixel_type, layout_of, pixels_shape
from betavae.data.readers.source import block_length, check_count
from betavae.files.conversion import as_array

_TOGETHER = 1_000


def from_arrays(
    images: Any,
    factors: Any = None,
    names: Sequence[str] | None = None,
    name: str = "arrays",
    layout: Layout | None = None,
    bins: int | None = None,
    continuous: bool = False,
) -> FactorData:
    """See `FactorData.from_arrays`."""
    array = as_array(images)
    check_pixel_type(array.dtype)
    if layout is None or len(array.shape) not in (3, 4):
        layout = layout_of(array.shape)
    table = factor_table(_columns(factors, names), len(array))
    table = merge_values(table, bins) if bins else table
    if not continuous:
        check_no_continuous(table)
    packed, max_value, last = _stored(array, layout)
    height, width, channels = pixels_shape(array.shape, layout)
    return of_table(table, name, packed, (channels, height, width), max_value, last, Preparation(bins=bins))


def of_table(
    table: FactorTable,
    name: str,
    packed: Any,
    image_shape: tuple[int, int, int],
    max_value: int,
    last: bool,
    preparation: Preparation,
    **more: Any,
) -> FactorData:
    """A data set of stored images and a table of factors."""
    return FactorData(
        name=name,
        packed=packed,
        image_shape=image_shape,
        max_value=max_value,
        factors=table.factors,
        factor_names=table.names,
        factor_sizes=table.sizes,
        factor_values=table.values,
        channels_last=last,
        continuous=table.continuous if any(table.continuous) else (),
        preparation=preparation,
        **more,
    )


def from_dataset(dataset: Any, names: Sequence[str] | None, name: str, bins: int | None) -> FactorData:
    """See `FactorData.from_dataset`."""
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise ValueError(f"the data set is {type(dataset).__name__}; it must have a length and items by index")
    images, labels = [], []
    for row in range(len(dataset)):
        item = dataset[row]
        image, *rest = item if isinstance(item, tuple | list) else (item,)
        images.append(_image(image, row))
        if images[row].shape != images[0].shape:
            raise ValueError(
                f"image 0 has the shape {images[0].shape} and image {row} {images[row].shape}; all images must have "
                "one size: add a transform that resizes them"
            )
        if rest:
            labels.append(np.atleast_1d(as_array(rest[0] if len(rest) == 1 else rest)))
    if not images:
        raise ValueError("the data set has no images")
    if labels:
        check_count("the data set", len(labels), len(images))
    factors = np.stack(labels) if labels else None
    if factors is not None and factors.shape[1] == 1 and names is None:
        names = ["label"]
    return from_arrays(np.stack(images), factors, names, name, "NHWC", bins)


def from_hf(dataset: Any, name: str, bins: int | None) -> FactorData:
    """See `FactorData.from_hf`."""
    from betavae.data.readers import parquet
    from betavae.data.readers.images import decode, size_and_channels

    if not hasattr(dataset, "with_format"):
        splits = ", ".join(map(str, dataset)) if isinstance(dataset, Mapping) else ""
        raise ValueError(
            f"this is a {type(dataset).__name__}, not a datasets.Dataset"
            + (f"; pass one of its splits: {splits}" if splits else "")
        )
    arrow = dataset.with_format("arrow")
    schema = arrow[:1].schema
    column = parquet.image_column(schema)
    tables = [arrow[start : start + _TOGETHER] for start in range(0, len(arrow), _TOGETHER)]
    labels = parquet.label_columns(schema)
    columns = {name: np.concatenate([np.asarray(table[name].to_pylist()) for table in tables]) for name in labels}
    table, others = parquet.factors_of(columns, parquet.class_names(schema), len(arrow))
    table = merge_values(table, bins) if bins else table
    check_no_continuous(table)
    contents = [cell.get("bytes") or cell.get("path") for part in tables for cell in part[column].to_pylist()]
    channels = size_and_channels(contents[0], "image 0")[2]
    images = [decode(content, f"image {row}", channels) for row, content in enumerate(contents)]
    if wrong := next((row for row, image in enumerate(images) if image.shape != images[0].shape), None):
        raise ValueError(
            f"image 0 has the shape {images[0].shape} and image {wrong} {images[wrong].shape}; all images must have "
            "one size: resize them with dataset.map"
        )
    packed, max_value, last = _stored(np.stack(images), "NHWC")
    height, width, _ = images[0].shape
    shape = (channels, height, width)
    return of_table(table, name, packed, shape, max_value, last, Preparation(bins=bins), labels=others)


def _columns(factors: Any, names: Sequence[str] | None) -> dict[str, Any]:
    """Columns of labels by name."""
    if factors is None:
        return {}
    if hasattr(factors, "columns") and hasattr(factors, "iloc"):  # a DataFrame
        factors = {str(column): np.asarray(factors[column]) for column in factors.columns}
    if isinstance(factors, Mapping):
        if names is not None and list(names) != list(factors):
            raise ValueError(f"names are {list(names)}, and the factors have {list(factors)}: leave names out")
        return {str(column): as_array(labels) for column, labels in factors.items()}
    table = as_array(factors)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2:
        raise ValueError(f"factors have the shape {table.shape}; they must be (N,) or (N, K)")
    names = [f"factor_{k}" for k in range(table.shape[1])] if names is None else list(names)
    if len(names) != table.shape[1] or len(set(names)) < len(names):
        raise ValueError(f"names are {list(names)} for {table.shape[1]} factors; give each a name of its own")
    return dict(zip(names, table.T, strict=True))


def _stored(array: npt.NDArray[Any], layout: Layout) -> tuple[npt.NDArray[np.uint8], int, bool]:
    """Packed images, the value of a white pixel, and whether the channels come last, as in `FactorData`."""
    num_images, pixels = len(array), math.prod(array.shape[1:])
    last = layout != "NCHW"
    step = block_length(8 * pixels)
    starts = range(0, num_images, step)
    if array.dtype.kind == "f":
        stored = np.empty(array.shape, np.uint8)
        for start in starts:
            stored[start : start + step] = as_bytes(array[start : start + step])[0]
        array = stored
        if all(np.isin(array[start : start + step], (0, 255)).all() for start in starts):
            array = array > 0
    array, _ = as_bytes(array)
    flat = np.ascontiguousarray(array).reshape(num_images, pixels)
    if all(flat[start : start + step].max() <= 1 for start in starts):
        packed = np.concatenate([np.packbits(flat[start : start + step], axis=1) for start in starts])
        return packed, 1, last
    return flat, 255, last


def _image(image: Any, row: int) -> npt.NDArray[Any]:
    """An image (H, W, C) of an item of a data set."""
    if isinstance(image, Mapping):
        raise ValueError(f"item {row} is a {type(image).__name__}; it must be an image, or a tuple of image and labels")
    array = as_array(image)
    if array.ndim == 3 and hasattr(image, "detach"):  # tensors have the channels first
        array = np.moveaxis(array, 0, -1)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise ValueError(
            f"image {row} has the shape {array.shape}; it must be (H, W) or (H, W, C), or a tensor (C, H, W), with 1 "
            "or 3 channels"
        )
    return array
