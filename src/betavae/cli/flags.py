"""Flags of a study: any setting of runs with several values, and the grid that they make. Imports no torch."""

import dataclasses
import tomllib
from typing import Annotated, Any, Literal, Union

from tyro.conf import arg as argument
from tyro.conf import subcommand as command

from betavae.config import Config
from betavae.files.validation import check_name
from betavae.networks.registry import ARCHITECTURES
from betavae.objectives.registry import OBJECTIVES, objective_name
from betavae.studies.sweep import lists


def _names() -> list[str]:
    """Settings that a study can vary: those of a run but the seed, the objective's name, and what objectives have."""
    dials = [field.name for kind in OBJECTIVES.values() for field in dataclasses.fields(kind.settings)]
    return ["objective", *dict.fromkeys([*dials, *settings_of_runs()])]


def settings_of_runs() -> list[str]:
    """Settings of a run but its objective and its seed."""
    return [field.name for field in dataclasses.fields(Config) if field.name not in ("objective", "seed")]


def _hint(name: str) -> str:
    """The default of a setting, or the objectives that have it."""
    if name in settings_of_runs():
        return f"(default: {getattr(Config(), name)})"
    owners = [
        objective
        for objective, kind in OBJECTIVES.items()
        if name in {field.name for field in dataclasses.fields(kind.settings)}
    ]
    return f"(of {', '.join(owners)})" if owners else f"(default: {objective_name(Config().objective)})"


def varied() -> type:
    """Settings of `betavae train`, whose help explains them; several values of one are a grid."""
    fields = [
        (name, Annotated[tuple[str, ...], argument(metavar="VALUE ...", help_behavior_hint=_hint(name))], ())
        for name in _names()
    ]
    made = dataclasses.make_dataclass("Varied", fields, frozen=True)
    made.__doc__ = varied.__doc__
    return made


def config_type() -> type:
    """`Config` as the command line takes it: a subcommand for each registered objective, a choice of architectures."""
    objectives: Any = Union[  # noqa: UP007, of types made here
        tuple(Annotated[objective.settings, command(name, prefix_name=False)] for name, objective in OBJECTIVES.items())
    ]
    return retyped(Config, objective=objectives, model=Literal[tuple(ARCHITECTURES)])


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
    """The values of those settings of `varied` that have any, read as in a recipe.

    Example:
        >>> given(varied()(beta=("1", "4"), model=("wide",), rotate_at=("9", "20")))
        {'beta': [1, 4], 'model': ['wide'], 'rotate_at': [[9, 20]]}
    """
    found: dict[str, list[Any]] = {}
    for key, words in dataclasses.asdict(settings).items():
        for word in words:
            try:
                value = tomllib.loads(f"value = {word.lower() if word in ('True', 'False') else word}")["value"]
            except ValueError:
                value = word
            found.setdefault(key, []).append(value)
    return found | {key: [found[key]] for key in lists() if key in found}  # one value, which is a list


def grid(given: dict[str, list[Any]]) -> dict[str, Any]:
    """The grid of a study: an objective takes those of the varied settings that it has.

    Raises:
        ValueError: no objective that is named has one of the settings.

    Example:
        >>> grid({"objective": ["vae", "beta"], "beta": [1, 4], "latent_dim": [5]})
        {'latent_dim': [5], 'objective': [{'name': 'vae'}, {'name': 'beta', 'beta': [1, 4]}]}
    """
    own = settings_of_runs()
    tables, used = [], set[str]()
    names = given.get("objective", [objective_name(Config().objective)])
    for name in names:
        check_name("objective", name, OBJECTIVES)
        dials = {field.name for field in dataclasses.fields(OBJECTIVES[name].settings)} & given.keys()
        used |= dials
        tables.append({"name": name} | {key: given[key] for key in given if key in dials})
    for key in given:
        if key not in (*own, *used, "objective"):
            raise ValueError(f"--{key.replace('_', '-')}: no setting of {' or '.join(names)}; leave it out")
    return {key: values for key, values in given.items() if key in own} | {"objective": tables}
