"""The command `score`."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional
from tyro.conf import arg as argument

if TYPE_CHECKING:
    from rich.console import Console

from betavae.cli.console import print_scores, progress_bar, say, writable_file
from betavae.cli.train import result_of, show
from betavae.cli.zoo import find_run


@dataclass(frozen=True)
class ScoreCommand:
    """Score a trained run again and write its scores.json, or score the latents of any model.

    A run: betavae score runs/x

    Two tables with one row per sample: betavae score --latents latents.npy --factors factors.npy. The formats are .npy,
    .npz, .safetensors, .csv, .tsv, .txt and .parquet.

    One file with both, by column names: betavae score --latents 'all.csv:z*' --factors all.csv:shape,scale
    """

    run: Positional[Path | None] = None
    """Run folder, or the name of a model of the zoo."""
    latents: Annotated[str | None, argument(metavar="FILE")] = None
    """Table of latents, instead of a run. FILE:NAME selects one array of an .npz or .safetensors. FILE:z*,u (in quotes)
    selects columns of a .csv, .tsv, .txt or .parquet by name, with wildcards."""
    factors: Annotated[str | None, argument(metavar="FILE")] = None
    """Table of the factors of the same samples, selected in the same way. Columns of text are classes. The column names
    become the factor names."""
    metrics: tuple[str, ...] = ()
    """Metrics to compute; all by default. For a run, they are added to the scores in scores.json if the protocol is the
    same."""
    preset: Literal["default", "dlib"] = "default"
    """default: the corrected metrics; dlib: the protocol of disentanglement_lib."""
    seed: int | None = None
    """Seed of the evaluation. If unset, the seed of the run, or 0 for tables."""
    evaluations: int = 5
    """Number of evaluations with different seeds, for the confidence intervals."""
    num_train: int | None = None
    """Number of rows to train the metrics' predictors. If unset, 10,000, or two thirds of a table with fewer than
    15,000 rows."""
    num_test: int | None = None
    """Number of rows to test them. If unset, 5,000, or one third of such a table."""
    discrete: bool = False
    """The latents of the table are discrete, as in a quantised latent space. InfoMEC then treats values as classes."""
    sampled_latents: str | None = None
    """Table of latents sampled from the posteriors, in addition to --latents. The metric mig_chen needs it."""
    sampled: bool = False
    """Score latents sampled from the run's posteriors instead of the posterior means."""
    fold_orientation: bool = False
    """Score dSprites with the orientation modulo the symmetry of each shape."""
    out: Path | None = None
    """JSON file for the scores of two tables."""

    def __call__(self, console: "Console") -> dict[str, Any]:
        if (self.run is None) == (self.latents is None) or (self.latents is None) != (self.factors is None):
            if folder := next((name for name in self.metrics if Path(name).is_dir()), ""):
                raise ValueError(f"--metrics reads {folder} as the name of a metric; put the run folder before it")
            raise ValueError("give either a run folder, or --latents FILE together with --factors FILE")
        return self._score_tables(console) if self.run is None else self._score_run(self.run, console)

    def _score_tables(self, console: "Console") -> dict[str, Any]:
        import json

        from betavae.files.atomic import write_atomically
        from betavae.files.tables import load_table
        from betavae.runs.scores import score_tables

        if self.sampled or self.fold_orientation:
            raise ValueError("--sampled and --fold-orientation are for runs; leave them out to score tables")
        if self.sampled_latents is not None and self.metrics and "mig_chen" not in self.metrics:
            raise ValueError(
                "--sampled-latents is for the metric mig_chen, which --metrics does not name; add it, or leave "
                "--sampled-latents out"
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
        return values

    def _score_run(self, folder: Path, console: "Console") -> dict[str, Any]:
        from betavae.runs.contents import are_encoded
        from betavae.scoring import encode_run, score_run

        if self.sampled_latents is not None:
            raise ValueError("--sampled-latents is for tables; for a run, betavae samples its posteriors itself")
        if self.num_train is not None or self.num_test is not None or self.discrete:
            raise ValueError("--num-train, --num-test and --discrete are for two tables; leave them out to score a run")
        if self.out is not None:
            raise ValueError("--out is for two tables; the scores of a run are written to its scores.json")
        run = find_run(folder, console)
        data = run.data
        if not are_encoded(run, data):
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
            commands = "betavae figures {0}, then betavae report {0}".format(shlex.quote(str(run.folder)))
            say(console, f"the figures and the report still show the old scores; to update them: {commands}")
        return result_of(run)
