"""Reads tables from Parquet files with limited memory."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from betavae.files.table_columns import Table, check_printable, choose_columns, is_index, text_not_allowed

_MOST_BYTES, _MOST_EXPANSION = 1 << 30, 200
"""A table may take this much memory, or this many times the size of its file, whichever is larger."""


def read_parquet(path: Path, select: str | None, labels: bool) -> Table:
    """Read a Parquet file; the arguments are those of `betavae.files.tables.read_table`."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"reading {path} needs pyarrow, which is not installed: pip install pyarrow"
        ) from error
    try:
        with ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
        names = [name for name in schema.names if not name.startswith("__index_level_")]
        chosen = [names[k] for k in choose_columns(path, names, select)]
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"{path} has more than one column {repeated[0]!r}; give each column a unique name")
        kinds = {name: _parquet_kind(path, name, schema.field(name).type) for name in chosen}
        check_printable(path, chosen)
        _check_memory(path, metadata, chosen)
        text = [name for name, kind in kinds.items() if kind == "text"]
        with ParquetFile(path, read_dictionary=text) as file:  # keeps each different text once
            table = file.read(columns=chosen)
        columns = {name: _parquet_column(path, name, table[name], kinds[name], labels) for name in chosen}
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a readable Parquet table: {' '.join(str(error).split())}") from error
    if select is None and kinds[chosen[0]] == "numbers" and is_index(chosen[0], columns):
        del columns[chosen[0]]
    return Table(np.stack(list(columns.values()), axis=1), tuple(columns))


def _parquet_kind(path: Path, name: str, kind: Any) -> Literal["numbers", "text", "categories"]:
    from pyarrow import types

    if types.is_dictionary(kind):
        return "categories"
    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return "numbers"
    raise ValueError(f"{path}: column {name!r} holds {kind}, which is neither numbers nor text")


def _check_memory(path: Path, metadata: Any, chosen: Sequence[str]) -> None:
    selected = set(chosen)
    groups = (metadata.row_group(k) for k in range(metadata.num_row_groups))
    parts = (group.column(k) for group in groups for k in range(metadata.num_columns))
    unpacked = sum(part.total_uncompressed_size for part in parts if part.path_in_schema in selected)
    size = max(unpacked, 8 * metadata.num_rows * len(chosen))
    if size > max(_MOST_BYTES, _MOST_EXPANSION * path.stat().st_size):
        raise ValueError(
            f"{path}: its {metadata.num_rows:,} rows would take {size / 1e9:.1f} GB of memory; select fewer columns"
        )


def _parquet_column(path: Path, name: str, column: Any, kind: str, labels: bool) -> NDArray[Any]:
    if column.null_count:
        raise ValueError(f"{path}: column {name!r} has empty cells; fill them")
    if kind == "numbers":
        return np.asarray(column.to_numpy())
    encoded = column.unify_dictionaries().combine_chunks()
    encoded.validate(full=True)  # a damaged file may have invalid indices or invalid UTF-8
    encoded.dictionary.validate(full=True)
    words = encoded.dictionary.to_pylist()
    if None in words:
        raise ValueError(f"{path}: column {name!r} has a category without a name; give it one")
    if words and not labels:
        raise text_not_allowed(path, f"column {name!r}", str(words[0]))
    ranks = np.empty(len(words), np.int64)
    ranks[np.argsort(np.array(words, object)) if kind == "text" else slice(None)] = np.arange(len(words))
    return np.asarray(ranks[encoded.indices.to_numpy()])
