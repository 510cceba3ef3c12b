"""Finds the models of the zoo."""

import filecmp
import shutil
from pathlib import Path

from betavae.files.validation import unknown
from betavae.objectives.registry import objective_name
from betavae.runs.folder import Run, open_run

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of the models that come with the package, sorted.

    Example:
        >>> all(open_entry(name).done for name in names())
        True
    """
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def open_entry(name: str) -> Run:
    """Open a model of the zoo as a run: `scores`, `config`, `model`, `data`.

    Its files belong to the package. Use `working_copy` for what writes to a run folder.

    Raises:
        FileNotFoundError: there is no such model. The message lists the known ones.
    """
    if name not in names():
        raise FileNotFoundError(unknown("model of the zoo", name, names()))
    return open_run(FOLDER / name)


def working_copy(name: str, parent: str | Path = "runs") -> Run:
    """Copy a model of the zoo to a run folder of your own, which can be scored, drawn and reported.

    Args:
        name: name of the model.
        parent: folder in which the folder `name` is created. If that holds the model already, it is kept.

    Raises:
        FileNotFoundError: there is no such model.
        FileExistsError: the folder holds something else.
    """
    entry, folder = open_entry(name), Path(parent) / name
    if folder.exists():
        weights = folder / "model.safetensors"
        if not weights.is_file() or not filecmp.cmp(entry.path(weights.name), weights, shallow=False):
            raise FileExistsError(f"{folder} is not a copy of the zoo's {name}; rename it, or give its path")
        return open_run(folder)
    shutil.copytree(entry.folder, folder, copy_function=shutil.copyfile)
    return open_run(folder)


def overview() -> str:
    """All models as a Markdown table, for docs/zoo.md."""
    lines = [
        "| name | data | objective | network | steps | DCI disentanglement | MIG | reconstruction, nats |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in names():
        run = open_entry(name)
        config, scores = run.config, run.scores
        facts = (f"`{name}`", config.data, objective_name(config.objective), config.model, f"{config.steps:,}")
        shown = (f"{scores['dci.disentanglement']:.3f}", f"{scores['mig']:.3f}")
        lines.append(f"| {' | '.join([*facts, *shown, format(scores.details['held_out']['reconstruction'], '.1f')])} |")
    return "\n".join(lines)
