"""The command `zoo`, and the names of its models where other commands take a run folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from betavae.cli.console import format_number, say

if TYPE_CHECKING:
    from rich.console import Console

    from betavae.runs.folder import Run

_SCORES = {"dci.disentanglement": "DCI", "mig": "MIG"}


@dataclass(frozen=True)
class ZooCommand:
    """List the trained models that come with the package, or print the model card of one.

    Every command that takes a run folder takes their names: betavae explore NAME
    """

    name: Positional[str | None] = None
    """Name of a model. If unset, all are listed."""

    def __call__(self, console: "Console") -> dict[str, Any]:
        from rich.table import Column, Table

        from betavae.cli.train import result_of
        from betavae.objectives.registry import objective_name
        from betavae.zoo import names, open_entry

        if self.name is not None:
            run = open_entry(self.name)
            say(console, run.path("README.md").read_text(encoding="utf-8").rstrip())
            return {"name": self.name, **result_of(run)}
        models = []
        first = Column("name", min_width=max(map(len, names())))
        table = Table(first, "data", "objective", "network", "steps", show_edge=False)
        for title in (*_SCORES.values(), "nats"):
            table.add_column(title, justify="right")
        for name in names():
            run = open_entry(name)
            config, scores = run.config, run.scores
            facts = (config.data, objective_name(config.objective), config.model, f"{config.steps:,}")
            loss = scores.details["held_out"].get("reconstruction")
            shown = [*(format_number(scores.get(score)) for score in _SCORES), "" if loss is None else f"{loss:.1f}"]
            table.add_row(name, *facts, *shown)
            models.append({"name": name, "data": config.data, "model": config.model, "scores": dict(scores)})
        console.print(table)
        say(console, "DCI disentanglement, MIG, held-out reconstruction in nats; all scores of one: betavae zoo NAME")
        say(console, "in Python: betavae.load(NAME); in the browser: betavae explore NAME")
        return {"models": models}


def find_run(name: Path, console: "Console") -> "Run":
    """Open a run folder. The name of a model of the zoo stands for its copy in `runs`, which is made if need be.

    Raises:
        FileNotFoundError: there is no such run, and no such model.
    """
    from betavae import zoo
    from betavae.files.validation import unknown
    from betavae.runs.folder import open_run

    if name.exists() or len(name.parts) != 1:
        return open_run(name)
    if str(name) not in zoo.names():
        raise FileNotFoundError(
            f"{name}: no such run folder, and {unknown('model of the zoo', str(name), zoo.names())}"
        )
    is_new = not Path("runs", name).exists()
    run = zoo.working_copy(str(name))
    if is_new:
        say(console, f"{name} of the zoo is copied to {run.folder}")
    return run
