"""Recipes of studies: the settings that all runs share, the settings to vary, and the seeds. Imports no torch.

    seeds = 10                      # seeds 0 to 9; a list gives the seeds themselves: [3, 7]
    steps = 300_000                 # shared settings, as in the recipe of a run
    [grid]                          # all combinations of the values in the lists
    model = ["burgess", "locatello"]
    [grid.objective]
    name = "beta"
    beta = [1, 2, 4]

A recipe may have several grids, each as a table `[[grid]]`. `objective` may be a list of tables.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from betavae import config_files
from betavae.config import Config
from betavae.config_files import flat
from betavae.files.validation import short
from betavae.objectives.registry import OBJECTIVES, objective_name

MAX_RUNS = 20_000
"""Largest number of runs of a study. The largest published study has 12,600 (Locatello et al. 2019)."""


def lists() -> set[str]:
    """The settings whose values are lists. A grid varies them with a list of lists.

    Example:
        >>> sorted(lists())
        ['correlate', 'hold_out', 'rotate_at', 'scores']
    """
    kinds: list[Any] = [Config, *(objective.settings for objective in OBJECTIVES.values())]
    return {field.name for kind in kinds for field in dataclasses.fields(kind) if isinstance(field.default, tuple)}


def expand(recipe: Mapping[str, Any], where: str = "study") -> dict[str, Config]:
    """Expand a recipe to the settings of all its runs.

    Args:
        recipe: see the text of this module.
        where: name of the recipe in error messages, e.g. its file name.

    Returns:
        Settings by run id, in the order of execution: the first seed of every setting, then the second, and so on.

    Raises:
        ValueError: a key is unknown, a combination is invalid, a run occurs twice, or there are no or too many runs.
            The message names the entry of the grid.

    Example:
        >>> runs = expand({"seeds": 2, "steps": 9, "grid": {"objective": {"beta": [1, 4]}}})
        >>> [(config.objective.beta, config.seed) for config in runs.values()]
        [(1.0, 0), (4.0, 0), (1.0, 1), (4.0, 1)]
    """
    shared = {key: value for key, value in recipe.items() if key not in ("seeds", "grid")}
    grids = recipe.get("grid", {})
    grids = [grids] if isinstance(grids, Mapping) else grids
    if not isinstance(grids, list) or not all(isinstance(grid, Mapping) for grid in grids):
        raise ValueError(f"{where}: grid is {short(grids)}; it must be a table [grid], or several tables [[grid]]")
    seeds = _seeds(recipe.get("seeds", 1), where)
    for table_name, table in ((where, shared), *((f"{where}: grid {n}", grid) for n, grid in enumerate(grids, 1))):
        if "seed" in table:
            raise ValueError(f"{table_name}: a study has no seed; write seeds = 10 or seeds = [3, 7] instead")
    config_files.from_dict(shared, where)
    if (count := len(seeds) * sum(map(_count, grids))) > MAX_RUNS:
        amount = f"{count:,}" if count < 10**12 else "10¹² or more"
        raise ValueError(f"{where}: that is {amount} runs, and {MAX_RUNS:,} are allowed; give fewer seeds or values")
    settings: dict[str, tuple[Config, str]] = {}
    for number, grid in enumerate(grids, 1):
        grid_name = f"{where}: grid {number}" if len(grids) > 1 else f"{where}: grid"
        for choice in _choices(grid, grid_name):
            entry = f"{grid_name}, {_describe(choice)}" if choice else grid_name
            config = config_files.from_dict(_merged(shared, choice), entry)
            run = config_files.run_id(config)
            if run in settings:
                raise ValueError(f"{entry}: the same run as {settings[run][1]}; leave one of the two out")
            settings[run] = config, entry
    if not settings:
        raise ValueError(f"{where}: the recipe has no runs; leave [grid] out for a single setting, or give it a table")
    configs = [dataclasses.replace(config, seed=seed) for seed in seeds for config, _ in settings.values()]
    runs = {config_files.run_id(config): config for config in configs}
    if len(runs) < len(configs):
        raise ValueError(f"{where}: two runs have the same id; change a setting slightly, or leave one of the runs out")
    return runs


def differences(before: Sequence[Config], after: Sequence[Config]) -> list[str]:
    """Describe each setting whose values differ between two sets of runs.

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


def varied(configs: Sequence[Config]) -> list[str]:
    """Dotted names of the settings, except the seed, in which runs differ.

    An objective's settings are compared only among the runs with that objective.

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
            group = table["objective"] if key.startswith("objective.") else ""
            values.setdefault(key, {}).setdefault(group, set()).add(repr(value))  # 1 is one image, 1.0 all images
    return [key for key, groups in values.items() if key != "seed" and max(map(len, groups.values())) > 1]


def label(config: Config, keys: Sequence[str]) -> str:
    """A short label of a setting: the values of the given keys.

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
    """The value of a `flat` setting as text; "" if the run's objective has no such setting.

    Example:
        >>> table = flat(Config())
        >>> worded(table, "objective.beta"), worded(table, "muon_after"), worded(table, "objective.gamma")
        ('4', 'not given', '')
    """
    if key not in table:
        return ""
    text = "" if table[key] is None else str(table[key])
    return (text if key.endswith("_images") else text.removesuffix(".0")) or "not given"


def _seeds(given: Any, where: str) -> Sequence[int]:
    """The seeds of a recipe. If `given` is their number, a range, which takes no memory."""
    is_number = isinstance(given, int) and not isinstance(given, bool)
    allowed = "a number of seeds (10) or a list of different seeds ([3, 7])"
    if not is_number and (not isinstance(given, list) or any(type(seed) is not int for seed in given)):
        raise ValueError(f"{where}: seeds is {short(given)}; it must be {allowed}")
    seeds = range(min(given, 10**12)) if is_number else given
    if not seeds:
        raise ValueError(f"{where}: seeds is {short(given)}, so the recipe has no runs; it must be {allowed}")
    if not is_number and (len(set(seeds)) < len(seeds) or min(seeds) < 0):
        raise ValueError(f"{where}: seeds is {short(given)}; it must be {allowed}, each at least 0")
    return seeds


def _count(table: Mapping[str, Any]) -> int:
    """The number of combinations that `_choices` yields, without building them."""
    return math.prod(_count_alternatives(key, value) for key, value in table.items())


def _count_alternatives(key: str, value: Any) -> int:
    if isinstance(value, list) and (key not in lists() or any(isinstance(member, list) for member in value)):
        return len(value) if key in lists() else sum(_count_alternatives(key, member) for member in value)
    return _count(value) if isinstance(value, Mapping) else 1


def _choices(table: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """All combinations of the values in a table."""
    alternatives = [_alternatives(key, value, where) for key, value in table.items()]
    for values in itertools.product(*alternatives):
        yield dict(zip(table, values, strict=True))


def _alternatives(key: str, value: Any, where: str) -> list[Any]:
    is_list = key in lists()
    if isinstance(value, list) and (not is_list or any(isinstance(member, list) for member in value)):
        if not value:
            raise ValueError(
                f"{where}: {key} is an empty list, so the grid has no runs; give it a value or leave it out"
            )
        return [choice for member in value for choice in ([member] if is_list else _alternatives(key, member, where))]
    if isinstance(value, Mapping):
        return list(_choices(value, f"{where}, {key}"))
    return [value]


def _merged(shared: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of one run. The settings of the shared objective apply only to an objective with the same name."""
    values = {**shared, **choice}
    table = choice.get("objective")
    if isinstance(table, Mapping):
        common = shared.get("objective", {"name": objective_name(Config().objective)})
        values["objective"] = {**common, **table} if table.get("name", common["name"]) == common["name"] else table
    return values


def _describe(choice: Mapping[str, Any]) -> str:
    words = []
    for key, value in choice.items():
        table = value if isinstance(value, Mapping) else {"": value}
        words += [f"{key}.{inner}".rstrip(".") + f" = {member!s:.80}" for inner, member in table.items()]
    return ", ".join(words)


def _values(configs: Sequence[Config]) -> dict[str, dict[str, Any]]:
    """The different values of each setting, by their `repr`."""
    values: dict[str, dict[str, Any]] = {}
    for config in configs:
        for key, value in flat(config).items():
            values.setdefault(key, {})[repr(value)] = value
    return values


def _listed(values: Mapping[str, Any]) -> str:
    ordered = sorted(
        values.values(), key=lambda value: (value is None, isinstance(value, str), 0 if value is None else value)
    )
    return ", ".join(map(str, ordered)) or "nothing"
