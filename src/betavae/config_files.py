"""Reads settings from TOML and JSON, writes them as JSON, and names and compares them. Imports no torch.

Settings are flat, except the table `[objective]`. Its `name` selects the objective that its other keys belong to:

    seed = 3
    steps = 300_000
    [objective]
    name = "annealed"
    capacity_nats = 25.0
"""

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from betavae.config import Config
from betavae.files import schemas
from betavae.files.validation import check_plain, typed, unknown
from betavae.objectives.registry import OBJECTIVES, objective_name


def to_dict(config: Config) -> dict[str, Any]:
    """Return a configuration as JSON values. `from_dict` is the inverse.

    Example:
        >>> to_dict(Config())["objective"]
        {'name': 'beta', 'beta': 4.0, 'warmup_steps': 0}
    """
    values = dataclasses.asdict(config)
    given = {own.name: values["objective"][own.name] for own in dataclasses.fields(config.objective) if own.init}
    values["objective"] = {"name": objective_name(config.objective), **given}
    return values


def from_dict(values: Mapping[str, Any], where: str = "configuration") -> Config:
    """Build a configuration from a mapping. Missing keys keep their defaults.

    Args:
        values: keys of `Config`; `objective` is a table with a `name` and the keys of that objective.
        where: name of the mapping in error messages, such as its file.

    Raises:
        ValueError: unknown key, unknown name, wrong type, or value out of range.

    Example:
        >>> from_dict({"steps": 10, "objective": {"name": "beta", "beta": 8}}).objective
        Beta(beta=8.0, warmup_steps=0)
    """
    values = dict(values)
    if "objective" in values:
        table = values["objective"]
        if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
            raise ValueError(f"{where}: objective must be a table with a name, one of {', '.join(OBJECTIVES)}")
        settings = dict(table)
        name = settings.pop("name")
        if name not in OBJECTIVES:
            raise ValueError(f"{where}: {unknown('objective', name, OBJECTIVES)}")
        values["objective"] = _build(OBJECTIVES[name].settings, settings, f"{where}: objective {name}")
    config: Config = _build(Config, values, where)
    return config


def load(path: str | Path) -> Config:
    """Read a configuration from a `.toml` recipe or a run's `config.json`; raises as `read` and `from_dict` do."""
    return from_dict(read(path), str(path))


def read(path: str | Path) -> dict[str, Any]:
    """Read the settings in a `.toml` recipe of a run or a study, or in the `config.json` of a run.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is empty, or not a table in TOML or JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such recipe; give a .toml file, the name of one shipped, or a config.json")
    cure = "bring it back, or give another recipe"
    text = schemas.read_bytes(path, cure)
    if path.suffix == ".json":
        return dict(schemas.parse(text, path, dict[str, Any], cure))
    try:
        values = tomllib.loads(text.decode())
        check_plain(values)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise ValueError(f"{path}: not valid TOML: {reason}") from None
    if not values:
        raise ValueError(f"{path} is empty; bring it back, or leave it out to take the defaults")
    return values


def flat(config: Config) -> dict[str, Any]:
    """The settings of a run as one table with dotted names.

    Example:
        >>> flat(Config())["objective.beta"]
        4.0
    """
    values = to_dict(config)
    table = values.pop("objective")
    values = {"objective": table.pop("name")} | {f"objective.{key}": value for key, value in table.items()} | values
    return {key: " ".join(map(str, value)) if isinstance(value, tuple) else value for key, value in values.items()}


def defaults(settings: type) -> dict[str, Any]:
    """Return the defaults of `Config` or of an objective's settings. Fields without a plain default are left out.

    Example:
        >>> from betavae import Beta
        >>> defaults(Beta)
        {'beta': 4.0, 'warmup_steps': 0}
    """
    fields = dataclasses.fields(settings)
    return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}


def changed(config: Config) -> dict[str, Any]:
    """Return the settings of `to_dict` that differ from the defaults, and the name of the objective.

    Example:
        >>> from betavae import Beta
        >>> changed(Config(Beta(8.0), steps=10))
        {'objective': {'name': 'beta', 'beta': 8.0}, 'steps': 10}
    """

    def non_default(values: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
        return {
            key: value
            for key, value in values.items()
            if key not in usual or json.dumps(value) != json.dumps(usual[key])  # 1 is one image, 1.0 all of them
        }

    values = non_default(to_dict(config), defaults(Config))
    return {**values, "objective": non_default(values["objective"], defaults(type(config.objective)))}


def run_id(config: Config) -> str:
    """Return the name of a run folder: objective, architecture, seed, and a hash of the non-default settings.

    A later version with more settings therefore gives the same name.

    Example:
        >>> run_id(Config(seed=3))
        'beta-burgess-seed3-...'
    """
    digest = hashlib.sha256(json.dumps(changed(config), sort_keys=True).encode()).hexdigest()[:12]
    return f"{objective_name(config.objective)}-{config.model}-seed{config.seed}-{digest}"


def _build(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """Build a dataclass from a mapping. Every key must be known, and every value must have the declared type."""
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise ValueError(f"{where}: {unknown('key', str(key), hints)}")
    try:
        return cls(**{key: typed(key, value, hints[key]) for key, value in values.items()})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
