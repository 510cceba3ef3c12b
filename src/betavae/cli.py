"""The command line: one dataclass a command, each calling one public function; heavy modules load when one runs."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import CascadeSubcommandArgs, OmitArgPrefixes, OmitSubcommandPrefixes, Positional
from tyro.conf import arg as argument
from tyro.conf import subcommand as command

from betavae import config as configuration
from betavae.config import Config

if TYPE_CHECKING:
    from rich.console import Console

    from betavae.run import Run


@dataclass(frozen=True)
class Demo:
    """Train, score and draw a β-TCVAE on dSprites in minutes, on a CPU; then open the report it names."""

    out: Path = Path("runs/demo")
    """Run folder."""
    seed: int = 0
    """Of everything random."""
    overwrite: bool = False
    """Replace a demo that is there already."""

    def __call__(self, console: "Console") -> None:
        import dataclasses

        if (self.out / "config.json").exists() and not self.overwrite:
            run = _resume(self.out, console)
        else:
            config = dataclasses.replace(configuration.load(find_recipe("demo")), seed=self.seed)
            run = _start(config, self.out, self.overwrite, console)
        _show(run, console)


@dataclass(frozen=True)
class Train:
    """Train, score and draw one run.

    Start from the defaults, from a recipe (--from recipes/burgess.toml), or from the settings of another run
    (--from runs/x/config.json); further flags change single settings.
    """

    config: OmitArgPrefixes[Config]
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
            if self != Train(Config(), resume=self.resume):
                raise ValueError("--resume continues a run with the settings it has; leave out all other flags")
            run = _resume(self.resume, console)
        else:
            run = _start(self.config, self.out, self.overwrite, console)
        _show(run, console)


@dataclass(frozen=True)
class Score:
    """Score a trained run again: encode if needed, write scores.json, print the table."""

    run: Positional[Path]
    """Run folder."""

    def __call__(self, console: "Console") -> None:
        from betavae.data import load_data
        from betavae.experiment import encode_run, score_run
        from betavae.run import open_run

        run = open_run(self.run)
        data = load_data(run.config.data)
        if not run.path("codes.npz").exists():
            encode_run(run, data)
        score_run(run, data)
        _show(run, console)


@dataclass(frozen=True)
class Figures:
    """Draw a trained run's figures again."""

    run: Positional[Path]
    """Run folder."""
    formats: tuple[Literal["png", "pdf", "svg"], ...] = ("png",)
    """Formats of the still figures."""

    def __call__(self, console: "Console") -> None:
        from betavae.data import load_data
        from betavae.experiment import draw_run
        from betavae.run import open_run

        run = open_run(self.run)
        files = draw_run(run, load_data(run.config.data), self.formats)
        console.print(f"{len(files)} files in {run.path('figures')}", markup=False)


@dataclass(frozen=True)
class Report:
    """Write a trained run's report.html again; of several runs on the same data, a page that compares them."""

    runs: Positional[tuple[Path, ...]]
    """Run folders."""
    out: Path = Path("comparison.html")
    """Page to write where there are several runs."""

    def __call__(self, console: "Console") -> None:
        from betavae.data import load_data
        from betavae.experiment import compare_runs, report_run
        from betavae.run import open_run

        if not self.runs:
            raise ValueError("which run? Give one run folder to report on it, or several to compare them")
        runs = [open_run(folder) for folder in self.runs]
        data = load_data(runs[0].config.data)
        page = report_run(runs[0], data) if len(runs) == 1 else compare_runs(runs, data, self.out)
        console.print(str(page), markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Explore:
    """Open a run's report in the browser; print its path where there is none."""

    run: Positional[Path]
    """Run folder."""

    def __call__(self, console: "Console") -> None:
        import webbrowser

        from betavae.run import open_run

        page = open_run(self.run).path("report.html").resolve()
        if not page.exists():
            Report((self.run,))(console)
        if not webbrowser.open(page.as_uri()):
            console.print(f"no browser here; open {page}", markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Export:
    """Write the drawn dSprites as an .npz file in the layout of the original, for tools that read that."""

    file: Positional[Path]
    """File to write."""
    overwrite: bool = False
    """Replace the file if it exists."""

    def __call__(self, console: "Console") -> None:
        from betavae.data import export_npz, load_data

        with _counting(console, "writing") as progress:
            export_npz(load_data("dsprites"), self.file, overwrite=self.overwrite, progress=progress)
        console.print(f"{self.file}: {self.file.stat().st_size / 1e6:.1f} MB", markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Check:
    """Say how many images of a dSprites .npz file differ from the drawn ones, and where."""

    file: Positional[Path]
    """File to read."""

    def __call__(self, console: "Console") -> None:
        from betavae.data import compare_npz

        with _counting(console, "comparing") as progress:
            comparison = compare_npz(self.file, progress=progress)
        console.print(comparison.summary(), markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Data:
    """Write or check dSprites files."""

    action: (
        Annotated[Export, command("export", prefix_name=False)] | Annotated[Check, command("check", prefix_name=False)]
    )

    def __call__(self, console: "Console") -> None:
        self.action(console)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `betavae`: exit code 0, 2 with one sentence for a mistake or a failure, 130 when interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    from rich.console import Console

    try:
        chosen = _parse(words)
        chosen(Console())
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, TypeError, RuntimeError, MemoryError) as error:
        sys.exit(_complain(str(error) or type(error).__name__))
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        sys.exit(_complain(named))


def find_recipe(name: str) -> Path:
    """Path of a recipe: a file, or one shipped with the package by its name, such as `demo`.

    Raises:
        FileNotFoundError: neither; the shipped ones are listed.
    """
    path = Path(name)
    if path.suffix:
        return path
    shipped = Path(str(resources.files("betavae"))) / "recipes"
    if (shipped / f"{name}.toml").is_file():
        return shipped / f"{name}.toml"
    known = sorted(file.stem for file in shipped.glob("*.toml"))
    raise FileNotFoundError(configuration.unknown("recipe", name, known))


def _parse(words: list[str]) -> Any:
    default = Train(configuration.load(find_recipe(recipe))) if (recipe := _recipe(words)) else Train(Config())
    commands = (
        Annotated[Demo, command("demo", prefix_name=False)]
        | Annotated[Train, command("train", default=default, prefix_name=False)]
        | Annotated[Score, command("score", prefix_name=False)]
        | Annotated[Figures, command("figures", prefix_name=False)]
        | Annotated[Report, command("report", prefix_name=False)]
        | Annotated[Explore, command("explore", prefix_name=False)]
        | Annotated[Data, command("data", prefix_name=False)]
    )
    return tyro.cli(
        commands,
        prog="betavae",
        description="Train, score and draw disentangled representations.",
        args=words,
        config=(OmitSubcommandPrefixes, CascadeSubcommandArgs),
    )


def _recipe(words: list[str]) -> str | None:
    """The value of --from, which other flags' defaults depend on."""
    for number, word in enumerate(words):
        if word == "--from" and number + 1 < len(words):
            return words[number + 1]
        if word.startswith("--from="):
            return word.removeprefix("--from=")
    return None


def _start(config: Config, out: Path | None, overwrite: bool, console: "Console") -> "Run":
    from betavae.experiment import experiment
    from betavae.progress import TrainingBar

    folder = out or Path("runs") / configuration.run_id(config)
    console.print(f"{folder}: {configuration.objective_name(config.objective)}, {config.model}, {config.steps:,} steps")
    try:
        with TrainingBar(config, console) as bar:
            return experiment(config, folder, overwrite=overwrite, watch=bar)
    except KeyboardInterrupt:
        console.print(f"interrupted; continue with: betavae train --resume {folder}", markup=False, soft_wrap=True)
        raise


def _resume(folder: Path, console: "Console") -> "Run":
    from betavae.experiment import resume
    from betavae.progress import TrainingBar
    from betavae.run import open_run

    run = open_run(folder)
    if run.done:
        console.print(f"{folder} is finished already; --overwrite repeats it", markup=False, soft_wrap=True)
        return run
    try:
        with TrainingBar(run.config, console) as bar:
            return resume(folder, watch=bar)
    except KeyboardInterrupt:
        console.print(f"interrupted; continue with: betavae train --resume {folder}", markup=False, soft_wrap=True)
        raise


def _show(run: "Run", console: "Console") -> None:
    """Print a run's scores, which code carries what, and where the report is."""
    from rich.table import Table

    from betavae.experiment import carrier_phrases
    from betavae.run import read_json

    values = read_json(run, "scores.json")
    table = Table(title=str(run.folder), title_justify="left")
    table.add_column("score")
    table.add_column("value", justify="right")
    for name, value in values.get("scores", {}).items():
        table.add_row(name, "undefined" if value is None else f"{value:.3f}")
    for name, value in values["held_out"].items():
        table.add_row(f"held-out {name}", f"{value:.2f}")
    console.print(table)
    console.print(" · ".join(carrier_phrases(values)), markup=False)
    beta, pixels = getattr(run.config.objective, "beta", None), read_json(run, "provenance.json")["data"].get("pixels")
    if beta is not None and pixels:
        equal = configuration.equivalent_betas(beta, run.config.codes, pixels)
        said = ", ".join(f"{value:.3g} with {name}" for name, value in equal.items())
        console.print(f"β {beta:g} of sums over pixels and codes is {said}", markup=False, soft_wrap=True)
    if run.path("report.html").exists():
        console.print(f"report: {run.path('report.html')}", markup=False, soft_wrap=True)


def _counting(console: "Console", what: str) -> Any:
    """A context with a progress bar; gives a function of images done and images in all."""
    from contextlib import contextmanager

    from rich.progress import Progress

    @contextmanager
    def counting() -> Any:
        with Progress(console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task(what)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    return counting()


def _complain(sentence: str) -> int:
    print(f"betavae: {sentence}", file=sys.stderr)
    return 2
