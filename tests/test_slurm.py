"""A study as an array job: shares, and the listing of docs/how-to/slurm.md, executed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from betavae.cli.main import main
from betavae.data.exporting import export_npz
from betavae.studies import study as studies
from betavae.studies import workers
from betavae.studies.shares import share_of
from betavae.studies.study import create_study, driver_lock, open_study, run_study, states
from betavae.studies.workers import Event, complete_run

pytest.importorskip("pyarrow", reason="pyarrow is not installed; the extra betavae[study] has it")

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "slurm.md"
TINY = [
    *(
        "--model",
        "tiny",
        "--steps",
        "4",
        "--batch-size",
        "8",
        "--train-images",
        "200",
        "--validation-images",
        "50",
        "--latent-dim",
        "3",
    ),
    *("--device", "cpu", "--precision", "fp32", "--scores", "mig", "--evaluations", "1", "--figures", "False"),
    *("--seeds", "1", "--schedule", "constant", "--scored-images", "200"),
]


def executed_here(jobs, workers):
    """Executes runs one after another in this process."""
    for run, (config, folder) in jobs.items():
        yield Event(run, "started")
        complete_run(config, folder, lambda fraction: None)
        yield Event(run, "done")


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_have_every_run_once(count):
    runs = list("abcde")
    shares = [share_of(runs, index, count) for index in range(count)]
    assert sorted(run for share in shares for run in share) == runs
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def listed_command(submit_folder, index, tasks, tmp_path):
    """The words of the command that the listing of the page executes, in the environment that Slurm sets."""
    (tmp_path / "betavae").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    (tmp_path / "betavae").chmod(0o755)
    script = re.search(r"```bash\n(#!/bin/bash\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    task = {"SLURM_ARRAY_TASK_ID": str(index), "SLURM_ARRAY_TASK_COUNT": str(tasks), "SLURM_CPUS_PER_TASK": "1"}
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(submit_folder)} | task
    done = subprocess.run(["bash"], input=script, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_listing_runs_shares_and_results_collect_all(small, tmp_path, monkeypatch, capsys):
    export_npz(small, tmp_path / "small.npz")
    tiny, folder = ["--data", str(tmp_path / "small.npz"), *TINY], tmp_path / "betas"
    monkeypatch.setattr(workers, "execute", executed_here)
    main([*listed_command(tmp_path, 1, 3, tmp_path), *tiny])
    shown = capsys.readouterr().out
    assert f"{folder}: 4 runs; index 1 has 1, 0 of them done" in shown
    study = open_study(folder)
    assert list(states(study).values()) == ["waiting", "done", "waiting", "waiting"]
    assert not (folder / "results.parquet").exists()
    finished = study.path([*study.runs][1])
    assert "INFO finished" in (finished / "run.log").read_text(encoding="utf-8")

    def copied(jobs, workers):
        for run, (_, other) in jobs.items():
            shutil.copytree(finished, other)
            yield Event(run, "done")

    monkeypatch.setattr(workers, "execute", copied)
    for index in range(3):
        main([*listed_command(tmp_path, index, 3, tmp_path), *tiny])
    assert "index 1 has 1, 1 of them done" in capsys.readouterr().out
    assert set(states(study).values()) == {"done"}
    assert not (folder / "results.parquet").exists()
    main(["results", str(folder), "--query", "SELECT count(DISTINCT run) AS runs FROM results"])
    assert capsys.readouterr().out == "runs\n4\n"


def test_the_plan_says_what_each_index_does(capsys):
    main(["study", "smoke", "--plan"])
    runs = [line.split()[0] for line in capsys.readouterr().out.splitlines()[:-1]]
    main(["study", "smoke", "--plan", "--of", "3"])
    lines = [f"index 0: {runs[0]} {runs[3]}", f"index 1: {runs[1]}", f"index 2: {runs[2]}"]
    assert capsys.readouterr().out.splitlines() == lines
    main(["study", "smoke", "--plan", "--index", "3"])
    assert capsys.readouterr().out == f"index 3: {runs[3]}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--index", "4"],
            "index is 4, and the study has 4 runs: give --index 0 to 3, or the number of tasks with --of",
        ),
        (["--index", "4", "--of", "4"], "index is 4 of 4; it must be from 0 to one below --of"),
        (["--index", "-1", "--of", "4"], "index is -1 of 4"),
        (["--of", "4"], "--of 4 is the number of shares; give the number of one with --index"),
        (["--index", "0", "--overwrite"], "--overwrite is for a study that one process runs"),
        (["--index", "0", "--ray", "auto"], "--ray is for a study that one process runs"),
    ],
)
def test_shares_that_cannot_be(words, sentence, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["study", "smoke", "--out", str(tmp_path / "study"), *words])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_shares_run_beside_a_driver_and_leave_other_runs_alone(tmp_path):
    study = create_study(tmp_path / "study", {"seeds": 3})
    runs, executed = [*study.runs], []

    def execute(jobs):
        executed.extend(jobs)
        yield from (Event(run, "failed", error="no memory") for run in jobs)

    with driver_lock(study.folder):
        tally = run_study(study, execute, share=runs[1:2])
        run_study(study, execute, share=runs[1:2])  # failed runs are repeated on request only
    assert (tally.total, tally.failed) == (1, 1)
    assert executed == runs[1:2]
    run_study(study, execute, share=runs[1:2], retry=True)
    assert executed == [runs[1], runs[1]]


def test_tasks_that_start_together_wait_until_one_has_created_the_study(tmp_path, monkeypatch):
    asked = []
    lock = studies.file_lock
    monkeypatch.setattr(studies, "file_lock", lambda path, message: asked.append(message) or lock(path, message))
    create_study(tmp_path / "study", {"seeds": 1}, wait=True)
    assert asked == [""]
