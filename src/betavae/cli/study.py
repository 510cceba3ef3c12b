"""The commands `study` and `results`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional
from tyro.conf import arg as argument

from betavae import config_files
from betavae.cli import flags
from betavae.cli.console import say, terminate_as_interrupt
from betavae.cli.recipes import find_recipe
from betavae.config import Config
from betavae.data.registry import DATASETS

if TYPE_CHECKING:
    from rich.console import Console

    from betavae.studies.study import Executor

WORKERS_A_CORE = 8
"""Largest number of workers per core. Each worker is a process of some hundred megabytes."""


@dataclass(frozen=True)
class StudyCommand:
    """Train a sweep: many settings with many seeds, one run per core. The same command resumes it.

    Give a recipe (a .toml file, or one of: smoke, affine, betas, objectives, precision, rotation, held-out, correlated,
    locatello-dsprites), or the settings as flags: --objective beta --beta 1 2 4 8 --seeds 10. With a recipe, a flag
    with one value changes that setting in all runs. Runs that are finished are not repeated.
    """

    settings: Any
    """Settings of a run; `betavae train --help` explains them. Several values of a setting form a grid."""
    recipe: Positional[str | None] = None
    """Recipe of the study."""
    seeds: tuple[int, ...] = ()
    """Number of seeds, or the seeds themselves if you give several numbers."""
    out: Path | None = None
    """Folder of the study. If unset, studies/<name of the recipe>."""
    workers: int | None = None
    """Number of worker processes, each with one thread. If unset, one per core."""
    retry: bool = False
    """Resume the failed runs from their last checkpoints."""
    extend: bool = False
    """Add the new runs of a changed recipe to the study."""
    overwrite: bool = False
    """Delete the study that is in the folder if it has another recipe."""
    plan: bool = False
    """Print the runs of the study and exit; with --index or --of, those of each index."""
    index: int | None = None
    """Execute one share of the study, the one with this number from 0, for array jobs of a scheduler such as Slurm:
    --index $SLURM_ARRAY_TASK_ID. Tasks may share the folder. The results are collected later, by `betavae results`."""
    of: int | None = None
    """Number of shares. If unset, the number of runs: each index is one run."""
    ray: Annotated[str | None, argument(metavar="ADDRESS")] = None
    """Run on the Ray cluster at this address. auto is the cluster that this machine belongs to."""
    url: str = ""
    """With --ray: storage for the run folders if the machines share no folder: s3://bucket/folder, gs://, file://."""
    cpus: float = 1.0
    """With --ray: cores per run."""
    gpus: float = 0.0
    """With --ray: GPUs per run; a fraction shares a GPU among runs."""

    def __call__(self, console: "Console") -> None:
        from betavae.cli.progress import StudyBar
        from betavae.studies.results import require
        from betavae.studies.shares import share_of
        from betavae.studies.study import create_study, failures, run_study, states
        from betavae.studies.sweep import expand

        require("pyarrow")
        self._check_share()
        recipe, name = self._recipe()
        executor, runs = self._executor(), expand(recipe, name)
        share = None if self.index is None else share_of([*runs], self.index, self.of)
        if self.plan:
            self._print_plan(runs, console)
            return
        folder = self.out or Path("studies") / Path(name).stem

        def check(unfinished: Mapping[str, Config]) -> None:
            self._check({run: config for run, config in unfinished.items() if share is None or run in share})

        study = create_study(
            folder,
            recipe,
            extend=self.extend,
            overwrite=self.overwrite,
            where=name,
            check=check,
            wait=share is not None,
        )
        state_of = states(study)
        chosen = [*study.runs] if share is None else share
        num_done = sum(state_of[run] == "done" for run in chosen)
        part = "" if share is None else f"; index {self.index} has {len(share):,}"
        say(console, f"{folder}: {len(study.runs):,} runs{part}, {num_done:,} of them done")
        try:
            with terminate_as_interrupt(), StudyBar(console) as bar:
                tally = run_study(study, executor, retry=self.retry, watch=bar, share=share)
        except KeyboardInterrupt:
            say(console, "interrupted; resume with the same command")
            raise
        if share is None:
            from betavae.studies.page import finish_study

            say(console, f"report: {finish_study(study)}")
        else:
            say(console, f"when all indices are done: betavae results {folder}, betavae report {folder}")
        if tally.failed:
            for run, error in failures(study).items():
                if run in chosen:
                    say(console, f"{run}: {error}")
            raise RuntimeError(f"{tally.failed} of {tally.total} runs failed, see above; resume them with --retry")

    def _check_share(self) -> None:
        """Refuse flags that do not work with --index and --of."""
        if self.index is None and self.of is not None and not self.plan:
            raise ValueError(f"--of {self.of} is the number of shares; give the number of one with --index, from 0")
        if self.index is not None and (self.ray is not None or self.overwrite):
            flag = "--overwrite" if self.overwrite else "--ray"
            raise ValueError(
                f"{flag} is for a study that one process runs; leave it out, or leave --index out and run all runs"
            )

    def _print_plan(self, runs: Mapping[str, Config], console: "Console") -> None:
        """Print the runs and what varies between them, or with --index or --of each index and its runs."""
        from betavae.studies.shares import share_of
        from betavae.studies.sweep import label, varied

        if self.index is None and self.of is None:
            keys, width = varied([*runs.values()]), max(map(len, runs))
            for run, config in runs.items():
                say(console, f"{run:{width}}  {label(config, keys)}")
            say(console, f"{len(runs):,} runs")
            return
        for index in range(self.of or len(runs)) if self.index is None else [self.index]:
            say(console, f"index {index}: {' '.join(share_of([*runs], index, self.of)) or 'no runs'}")

    def _check(self, runs: Mapping[str, Config]) -> None:
        """Validate the runs against their data. With Ray, only dSprites: a file may exist on the cluster alone."""
        from betavae.studies.study import check_runs
        from betavae.studies.workers import forget_data, load_once

        check_runs({run: c for run, c in runs.items() if self.ray is None or c.data in DATASETS}, load_once)
        forget_data()

    def _executor(self) -> "Executor":
        """The executor of the runs: processes of this machine, or a Ray cluster."""
        from betavae.metrics.inputs import num_threads
        from betavae.studies import on_ray, workers

        if self.ray is not None:
            if self.workers is not None:
                raise ValueError(
                    "--workers is for this machine; with --ray, give the resources of one run: --cpus 1 --gpus 0.25"
                )
            return partial(on_ray.execute, address=self.ray, url=self.url, cpus=self.cpus, gpus=self.gpus)
        if self.url or self.gpus or self.cpus != 1.0:
            raise ValueError(
                "--url, --cpus and --gpus are for a Ray cluster; choose one with --ray auto or --ray ADDRESS"
            )
        cores = num_threads()
        if self.workers is not None and self.workers > WORKERS_A_CORE * cores:
            raise ValueError(
                f"workers is {self.workers}, and this machine has {cores} cores; give at most "
                f"{WORKERS_A_CORE * cores}, or leave it out for one worker per core"
            )
        return partial(workers.execute, workers=cores if self.workers is None else self.workers)

    def _recipe(self) -> tuple[dict[str, Any], str]:
        """The recipe from the file and the flags, and its name."""
        from betavae.studies.sweep import expand

        given = flags.given(self.settings)
        shared: dict[str, Any] = {}
        if self.seeds:
            shared["seeds"] = self.seeds[0] if len(self.seeds) == 1 else [*self.seeds]
        if self.recipe is None:
            if not given and not shared:
                raise ValueError(
                    "no recipe is given; give one such as `smoke`, or flags: --objective beta --beta 1 4 --seeds 5"
                )
            recipe = {**shared, "grid": [flags.grid(given)]}
            digest = config_files.run_id(next(iter(expand(recipe, "flags").values())))[-12:]
            return recipe, "-".join(map(str, [*given.get("objective", ["beta"]), digest]))
        path = find_recipe(self.recipe, "studies")
        recipe = config_files.read(path)
        grids = recipe.get("grid", {})
        in_grid = {key for table in (grids if isinstance(grids, list) else [grids]) for key in table}
        for key, values in given.items():
            if len(values) > 1 or key in in_grid or key not in flags.settings_of_runs():
                raise ValueError(
                    f"--{key.replace('_', '-')}: with a recipe, a flag takes one value for a setting that all runs "
                    f"share; to vary this setting, copy {path} and change the copy, or leave the recipe out"
                )
        return {**recipe, **shared, **{key: value for key, (value,) in given.items()}}, str(path)


@dataclass(frozen=True)
class ResultsCommand:
    """Print the median scores of every setting of a study, or the answer to an SQL query. Piped output is CSV."""

    study: Positional[Path]
    """Folder of the study."""
    query: str | None = None
    """SQL query. The table is `results`, with one row per run and metric; docs/studies.md lists its columns."""

    def __call__(self, console: "Console") -> dict[str, Any]:
        import csv

        from rich.table import Table
        from rich.text import Text

        from betavae.studies.results import query, refresh
        from betavae.studies.study import open_study

        study = open_study(self.study)
        path = self.study / "results.parquet"
        refresh({run: (config, study.path(run)) for run, config in study.runs.items()}, path)
        names, rows = query(path, self.query or _MEDIANS)
        result = {"rows": [dict(zip(names, row, strict=True)) for row in rows]}
        if console.stderr:  # with --json
            return result
        if not console.is_terminal:  # another program reads it
            csv.writer(console.file, lineterminator="\n").writerows([names, *rows])
            return result
        table = Table()
        for name in names:
            table.add_column(Text(name), overflow="fold")
        for row in rows:
            table.add_row(*(Text("" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v)) for v in row))
        console.print(table)
        return result


_MEDIANS = """SELECT metric, setting, count(value) AS n, median(value) AS median, quantile_cont(value, 0.25) AS quarter,
quantile_cont(value, 0.75) AS three_quarters FROM results GROUP BY ALL ORDER BY metric, median DESC"""
