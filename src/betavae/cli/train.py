"""The commands that train: `demo` and `train`."""

import dataclasses
import errno
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg as argument

from betavae import config as configuration
from betavae.config import Config
from betavae.objectives.registry import objective_name
from betavae.objectives.settings import TC, Vae

if TYPE_CHECKING:
    from rich.console import Console

    from betavae.cli.progress import TrainingBar
    from betavae.runs.folder import Run
from betavae.cli.console import print_scores, say
from betavae.cli.recipes import find_recipe


@dataclass(frozen=True)
class Demo:
    """Train, score and draw a β-TCVAE on dSprites in minutes, on a CPU; then open the report it names."""

    model: Literal["burgess", "affine"] = "burgess"
    """Network: burgess, a plain one, or affine, whose decoder places a small picture by an affine map."""
    out: Path = Path("runs/demo")
    """Run folder."""
    seed: int = 0
    """Of everything random."""
    overwrite: bool = False
    """Replace a demo that is there already."""

    def __call__(self, console: "Console") -> None:
        if (self.out / "config.json").exists() and not self.overwrite:
            from betavae.runs.folder import open_run

            found = open_run(self.out).config
            if (found.seed, found.model) != (self.seed, self.model):
                raise ValueError(
                    f"{self.out} holds a run of {found.model} with seed {found.seed}; name another folder with --out, "
                    "or replace it with --overwrite"
                )
            again = f"betavae demo --model {self.model} --seed {self.seed} --out {self.out} --overwrite"
            run = resume(self.out, console, again)
        else:
            recipe = "demo" if self.model == "burgess" else f"demo-{self.model}"
            config = dataclasses.replace(configuration.load(find_recipe(recipe)), seed=self.seed)
            run = start(config, self.out, self.overwrite, console)
        show(run, console, brief=True)


@dataclass(frozen=True)
class Train:
    """Train, score and draw one run.

    Start from the defaults, from a recipe (--from recipes/burgess.toml), or from the settings of another run
    (--from runs/x/config.json); further flags change single settings.
    """

    config: Config
    recipe: Annotated[str | None, argument(name="from", metavar="FILE")] = None
    """Recipe to start from: a .toml, a run's config.json, or the name of a recipe shipped with betavae."""
    resume: Annotated[Path | None, argument(metavar="RUN")] = None
    """Continue the run in this folder with its own settings."""
    out: Path | None = None
    """Run folder; runs/<objective>-<model>-seed<seed>-<digest of the settings> if not given."""
    overwrite: bool = False
    """Replace a run that is in the folder already."""

    def __call__(self, console: "Console") -> None:
        if self.resume:
            run = resume(self.resume, console, f"betavae train --from {self.resume}/config.json --out FOLDER")
        else:
            run = start(self.config, self.out, self.overwrite, console)
        show(run, console, brief=True)


def start(config: Config, out: Path | None, overwrite: bool, console: "Console") -> "Run":
    from betavae.experiment import experiment

    folder = out or Path("runs") / configuration.run_id(config)
    name = objective_name(config.objective)
    say(console, f"{folder}: {name}, {config.model}, {config.steps:,} steps")
    if late := configuration.unreached(config):
        say(console, f"note: not reached in {config.steps:,} steps: {', '.join(late)}")
    with _training(config, folder, console) as bar:
        return experiment(config, folder, overwrite=overwrite, watch=bar)


def resume(folder: Path, console: "Console", repeat: str) -> "Run":
    """Continue a run; of a finished one say how to repeat it."""
    from betavae.experiment import resume
    from betavae.runs.folder import open_run

    run = open_run(folder)
    if run.done:
        say(console, f"{folder} is finished already; `{repeat}` repeats it")
        return run
    with _training(run.config, folder, console) as bar:
        return resume(folder, watch=bar)


@contextmanager
def _training(config: Config, folder: Path, console: "Console") -> Iterator["TrainingBar"]:
    """A bar for a training; where that is interrupted, how to go on is said."""
    from betavae.cli.progress import TrainingBar

    try:
        with TrainingBar(config, console) as bar:
            yield bar
    except (KeyboardInterrupt, OSError) as error:
        again = f"betavae train --resume {shlex.quote(str(folder))}"
        if isinstance(error, KeyboardInterrupt):
            say(console, f"interrupted; continue with: {again}")
        elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            say(console, f"nothing saved before is lost; make room, then: {again}")
        raise


def show(run: "Run", console: "Console", brief: bool = False) -> None:
    """Print the scores of a run, which latent captures what, and the path of the report.

    Args:
        run: finished run.
        console: where to print.
        brief: print only the most important scores and those that the settings of the run ask for.
    """
    from betavae.metrics import score_info
    from betavae.runs.folder import read_json

    values = read_json(run, "scores.json")
    facts = read_json(run, "provenance.json") if run.path("provenance.json").exists() else {}
    scores = values.get("scores", {})
    if brief:
        scores = [name for name in scores if score_info(name).prominence > 1 or name.split(".")[0] in run.config.scores]
    print_scores(values, str(run.folder), console, scores)
    if note := configuration.prior_note([run.config.model]):
        say(console, note)
    beta, pixels = _rate_weight(run.config), facts.get("data", {}).get("pixels")
    if brief and beta is not None and pixels:
        equal = configuration.equivalent_betas(beta, run.config.latent_dim, pixels)
        said = ", ".join(f"{value:.3g} with {name}" for name, value in equal.items())
        say(console, f"the weight of the rate, {beta:g} of sums over pixels and latents, is {said}")
    if run.path("report.html").exists():
        say(console, f"report: {run.path('report.html')}")


def _rate_weight(config: Config) -> float | None:
    """The constant weight of the rate, where an objective has one. The β of `tc` is of total correlation: its is 1."""
    if isinstance(config.objective, Vae | TC):
        return 1.0
    return getattr(config.objective, "beta", None)
