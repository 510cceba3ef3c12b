"""The command `score`."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional
from tyro.conf import arg as argument

if TYPE_CHECKING:
    from rich.console import Console

from betavae.cli.console import print_scores, progress_bar, say, writable_file
from betavae.cli.train import show


@dataclass(frozen=True)
class Score:
    """Score a trained run again and write its scores.json, or score latents from a model trained anywhere.

    A run: betavae score runs/x

    Two tables whose rows are samples: betavae score --latents latents.npy --factors factors.npy; also .npz,
    .safetensors, .csv, .tsv, .txt, .parquet

    One file with both, by names of columns: betavae score --latents 'all.csv:z*' --factors all.csv:shape,scale
    """

    run: Positional[Path | None] = None
    """Run folder."""
    latents: Annotated[str | None, argument(metavar="FILE")] = None
    """Table of latents, without a run. Of an .npz or .safetensors with several arrays: FILE:NAME. Of a .csv, .tsv, .txt
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
    """The latents of the table are discrete, as those of a quantised latent space are; InfoMEC then counts values."""
    sampled_latents: str | None = None
    """Table of latents drawn from the posteriors, beside --latents, for MIG of Chen et al."""
    sampled: bool = False
    """Score latents drawn from the run's posteriors instead of their means."""
    fold_orientation: bool = False
    """Score dSprites with its orientation up to the symmetry of each shape."""
    out: Path | None = None
    """JSON file to write the scores of two tables to."""

    def __call__(self, console: "Console") -> None:
        if (self.run is None) == (self.latents is None) or (self.latents is None) != (self.factors is None):
            if taken := next((name for name in self.metrics if Path(name).is_dir()), ""):
                raise ValueError(f"--metrics takes all names that follow, {taken} as well: give the run folder first")
            raise ValueError("give either a run folder, or --latents FILE together with --factors FILE")
        if self.run is None:
            self._score_tables(console)
        else:
            self._score_run(self.run, console)

    def _score_tables(self, console: "Console") -> None:
        import json

        from betavae.files.atomic import write_atomically
        from betavae.files.tables import load_table
        from betavae.runs.scores import score_tables

        if self.sampled or self.fold_orientation:
            raise ValueError("--sampled and --fold-orientation are for runs; tables are scored as they are")
        if self.sampled_latents is not None and self.metrics and "mig_chen" not in self.metrics:
            raise ValueError(
                "--sampled-latents is for mig_chen, which is not among --metrics; leave one of the two out"
            )
        out = None if self.out is None else writable_file(self.out)
        latents, (factors, factor_names) = (
            load_table(str(self.latents)).values,
            load_table(str(self.factors), labels=True),
        )
        sampled = None if self.sampled_latents is None else load_table(self.sampled_latents).values
        with progress_bar(console) as progress:
            values = score_tables(
                latents,
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
        print_scores(values, f"{self.latents}: {len(latents):,} samples, {self.preset} preset", console)

    def _score_run(self, folder: Path, console: "Console") -> None:
        from betavae.experiment import data_of, encode_run, score_run
        from betavae.runs.folder import open_run

        if self.sampled_latents is not None:
            raise ValueError("--sampled-latents is for tables; those of a run are drawn from its posteriors")
        if self.num_train is not None or self.num_test is not None or self.discrete:
            raise ValueError(
                "--num-train, --num-test and --discrete are for two tables; a run is scored as its settings say"
            )
        if self.out is not None:
            raise ValueError("--out is for two tables; the scores of a run stay in its scores.json")
        run = open_run(folder)
        data = data_of(run)
        if not run.path("latents.npz").exists():
            encode_run(run, data)
        with progress_bar(console) as progress:
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
        show(run, console)
        if run.path("report.html").exists():
            again = "betavae figures {0}, then betavae report {0}".format(shlex.quote(str(folder)))
            say(console, f"figures and report show the scores before; to renew them: {again}")
