"""Python files of the user's own that define objectives, architectures or metrics: `betavae --import FILE ...`."""

import dataclasses
import importlib
import inspect
import json
import os
import re
import sys
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from betavae.config import Config, ModelName
from betavae.files.validation import short, typed
from betavae.objectives.settings import SHIPPED, Needs, needs_of

_VARIABLE = "BETAVAE_IMPORT"
"""Files that were imported; processes that are started from here import them too (`again`)."""
_NAME = re.compile(r"[A-Za-z][\w-]*")
"""What can be a flag, and a part of a folder's name."""


def load(files: Iterable[str]) -> None:
    """Import files, whose names without .py are their modules' names, here and in processes started from here.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no .py file, another module has its name, it raises an error, or it defines something that
            cannot work.
    """
    before, files = _tables(), list(files)
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
    for wrong in _wrong(before, _tables()):
        raise ValueError(f"{' or '.join(files)} defines {wrong}")
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


# ---------------------------------------------------------------------------------------------------------------------
# What a file has added to the tables
# ---------------------------------------------------------------------------------------------------------------------

_TABLES = {
    "objective": ("betavae.objectives.settings", "OBJECTIVE_SETTINGS"),
    "function": ("betavae.objectives.registry", "OBJECTIVES"),
    "network": ("betavae.objectives.registry", "NETWORKS"),
    "model": ("betavae.networks.architectures", "ARCHITECTURES"),
    "name of a model": ("betavae.config", "MODEL_NAMES"),
    "metric": ("betavae.metrics.suite", "METRICS"),
    "meaning": ("betavae.metrics.meanings", "MEANINGS"),
}
"""What can be added to, and the module that has its table: none but a file that imported that can have added to it."""
_CALLS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "function": (("settings", "model", "batch"), {}),
    "network": (("settings", "latent_dim"), {}),
    "model": (("image_shape", "latent_dim"), {}),
    "metric": (("latents", "factors"), {"seed": 0}),
}
"""What functions are called with: by place, and by name."""

Tables = dict[str, dict[Any, Any]]


def _tables() -> Tables:
    """Copies of the tables; empty where the module is not loaded."""
    tables: Tables = {}
    for kind, (module, name) in _TABLES.items():
        table: Any = getattr(sys.modules.get(module), name, {})
        tables[kind] = dict(table) if isinstance(table, Mapping) else dict.fromkeys(table)
    return tables


def _wrong(before: Tables, tables: Tables) -> Iterator[str]:
    """What cannot work of that which was added to the tables, in words that follow "FILE defines"."""
    for kind, table in tables.items():
        for name, value in table.items():
            new = name not in before[kind]
            if not new and before[kind][name] is value:
                continue
            what = f"{'objective' if kind == 'function' else kind} {_called(name)}"
            if not new or (_is_shipped(kind, name) and not _is_of_package(value)):
                yield f"{what}, which is there already; give it another name"
            elif wrong := _wrong_entry(kind, name, value, tables):
                yield f"{what}{wrong}"


def _wrong_entry(kind: str, name: Any, value: Any, tables: Tables) -> str:
    """Why an entry of a table cannot work; "" if it can."""
    if kind in ("function", "network"):
        if not isinstance(name, type):
            return ": the key must be the class of its settings"
    elif kind != "meaning" and not (isinstance(name, str) and _NAME.fullmatch(name)):
        return ": a name must be a letter, then letters, digits, - or _"
    if kind in _CALLS:
        return _wrong_call(value, *_CALLS[kind]) or (
            " without its name in betavae.config.MODEL_NAMES: append it"
            if kind == "model" and name not in tables["name of a model"]
            else ""
        )
    if kind == "name of a model" and tables["model"] and name not in tables["model"]:
        return " without an architecture: add it to betavae.networks.architectures.ARCHITECTURES"
    if kind == "meaning" and type(value).__name__ != "Meaning":
        return f" as {short(value)}; it must be a betavae.metrics.Meaning"
    return _wrong_settings(value, tables) if kind == "objective" else ""


def _wrong_call(value: Any, places: tuple[str, ...], names: Mapping[str, Any]) -> str:
    said = ", ".join([*places, *(f"{name}={default}" for name, default in names.items())])
    if not callable(value):
        return f" as {short(value)}; it must be a function of ({said})"
    try:
        inspect.signature(value).bind(*places, **names)
    except TypeError as error:
        return f", a function that cannot be called with ({said}): {error}"
    except ValueError:  # of one that was not written in Python, nothing can be known
        return ""
    return ""


def _wrong_settings(value: Any, tables: Tables) -> str:
    if not (isinstance(value, type) and dataclasses.is_dataclass(value)):
        return f" as {short(value)}; its settings must be a dataclass"
    taken = {field.name for field in dataclasses.fields(value)} & {field.name for field in dataclasses.fields(Config)}
    if taken:
        return f", whose setting {min(taken)} is one of every run; give it another name"
    if value not in tables["function"]:
        return (
            " without a function: add it to betavae.objectives.registry.OBJECTIVES, with the class of its settings as "
            "the key"
        )
    try:
        get_type_hints(value)
    except Exception as error:
        return f", whose settings have a type that is not known ({error})"
    try:
        needs = needs_of(value())
    except TypeError:  # a setting without default
        return ""
    except Exception as error:
        return f", whose settings cannot be made: {told(error)}"
    return (
        ""
        if isinstance(needs, Needs)
        else f", whose needs are {short(needs)}; they must be betavae.objectives.settings.Needs"
    )


def _is_shipped(kind: str, name: Any) -> bool:
    """Whether the package has an entry of that name, where its module was loaded by the file itself."""
    shipped: dict[str, Collection[Any]] = {"function": SHIPPED, "model": get_args(ModelName)}
    if kind == "metric":
        shipped[kind] = sys.modules[_TABLES[kind][0]]._SHIPPED
    return name in shipped.get(kind, ())


def _is_of_package(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).startswith("betavae.")


def _called(name: Any) -> str:
    return name.__name__ if isinstance(name, type) else short(name)
