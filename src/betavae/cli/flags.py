"""Builds the flags of `train` and `study` from the settings in config.py and objectives/settings.py; no torch."""

import dataclasses
import tomllib
from typing import Annotated, Any, Literal, Union

from tyro.conf import UseAppendAction
from tyro.conf import arg as argument
from tyro.conf import subcommand as command

from betavae.config import Config
from betavae.files.validation import check_name
from betavae.networks.registry import ARCHITECTURES
from betavae.objectives.registry import OBJECTIVES, objective_name
from betavae.studies.sweep import lists


def _names() -> list[str]:
    """The settings that a study can vary: the objective, its settings, and all settings of a run except the seed."""
    of_objectives = [field.name for kind in OBJECTIVES.values() for field in dataclasses.fields(kind.settings)]
    return ["objective", *dict.fromkeys([*of_objectives, *settings_of_runs()])]


def settings_of_runs() -> list[str]:
    """The settings of a run except its objective and its seed."""
    return [field.name for field in dataclasses.fields(Config) if field.name not in ("objective", "seed")]


def _hint(name: str) -> str:
    """The default of a setting, or the names of the objectives that have it."""
    if name in settings_of_runs():
        return f"(default: {getattr(Config(), name)})"
    owners = [
        objective
        for objective, kind in OBJECTIVES.items()
        if name in {field.name for field in dataclasses.fields(kind.settings)}
    ]
    return f"(for {', '.join(owners)})" if owners else f"(default: {objective_name(Config().objective)})"


def varied() -> type:
    """Settings of a run; `betavae train --help` explains them. Several values of a setting form a grid."""
    fields = [
        (name, Annotated[tuple[str, ...], argument(metavar="VALUE ...", help_behavior_hint=_hint(name))], ())
        for name in _names()
    ]
    kind = dataclasses.make_dataclass("Varied", fields, frozen=True)
    kind.__doc__ = varied.__doc__
    return kind


def config_type() -> type:
    """`Config` as the command line takes it: a subcommand for each registered objective, a choice of architectures."""
    objectives: Any = Union[  # noqa: UP007, of types made here
        tuple(Annotated[objective.settings, command(name, prefix_name=False)] for name, objective in OBJECTIVES.items())
    ]
    repeated: Any = UseAppendAction[tuple[str, ...]]
    choices: Any = Literal[tuple(ARCHITECTURES)]
    return retyped(Config, objective=objectives, model=choices, hold_out=repeated, correlate=repeated)


def retyped(cls: type, **types: Any) -> type:
    """A subclass of a frozen dataclass in which some fields have other types.

    Which objectives and architectures there are is known only after ``--import``, later than the classes are made.

    Example:
        >>> fields = {field.name: field for field in dataclasses.fields(retyped(Config, seed=str))}
        >>> fields["seed"].type, fields["steps"].type
        (<class 'str'>, <class 'int'>)
    """
    namespace: dict[str, Any] = {"__annotations__": types, "__doc__": cls.__doc__}
    for field in dataclasses.fields(cls):
        if field.name in types and field.default_factory is not dataclasses.MISSING:
            namespace[field.name] = dataclasses.field(default_factory=field.default_factory)
    return dataclasses.dataclass(frozen=True)(type(cls.__name__, (cls,), namespace))


def values_of(instance: Any) -> dict[str, Any]:
    """The fields of a dataclass by name, nested ones as they are."""
    return {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}


def given(settings: Any) -> dict[str, list[Any]]:
    """The values of the flags of `varied` that were set, parsed as in a recipe.

    Example:
        >>> given(varied()(beta=("1", "4"), model=("wide",), rotate_at=("9", "20")))
        {'beta': [1, 4], 'model': ['wide'], 'rotate_at': [[9, 20]]}
    """
    values: dict[str, list[Any]] = {}
    for key, words in dataclasses.asdict(settings).items():
        for word in words:
            try:
                value = tomllib.loads(f"value = {word.lower() if word in ('True', 'False') else word}")["value"]
            except ValueError:
                value = word
            values.setdefault(key, []).append(value)
    return values | {key: [values[key]] for key in lists() if key in values}  # the words are one value, a list


def grid(given: dict[str, list[Any]]) -> dict[str, Any]:
    """The grid of a study. Each objective takes the given settings that it has.

    Raises:
        ValueError: none of the named objectives has one of the settings.

    Example:
        >>> grid({"objective": ["vae", "beta"], "beta": [1, 4], "latent_dim": [5]})
        {'latent_dim': [5], 'objective': [{'name': 'vae'}, {'name': 'beta', 'beta': [1, 4]}]}
    """
    of_runs = settings_of_runs()
    tables, of_objectives = [], set[str]()
    names = given.get("objective", [objective_name(Config().objective)])
    for name in names:
        check_name("objective", name, OBJECTIVES)
        settings = {field.name for field in dataclasses.fields(OBJECTIVES[name].settings)} & given.keys()
        of_objectives |= settings
        tables.append({"name": name} | {key: given[key] for key in given if key in settings})
    for key in given:
        if key not in (*of_runs, *of_objectives, "objective"):
            raise ValueError(f"--{key.replace('_', '-')} is not a setting of {' or '.join(names)}; remove the flag")
    return {key: values for key, values in given.items() if key in of_runs} | {"objective": tables}
