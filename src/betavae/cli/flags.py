"""Flags of a study: any setting of runs with several values, and the grid that they make. Imports no torch."""

import dataclasses
import tomllib
from typing import Annotated, Any

from tyro.conf import arg as argument

from betavae.config import Config
from betavae.files.validation import check_name
from betavae.objectives.settings import OBJECTIVE_SETTINGS, objective_name
from betavae.studies.sweep import lists


def _names() -> list[str]:
    """Settings that a study can vary: those of a run but the seed, the objective's name, and what objectives have."""
    dials = [field.name for kind in OBJECTIVE_SETTINGS.values() for field in dataclasses.fields(kind)]
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
        for objective, kind in OBJECTIVE_SETTINGS.items()
        if name in {field.name for field in dataclasses.fields(kind)}
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


Varied: Any = varied()


def given(settings: Any) -> dict[str, list[Any]]:
    """The values of those of `Varied` that have any, read as in a recipe.

    Example:
        >>> given(Varied(beta=("1", "4"), model=("wide",), rotate_at=("9", "20")))
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
        >>> grid({"objective": ["vae", "beta"], "beta": [1, 4], "latents": [5]})
        {'latents': [5], 'objective': [{'name': 'vae'}, {'name': 'beta', 'beta': [1, 4]}]}
    """
    own = settings_of_runs()
    tables, used = [], set[str]()
    names = given.get("objective", [objective_name(Config().objective)])
    for name in names:
        check_name("objective", name, OBJECTIVE_SETTINGS)
        dials = {field.name for field in dataclasses.fields(OBJECTIVE_SETTINGS[name])} & given.keys()
        used |= dials
        tables.append({"name": name} | {key: given[key] for key in given if key in dials})
    for key in given:
        if key not in (*own, *used, "objective"):
            raise ValueError(f"--{key.replace('_', '-')}: no setting of {' or '.join(names)}; leave it out")
    return {key: values for key, values in given.items() if key in own} | {"objective": tables}
