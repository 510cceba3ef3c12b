"""Reading tables of codes and factors from files, none of them with pickle."""

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unicodedata import category
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from betavae.arrays import PickledObjects, names_in, open_member, read_npy, read_npz
from betavae.metrics.inputs import as_array, as_numbers, nearest

_TEXT = (".csv", ".tsv", ".txt")
SUFFIXES = (".npy", ".npz", ".safetensors", *_TEXT, ".parquet")
_PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
_INDEX = ("", "Unnamed: 0")
"""Names of a first column of text that pandas gives to its row index: as written, and as read and written again."""
_MOST_BYTES, _MOST_EXPANSION = 1 << 30, 200
"""Memory that a Parquet table may take in any case, and how many times the size of its file otherwise."""
_BLOCK_ROWS, _BLOCK_CELLS = 500, 1 << 18
"""Of a text at most so much is kept as text before it becomes numbers."""


class Table(NamedTuple):
    """Numbers (N, columns), and the names of the columns; none where the file has none."""

    values: NDArray[Any]
    names: tuple[str, ...]


def read_table(file: str | Path, select: str | None = None, *, labels: bool = False) -> NDArray[Any]:
    """Read a table of numbers, one row for each sample. Never unpickles.

    A first column that is the row index of pandas is left out.

    Args:
        file: path of a .npy, .npz, .safetensors, .csv, .tsv, .txt or .parquet file (which needs pyarrow), or
            ``PATH:SELECT`` in one, as the command line takes it. Text is UTF-8, with or without a line of names; its
            first line tells whether tabs, semicolons, commas or blanks are between the cells.
        select: of .npz and .safetensors the name of an array, not needed when there is a single one; of text and
            .parquet names of columns, separated by commas, with wildcards (``z*``).
        labels: take columns of text as classes, which are numbered in alphabetical order, or in that of the categories
            of a .parquet. Without it text is refused.

    Returns:
        (N, columns) array; a one-dimensional array becomes one column. Numbers of a text are float64, or int64 where
        all are whole.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Unknown suffix, no regular file, broken file, no numbers, an array of the wrong rank, or an unclear
            selection.
        ModuleNotFoundError: A .parquet file is to be read without pyarrow.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "table.csv")
        ...     _ = path.write_text("z0,z1,shape\\n0.5,1,heart\\n2,3,ellipse\\n")
        ...     read_table(path, "z*"), read_table(path, "shape", labels=True)
        (array([[0.5, 1. ],
               [2. , 3. ]]), array([[1],
               [0]]))
    """
    return load_table(file, select, labels=labels).values


def load_table(file: str | Path, select: str | None = None, *, labels: bool = False) -> Table:
    """Read a table as `read_table` does, with the names of its columns."""
    path, select = _parts(str(file)) if select is None else (Path(file), select)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}; give a file with a table")
    if not path.is_file():
        siblings = [entry.name for entry in path.parent.glob("*")] if path.parent.is_dir() else []
        near = get_close_matches(path.name, siblings, n=1)
        raise FileNotFoundError(
            f"there is no file {path}" + (f"; did you mean {path.with_name(near[0])}?" if near else "")
        )
    match path.suffix.lower():
        case ".npy" | ".npz":
            return _from_array(path, _read_numpy(path, select, labels), labels)
        case ".safetensors":
            return _from_array(path, _read_safetensors(path, select, labels), labels)
        case suffix if suffix in _TEXT:
            return _read_text(path, select, labels)
        case ".parquet":
            return _read_parquet(path, select, labels)
        case suffix if suffix in _PICKLES:
            raise ValueError(
                f"{path} is not read, because it is a pickle, which could run any program; save the table as .npy, "
                f"for instance numpy.save({path.with_suffix('.npy').name!r}, tensor.detach().cpu().numpy())"
            )
        case suffix:
            raise ValueError(f"cannot read {path}: the suffix {suffix!r} is none of {', '.join(SUFFIXES)}")


def _parts(file: str) -> tuple[Path, str | None]:
    """Path and selection; both may have colons. A file that is there as written wins, then the longest path that is."""
    if not os.path.exists(file):
        cuts = [place for place, letter in enumerate(file) if letter == ":"][::-1]
        readable: list[Callable[[str], bool]] = [os.path.isfile, lambda path: Path(path).suffix.lower() in SUFFIXES]
        for is_path in readable:
            for cut in cuts:
                if is_path(file[:cut]):
                    return Path(file[:cut]), file[cut + 1 :]
    return Path(file), None


def _listed(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _named(names: Sequence[str], column: int) -> str:
    """A column in a sentence: by its name, or by its number as a spreadsheet counts."""
    return f"column {names[column]!r}" if names and names[column] else f"column {column + 1}"


def _text_refused(path: Path, column: str, example: str) -> ValueError:
    return ValueError(
        f"{path}: {column} holds text, such as {_short(example)}, which only factors may (in Python with labels=True); "
        f"choose columns of numbers by their names, as in {path}:NAME,z*"
    )


def _short(cell: str) -> str:
    return repr(cell if len(cell) <= 50 else f"{cell[:50]}...")


# Arrays ---------------------------------------------------------------------------------------------------------------


def _from_array(path: Path, array: NDArray[Any], labels: bool) -> Table:
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"{path} must hold a table (samples, columns), got the shape {array.shape}")
    if array.dtype.kind in "US" and array.size:
        if not labels:
            raise ValueError(
                f"{path} holds text, such as {_short(str(array[0, 0]))}, which only factors may (in Python with "
                "labels=True); save codes as numbers"
            )
        array = as_numbers(array)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path} must hold numbers, got an array of {array.dtype}")
    return Table(array, ())


def _array_name(path: Path, names: list[str], select: str | None, likely: Callable[[], str]) -> str:
    """Which array of a file is meant, or `_Unclear`."""
    held = f"{path} holds {len(names)} arrays ({_listed(names)})"
    if select is None and len(names) == 1:
        return names[0]
    if select is None:
        raise _Unclear(f"{held}: say which one, as in {path}:{likely() if names else 'codes'}")
    if select not in names:
        raise _Unclear(f"{held}: there is no array {select!r}{nearest(select, names)}")
    return select


class _Unclear(ValueError):
    """A file is well, and which of its arrays is meant is not said."""


def _read_numpy(path: Path, select: str | None, labels: bool) -> NDArray[Any]:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"PK"
    if not zipped and select is not None:
        raise ValueError(f"{path} holds one array, whose columns have no names; leave out :{select}")
    try:
        if not zipped:
            return read_npy(path)
        with ZipFile(path) as archive:
            name = _array_name(path, names_in(archive), select, lambda: _likely(archive, labels))
        return read_npz(path, name)[name]
    except (_Unclear, MemoryError):
        raise
    except PickledObjects as error:
        raise ValueError(f"{path}: {error}; save a plain array of numbers, whose dtype is not object") from error
    except Exception as error:  # a damaged archive raises any of the errors of zipfile, zlib and NumPy
        kind = path.suffix.lower()
        raise ValueError(f"{path} is damaged, or no {kind} ({error}); copy it again, or save it anew") from error


def _likely(archive: ZipFile, labels: bool) -> str:
    """The array of an archive that is most like the table: of two axes, factors in whole numbers, codes in others."""
    found = {}
    for name in names_in(archive):
        with suppress(Exception), open_member(archive, name) as (_, header):  # others are damaged, or hold objects
            found[name] = (len(header.shape) == 2, header.dtype.kind in ("iub" if labels else "f"))
    return max(found, key=lambda name: found[name], default=names_in(archive)[0])


def _read_safetensors(path: Path, select: str | None, labels: bool) -> NDArray[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {
                name: (len(part.get_shape()) == 2, ("F" in part.get_dtype()) != labels) for name, part in parts.items()
            }
            name = _array_name(path, list(parts), select, lambda: max(found, key=lambda name: found[name]))
            if not re.match("BF|F8", parts[name].get_dtype()):
                return np.asarray(file.get_tensor(name))
        with safe_open(path, framework="pt") as file:  # of types that only PyTorch has
            return as_array(file.get_tensor(name))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, or no .safetensors ({error}); copy it again, or save it anew") from error


# Columns --------------------------------------------------------------------------------------------------------------


def _chosen(path: Path, names: Sequence[str], select: str | None) -> list[int]:
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
            known = _listed([name for name in names if name])
            raise ValueError(f"{path} has no column {pattern!r}{nearest(pattern, names)}; its columns are {known}")
        found |= dict.fromkeys(columns)
    return list(found)


def _check_printable(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if any(category(letter) in ("Cc", "Cs") for letter in name):
            raise ValueError(f"{path}: the name of column {_short(name)} cannot be printed; give it another")


def _is_index(name: str, columns: Mapping[Any, NDArray[Any]]) -> bool:
    """Whether the first of several columns is the row index of pandas, which counts from 0, or that of R, from 1."""
    first = next(iter(columns.values()))
    return name in _INDEX and len(columns) > 1 and np.array_equal(first, np.arange(len(first)) + (first[:1] == 1))


def _numbered(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Columns of doubles as a table; of int64 where all are whole."""
    table = np.stack(columns, axis=1)
    if not np.isfinite(table).all() or np.abs(table).max(initial=0) >= 2**63:
        return table
    whole = table.astype(np.int64)
    return whole if np.array_equal(whole, table) else table


# Text -----------------------------------------------------------------------------------------------------------------


def _read_text(path: Path, select: str | None, labels: bool) -> Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return _Text(path, lines).table(select, labels)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error.reason}); save it as UTF-8") from error


class _Text:
    """A table of text: what is between its cells, the names of its columns, and its rows."""

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
        counted = [str(column) for column in range(len(self.first))]
        self.names = () if all(numbers) else tuple(self.first)
        top = _short(top.strip())
        if all(numbers) and len(numbers) > 1 and self.first == counted:
            raise self.refusal(f"its first line, {top}, may be names or numbers; give the columns names of letters")
        if any(numbers) and not all(numbers) and self.first != ["", *counted[:-1]]:
            raise self.refusal(
                f"its first line, {top}, is neither all names nor all numbers; give each column a name of letters"
            )

    def refusal(self, reason: str) -> ValueError:
        return ValueError(f"{self.path}: {reason}")

    def _separator(self, top: str, second: str) -> str:
        """What is between cells, by the first line; commas between digits do not count where there is another mark."""
        bare = re.sub(r'"[^"]*("|$)', "", top)
        found = [mark for mark in "\t;," if mark in bare]
        if "\t" in found and self.path.suffix.lower() == ".tsv":
            return "\t"
        if found[1:] == [","] and all(
            _is_number(cell, found[0]) for cell in next(csv.reader([top], delimiter=found[0]))
        ):
            return found[0]
        if len(found) > 1:
            both = " and ".join({"\t": "tabs", ";": "semicolons", ",": "commas"}[mark] for mark in found)
            raise self.refusal(f"its first line has {both}; put names that contain one of them in quotes")
        blanks = (second.strip() or top).split()
        return found[0] if found else " " if len(blanks) > 1 and all(_is_number(cell, " ") for cell in blanks) else ","

    def _next(self) -> list[str] | None:
        start = self.reader.line_num + 1
        try:
            return next(self.reader, None)
        except csv.Error as error:
            raise self.refusal(f"what begins in line {start} cannot be read as cells: {error}") from error

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Rows, each with the number of its first line as editors count; empty lines at the end are left out."""
        line, empty = 1, 0
        row: list[str] | None = self.first
        if self.names:
            line, row = self.reader.line_num + 1, self._next()
        while row is not None:
            if len(row) < 2 and not "".join(row).strip():
                empty = empty or line
            elif empty:
                raise self.refusal(f"line {empty} is empty; fill it, or leave it out")
            elif len(row) != len(self.first):
                count = "1 cell" if len(row) == 1 else f"{len(row)} cells"
                raise self.refusal(f"line {line} has {count} where line 1 has {len(self.first)}")
            else:
                yield line, row
            line, row = self.reader.line_num + 1, self._next()

    def table(self, select: str | None, labels: bool) -> Table:
        if select is not None and not self.names:
            raise self.refusal(f"its first line has no names of columns, by which {select!r} could choose; add them")
        chosen = _chosen(self.path, self.names or self.first, select)
        columns = [_Column(_named(self.names, k), self.separator) for k in chosen]
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
        if self.names and select is None and not columns[0].labels and _is_index(self.names[0], values):
            del values[0], columns[0]
        elif self.names and not self.names[0] and 0 in values:
            raise self.refusal("its first column has no name and does not number the rows; give it one")
        for column in columns:
            if column.labels and not labels:
                raise _text_refused(self.path, column.name, next(iter(column.labels)))
        names = [self.names[k] or f"column {k + 1}" for k in values] if self.names else []
        _check_printable(self.path, names)
        return Table(_numbered(list(values.values())), tuple(names))

    def _check_decimals(self, columns: Sequence["_Column"]) -> None:
        marked = {mark: column.name for column in columns for mark in column.marks}
        if len(marked) > 1:
            raise self.refusal(
                f"{marked[',']} has numbers with decimal commas and {marked['.']} with points; write all with points"
            )


class _Column:
    """Cells of a column, added block by block: numbers, or the labels in the order of their first rows."""

    def __init__(self, name: str, separator: str) -> None:
        self.name, self.separator = name, separator
        self.blocks: list[NDArray[Any]] = []
        self.labels: dict[str, int] = {}
        self.marks: set[str] = set()
        self._first: list[tuple[str, int]] = []

    def add(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        """Take more cells.

        Raises:
            ValueError: a cell is empty, or the column has numbers as well as text.
        """
        numbers = self._numbers(cells)
        if numbers is None or self.labels:
            cells = [cell.strip() for cell in cells]
            if "" in cells:
                raise ValueError(f"{self.name} has an empty cell in line {lines[cells.index('')]}; fill it")
            self._refuse_both(cells, lines)
            numbers = np.array([self.labels.setdefault(cell, len(self.labels)) for cell in cells], np.int64)
        self._first = self._first or [(cells[0], lines[0])]
        self.blocks.append(numbers)

    def _refuse_both(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        """Refuse numbers beside text, among cells and what came before them: labels with gaps or misspelt numbers."""
        kinds = {_is_number(cell, self.separator): (cell, line) for cell, line in self._first}
        new: dict[str, int] = {}
        for cell, line in zip(cells, lines, strict=True):
            if cell not in self.labels:
                new.setdefault(cell, line)
        for cell, line in new.items():
            kinds.setdefault(_is_number(cell, self.separator), (cell, line))
        if False not in kinds:
            raise self._both_marks()
        if True in kinds:
            (number, here), (word, there) = kinds[True], kinds[False]
            raise ValueError(
                f"{self.name} has {_short(number)} in line {here} and {_short(word)} in line {there}; "
                "write all its cells as numbers, or all as text"
            )

    def _numbers(self, cells: Sequence[str]) -> NDArray[Any] | None:
        """The cells as numbers, where all are."""
        text = "".join(cells)
        comma, point = "," in text, "." in text
        if "_" in text or (comma and (point or self.separator == ",")):
            return None
        try:
            numbers = np.array([cell.replace(",", ".") for cell in cells] if comma else cells, dtype=np.float64)
        except ValueError:
            return None
        if self.separator != ",":
            self.marks |= {mark for mark, found in ((",", comma), (".", point)) if found}
        if len(self.marks) > 1:
            raise self._both_marks()
        return numbers

    def _both_marks(self) -> ValueError:
        return ValueError(f"{self.name} has decimal commas as well as decimal points; write all with points")

    def values(self) -> NDArray[Any]:
        """All cells, labels by their rank."""
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
    return "_" not in cell  # which Python reads over


# Parquet --------------------------------------------------------------------------------------------------------------


def _read_parquet(path: Path, select: str | None, labels: bool) -> Table:
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
        chosen = [names[k] for k in _chosen(path, names, select)]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"{path} has more than one column {twice[0]!r}; give each a name of its own")
        kinds = {name: _parquet_kind(path, name, schema.field(name).type) for name in chosen}
        _check_printable(path, chosen)
        _check_memory(path, metadata, chosen)
        text = [name for name, kind in kinds.items() if kind == "text"]
        with ParquetFile(path, read_dictionary=text) as file:  # each text once, however often it occurs
            table = file.read(columns=chosen)
        columns = {name: _parquet_column(path, name, table[name], kinds[name], labels) for name in chosen}
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a readable Parquet table: {' '.join(str(error).split())}") from error
    if select is None and kinds[chosen[0]] == "numbers" and _is_index(chosen[0], columns):
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
    wanted = set(chosen)
    groups = (metadata.row_group(k) for k in range(metadata.num_row_groups))
    parts = (group.column(k) for group in groups for k in range(metadata.num_columns))
    unpacked = sum(part.total_uncompressed_size for part in parts if part.path_in_schema in wanted)
    size = max(unpacked, 8 * metadata.num_rows * len(chosen))
    if size > max(_MOST_BYTES, _MOST_EXPANSION * path.stat().st_size):
        raise ValueError(f"{path}: its {metadata.num_rows:,} rows would take {size / 1e9:.1f} GB of memory")


def _parquet_column(path: Path, name: str, column: Any, kind: str, labels: bool) -> NDArray[Any]:
    if column.null_count:
        raise ValueError(f"{path}: column {name!r} has empty cells; fill them")
    if kind == "numbers":
        return np.asarray(column.to_numpy())
    whole = column.unify_dictionaries().combine_chunks()
    whole.validate(full=True)  # places of words, and their letters
    whole.dictionary.validate(full=True)
    words = whole.dictionary.to_pylist()
    if None in words:
        raise ValueError(f"{path}: column {name!r} has a category without a name; give it one")
    if words and not labels:
        raise _text_refused(path, f"column {name!r}", str(words[0]))
    ranks = np.empty(len(words), np.int64)
    ranks[np.argsort(np.array(words, object)) if kind == "text" else slice(None)] = np.arange(len(words))
    return np.asarray(ranks[whole.indices.to_numpy()])
