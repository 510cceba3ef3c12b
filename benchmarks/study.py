"""What a study costs besides its runs: planning, driving and collecting 12,600 of them, here and on Ray.

    python benchmarks/study.py              # some minutes
    python benchmarks/study.py --runs 720    # or another multiple of 36, the settings
    python benchmarks/study.py --trained    # six real runs one after another, in a study, in one of two workers

Without --trained, runs are stubs that write the files of a finished run and nothing else, so all that is measured is
the driver. Every stub notes that it was performed; at the end each run must have been, once.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from rich.console import Console
from rich.table import Table

from betavae.config import Config
from betavae.config_files import to_dict
from betavae.studies.results import collect
from betavae.studies.study import Executor, Study, create_study, run_study
from betavae.studies.workers import ReportProgress
from betavae.studies.workers import execute as execute_locally


def stub(config: Config, folder: Path, share: ReportProgress) -> None:
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


def drive(folder: Path, recipe: dict[str, object], execute: Executor) -> tuple[Study, float]:
    """Perform all runs, each once; the study, and seconds."""
    study = create_study(folder, recipe)
    began = time.perf_counter()
    tally = run_study(study, execute)
    seconds = time.perf_counter() - began
    assert tally.done == len(study.runs)
    assert all((study.path(run) / "performed").read_text() == "once\n" for run in study.runs)
    return study, seconds


BARE = """
import sys
from betavae.config_files import load
from betavae.data.loading import load_data
from betavae.experiment import experiment
data = load_data("dsprites")
for index, file in enumerate(sys.argv[2:]):
    experiment(load(file), f"{sys.argv[1]}/{index}", data=data)
"""


def trained(folder: Path, table: Table) -> None:
    """Real runs: bare in one process of one thread, in a study of one worker, in a study of two."""
    after = {"scored_images": 5_000, "scores": ["mig"], "evaluations": 1, "figures": False}
    recipe: dict[str, object] = {"seeds": 6, "steps": 300, **after}
    runs = create_study(folder / "planned", recipe).runs
    files = []
    for run, config in runs.items():
        files.append(folder / f"{run}.json")
        files[-1].write_text(json.dumps(to_dict(config)))
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", BARE, str(folder), *map(str, files)], env=environment, check=True)
    bare = time.perf_counter() - began
    table.add_row(f"{len(runs)} real runs, bare", f"{bare:.1f}", f"{len(runs) / bare:.3f}", "")
    seconds = {}
    for workers in (1, 2):
        began = time.perf_counter()
        run_study(create_study(folder / f"by {workers}", recipe), partial(execute_locally, workers=workers))
        seconds[workers] = time.perf_counter() - began
        share = f"{seconds[workers] / bare:.3f} of bare" if workers == 1 else f"{seconds[1] / seconds[2]:.2f} times one"
        table.add_row(
            f"{workers} workers: {share}", f"{seconds[workers]:.1f}", f"{len(runs) / seconds[workers]:.3f}", ""
        )


def megabytes() -> str:
    """Peak memory of this process so far."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB"


def stubbed(folder: Path, table: Table, number: int, workers: int) -> None:
    """Stubs: planned, performed by processes here, collected, performed as tasks on Ray."""
    grid = {"latent_dim": [4, 6, 8, 10, 12, 14], "batch_size": [16, 32, 48, 64, 80, 96]}
    recipe = {"seeds": max(1, round(number / 36)), "grid": grid}
    began = time.perf_counter()
    number = len(create_study(folder / "planned", recipe).runs)
    table.add_row(f"planned: {number:,} runs", f"{time.perf_counter() - began:.1f}", "", megabytes())
    study, seconds = drive(folder / "here", recipe, partial(execute_locally, workers=workers, perform=stub))
    table.add_row(f"{workers} processes", f"{seconds:.1f}", f"{number / seconds:,.0f}", megabytes())
    began = time.perf_counter()
    collect({run: (config, study.path(run)) for run, config in study.runs.items()}, folder / "results.parquet")
    seconds = time.perf_counter() - began
    table.add_row("collected", f"{seconds:.1f}", f"{number / seconds:,.0f}", megabytes())
    try:
        import ray
    except ModuleNotFoundError:
        table.add_row("Ray", "not installed", "", "")
        return
    from betavae.studies import on_ray

    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    _, seconds = drive(folder / "ray", recipe, partial(on_ray.execute, perform=stub))
    table.add_row(f"Ray, {workers} cores", f"{seconds:.1f}", f"{number / seconds:,.0f}", megabytes())
    ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=12_600)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trained", action="store_true", help="real runs instead of stubs")
    options = parser.parse_args()
    folder, table = Path(mkdtemp(prefix="betavae-study-")), Table("what", "seconds", "runs/s", "peak memory")
    try:
        if options.trained:
            trained(folder, table)
        else:
            stubbed(folder, table, options.runs, options.workers)
    finally:
        shutil.rmtree(folder)
    Console().print(table)


if __name__ == "__main__":
    main()
