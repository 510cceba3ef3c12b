"""The recipe of a study: one recipe of a run, the settings to vary, the seeds. Imports no torch.

    seeds = 10                      # a number: seeds 0 to 9; or the seeds themselves: [3, 7]
    steps = 300_000                 # what all runs share, as in the recipe of a run
    [grid]                          # every combination of the lists
    model = ["burgess", "locatello"]
    [grid.objective]
    name = "beta"
    beta = [1, 2, 4]

Several tables `[[grid]]` are several grids, each with its own combinations. `objective` may be a list of tables.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from betavae import config as configuration
from betavae.config import Config
from betavae.files.validation import short
from betavae.objectives.registry import OBJECTIVES, objective_name

MAX_RUNS = 20_000
"""Runs of a study; the largest one published has 12,600 (Locatello et al. 2019)."""


def lists() -> set[str]:
    """Settings of runs and of objectives that are lists themselves: in a grid, a list of lists has the alternatives.

    Example:
        >>> sorted(lists())
        ['rotate_at', 'scores']
    """
    kinds: list[Any] = [Config, *(objective.settings for objective in OBJECTIVES.values())]
    return {field.name for kind in kinds for field in dataclasses.fields(kind) if isinstance(field.default, tuple)}


def expand(recipe: Mapping[str, Any], where: str = "study") -> dict[str, Config]:
    """All runs of a study by their id, the first seed of every setting first; refuses what cannot be run.

    Args:
        recipe: as the module's text describes it.
        where: what to call it in error messages, e.g. its file name.

    Returns:
        Settings by run id, in the order in which to run them: a study stopped early has as many seeds of each setting.

    Raises:
        ValueError: an unknown key, an impossible combination, a run twice, no run at all or too many; the message
            names the entry of the grid.

    Example:
        >>> runs = expand({"seeds": 2, "steps": 9, "grid": {"objective": {"beta": [1, 4]}}})
        >>> [(config.objective.beta, config.seed) for config in runs.values()]
        [(1.0, 0), (4.0, 0), (1.0, 1), (4.0, 1)]
    """
    shared = {key: value for key, value in recipe.items() if key not in ("seeds", "grid")}
    grids = recipe.get("grid", {})
    grids = [grids] if isinstance(grids, Mapping) else grids
    if not isinstance(grids, list) or not all(isinstance(grid, Mapping) for grid in grids):
        raise ValueError(f"{where}: grid must be a table [grid], or several, each [[grid]]; it is {short(grids)}")
    seeds = _seeds(recipe.get("seeds", 1), where)
    for place, table in ((where, shared), *((f"{where}: grid {n}", grid) for n, grid in enumerate(grids, 1))):
        if "seed" in table:
            raise ValueError(f"{place}: a study has many seeds; write seeds = 10 or seeds = [3, 7] instead of seed")
    configuration.from_dict(shared, where)
    if (count := len(seeds) * sum(map(_count, grids))) > MAX_RUNS:
        amount = f"{count:,}" if count < 10**12 else "a million million and more"
        raise ValueError(f"{where}: that is {amount} runs; give fewer seeds or alternatives, for {MAX_RUNS:,} at most")
    settings: dict[str, tuple[Config, str]] = {}
    for number, grid in enumerate(grids, 1):
        place = f"{where}: grid {number}" if len(grids) > 1 else f"{where}: grid"
        for choice in _choices(grid, place):
            entry = f"{place}, {_phrase(choice)}" if choice else place
            config = configuration.from_dict(_merged(shared, choice), entry)
            run = configuration.run_id(config)
            if run in settings:
                raise ValueError(f"{entry}: the same run as {settings[run][1]}; leave one of the two out")
            settings[run] = config, entry
    if not settings:
        raise ValueError(f"{where}: there is no run in it; leave [grid] out for one setting, or give it a table")
    runs = [dataclasses.replace(config, seed=seed) for seed in seeds for config, _ in settings.values()]
    named = {configuration.run_id(config): config for config in runs}
    if len(named) < len(runs):
        raise ValueError(f"{where}: two runs would have one name; change a setting by a hair, or leave one out")
    return named


def differences(before: Sequence[Config], after: Sequence[Config]) -> list[str]:
    """Of two sets of runs, each setting that takes other values in one than in the other, in words.

    Example:
        >>> differences([Config(steps=9)], [Config(steps=9, seed=1), Config(steps=9)])
        ['seed: 0 → 0, 1']
    """
    old, new = _values(before), _values(after)
    return [
        f"{key}: {_listed(old.get(key, {}))} → {_listed(new.get(key, {}))}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key, {}).keys() != new.get(key, {}).keys()
    ]


def flat(config: Config) -> dict[str, Any]:
    """Settings with dotted names.

    Example:
        >>> flat(Config())["objective.beta"]
        4.0
    """
    values = configuration.to_dict(config)
    table = values.pop("objective")
    values = {"objective": table.pop("name")} | {f"objective.{key}": value for key, value in table.items()} | values
    return {key: " ".join(map(str, value)) if isinstance(value, tuple) else value for key, value in values.items()}


def varied(configs: Sequence[Config]) -> list[str]:
    """Dotted names of the settings, other than the seed, in which runs differ; those of an objective, its own runs.

    Example:
        >>> varied([Config(steps=9), Config(steps=8, seed=1)])
        ['steps']
        >>> from betavae import TC, Beta
        >>> varied([Config(Beta(4.0)), Config(TC(6.0))])
        ['objective']
    """
    values: dict[str, dict[Any, set[str]]] = {}
    for table in map(flat, configs):
        for key, value in table.items():
            among = table["objective"] if key.startswith("objective.") else ""
            values.setdefault(key, {}).setdefault(among, set()).add(repr(value))  # 1 is one image, 1.0 all of them
    return [key for key, groups in values.items() if key != "seed" and max(map(len, groups.values())) > 1]


def label(config: Config, keys: Sequence[str]) -> str:
    """What tells a setting from the others of its study, in a few words.

    Example:
        >>> label(Config(), ["objective", "objective.beta"])
        'beta, beta 4'
    """
    table, words = flat(config), []
    for key in keys:
        if value := worded(table, key):
            words.append(value if key in ("objective", "model") else f"{key.removeprefix('objective.')} {value}")
    return ", ".join(words) or "all runs"


def worded(table: Mapping[str, Any], key: str) -> str:
    """The value of one of a run's `flat` settings, in words; nothing where its objective has no such setting.

    Example:
        >>> table = flat(Config())
        >>> worded(table, "objective.beta"), worded(table, "muon_after"), worded(table, "objective.gamma")
        ('4', 'not given', '')
    """
    if key not in table:
        return ""
    given = "" if table[key] is None else str(table[key])
    return (given if key.endswith("_images") else given.removesuffix(".0")) or "not given"


def _seeds(given: Any, where: str) -> Sequence[int]:
    """The seeds; where only their number is given, they are not written out."""
    whole = isinstance(given, int) and not isinstance(given, bool)
    allowed = "a number of seeds (10) or a list of different ones ([3, 7])"
    if not whole and (not isinstance(given, list) or any(type(number) is not int for number in given)):
        raise ValueError(f"{where}: seeds is {short(given)}; it must be {allowed}")
    numbers = range(min(given, 10**12)) if whole else given
    if not numbers:
        raise ValueError(f"{where}: seeds is {short(given)}, so there is no run in it; it must be {allowed}")
    if not whole and (len(set(numbers)) < len(numbers) or min(numbers) < 0):
        raise ValueError(f"{where}: seeds is {short(given)}; it must be {allowed}, from 0 on")
    return numbers


def _count(table: Mapping[str, Any]) -> int:
    """How many combinations `_choices` has; none is made."""
    return math.prod(_count_alternatives(key, value) for key, value in table.items())


def _count_alternatives(key: str, value: Any) -> int:
    if isinstance(value, list) and (key not in lists() or any(isinstance(member, list) for member in value)):
        return len(value) if key in lists() else sum(_count_alternatives(key, member) for member in value)
    return _count(value) if isinstance(value, Mapping) else 1


def _choices(table: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Every combination of a table's alternatives."""
    alternatives = [_alternatives(key, value, where) for key, value in table.items()]
    for values in itertools.product(*alternatives):
        yield dict(zip(table, values, strict=True))


def _alternatives(key: str, value: Any, where: str) -> list[Any]:
    whole = key in lists()
    if isinstance(value, list) and (not whole or any(isinstance(member, list) for member in value)):
        if not value:
            raise ValueError(
                f"{where}: {key} is an empty list, so there is no run in it; give it a value or leave it out"
            )
        return [choice for member in value for choice in ([member] if whole else _alternatives(key, member, where))]
    if isinstance(value, Mapping):
        return list(_choices(value, f"{where}, {key}"))
    return [value]


def _merged(shared: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a run; an objective of another name drops the shared objective's settings."""
    values = {**shared, **choice}
    table = choice.get("objective")
    if isinstance(table, Mapping):
        common = shared.get("objective", {"name": objective_name(Config().objective)})
        values["objective"] = {**common, **table} if table.get("name", common["name"]) == common["name"] else table
    return values


def _phrase(choice: Mapping[str, Any]) -> str:
    words = []
    for key, value in choice.items():
        table = value if isinstance(value, Mapping) else {"": value}
        words += [f"{key}.{inner}".rstrip(".") + f" = {member!s:.80}" for inner, member in table.items()]
    return ", ".join(words)


def _values(configs: Sequence[Config]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for config in configs:
        for key, value in flat(config).items():
            found.setdefault(key, {})[repr(value)] = value
    return found


def _listed(values: Mapping[str, Any]) -> str:
    said = sorted(
        values.values(), key=lambda value: (value is None, isinstance(value, str), 0 if value is None else value)
    )
    return ", ".join(map(str, said)) or "nothing"
