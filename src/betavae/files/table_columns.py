"""Choosing the columns of a table by their names, and what readers of all formats share."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from betavae.files.validation import nearest

_INDEX = ("", "Unnamed: 0")
"""Names of a first column of text that pandas gives to its row index: as written, and as read and written again."""


class Table(NamedTuple):
    """Numbers (N, columns), and the names of the columns; none where the file has none."""

    values: NDArray[Any]
    names: tuple[str, ...]


def list_names(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def describe_column(names: Sequence[str], column: int) -> str:
    """A column in a sentence: by its name, or by its number as a spreadsheet counts."""
    return f"column {names[column]!r}" if names and names[column] else f"column {column + 1}"


def text_not_allowed(path: Path, column: str, example: str) -> ValueError:
    return ValueError(
        f"{path}: {column} holds text, such as {shorten(example)}, which only factors may (in Python with "
        f"labels=True); choose columns of numbers by their names, as in {path}:NAME,z*"
    )


def shorten(cell: str) -> str:
    return repr(cell if len(cell) <= 50 else f"{cell[:50]}...")


def choose_columns(path: Path, names: Sequence[str], select: str | None) -> list[int]:
    """Numbers of the columns that are meant: all, or those of the names, in the order in which these are given."""
    if not names:
        raise ValueError(f"{path} has no columns")
    if select is None:
        return list(range(len(names)))
    patterns = [select] if select in names else [part.strip() for part in select.split(",")]
    found: dict[int, None] = {}
    for pattern in patterns:
        columns = [k for k, name in enumerate(names) if name == pattern and name]
        columns = columns or [k for k, name in enumerate(names) if name not in _INDEX and fnmatchcase(name, pattern)]
        if not columns:
            known = list_names([name for name in names if name])
            raise ValueError(f"{path} has no column {pattern!r}{nearest(pattern, names)}; its columns are {known}")
        found |= dict.fromkeys(columns)
    return list(found)


def check_printable(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if any(category(letter) in ("Cc", "Cs") for letter in name):
            raise ValueError(f"{path}: the name of column {shorten(name)} cannot be printed; give it another")


def is_index(name: str, columns: Mapping[Any, NDArray[Any]]) -> bool:
    """Whether the first of several columns is the row index of pandas, which counts from 0, or that of R, from 1."""
    first = next(iter(columns.values()))
    return name in _INDEX and len(columns) > 1 and np.array_equal(first, np.arange(len(first)) + (first[:1] == 1))


def as_table(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Columns of doubles as a table; of int64 where all are whole."""
    table = np.stack(columns, axis=1)
    if not np.isfinite(table).all() or np.abs(table).max(initial=0) >= 2**63:
        return table
    whole = table.astype(np.int64)
    return whole if np.array_equal(whole, table) else table
