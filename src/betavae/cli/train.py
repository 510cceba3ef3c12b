"""The commands that train: `demo` and `train`."""

import dataclasses
import errno
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg as argument

from betavae import config_files
from betavae.cli.console import print_scores, progress_bar, say
from betavae.cli.recipes import find_recipe
from betavae.config import Config, unreached
from betavae.networks.registry import prior_note
from betavae.objectives.registry import objective_name
from betavae.objectives.settings import TC, Vae

if TYPE_CHECKING:
    from rich.console import Console

    from betavae.data.factor_data import FactorData
    from betavae.runs.folder import Run
    from betavae.training.progress import TrainingBar


Loggers = tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...]
"""Those of `betavae.integrations.loggers.LOGGERS`, which would import torch."""


def check_loggers(names: Sequence[str]) -> None:
    """See `betavae.integrations.loggers.check_loggers`, which is imported only for loggers."""
    if names:
        from betavae.integrations.loggers import check_loggers

        check_loggers(names)


@dataclass(frozen=True)
class DemoCommand:
    """Train a β-TCVAE on generated images in minutes on a CPU, score it, draw it and write a report."""

    data: Literal["dsprites", "rooms"] = "dsprites"
    """Images: dsprites, white sprites on black, or rooms, coloured objects in rooms."""
    model: Literal["burgess", "affine"] = "burgess"
    """Architecture: burgess, a plain convolutional network, or affine, whose decoder moves a small image by an affine
    map, for dsprites."""
    out: Path | None = None
    """Run folder. If unset, runs/demo, or runs/demo-rooms."""
    seed: int = 0
    """Seed of all random numbers."""
    overwrite: bool = False
    """Replace the run that is in the folder."""
    open: bool = False
    """Open a page in the browser that shows the training while it runs, and at the end the report."""
    log: Loggers = ()
    """Tools to log curves, images, settings and scores to; see docs/how-to/loggers.md. They are in extras: pip install
    'betavae[tensorboard]'."""

    def __call__(self, console: "Console") -> dict[str, Any]:
        check_loggers(self.log)
        if (self.data, self.model) == ("rooms", "affine"):
            raise ValueError("model affine moves white sprites, which rooms does not have: give model burgess")
        variant = "rooms" if self.data == "rooms" else "affine" if self.model == "affine" else ""
        recipe = f"demo-{variant}" if variant else "demo"
        out = self.out or Path("runs", "demo-rooms" if self.data == "rooms" else "demo")
        if (out / "config.json").exists() and not self.overwrite:
            from betavae.runs.folder import open_run

            existing = open_run(out).config
            if (existing.data, existing.seed, existing.model) != (self.data, self.seed, self.model):
                raise ValueError(
                    f"{out} holds a run of {existing.model} on {existing.data} with seed {existing.seed}; name another "
                    "folder with --out, or replace it with --overwrite"
                )
            flags = f"--data {self.data} --model {self.model} --seed {self.seed} --out {out}"
            run = resume(out, console, f"betavae demo {flags} --overwrite", self.open, self.log)
        else:
            config = dataclasses.replace(config_files.load(find_recipe(recipe)), seed=self.seed)
            run = start(config, out, self.overwrite, console, self.open, self.log)
        show(run, console, brief=True)
        return result_of(run)


@dataclass(frozen=True)
class TrainCommand:
    """Train, score and draw one run.

    The settings start from the defaults, from a recipe (--from recipes/burgess.toml), or from another run
    (--from runs/x/config.json). Other flags override single settings.
    """

    config: Config
    recipe: Annotated[str | None, argument(name="from", metavar="FILE")] = None
    """Recipe to start from: a .toml file, the config.json of a run, or the name of a recipe that ships with betavae."""
    resume: Annotated[Path | None, argument(metavar="RUN")] = None
    """Resume the run in this folder with its own settings."""
    out: Path | None = None
    """Run folder. If unset, runs/<objective>-<model>-seed<seed>-<digest of the settings>."""
    overwrite: bool = False
    """Replace the run that is in the folder."""
    open: bool = False
    """Open a page in the browser that shows the training while it runs, and at the end the report."""
    log: Loggers = ()
    """Tools to log curves, images, settings and scores to; see docs/how-to/loggers.md. They are in extras: pip install
    'betavae[tensorboard]'. A resumed run continues its logs without this flag."""

    def __call__(self, console: "Console") -> dict[str, Any]:
        check_loggers(self.log)
        if self.resume:
            repeat = f"betavae train --from {self.resume}/config.json --out FOLDER"
            run = resume(self.resume, console, repeat, self.open, self.log)
        else:
            run = start(self.config, self.out, self.overwrite, console, self.open, self.log)
        show(run, console, brief=True)
        return result_of(run)


def start(
    config: Config, out: Path | None, overwrite: bool, console: "Console", live: bool = False, log: Sequence[str] = ()
) -> "Run":
    """Train, score and draw a new run; shows its progress, with `live` also in the browser, and logs it."""
    from betavae.data.loading import load_for
    from betavae.experiment import experiment

    folder = out or Path("runs") / config_files.run_id(config)
    name = objective_name(config.objective)
    say(console, f"{folder}: {name}, {config.model}, {config.steps:,} steps")
    if late := unreached(config):
        say(console, f"note: training ends after {config.steps:,} steps, before {', '.join(late)}")
    with progress_bar(console, "preparing images") as progress:
        data = load_for(config, partial(progress, "preparing images"))
    with _training(config, folder, console) as bar, _shown_live(live, folder, data, console):
        return experiment(config, folder, overwrite=overwrite, data=data, quiet=True, callbacks=[bar], log=log)


def resume(folder: Path, console: "Console", repeat: str, live: bool = False, log: Sequence[str] = ()) -> "Run":
    """Resume a run and its logs. If it is finished, print `repeat`, the command that trains it again."""
    from betavae.experiment import resume
    from betavae.runs.contents import data_of
    from betavae.runs.folder import open_run

    run = open_run(folder)
    if run.done:
        say(console, f"{folder} is finished already; to train it again: {repeat}")
        return run
    data = data_of(run) if live else None
    with _training(run.config, folder, console) as bar, _shown_live(live, folder, data, console):
        return resume(folder, data=data, quiet=True, callbacks=[bar], log=log or None)


@contextmanager
def _shown_live(live: bool, folder: Path, data: "FactorData | None", console: "Console") -> Iterator[None]:
    """Show a training in the browser, if `live`. A page that cannot be served is said and does no harm."""
    with ExitStack() as pages:
        if live and data is not None:
            import webbrowser

            from betavae.report.live import live_page

            try:
                address = pages.enter_context(live_page(folder, data))
                say(console, f"live page: {address}")
                webbrowser.open(address)
            except Exception as error:  # no port, no browser
                say(console, f"note: no live page ({error})")
        yield


@contextmanager
def _training(config: Config, folder: Path, console: "Console") -> Iterator["TrainingBar"]:
    """A progress bar for a training. If the training is interrupted, print how to resume it."""
    from betavae.training.progress import TrainingBar

    try:
        with TrainingBar(config, console) as bar:
            yield bar
    except (KeyboardInterrupt, OSError) as error:
        command = f"betavae train --resume {shlex.quote(str(folder))}"
        if isinstance(error, KeyboardInterrupt):
            say(console, f"interrupted; resume with: {command}")
        elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            say(console, f"the last checkpoint is intact; free disk space, then resume with: {command}")
        raise


def result_of(run: "Run") -> dict[str, Any]:
    """What --json prints of a run: its folder, its report and the content of scores.json."""
    from betavae.runs.folder import read_json

    report = run.path("report.html")
    return {"run": run.folder, "report": report if report.exists() else None, **read_json(run, "scores.json")}


def show(run: "Run", console: "Console", brief: bool = False) -> None:
    """Print a run's scores, the latents that capture each factor, and the path of the report.

    Args:
        run: a scored run.
        console: where to print.
        brief: print only the most important scores and those that the run's settings request.
    """
    from betavae.metrics import score_info
    from betavae.runs.folder import read_json

    values = read_json(run, "scores.json")
    provenance = read_json(run, "provenance.json") if run.path("provenance.json").exists() else {}
    scores = values.get("scores", {})
    if brief:
        requested = run.config.scores
        scores = [name for name in scores if score_info(name).prominence > 1 or name.split(".")[0] in requested]
    print_scores(values, str(run.folder), console, scores)
    if note := prior_note([run.config.model]):
        say(console, note)
    beta, pixels = _kl_weight(run.config), provenance.get("data", {}).get("pixels")
    if brief and beta is not None and pixels:
        from betavae.objectives.terms import equivalent_betas

        equivalent = equivalent_betas(beta, run.config.latent_dim, pixels)
        others = ", ".join(f"{value:.3g} with {name}" for name, value in equivalent.items())
        say(console, f"KL weight: {beta:g} with sums over pixels and latents, which equals {others}")
    if run.path("report.html").exists():
        say(console, f"report: {run.path('report.html')}")


def _kl_weight(config: Config) -> float | None:
    """The constant weight of the KL, or None. It is 1 for `tc`, whose β weights the total correlation."""
    if isinstance(config.objective, Vae | TC):
        return 1.0
    return getattr(config.objective, "beta", None)
