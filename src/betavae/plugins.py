"""Imports Python files that register objectives, architectures, metrics or data sets: `betavae --import FILE ...`."""

import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from betavae.files.validation import typed

_VARIABLE = "BETAVAE_IMPORT"
"""Environment variable with the imported files. Child processes import them as well, see `import_again`."""


def load(files: Iterable[str]) -> None:
    """Import files, here and in child processes. The name of a file without .py is the name of its module.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is not a .py file, another module has its name, or it raises an error, for example because it
            registers something that cannot work.
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
            raise ValueError(f"{file} cannot be imported: {describe_error(error, path)}") from error
        if Path(module.__file__ or "").resolve() != path:
            raise ValueError(f"{file}: there is another module {path.stem!r}; give the file another name")
    for file in files:
        os.environ[_VARIABLE] = json.dumps([*dict.fromkeys([*imported(), str(Path(file).resolve())])])


def imported() -> list[str]:
    """Return the files that this process or its parent has imported.

    Raises:
        ValueError: the environment variable is not a list of files.
    """
    try:
        files: list[str] = typed(_VARIABLE, json.loads(os.environ.get(_VARIABLE) or "[]"), list[str])
    except ValueError as error:
        raise ValueError(f"the environment's {_VARIABLE} is not a list of files ({error}); unset it") from None
    return files


def import_again() -> None:
    """Import the files that the parent process has imported."""
    load(imported())


def describe_error(error: BaseException, path: Path | None = None) -> str:
    """Return the type and message of an error, and the line of the imported file that raised it."""
    own = {*imported(), str(path)}
    calls = [call for call in traceback.extract_tb(error.__traceback__) if str(Path(call.filename).resolve()) in own]
    where = f" (line {calls[-1].lineno} of {Path(calls[-1].filename).name})" if calls else ""
    return f"{type(error).__name__}: {error}{where}"
