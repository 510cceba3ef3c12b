"""Reads tables of latents and factors from files. Never reads pickles."""

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
    """Read a table of numbers with one row per sample. Never reads pickles.

    If the first column is the row index of pandas, it is left out.

    Args:
        file: path of a .npy, .npz, .safetensors, .csv, .tsv, .txt or .parquet file (which needs pyarrow), or
            ``PATH:SELECT``, as on the command line. Text files are UTF-8 and may have a header line. The separator is
            detected from the first line: tab, semicolon, comma or blanks.
        select: for .npz and .safetensors, the name of an array, which is optional if the file has only one. For text
            and .parquet, column names, separated by commas, with wildcards (``z*``).
        labels: accept columns of text as classes. They are numbered in alphabetical order, or in the order of the
            categories of a .parquet. If false, text is refused.

    Returns:
        Array (N, columns). A one-dimensional array becomes one column. Numbers from text files are int64 if all are
        integers, and float64 otherwise.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the suffix is unknown, the file is damaged or not a regular file, it has no numbers, an array has
            the wrong number of axes, or the selection is ambiguous.
        ModuleNotFoundError: the file is a .parquet and pyarrow is not installed.

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
    """Read a table as `read_table`, with the names of its columns."""
    path, select = _parts(str(file)) if select is None else (Path(file), select)
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise ValueError(f"{path} is {kind}; give a file with a table")
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
                f"{path} is a pickle, which betavae never reads because it can run any program; save the table as "
                f".npy, for example with numpy.save({path.with_suffix('.npy').name!r}, tensor.detach().cpu().numpy())"
            )
        case suffix:
            raise ValueError(f"cannot read {path}: the suffix is {suffix!r}; it must be one of {', '.join(SUFFIXES)}")


def _parts(file: str) -> tuple[Path, str | None]:
    """Split PATH:SELECT. Both parts may contain colons: an existing file wins, then the longest path that exists."""
    if not os.path.exists(file):
        cuts = [index for index, letter in enumerate(file) if letter == ":"][::-1]
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
        raise ValueError(f"{path} has an array of shape {array.shape}; it must have the shape (samples, columns)")
    if array.dtype.kind in "US" and array.size:
        if not labels:
            raise ValueError(
                f"{path} contains text, such as {shorten(str(array[0, 0]))}, which is allowed for factors only (in "
                "Python with labels=True); save latents as numbers"
            )
        array = as_numbers(array)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path} has an array of {array.dtype}; it must contain numbers")
    return Table(array, ())


def _array_name(path: Path, names: list[str], select: str | None, likely: Callable[[], str]) -> str:
    """The name of the selected array, or of the only one.

    Raises:
        _AmbiguousSelection: several arrays could be meant, or none has the selected name.
    """
    contents = f"{path} contains {len(names)} arrays ({list_names(names)})"
    if select is None and len(names) == 1:
        return names[0]
    if select is None:
        raise _AmbiguousSelection(f"{contents}; select one, as in {path}:{likely() if names else 'latents'}")
    if select not in names:
        raise _AmbiguousSelection(f"{contents}; there is no array {select!r}{nearest(select, names)}")
    return select


class _AmbiguousSelection(ValueError):
    """The file is valid, but the selection does not name one of its arrays."""


def _read_numpy(path: Path, select: str | None, labels: bool) -> NDArray[Any]:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"PK"
    if not zipped and select is not None:
        raise ValueError(f"{path} contains one array, whose columns have no names; leave out :{select}")
    try:
        if not zipped:
            return read_npy(path)
        with ZipFile(path) as archive:
            name = _array_name(path, names_in(archive), select, lambda: _likely(archive, labels))
        return read_npz(path, name)[name]
    except (_AmbiguousSelection, MemoryError):
        raise
    except PickledObjects as error:
        raise ValueError(f"{path}: {error}; save an array of numbers, whose dtype is not object") from error
    except Exception as error:  # a damaged archive raises any of the errors of zipfile, zlib and NumPy
        kind = path.suffix.lower()
        raise ValueError(f"{path} is damaged, or not a {kind} file ({error}); copy or save it again") from error


def _likely(archive: ZipFile, labels: bool) -> str:
    """The array that is most likely the table: it has two axes, and integers for factors or floats for latents."""
    matches = {}
    for name in names_in(archive):
        with suppress(Exception), open_member(archive, name) as (_, header):  # skip damaged arrays and pickles
            matches[name] = (len(header.shape) == 2, header.dtype.kind in ("iub" if labels else "f"))
    return max(matches, key=lambda name: matches[name], default=names_in(archive)[0])


def _read_safetensors(path: Path, select: str | None, labels: bool) -> NDArray[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            matches = {
                name: (len(part.get_shape()) == 2, ("F" in part.get_dtype()) != labels) for name, part in parts.items()
            }
            name = _array_name(path, list(parts), select, lambda: max(matches, key=lambda name: matches[name]))
            if not re.match("BF|F8", parts[name].get_dtype()):
                return np.asarray(file.get_tensor(name))
        with safe_open(path, framework="pt") as file:  # NumPy does not have this type
            return as_array(file.get_tensor(name))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, or not a .safetensors file ({error}); copy or save it again") from error
