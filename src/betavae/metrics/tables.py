"""Reading tables of codes and factors from files."""

import csv
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from zipfile import ZipFile, is_zipfile

import numpy as np

from betavae.arrays import names_in, read_npy, read_npz

SUFFIXES = (".npy", ".npz", ".csv", ".parquet")
_MOST_BYTES, _MOST_EXPANSION = 1 << 30, 200
"""Memory that a Parquet table may take in any case, and how many times the size of its file otherwise."""


def read_table(path: str | Path, member: str | None = None) -> np.ndarray:
    """Read a table of numbers, one row for each sample. Never unpickles.

    Args:
        path: a .npy, .npz, .csv (with or without a line of names) or .parquet file (which needs pyarrow).
        member: array of an .npz file; not needed when it holds a single one.

    Returns:
        (N, columns) array; a one-dimensional array becomes one column. Numbers of a .csv are float64, or int64 where
        all are whole.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Unknown suffix, no regular file, broken file, no numbers, an array of the wrong rank, or an unclear
            ``member``.
        ModuleNotFoundError: A .parquet file is to be read without pyarrow.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "factors.csv")
        ...     _ = path.write_text("shape,scale\\n0,1\\n2,3\\n")
        ...     read_table(path)
        array([[0, 1],
               [2, 3]])
    """
    path = Path(path)
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
            table = _read_numpy(path, member)
        case ".csv":
            table = _read_csv(path)
        case ".parquet":
            table = _read_parquet(path)
        case suffix:
            raise ValueError(f"cannot read {path}: the suffix {suffix!r} is none of {', '.join(SUFFIXES)}")
    if table.dtype.kind not in "fiub":
        raise ValueError(f"{path} must hold numbers, got an array of {table.dtype}")
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2:
        raise ValueError(f"{path} must hold a table (samples, columns), got the shape {table.shape}")
    return table


def column_names(path: str | Path) -> list[str]:
    """Names of the columns of a table that `read_table` reads; empty where a file has none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "factors.csv")
        ...     _ = path.write_text("shape,scale\\n0,1\\n2,3\\n")
        ...     column_names(path)
        ['shape', 'scale']
    """
    path = Path(path)
    if path.suffix.lower() == ".parquet":
        from pyarrow.parquet import read_schema

        return list(read_schema(path).names)
    if path.suffix.lower() != ".csv":
        return []
    with path.open(encoding="utf-8-sig") as lines:
        first = _cells(lines.readline())
    return [] if any(map(_is_number, first)) else first


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True), []) or [""]]


def _read_numpy(path: Path, member: str | None) -> np.ndarray:
    try:
        if not is_zipfile(path):
            return read_npy(path)
        with ZipFile(path) as archive:
            names = names_in(archive)
        if member is None and len(names) != 1:
            example = f"{path}:{next(iter(names), 'codes')}"
            raise _Unclear(f"{path} holds {len(names)} arrays ({', '.join(names)}): say which one, as in {example}")
        if member is not None and member not in names:
            raise _Unclear(f"{path} holds {len(names)} arrays ({', '.join(names)}): there is no array {member!r}")
        name = member or names[0]
        return read_npz(path, name)[name]
    except _Unclear:
        raise
    except Exception as error:  # a damaged archive raises any of the errors of zipfile, zlib and NumPy
        raise ValueError(f"{path} is not a readable file of plain numbers ({error}); save it with np.save") from error


class _Unclear(ValueError):
    """A file is well, and which of its arrays is meant is not said."""


def _read_csv(path: Path) -> np.ndarray:
    """A first row of names is left out; one that may be names or numbers is refused rather than guessed at."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            top, second = lines.readline(), lines.readline()
            first = _cells(top)
            numbers = [_is_number(cell) for cell in first]
            if not (second or any(numbers)):
                raise ValueError("it has no rows")
            if not first[0] and not any(numbers):
                raise ValueError("its first column has no name; if it numbers the rows, save the table without it")
            if any(numbers) and not all(numbers):
                raise ValueError(f"its first row, {top.strip()}, is neither all names nor all numbers")
            if len(first) > 1 and first == [str(column) for column in range(len(first))]:
                raise ValueError(
                    f"its first row, {top.strip()}, may be names or numbers; give the columns names of letters"
                )
            table = np.loadtxt(
                chain([top, second] if all(numbers) else [second], lines), delimiter=",", ndmin=2, quotechar='"'
            )
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is not a table of numbers separated by commas: {error}") from error
    whole = table.astype(np.int64) if np.isfinite(table).all() else table
    return whole if np.array_equal(whole, table) else table


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path) -> np.ndarray:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
        from pyarrow.parquet import read_table as read_parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"reading {path} needs pyarrow, which is not installed: pip install pyarrow"
        ) from error
    try:
        facts = ParquetFile(path).metadata
        most = max(_MOST_BYTES, _MOST_EXPANSION * path.stat().st_size)
        if (size := 8 * facts.num_rows * facts.num_columns) > most:
            raise ValueError(f"its {facts.num_rows:,} rows would take {size / 1e9:.1f} GB of memory")
        columns = read_parquet(path)
        if index := [name for name in columns.column_names if name.startswith("__index_level_")]:
            raise ValueError(f"the column {index[0]} numbers the rows; save the table without it (index=False)")
        return np.stack([column.to_numpy() for column in columns.columns], axis=1)
    except (ArrowException, ValueError, OSError) as error:
        raise ValueError(f"{path} is not a readable Parquet table of numbers: {error}") from error
