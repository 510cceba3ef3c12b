"""Reads tables from text files: detects the separator, the column names, and numbers or labels."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from betavae.files.table_columns import (
    Table,
    as_table,
    check_printable,
    choose_columns,
    describe_column,
    is_index,
    shorten,
    text_not_allowed,
)

_BLOCK_ROWS, _BLOCK_CELLS = 500, 1 << 18
"""Largest number of rows and cells that are kept as text before they are converted to numbers."""


def read_text(path: Path, select: str | None, labels: bool) -> Table:
    """Read a text file; the arguments are those of `betavae.files.tables.read_table`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return _TextTable(path, lines).table(select, labels)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error


class _TextTable:
    """A text file with a table.

    Attributes:
        separator: Character between the cells.
        names: Names of the columns; empty if the file has none.
        first: Cells of the first line.
    """

    def __init__(self, path: Path, lines: Iterator[str]) -> None:
        self.path, lines = path, iter(lines)
        top, second = next(lines, "").removeprefix("#"), next(lines, "")  # NumPy writes names after a #
        if not top.strip():
            raise self.refusal("its first line is empty" if second else "it has no rows")
        self.separator = self._separator(top.strip("\r\n"), second)
        self.reader = csv.reader(
            chain([top, second], lines), delimiter=self.separator, skipinitialspace=True, strict=True
        )
        self.first = [" ".join(cell.split()) for cell in self._next() or []]
        numbers = [_is_number(cell, self.separator) for cell in self.first]
        numbered = [str(column) for column in range(len(self.first))]
        self.names = () if all(numbers) else tuple(self.first)
        top = shorten(top.strip())
        if all(numbers) and len(numbers) > 1 and self.first == numbered:
            raise self.refusal(
                f"its first line, {top}, may be names or numbers; give the columns names that are not numbers"
            )
        if any(numbers) and not all(numbers) and self.first != ["", *numbered[:-1]]:
            raise self.refusal(
                f"its first line, {top}, has names and numbers; give each column a name that is not a number"
            )

    def refusal(self, reason: str) -> ValueError:
        """An error that names the file."""
        return ValueError(f"{self.path}: {reason}")

    def _separator(self, top: str, second: str) -> str:
        """Detect the separator from the first line. A comma may be a decimal comma if there is another separator."""
        unquoted = re.sub(r'"[^"]*("|$)', "", top)
        marks = [mark for mark in "\t;," if mark in unquoted]
        if "\t" in marks and self.path.suffix.lower() == ".tsv":
            return "\t"
        if marks[1:] == [","] and all(
            _is_number(cell, marks[0]) for cell in next(csv.reader([top], delimiter=marks[0]))
        ):
            return marks[0]
        if len(marks) > 1:
            several = " and ".join({"\t": "tabs", ";": "semicolons", ",": "commas"}[mark] for mark in marks)
            raise self.refusal(f"its first line has {several}; put names that contain one of them in quotes")
        if marks:
            return marks[0]
        words = (second.strip() or top).split()
        return " " if len(words) > 1 and all(_is_number(word, " ") for word in words) else ","

    def _next(self) -> list[str] | None:
        start = self.reader.line_num + 1
        try:
            return next(self.reader, None)
        except csv.Error as error:
            raise self.refusal(f"line {start} cannot be split into cells: {error}") from error

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows, each with the number of its first line, from 1 on. Empty lines at the end are left out."""
        line, empty = 1, 0
        row: list[str] | None = self.first
        if self.names:
            line, row = self.reader.line_num + 1, self._next()
        while row is not None:
            if len(row) < 2 and not "".join(row).strip():
                empty = empty or line
            elif empty:
                raise self.refusal(f"line {empty} is empty; fill it or delete it")
            elif len(row) != len(self.first):
                count = "1 cell" if len(row) == 1 else f"{len(row)} cells"
                raise self.refusal(f"line {line} has {count}, but line 1 has {len(self.first)}")
            else:
                yield line, row
            line, row = self.reader.line_num + 1, self._next()

    def table(self, select: str | None, labels: bool) -> Table:
        """Read the selected columns."""
        if select is not None and not self.names:
            raise self.refusal(f"it has no column names, which the selection {select!r} needs; add a header line")
        chosen = choose_columns(self.path, self.names or self.first, select)
        columns = [_Column(describe_column(self.names, k), self.separator) for k in chosen]
        block: list[list[str]] = []
        starts: list[int] = []
        for line, row in chain(self._rows(), [(0, [])]):
            if row:
                block.append(row)
                starts.append(line)
            if block and (not row or len(block) == _BLOCK_ROWS or len(block) * len(row) >= _BLOCK_CELLS):
                cells = list(zip(*block, strict=True))
                for k, column in zip(chosen, columns, strict=True):
                    try:
                        column.add(cells[k], starts)
                    except ValueError as error:
                        raise self.refusal(str(error)) from None
                block, starts = [], []
        if not columns[0].blocks:
            raise self.refusal("it has no rows")
        self._check_decimals(columns)
        values = {k: column.values() for k, column in zip(chosen, columns, strict=True)}
        if self.names and select is None and not columns[0].labels and is_index(self.names[0], values):
            del values[0], columns[0]
        elif self.names and not self.names[0] and 0 in values:
            raise self.refusal("its first column has no name and is not a row index; give it a name")
        for column in columns:
            if column.labels and not labels:
                raise text_not_allowed(self.path, column.name, next(iter(column.labels)))
        names = [self.names[k] or f"column {k + 1}" for k in values] if self.names else []
        check_printable(self.path, names)
        return Table(as_table(list(values.values())), tuple(names))

    def _check_decimals(self, columns: Sequence["_Column"]) -> None:
        marked = {mark: column.name for column in columns for mark in column.marks}
        if len(marked) > 1:
            raise self.refusal(
                f"{marked[',']} has decimal commas and {marked['.']} has decimal points; write all with points"
            )


class _Column:
    """The cells of one column, added block by block: numbers, or labels in the order of their first rows."""

    def __init__(self, name: str, separator: str) -> None:
        self.name, self.separator = name, separator
        self.blocks: list[NDArray[Any]] = []
        self.labels: dict[str, int] = {}
        self.marks: set[str] = set()
        self._first: list[tuple[str, int]] = []

    def add(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        """Add a block of cells.

        Raises:
            ValueError: a cell is empty, or the column has both numbers and text.
        """
        numbers = self._numbers(cells)
        if numbers is None or self.labels:
            cells = [cell.strip() for cell in cells]
            if "" in cells:
                raise ValueError(f"{self.name} has an empty cell in line {lines[cells.index('')]}; fill it")
            self._check_kind(cells, lines)
            numbers = np.array([self.labels.setdefault(cell, len(self.labels)) for cell in cells], np.int64)
        self._first = self._first or [(cells[0], lines[0])]
        self.blocks.append(numbers)

    def _check_kind(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        """Refuse a column that has both numbers and text, for example a misspelt number."""
        kinds = {_is_number(cell, self.separator): (cell, line) for cell, line in self._first}
        new: dict[str, int] = {}
        for cell, line in zip(cells, lines, strict=True):
            if cell not in self.labels:
                new.setdefault(cell, line)
        for cell, line in new.items():
            kinds.setdefault(_is_number(cell, self.separator), (cell, line))
        if False not in kinds:
            raise self._mixed_decimals()
        if True in kinds:
            (number, number_line), (word, word_line) = kinds[True], kinds[False]
            raise ValueError(
                f"{self.name} has {shorten(number)} in line {number_line} and {shorten(word)} in line {word_line}; "
                "write all its cells as numbers, or all as text"
            )

    def _numbers(self, cells: Sequence[str]) -> NDArray[Any] | None:
        """The cells as numbers, or None if one of them is not a number."""
        text = "".join(cells)
        comma, point = "," in text, "." in text
        if "_" in text or (comma and (point or self.separator == ",")):
            return None
        try:
            numbers = np.array([cell.replace(",", ".") for cell in cells] if comma else cells, dtype=np.float64)
        except ValueError:
            return None
        if self.separator != ",":
            self.marks |= {mark for mark, occurs in ((",", comma), (".", point)) if occurs}
        if len(self.marks) > 1:
            raise self._mixed_decimals()
        return numbers

    def _mixed_decimals(self) -> ValueError:
        return ValueError(f"{self.name} has decimal commas and decimal points; write all with points")

    def values(self) -> NDArray[Any]:
        """All cells as numbers; labels by their alphabetical rank."""
        values = np.concatenate(self.blocks)
        if not self.labels:
            return values
        ranks = np.empty(len(self.labels))
        ranks[[self.labels[label] for label in sorted(self.labels)]] = np.arange(len(ranks))
        return np.asarray(ranks[values])


def _is_number(cell: str, separator: str) -> bool:
    if separator != "," and "." not in cell:
        cell = cell.replace(",", ".")
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python ignores it in numbers
