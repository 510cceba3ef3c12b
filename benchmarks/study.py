"""What a study costs besides its runs: planning, driving and collecting 12,600 of them, here and on Ray.

    python benchmarks/study.py            # minutes
    python benchmarks/study.py --runs 600

Runs are stubs that write the files of a finished run and nothing else, so all that is measured is the driver. Every
stub notes that it was performed; at the end each run must have been, once.
"""

import argparse
import json
import resource
import shutil
import time
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from rich.console import Console
from rich.table import Table

from betavae.config import Config, to_dict
from betavae.results import collect
from betavae.study import Execute, Study, create_study, run_study
from betavae.workers import Share, work


def stub(config: Config, folder: Path, share: Share) -> None:
    """Write what a finished run leaves for the table of results."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(to_dict(config)))
    with (folder / "performed").open("a") as file:
        file.write("once\n")
    share(0.5)
    numbers = np.random.default_rng(config.seed).random(40).tolist()
    scores = {f"score {index}": number for index, number in enumerate(numbers)}
    values = {"scores": scores, "kl": numbers[:10], "held_out": {"loss": 30.0, "reconstruction": 20.0, "rate": 10.0}}
    (folder / "scores.json").write_text(json.dumps(values))
    (folder / "provenance.json").write_text(json.dumps({"train_seconds": 2.0, "images_per_second": 1000.0}))
    (folder / "DONE").touch()


def drive(folder: Path, recipe: dict[str, object], execute: Execute) -> tuple[Study, float]:
    """Perform all runs, each once; the study, and seconds."""
    study = create_study(folder, recipe)
    began = time.perf_counter()
    tally = run_study(study, execute)
    seconds = time.perf_counter() - began
    assert tally.done == len(study.runs)
    assert all((study.path(run) / "performed").read_text() == "once\n" for run in study.runs)
    return study, seconds


def megabytes() -> str:
    """Peak memory of this process so far."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=12_600)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    recipe = {
        "seeds": options.runs // 36,
        "grid": {"codes": [4, 6, 8, 10, 12, 14], "batch_size": [16, 32, 48, 64, 80, 96]},
    }
    folder, table = Path(mkdtemp(prefix="betavae-study-")), Table("what", "seconds", "runs/s", "peak memory")
    try:
        began = time.perf_counter()
        number = len(create_study(folder / "planned", recipe).runs)
        table.add_row(f"planned: {number:,} runs", f"{time.perf_counter() - began:.1f}", "", megabytes())
        study, seconds = drive(folder / "here", recipe, partial(work, workers=options.workers, perform=stub))
        table.add_row(f"{options.workers} processes", f"{seconds:.1f}", f"{number / seconds:,.0f}", megabytes())
        began = time.perf_counter()
        collect({run: (config, study.path(run)) for run, config in study.runs.items()}, folder / "results.parquet")
        seconds = time.perf_counter() - began
        table.add_row("collected", f"{seconds:.1f}", f"{number / seconds:,.0f}", megabytes())
        try:
            import ray
        except ModuleNotFoundError:
            table.add_row("Ray", "not installed", "", "")
        else:
            from betavae import cluster

            ray.init(address="local", num_cpus=options.workers, include_dashboard=False, log_to_driver=False)
            _, seconds = drive(folder / "ray", recipe, partial(cluster.work, perform=stub))
            table.add_row(f"Ray, {options.workers} cores", f"{seconds:.1f}", f"{number / seconds:,.0f}", megabytes())
            ray.shutdown()
    finally:
        shutil.rmtree(folder)
    Console().print(table)


if __name__ == "__main__":
    main()
