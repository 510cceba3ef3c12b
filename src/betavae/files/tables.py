"""Reads tables of latents and factors from files, none of them with pickle."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from betavae.files.arrays import PickledObjects, names_in, open_member, read_npy, read_npz
from betavae.files.conversion import as_array, as_numbers
from betavae.files.parquet_tables import read_parquet
from betavae.files.table_columns import Table, list_names, shorten
from betavae.files.text_tables import read_text
from betavae.files.validation import nearest

_TEXT = (".csv", ".tsv", ".txt")
SUFFIXES = (".npy", ".npz", ".safetensors", *_TEXT, ".parquet")
_PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")


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
            return read_text(path, select, labels)
        case ".parquet":
            return read_parquet(path, select, labels)
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


def _from_array(path: Path, array: NDArray[Any], labels: bool) -> Table:
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"{path} must hold a table (samples, columns), got the shape {array.shape}")
    if array.dtype.kind in "US" and array.size:
        if not labels:
            raise ValueError(
                f"{path} holds text, such as {shorten(str(array[0, 0]))}, which only factors may (in Python with "
                "labels=True); save latents as numbers"
            )
        array = as_numbers(array)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path} must hold numbers, got an array of {array.dtype}")
    return Table(array, ())


def _array_name(path: Path, names: list[str], select: str | None, likely: Callable[[], str]) -> str:
    """Which array of a file is meant, or `_Unclear`."""
    held = f"{path} holds {len(names)} arrays ({list_names(names)})"
    if select is None and len(names) == 1:
        return names[0]
    if select is None:
        raise _Unclear(f"{held}: say which one, as in {path}:{likely() if names else 'latents'}")
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
    """The array of an archive that is most like the table: of two axes, factors in whole numbers, latents in others."""
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
