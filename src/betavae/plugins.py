"""Python files of the user's own that define objectives, architectures or metrics: `betavae --import FILE ...`."""

import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from betavae.files.validation import typed

_VARIABLE = "BETAVAE_IMPORT"
"""Files that were imported; processes that are started from here import them too (`again`)."""


def load(files: Iterable[str]) -> None:
    """Import files, whose names without .py are their modules' names, here and in processes started from here.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no .py file, another module has its name, it raises an error, or it defines something that
            cannot work.
    """
    files = list(files)
    for file in files:
        path = Path(file).resolve()
        if path.suffix != ".py":
            raise ValueError(f"--import takes a Python file, such as own_objective.py, got {file!r}")
        if not path.is_file():
            raise FileNotFoundError(f"--import: there is no file {file}")
        if "." in path.stem:
            raise ValueError(f"--import: {path.name} cannot be a module's name; give the file one without further dots")
        sys.path.insert(0, str(path.parent))
        try:
            module = importlib.import_module(path.stem)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise ValueError(f"{file} cannot be imported: {told(error, path)}") from error
        if Path(module.__file__ or "").resolve() != path:
            raise ValueError(f"{file}: there is another module {path.stem!r}; give the file another name")
    for file in files:
        os.environ[_VARIABLE] = json.dumps([*dict.fromkeys([*imported(), str(Path(file).resolve())])])


def imported() -> list[str]:
    """The files that were imported here, or where the process that started this one was.

    Raises:
        ValueError: the environment says otherwise.
    """
    try:
        files: list[str] = typed(_VARIABLE, json.loads(os.environ.get(_VARIABLE) or "[]"), list[str])
    except ValueError as error:
        raise ValueError(f"the environment's {_VARIABLE} is no list of files ({error}); unset it") from None
    return files


def again() -> None:
    """Import what the process that started this one had imported."""
    load(imported())


def told(error: BaseException, path: Path | None = None) -> str:
    """An error of a file of the user's own: its kind, its message, and the line of that file."""
    own = {*imported(), str(path)}
    calls = [call for call in traceback.extract_tb(error.__traceback__) if str(Path(call.filename).resolve()) in own]
    where = f" (line {calls[-1].lineno} of {Path(calls[-1].filename).name})" if calls else ""
    return f"{type(error).__name__}: {error}{where}"
