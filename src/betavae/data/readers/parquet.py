"""Reads parquet files as the Hugging Face hub stores image data sets. The only importer of pyarrow in this folder.

A column `image` has structs of `bytes` (an encoded image) and `path`. The other columns are labels: `label_X` has the
class and `value_X` the value of factor X. Copies of known sets get the order of the grid, whatever the order of the
columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from betavae.data.factor_table import FactorTable, factor_table
from betavae.data.generated import dsprites
from betavae.data.readers.images import decoded_blocks, same_size, size_and_channels
from betavae.data.readers.source import Blocks, Source, reading

_KIND = "a parquet file"
_TOGETHER = 256
_GRID_ORDERS = (
    ("shape", "scale", "orientation", "x_position", "y_position"),
    ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"),
    ("category", "elevation", "azimuth", "lighting"),
)
_NO_FACTORS = ("path", "index", "id", "image_id", "filename", "file_name", "instance", "label_instance")
_RENAMED = {"x_position": "posX", "y_position": "posY"}


def read(path: Path) -> Source:
    """Open a file, or a folder of files, which are read in the order of their names.

    Raises:
        ValueError: there is no column of images, or a file is damaged.
    """
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    parquet = _pyarrow(path)
    counts, schema, tables = [], None, []
    for file in files:
        with reading(file, _KIND), parquet.ParquetFile(file) as opened:
            if schema is not None and opened.schema_arrow.names != schema.names:
                raise ValueError(f"it has the columns {opened.schema_arrow.names}, and {files[0]} has {schema.names}")
            schema = opened.schema_arrow if schema is None else schema
            image = image_column(schema)
            others = label_columns(schema)
            tables.append({name: np.asarray(opened.read([name])[name].to_pylist()) for name in others})
            counts.append(opened.metadata.num_rows)
    count = sum(counts)
    if not count:
        raise ValueError(f"{path} has no images")
    columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    with reading(path, _KIND):
        table, labels = factors_of(columns, class_names(schema), count)
    first = next(_contents(files, image))
    shape = size_and_channels(first, f"{path}: image 0")
    return Source(
        path.resolve().stem, count, shape, table, lambda: _blocks(path, files, image, shape, count), labels=labels
    )


def image_column(schema: Any) -> str:
    """The column of images.

    Raises:
        ValueError: there is none.
    """
    import pyarrow

    def holds_images(kind: Any) -> bool:
        if pyarrow.types.is_struct(kind):
            return any(kind.field(k).name == "bytes" for k in range(kind.num_fields))
        return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))

    found = [name for name in schema.names if holds_images(schema.field(name).type)]
    if not found:
        raise ValueError(
            f"it has no column of images, only {', '.join(schema.names)}; `image` with `bytes` is expected"
        )
    return "image" if "image" in found else str(found[0])


def label_columns(schema: Any) -> list[str]:
    """The columns of numbers, booleans and text."""
    import pyarrow.types as kinds

    tests = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_string, kinds.is_large_string)
    return [name for name in schema.names if any(test(schema.field(name).type) for test in tests)]


def class_names(schema: Any) -> dict[str, list[str]]:
    """The names of the classes by column, which the hub stores in the metadata of the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature["names"] for name, feature in features.items() if "names" in feature}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def factors_of(
    columns: dict[str, npt.NDArray[Any]], names_of_classes: dict[str, list[str]], num_images: int
) -> tuple[FactorTable, dict[str, npt.NDArray[Any]]]:
    """The factors among columns of labels, and the labels that are none: identifiers, and instances of SmallNORB.

    Example:
        >>> columns = {"label_x": np.array([0, 1] * 2), "value_x": np.array([0.5, 1.0] * 2), "id": np.arange(4)}
        >>> table, labels = factors_of(columns, {}, 4)
        >>> table.names, table.values[0].tolist(), list(labels)
        (('x',), [0.5, 1.0], ['id'])
    """
    found: dict[str, npt.NDArray[Any]] = {}
    labels: dict[str, npt.NDArray[Any]] = {}
    for column, values in columns.items():
        kind, _, rest = column.partition("_")
        name = rest if kind in ("label", "value") and rest else column
        unique = values.dtype.kind != "f" and len(np.unique(values)) > max(num_images // 2, 1)
        if column in _NO_FACTORS or unique:
            labels[name] = values
        elif kind != "label" or name not in found:  # the values replace the classes
            found[name] = _named(values, names_of_classes.get(column, []))
    order = next((order for order in _GRID_ORDERS if set(order) == set(found)), tuple(found))
    if order == _GRID_ORDERS[0]:  # dSprites: its classes, as everywhere in the package
        found = {name: columns.get(f"label_{name}", found[name]) for name in order}
        sizes = [len(np.unique(found[name])) <= size for name, size in zip(order, dsprites.FACTOR_SIZES, strict=True)]
        renamed = {_RENAMED.get(name, name): found[name] for name in order} if all(sizes) else found
        return factor_table(renamed, num_images), labels
    return factor_table({name: found[name] for name in order}, num_images), labels


def _named(classes: npt.NDArray[Any], names: list[str]) -> npt.NDArray[Any]:
    if names and classes.dtype.kind in "iu" and classes.min() >= 0 and classes.max() < len(names):
        return np.asarray(np.array(names)[classes])
    return classes


def _blocks(path: Path, files: list[Path], image: str, shape: tuple[int, int, int], count: int) -> Blocks:
    names = [f"{path}: image {row}" for row in range(count)]
    start = 0
    contents = _contents(files, image)
    while group := [content for _, content in zip(range(_TOGETHER), contents, strict=False)]:
        shown = names[start : start + len(group)]
        for rows, block in same_size(decoded_blocks(group, shown, shape[2]), shape, shown):
            yield slice(start + rows.start, start + rows.stop), block  # type: ignore[union-attr]
        start += len(group)


def _contents(files: list[Path], image: str) -> Iterator[bytes]:
    parquet = _pyarrow(files[0])
    for file in files:
        with reading(file, _KIND), parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(_TOGETHER, columns=[image]):
                for cell in batch.column(0).to_pylist():
                    content = cell.get("bytes") if isinstance(cell, dict) else cell
                    if not content:
                        raise ValueError("an image has no bytes, only a path; store the images in the file")
                    yield content


def _pyarrow(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{path} is a parquet file, and reading it needs pyarrow: pip install 'betavae[data]'"
        ) from None
    return parquet
