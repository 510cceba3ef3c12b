"""Python files of the user's own that define objectives, architectures or metrics: `betavae --import FILE ...`."""

import importlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

_VARIABLE = "BETAVAE_IMPORT"
"""Files that were imported; processes that are started from here import them too (`again`)."""


def load(files: Iterable[str]) -> None:
    """Import files, whose names without .py are their modules' names, here and in processes started from here.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no .py file, another module has its name, or it raises an error.
    """
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
        except (Exception, SystemExit) as error:
            raise ValueError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
        if Path(module.__file__ or "").resolve() != path:
            raise ValueError(f"{file}: there is another module {path.stem!r}; give the file another name")
        os.environ[_VARIABLE] = json.dumps([*dict.fromkeys([*imported(), str(path)])])


def imported() -> list[str]:
    """The files that were imported here, or where the process that started this one was."""
    files: list[str] = json.loads(os.environ.get(_VARIABLE) or "[]")
    return files


def again() -> None:
    """Import what the process that started this one had imported."""
    load(imported())
