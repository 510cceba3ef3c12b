"""The command line: one dataclass a command, each calling one public function; heavy modules load when one runs."""

import dataclasses
import difflib
import errno
import io
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import partial
from importlib import metadata, resources
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union
from unicodedata import category

import tyro
from tyro.conf import CascadeSubcommandArgs, OmitArgPrefixes, OmitSubcommandPrefixes, Positional
from tyro.conf import arg as argument
from tyro.conf import subcommand as command

from betavae import config as configuration
from betavae import flags, own_code
from betavae.checks import check_name, unknown
from betavae.config import Config
from betavae.settings import OBJECTIVE_SETTINGS, TC, Vae, objective_name

if TYPE_CHECKING:
    from rich.console import Console

    from betavae.progress import TrainingBar
    from betavae.run import Run
    from betavae.study import Execute

HEADLINES = (
    *("dci.disentanglement", "dci.completeness", "dci.informativeness", "mig", "sap.classification"),
    *("beta_vae.accuracy", "factor_vae.accuracy", "modularity", "infomec.infom", "infomec.infoc", "infomec.infoe"),
)
"""Scores that are printed at the end of a run; the report and `betavae score` show all."""
WORKERS_A_CORE = 8
"""Most workers that a study may have, a core; each is a process of some hundred megabytes."""


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
            from betavae.run import open_run

            found = open_run(self.out).config
            if (found.seed, found.model) != (self.seed, self.model):
                raise ValueError(
                    f"{self.out} holds a run of {found.model} with seed {found.seed}; name another folder with --out, "
                    "or replace it with --overwrite"
                )
            again = f"betavae demo --model {self.model} --seed {self.seed} --out {self.out} --overwrite"
            run = _resume(self.out, console, again)
        else:
            recipe = "demo" if self.model == "burgess" else f"demo-{self.model}"
            config = dataclasses.replace(configuration.load(find_recipe(recipe)), seed=self.seed)
            run = _start(config, self.out, self.overwrite, console)
        _show(run, console, HEADLINES)


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
            run = _resume(self.resume, console, f"betavae train --from {self.resume}/config.json --out FOLDER")
        else:
            run = _start(self.config, self.out, self.overwrite, console)
        _show(run, console, HEADLINES)


@dataclass(frozen=True)
class Score:
    """Score a trained run again and write its scores.json, or score codes from a model trained anywhere.

    A run: betavae score runs/x

    Two tables whose rows are samples: betavae score --codes codes.npy --factors factors.npy; also .npz, .safetensors,
    .csv, .tsv, .txt, .parquet

    One file with both, by names of columns: betavae score --codes 'all.csv:z*' --factors all.csv:shape,scale
    """

    run: Positional[Path | None] = None
    """Run folder."""
    codes: Annotated[str | None, argument(metavar="FILE")] = None
    """Table of codes, without a run. Of an .npz or .safetensors with several arrays: FILE:NAME. Of a .csv, .tsv, .txt
    or .parquet some columns, by names and wildcards: FILE:z*,u (in quotes)."""
    factors: Annotated[str | None, argument(metavar="FILE")] = None
    """Table of the factors of the same samples, likewise: numbers, or text for classes; names of columns are taken for
    theirs."""
    metrics: tuple[str, ...] = ()
    """Metrics to compute; all by default. Of a run they join what its scores.json has by the same protocol."""
    preset: Literal["default", "dlib"] = "default"
    """default: corrected; dlib: the protocol of disentanglement_lib."""
    seed: int | None = None
    """Seed of the evaluation; the run's, or 0."""
    evaluations: int = 5
    """Evaluations with different seeds, for the intervals."""
    num_train: int | None = None
    """Rows to fit metrics to: 10,000, or two thirds of a table of fewer than 15,000 rows, if not given."""
    num_test: int | None = None
    """Rows to judge on: 5,000, or one third of such a table, if not given."""
    discrete: bool = False
    """The codes of the table are discrete, as those of a quantised latent space are; InfoMEC then counts values."""
    sampled_codes: str | None = None
    """Table of codes drawn from the posteriors, beside --codes, for MIG of Chen et al."""
    sampled: bool = False
    """Score codes drawn from the run's posteriors instead of their means."""
    fold_orientation: bool = False
    """Score dSprites with its orientation up to the symmetry of each shape."""
    out: Path | None = None
    """JSON file to write the scores of two tables to."""

    def __call__(self, console: "Console") -> None:
        if (self.run is None) == (self.codes is None) or (self.codes is None) != (self.factors is None):
            if taken := next((name for name in self.metrics if Path(name).is_dir()), ""):
                raise ValueError(f"--metrics takes all names that follow, {taken} as well: give the run folder first")
            raise ValueError("give either a run folder, or --codes FILE together with --factors FILE")
        if self.run is None:
            self._score_tables(console)
        else:
            self._score_run(self.run, console)

    def _score_tables(self, console: "Console") -> None:
        import json

        from betavae.files import write_atomically
        from betavae.metrics.tables import load_table
        from betavae.scoring import score_tables

        if self.sampled or self.fold_orientation:
            raise ValueError("--sampled and --fold-orientation are for runs; tables are scored as they are")
        if self.sampled_codes is not None and self.metrics and "mig_chen" not in self.metrics:
            raise ValueError("--sampled-codes is for mig_chen, which is not among --metrics; leave one of the two out")
        out = None if self.out is None else _writable(self.out)
        codes, (factors, factor_names) = load_table(str(self.codes)).values, load_table(str(self.factors), labels=True)
        sampled = None if self.sampled_codes is None else load_table(self.sampled_codes).values
        with _naming(console) as progress:
            values = score_tables(
                codes,
                factors,
                self.metrics,
                preset=self.preset,
                seed=self.seed or 0,
                repeats=self.evaluations,
                num_train=self.num_train,
                num_test=self.num_test,
                discrete=self.discrete,
                sampled=sampled,
                factor_names=factor_names or None,
                progress=progress,
            )
        if out is not None:
            write_atomically(out, json.dumps(values, indent=2).encode())
        _print_scores(values, f"{self.codes}: {len(codes):,} samples, {self.preset} preset", console)

    def _score_run(self, folder: Path, console: "Console") -> None:
        from betavae.experiment import data_of, encode_run, score_run
        from betavae.run import open_run

        if self.sampled_codes is not None:
            raise ValueError("--sampled-codes is for tables; those of a run are drawn from its posteriors")
        if self.num_train is not None or self.num_test is not None or self.discrete:
            raise ValueError(
                "--num-train, --num-test and --discrete are for two tables; a run is scored as its settings say"
            )
        if self.out is not None:
            raise ValueError("--out is for two tables; the scores of a run stay in its scores.json")
        run = open_run(folder)
        data = data_of(run)
        if not run.path("codes.npz").exists():
            encode_run(run, data)
        with _naming(console) as progress:
            score_run(
                run,
                data,
                self.metrics,
                preset=self.preset,
                seed=self.seed,
                evaluations=self.evaluations,
                sampled=self.sampled,
                fold_orientation=self.fold_orientation,
                progress=progress,
            )
        _show(run, console)
        if run.path("report.html").exists():
            again = "betavae figures {0}, then betavae report {0}".format(shlex.quote(str(folder)))
            _say(console, f"figures and report show the scores before; to renew them: {again}")


@dataclass(frozen=True)
class Figures:
    """Draw a trained run's figures again."""

    run: Positional[Path]
    """Run folder."""
    formats: tuple[Literal["png", "pdf", "svg"], ...] = ("png",)
    """Formats of the still figures."""

    def __call__(self, console: "Console") -> None:
        from betavae.experiment import data_of, draw_run
        from betavae.run import open_run

        run = open_run(self.run)
        files = draw_run(run, data_of(run), self.formats)
        _say(console, f"{len(files)} files in {run.path('figures')}")


@dataclass(frozen=True)
class Report:
    """Write a trained run's report.html again; of several runs on the same data, a page that compares them.

    Of a study, its report and table, as far as it is."""

    runs: Positional[tuple[Path, ...]]
    """Run folders, or the folder of a study."""
    out: Path | None = None
    """Page to write where there are several runs; comparison.html if not given."""
    megabytes: float = 5.0
    """Size that the page of one run keeps below; a decoder that does not fit is left out."""

    def __call__(self, console: "Console") -> None:
        from betavae.experiment import compare_runs, data_of, report_run
        from betavae.run import open_run

        if len({folder.resolve() for folder in self.runs}) < len(self.runs):
            raise ValueError("a run is named twice; give each once")
        if len(self.runs) == 1 and self.out is not None:
            raise ValueError("--out is for a page of several runs; that of one stays in its folder")
        if len(self.runs) == 1 and (self.runs[0] / "study.json").is_file():
            from betavae.study import open_study
            from betavae.study_report import finish_study

            console.print(str(finish_study(open_study(self.runs[0]))), markup=False, soft_wrap=True)
            return
        if not self.runs:
            raise ValueError("which run? Give one run folder to report on it, or several to compare them")
        if not 1 <= self.megabytes <= 1000:
            raise ValueError(f"megabytes is {self.megabytes}; it must be from 1 to 1000, and 5 is what is easily sent")
        runs = [open_run(folder) for folder in self.runs]
        data = data_of(runs[0])
        if len(runs) == 1:
            page = report_run(runs[0], data, round(1e6 * self.megabytes))
        else:
            page = compare_runs(runs, data, _writable(self.out or Path("comparison.html")))
        _say(console, str(page))


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
            _say(console, f"no browser here; open {page}")


@dataclass(frozen=True)
class Study:
    """Run many settings with many seeds, a run a core; the same command continues it, and nothing is done twice.

    Give a recipe (a .toml file, or one of: smoke, affine, betas, objectives, precision, rotation, locatello-dsprites),
    or the settings as flags: --objective beta --beta 1 2 4 8 --seeds 10. With a recipe, flags of one value change what
    all its runs share.
    """

    settings: OmitArgPrefixes[flags.Varied]
    """Settings of `betavae train`, whose help explains them; several values of one are a grid."""
    recipe: Positional[str | None] = None
    """Recipe of the study."""
    seeds: tuple[int, ...] = ()
    """How many seeds, or which ones if several numbers are given."""
    out: Path | None = None
    """Folder of the study; studies/<name of the recipe> if not given."""
    workers: int | None = None
    """Processes, each with one thread; one a core if not given."""
    retry: bool = False
    """Run the failed runs again, from their last checkpoints."""
    extend: bool = False
    """Let a changed recipe add runs to the study."""
    overwrite: bool = False
    """Delete a study of another recipe that is in the folder."""
    plan: bool = False
    """Only say what would be run."""
    ray: Annotated[str | None, argument(metavar="ADDRESS")] = None
    """Run on the Ray cluster at this address instead; auto is the one that this machine belongs to."""
    url: str = ""
    """With --ray: where to keep run folders if the machines share no folder: s3://bucket/folder, gs://, file://."""
    cpus: float = 1.0
    """With --ray: cores that a run takes."""
    gpus: float = 0.0
    """With --ray: share of a GPU that a run takes."""

    def __call__(self, console: "Console") -> None:
        from betavae.progress import StudyBar
        from betavae.results import require
        from betavae.study import create_study, failures, run_study, states

        require("pyarrow")
        recipe, name = self._recipe()
        executor = self._executor()
        if self.plan:
            from betavae.grid import expand

            runs = expand(recipe, name)
            _say(console, "\n".join(runs))
            _say(console, f"{len(runs):,} runs")
            return
        folder = self.out or Path("studies") / Path(name).stem
        study = create_study(
            folder, recipe, extend=self.extend, overwrite=self.overwrite, where=name, check=self._check
        )
        ready = list(states(study).values()).count("done")
        _say(console, f"{folder}: {len(study.runs):,} runs, {ready:,} of them done")
        try:
            with _terminations(), StudyBar(console) as bar:
                tally = run_study(study, executor, retry=self.retry, watch=bar)
        except KeyboardInterrupt:
            _say(console, "interrupted; the same command continues")
            raise
        from betavae.study_report import finish_study

        _say(console, f"report: {finish_study(study)}")
        if tally.failed:
            for run, error in failures(study).items():
                _say(console, f"{run}: {error}")
            raise RuntimeError(f"{tally.failed} of {tally.total} runs failed, see above; --retry runs them again")

    def _check(self, runs: Mapping[str, Config]) -> None:
        """Refuse runs that cannot work with their data; other machines may have data that this one has not."""
        from betavae.study import check_runs
        from betavae.workers import load_once

        check_runs({run: c for run, c in runs.items() if self.ray is None or c.data == "dsprites"}, load_once)
        load_once.cache_clear()

    def _executor(self) -> "Execute":
        """Where to run: processes of this machine, or a Ray cluster."""
        from betavae import cluster, workers
        from betavae.metrics.inputs import num_threads

        if self.ray is not None:
            if self.workers is not None:
                raise ValueError("--workers is for this machine; with --ray say what a run takes: --cpus 1 --gpus 0.25")
            return partial(cluster.work, address=self.ray, url=self.url, cpus=self.cpus, gpus=self.gpus)
        if self.url or self.gpus or self.cpus != 1.0:
            raise ValueError(
                "--url, --cpus and --gpus are for a Ray cluster; name one with --ray auto or --ray ADDRESS"
            )
        cores = num_threads()
        if self.workers is not None and self.workers > WORKERS_A_CORE * cores:
            raise ValueError(
                f"workers is {self.workers}, and this machine has {cores} cores, which a worker each uses best: give "
                f"{WORKERS_A_CORE * cores} or fewer"
            )
        return partial(workers.work, workers=cores if self.workers is None else self.workers)

    def _recipe(self) -> tuple[dict[str, Any], str]:
        """The recipe that file and flags make, and its name."""
        from betavae.grid import expand

        given = flags.given(self.settings)
        shared: dict[str, Any] = {}
        if self.seeds:
            shared["seeds"] = self.seeds[0] if len(self.seeds) == 1 else [*self.seeds]
        if self.recipe is None:
            if not given and not shared:
                raise ValueError(
                    "what to run? Give a recipe such as `smoke`, or flags: --objective beta --beta 1 4 --seeds 5"
                )
            recipe = {**shared, "grid": [flags.grid(given)]}
            digest = configuration.run_id(next(iter(expand(recipe, "flags").values())))[-12:]
            return recipe, "-".join(map(str, [*given.get("objective", ["beta"]), digest]))
        path = find_recipe(self.recipe, "studies")
        recipe = configuration.read(path)
        grids = recipe.get("grid", {})
        varies = {key for table in (grids if isinstance(grids, list) else [grids]) for key in table}
        for key, values in given.items():
            if len(values) > 1 or key in varies or key not in flags.settings_of_runs():
                raise ValueError(
                    f"--{key.replace('_', '-')}: with a recipe, flags change only settings that all its runs share, to "
                    f"one value; copy {path} and change it there, or leave the recipe out"
                )
        return {**recipe, **shared, **{key: value for key, (value,) in given.items()}}, str(path)


@dataclass(frozen=True)
class Results:
    """Answer a question about a study in SQL, or show the median of every setting's scores; CSV where it is piped."""

    study: Positional[Path]
    """Folder of the study."""
    query: str | None = None
    """A query; the table is called results and has a row a run and metric. See docs/studies.md for its columns."""

    def __call__(self, console: "Console") -> None:
        import csv

        from rich.table import Table
        from rich.text import Text

        from betavae.results import query, refresh
        from betavae.study import open_study

        study = open_study(self.study)
        path = self.study / "results.parquet"
        refresh({run: (config, study.path(run)) for run, config in study.runs.items()}, path)
        names, rows = query(path, self.query or _MEDIANS)
        if not sys.stdout.isatty():  # for other programs
            csv.writer(sys.stdout, lineterminator="\n").writerows([names, *rows])
            sys.stdout.flush()
            return
        table = Table()
        for name in names:
            table.add_column(Text(name), overflow="fold")
        for row in rows:
            table.add_row(*(Text("" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v)) for v in row))
        console.print(table)


_MEDIANS = """SELECT metric, setting, count(value) AS n, median(value) AS median, quantile_cont(value, 0.25) AS quarter,
quantile_cont(value, 0.75) AS three_quarters FROM results GROUP BY ALL ORDER BY metric, median DESC"""


@dataclass(frozen=True)
class Export:
    """Write the drawn dSprites as an .npz file in the layout of the original, for tools that read that."""

    file: Positional[Path]
    """File to write."""
    overwrite: bool = False
    """Replace the file if it exists."""

    def __call__(self, console: "Console") -> None:
        from betavae.data import export_npz, load_data

        with _naming(console, "writing", transient=False) as progress:
            told = partial(progress, "writing")
            export_npz(load_data("dsprites"), self.file, overwrite=self.overwrite, progress=told)
        _say(console, f"{self.file}: {self.file.stat().st_size / 1e6:.1f} MB")


@dataclass(frozen=True)
class Check:
    """Say how many images of a dSprites .npz file differ from the drawn ones, and where."""

    file: Positional[Path]
    """File to read."""

    def __call__(self, console: "Console") -> None:
        from betavae.data import compare_npz

        with _naming(console, "comparing", transient=False) as progress:
            comparison = compare_npz(self.file, progress=partial(progress, "comparing"))
        _say(console, comparison.summary())


@dataclass(frozen=True)
class Data:
    """Write or check dSprites files."""

    action: (
        Annotated[Export, command("export", prefix_name=False)] | Annotated[Check, command("check", prefix_name=False)]
    )

    def __call__(self, console: "Console") -> None:
        self.action(console)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `betavae`: exit code 0, 2 with one sentence for a mistake or a failure, 130 when interrupted.

    141 where what reads its output, such as `head`, has had enough.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe on Windows knows no β
        sys.stdout.reconfigure(errors="replace")
    if words == ["--version"]:
        print(f"betavae {metadata.version('betavae')}")
        return
    from rich.console import Console

    try:
        words = _import_own(words)
        chosen = _parse(words)
        with _notes():
            chosen(Console())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to be written
        sys.exit(141)
    except (ValueError, TypeError, RuntimeError, MemoryError, ModuleNotFoundError) as error:
        sys.exit(_complain(str(error) or type(error).__name__))
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        sys.exit(_complain(named))


def _import_own(words: list[str]) -> list[str]:
    """Import the files of --import; what is left of the words."""
    files, left = _taken(words, "--import")
    known = dict(OBJECTIVE_SETTINGS)
    own_code.load(files)
    if files:  # tyro makes commands and flags of annotations
        for name in OBJECTIVE_SETTINGS.keys() - known.keys():
            settings: Any = OBJECTIVE_SETTINGS[name]
            Config.__annotations__["objective"] |= Annotated[settings, command(name, prefix_name=False)]
        Config.__annotations__["model"] = Literal[tuple(configuration.MODEL_NAMES)]
        Study.__annotations__["settings"] = OmitArgPrefixes[flags.varied()]  # type: ignore[misc]
    return left


def find_recipe(name: str, kind: str = "") -> Path:
    """Path of a recipe: a file, or one shipped with the package by its name, such as `demo`; kind `studies` for those.

    Raises:
        FileNotFoundError: neither; the shipped ones are listed.
    """
    path = Path(name)
    if (path / "config.json").is_file():
        raise FileNotFoundError(f"{name} is a run folder; its settings are in {path / 'config.json'}")
    if path.suffix:
        return path
    shipped = Path(str(resources.files("betavae"))) / "recipes" / kind
    if (shipped / f"{name}.toml").is_file():
        return shipped / f"{name}.toml"
    known = sorted(file.stem for file in shipped.glob("*.toml"))
    raise FileNotFoundError(unknown("recipe", name, known))


COMMANDS: Final = {
    "demo": Demo,
    "train": Train,
    "score": Score,
    "figures": Figures,
    "report": Report,
    "explore": Explore,
    "study": Study,
    "results": Results,
    "data": Data,
}


def _parse(words: list[str]) -> Any:
    first, second, *_ = *words, "--", "--"
    if not first.startswith("-"):
        check_name("command", first, COMMANDS)
    if first == "train" and not second.startswith("-"):
        check_name("objective", second, OBJECTIVE_SETTINGS)
    if first == "data" and not second.startswith("-"):
        check_name("command", second, ("export", "check"))
    named = {word.partition("=")[0] for word in words}
    if first == "train" and "--resume" in named and len(words) - ("--resume" in words) > 2:
        raise ValueError("--resume continues a run with the settings it has; leave out all other flags")
    recipe = next(iter(_taken(words, "--from")[0]), "")  # other flags' defaults depend on it
    train = Train(configuration.load(find_recipe(recipe)) if recipe else Config())
    defaults: dict[Any, Any] = {Train: {"default": train}}
    commands: Any = Union[  # noqa: UP007, of types made here
        tuple(
            Annotated[kind, command(name, prefix_name=False, **defaults.get(kind, {}))]
            for name, kind in COMMANDS.items()
        )
    ]
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(
                commands,
                prog="betavae",
                description="Train, score and draw disentangled representations.\n\n"
                "With --import FILE, before or after any command: objectives, architectures and metrics of your own.",
                args=words,
                config=(OmitSubcommandPrefixes, CascadeSubcommandArgs),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(_sentence(said.getvalue(), first if first in COMMANDS else "")) from None


def _sentence(box: str, command: str) -> str:
    """What tyro complains of in a box of several paragraphs: the first one, and the option that may have been meant."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    paragraphs = [[*group] for rule, group in groupby(lines, lambda line: not line.strip("─╰╯-")) if not rule]
    text = re.sub(r"^Error parsing (__\S*: )?", "", " ".join(paragraphs[0]).split(" Got errors:")[0]).rstrip(".")
    meant = next((after.split()[0].rstrip(",") for line, after in pairwise(lines) if line == "Perhaps you meant:"), "")
    if choice := re.search(r"invalid choice '(.*?)' .*Expected one of \((.*?)\)", text):
        meant = next(iter(difflib.get_close_matches(choice[1], re.findall(r"[\w-]+", choice[2]), 1, 0.5)), "")
    guess = f"did you mean {meant}? See" if meant and meant not in text.split() else "see"
    return f"{text[:1].lower()}{text[1:]}; {guess} betavae {command} --help".replace("  ", " ")


def _taken(words: Sequence[str], flag: str) -> tuple[list[str], list[str]]:
    """Values of a flag, and the other words."""
    values, left, rest = [], [], iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name == flag:
            values.append(value if equals else next(rest, ""))
        else:
            left.append(word)
    return values, left


def _start(config: Config, out: Path | None, overwrite: bool, console: "Console") -> "Run":
    from betavae.experiment import experiment

    folder = out or Path("runs") / configuration.run_id(config)
    name = objective_name(config.objective)
    _say(console, f"{folder}: {name}, {config.model}, {config.steps:,} steps")
    if late := configuration.unreached(config):
        _say(console, f"note: not reached in {config.steps:,} steps: {', '.join(late)}")
    with _training(config, folder, console) as bar:
        return experiment(config, folder, overwrite=overwrite, watch=bar)


def _resume(folder: Path, console: "Console", repeat: str) -> "Run":
    """Continue a run; of a finished one say how to repeat it."""
    from betavae.experiment import resume
    from betavae.run import open_run

    run = open_run(folder)
    if run.done:
        _say(console, f"{folder} is finished already; `{repeat}` repeats it")
        return run
    with _training(run.config, folder, console) as bar:
        return resume(folder, watch=bar)


@contextmanager
def _training(config: Config, folder: Path, console: "Console") -> Iterator["TrainingBar"]:
    """A bar for a training; where that is interrupted, how to go on is said."""
    from betavae.progress import TrainingBar

    try:
        with TrainingBar(config, console) as bar:
            yield bar
    except (KeyboardInterrupt, OSError) as error:
        again = f"betavae train --resume {shlex.quote(str(folder))}"
        if isinstance(error, KeyboardInterrupt):
            _say(console, f"interrupted; continue with: {again}")
        elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            _say(console, f"nothing saved before is lost; make room, then: {again}")
        raise


def _show(run: "Run", console: "Console", names: Collection[str] = ()) -> None:
    """Print a run's scores, or those of some names, which code carries what, and where the report is."""
    from betavae.run import read_json

    values = read_json(run, "scores.json")
    facts = read_json(run, "provenance.json") if run.path("provenance.json").exists() else {}
    asked_for = [name for name in values.get("scores", {}) if name.split(".")[0] in run.config.scores]
    _print_scores(values, str(run.folder), console, names and [*names, *asked_for])
    if note := configuration.prior_note([run.config.model]):
        _say(console, note)
    beta, pixels = _rate_weight(run.config), facts.get("data", {}).get("pixels")
    if names and beta is not None and pixels:
        equal = configuration.equivalent_betas(beta, run.config.codes, pixels)
        said = ", ".join(f"{value:.3g} with {name}" for name, value in equal.items())
        _say(console, f"the weight of the rate, {beta:g} of sums over pixels and codes, is {said}")
    if run.path("report.html").exists():
        _say(console, f"report: {run.path('report.html')}")


def _rate_weight(config: Config) -> float | None:
    """The constant weight of the rate, where an objective has one. The β of `tc` is of total correlation: its is 1."""
    if isinstance(config.objective, Vae | TC):
        return 1.0
    return getattr(config.objective, "beta", None)


def _print_scores(values: dict[str, Any], title: str, console: "Console", names: Collection[str] = ()) -> None:
    from rich.table import Table
    from rich.text import Text

    from betavae.metrics import METRICS, meaning_of
    from betavae.scoring import carrier_phrases

    intervals, chance, ceilings = (values.get(name, {}) for name in ("intervals", "chance", "ceilings"))
    columns = {"95 % interval": intervals, "chance": chance, "ceiling": ceilings}
    scores = values.get("scores", {})
    chosen = [name for name in scores if name in names] or list(scores)
    table = Table("", "score")
    table.columns[1].overflow = "fold"
    for name in ("value", *(name for name, found in columns.items() if found)):
        table.add_column(name, justify="right", no_wrap=True)
    for name in chosen:
        ends = intervals.get(name, [None])
        cells = {
            "95 % interval": "" if None in ends else "–".join(map(_number, ends)),
            "chance": _number(chance[name]) if name in chance else "",
            "ceiling": _number(ceilings[name]) if name in ceilings else "",
        }
        cells_shown = (cells[column] for column, found in columns.items() if found)
        table.add_row(meaning_of(name).arrow, Text(name), _number(scores[name]), *cells_shown)
    for name, value in values.get("held_out", {}).items():
        table.add_row("", Text("held-out " + name.replace("_", " ")), f"{value:.2f}")
    _say(console, title)
    console.print(table)
    notes: list[str] = values.get("notes", [])
    if len(chosen) < len(scores):
        unasked = METRICS.keys() - {name.partition(".")[0] for name in chosen}
        missing = {note: metric for note in notes if (metric := note.partition(" is left out:")[0]) in unasked}
        notes = [note for note in notes if note not in missing]
        why = f", and why {' and '.join(missing.values())} could not be had," if missing else ""
        _say(console, f"{len(scores) - len(chosen)} more scores{why} are in scores.json and in the report")
    for note in notes:
        _say(console, f"note: {note}")
    console.print(" · ".join(carrier_phrases(values)), markup=False, soft_wrap=not console.is_terminal)


def _say(console: "Console", text: str) -> None:
    """Print text as it is: no markup, no colours, no line broken."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _writable(file: Path) -> Path:
    """A file that is to be written after long work; its folder is made before.

    Raises:
        IsADirectoryError: there is a folder of its name.
    """
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder; name a file in it with --out")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


@contextmanager
def _naming(
    console: "Console", what: str = "scoring", transient: bool = True
) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar; gives a function of what is being done, parts done and parts in all."""
    from rich.progress import Progress

    with Progress(console=console, disable=not console.is_terminal, transient=transient) as bar:
        task = bar.add_task(what)
        yield lambda doing, done, total: bar.update(task, description=doing, completed=done, total=total)


@contextmanager
def _terminations() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: workers save their checkpoints."""
    import signal

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _notes() -> Iterator[None]:
    """What the package itself warns of is said in a sentence; what others warn of, in Python's way."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, kind: type[Warning], source: str, *rest: Any) -> None:
            if Path(__file__).parent in Path(source).parents:
                _complain(f"note: {message}")
            else:
                usual(message, kind, source, *rest)

        warnings.showwarning = show  # type: ignore[assignment]  # Python calls it by position
        yield


def _complain(sentence: str) -> int:
    """Print a sentence; what controls a terminal is shown instead, for files, keys and names may be anybody's."""
    line = " ".join(sentence.splitlines())
    shown = (repr(letter)[1:-1] if category(letter).startswith("C") else letter for letter in line)
    print(f"betavae: {''.join(shown)}", file=sys.stderr)
    return 2
