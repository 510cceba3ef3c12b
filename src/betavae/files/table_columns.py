"""Selects the columns of a table by name; helper functions for the readers of all formats."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from betavae.files.validation import nearest

_INDEX = ("", "Unnamed: 0")
"""Names that pandas gives to its row index in a text file when it writes it, and when it reads and writes it again."""


class Table(NamedTuple):
    """Numbers (N, columns), and the names of the columns, which are empty if the file has none."""

    values: NDArray[Any]
    names: tuple[str, ...]


def list_names(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def describe_column(names: Sequence[str], column: int) -> str:
    """A column for an error message: its name, or its number from 1 on."""
    return f"column {names[column]!r}" if names and names[column] else f"column {column + 1}"


def text_not_allowed(path: Path, column: str, example: str) -> ValueError:
    return ValueError(
        f"{path}: {column} contains text, such as {shorten(example)}, which is allowed for factors only (in Python "
        f"with labels=True); select columns of numbers by name, as in {path}:NAME,z*"
    )


def shorten(cell: str) -> str:
    return repr(cell if len(cell) <= 50 else f"{cell[:50]}...")


def choose_columns(path: Path, names: Sequence[str], select: str | None) -> list[int]:
    """The indices of the selected columns, in the order of `select`, or of all columns if `select` is None."""
    if not names:
        raise ValueError(f"{path} has no columns")
    if select is None:
        return list(range(len(names)))
    patterns = [select] if select in names else [part.strip() for part in select.split(",")]
    selected: dict[int, None] = {}
    for pattern in patterns:
        columns = [k for k, name in enumerate(names) if name == pattern and name]
        columns = columns or [k for k, name in enumerate(names) if name not in _INDEX and fnmatchcase(name, pattern)]
        if not columns:
            known = list_names([name for name in names if name])
            raise ValueError(f"{path} has no column {pattern!r}{nearest(pattern, names)}; its columns are {known}")
        selected |= dict.fromkeys(columns)
    return list(selected)


def check_printable(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if any(category(letter) in ("Cc", "Cs") for letter in name):
            raise ValueError(f"{path}: the column name {shorten(name)} has control characters; rename the column")


def is_index(name: str, columns: Mapping[Any, NDArray[Any]]) -> bool:
    """Whether the first of several columns is a row index, which pandas counts from 0 and R from 1."""
    first = next(iter(columns.values()))
    return name in _INDEX and len(columns) > 1 and np.array_equal(first, np.arange(len(first)) + (first[:1] == 1))


def as_table(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stack columns of doubles to a table, of int64 if all numbers are integers."""
    table = np.stack(columns, axis=1)
    if not np.isfinite(table).all() or np.abs(table).max(initial=0) >= 2**63:
        return table
    integers = table.astype(np.int64)
    return integers if np.array_equal(integers, table) else table
