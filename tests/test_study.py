"""A study's folder and driver, with runs that take milliseconds."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from betavae.studies import study as studies
from betavae.studies.study import check_runs, create_study, failures, open_study, run_study, states
from betavae.studies.sweep import expand
from betavae.studies.workers import Event, execute
from tests import stubs

RECIPE = {"seeds": 3, "steps": 9, "grid": {"latent_dim": [4, 6]}}


def local(perform, workers=2):
    return functools.partial(execute, workers=workers, perform=perform)


def attempts(study):
    """How often each run was started."""
    return [len((study.path(run) / "attempts").read_text().splitlines()) for run in study.runs]


def nothing_to_do(jobs):
    assert not jobs
    yield from ()


def test_all_runs_once_and_never_again(tmp_path):
    study, seen = create_study(tmp_path, RECIPE), []
    tally = run_study(study, local(stubs.quick), watch=lambda tally: seen.append((tally.done, len(tally.fractions))))
    assert (tally.total, tally.done, tally.failed, tally.fractions) == (6, 6, 0, {})
    assert tally.completed == pytest.approx(6)
    assert tally.seconds_left == 0
    assert max(running for _, running in seen) == 2
    assert run_study(open_study(tmp_path), nothing_to_do).done == 6
    assert attempts(study) == [1] * 6


def test_begun_runs_come_first(tmp_path):
    study = create_study(tmp_path, RECIPE)
    last = list(study.runs)[-1]
    study.path(last).mkdir(parents=True)
    (study.path(last) / "config.json").touch()
    assert states(study)[last] == "begun"
    order = []

    def note(jobs):
        order.extend(jobs)
        yield from ()

    run_study(study, note)
    assert order == [last, *list(study.runs)[:-1]]


def test_failed_runs_are_listed_and_retried_on_demand(tmp_path):
    study = create_study(tmp_path, RECIPE)
    tally = run_study(study, local(stubs.two_fail))
    assert (tally.done, tally.failed) == (4, 2)
    assert sorted(failures(study).values()) == [f"RuntimeError: loss is not finite with {n} latents" for n in (4, 6)]
    (tmp_path / "runs" / "repaired").touch()
    assert run_study(study, nothing_to_do).failed == 2
    tally = run_study(study, local(stubs.two_fail), retry=True)
    assert (tally.done, tally.failed, failures(study)) == (6, 0, {})
    assert attempts(study) == [1] * 6


def test_a_killed_worker_costs_its_run_one_more_attempt(tmp_path):
    study, kinds = create_study(tmp_path, RECIPE), []

    def noted(jobs):
        for event in execute(jobs, 2, stubs.killed_once):
            kinds.append(event.kind)
            yield event

    assert run_study(study, noted).done == 6
    assert kinds.count("lost") == 2


def test_a_run_whose_workers_are_always_killed_has_failed(tmp_path):
    study = create_study(tmp_path, {"seeds": 2})
    assert run_study(study, local(stubs.killed_always, workers=1)).done == 1
    assert list(failures(study).values()) == ["its process was killed by signal 9; is there enough memory?, 3 times"]


def test_interrupted_workers_stop_and_the_study_continues(tmp_path):
    study = create_study(tmp_path, RECIPE)

    def interrupt(tally):
        if len(tally.fractions) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, local(stubs.slow), watch=interrupt)
    assert run_study(study, local(stubs.quick)).done == 6


def test_a_second_driver_refuses_and_a_killed_one_leaves_nothing_behind(tmp_path):
    study = create_study(tmp_path, RECIPE)
    text = (
        "from betavae.studies.study import *\nfrom betavae.studies.workers import execute\nfrom tests import stubs\n"
        "if __name__ == '__main__':\n"
        f"    run_study(open_study({str(tmp_path)!r}), lambda jobs: execute(jobs, 2, stubs.slow))"
    )
    script = tmp_path.parent / f"{tmp_path.name}.py"
    script.write_text(text)
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), str(root / "src"), os.environ.get("PYTHONPATH", "")])
    driver = subprocess.Popen([sys.executable, script], env={**os.environ, "PYTHONPATH": path})
    try:
        while list(states(study).values()).count("begun") < 2:
            assert driver.poll() is None
            time.sleep(0.05)
        with pytest.raises(RuntimeError, match=f"is in use by process {driver.pid} on .*; wait until it ends"):
            run_study(study, nothing_to_do)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert run_study(study, local(stubs.quick)).done == 6


def test_a_changed_recipe_is_refused_extended_or_begins_anew(tmp_path):
    study = create_study(tmp_path, RECIPE)
    run_study(study, local(stubs.quick))
    with pytest.raises(
        ValueError, match=r"another recipe \(seed: 0, 1, 2 → 0, 1, 2, 3\): .* drops 0 of its runs and adds 2"
    ):
        create_study(tmp_path, {**RECIPE, "seeds": 4})
    began = json.loads((tmp_path / "study.json").read_text())["began"]
    checked = []
    more = create_study(tmp_path, {**RECIPE, "seeds": 4}, extend=True, check=checked.append)
    assert [len(runs) for runs in checked] == [2]  # what is done needs no data
    assert json.loads((tmp_path / "study.json").read_text())["began"] == began
    assert list(states(more).values()).count("done") == 6
    assert len(open_study(tmp_path).runs) == 8
    with pytest.raises(
        ValueError, match=r"latent_dim: 4, 6 → 4; seed: 0, 1, 2, 3 → 0, 1, 2\): the new recipe drops 5 of"
    ):
        create_study(tmp_path, {**RECIPE, "grid": {"latent_dim": 4}}, extend=True)
    (tmp_path / "results.parquet").touch()
    anew = create_study(tmp_path, {**RECIPE, "steps": 10}, overwrite=True)
    assert set(states(anew).values()) == {"waiting"}
    assert not (tmp_path / "results.parquet").exists()
    (tmp_path / "study.json").write_text("damaged")
    assert create_study(tmp_path, RECIPE, overwrite=True).runs == study.runs


def test_a_version_in_which_the_recipe_means_other_runs_is_refused(tmp_path):
    create_study(tmp_path, RECIPE)
    values = json.loads((tmp_path / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps(values | {"digest": "another", "betavae": "0.0.9"}))
    with pytest.raises(ValueError, match=r"created by betavae 0\.0\.9, and in .* its recipe means other runs; use the"):
        create_study(tmp_path, RECIPE)
    values["defaults"]["run"]["learning_rate"] = 1e-3
    (tmp_path / "study.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="means other runs, because the default of learning_rate has changed"):
        open_study(tmp_path)


def test_a_default_that_no_run_has_may_change(tmp_path):
    recipe = {**RECIPE, "learning_rate": 1e-3}
    study = create_study(tmp_path, recipe)
    values = json.loads((tmp_path / "study.json").read_text())
    values["defaults"]["run"]["learning_rate"] = 7e-4
    (tmp_path / "study.json").write_text(json.dumps(values))
    assert open_study(tmp_path) == study
    (tmp_path / "study.json").write_text(json.dumps(values | {"recipe": [1]}))
    with pytest.raises(ValueError, match="is damaged"):
        open_study(tmp_path)


def test_a_version_that_knows_more_settings_goes_on(tmp_path):
    study = create_study(tmp_path, RECIPE)
    values = json.loads((tmp_path / "study.json").read_text())
    del values["defaults"]["run"]["muon_learning_rate"], values["defaults"]["beta"]["warmup_steps"]
    (tmp_path / "study.json").write_text(json.dumps(values))
    assert open_study(tmp_path) == study


def test_settings_that_cannot_work_are_refused_with_the_run(small):
    sizes = {"train_images": 100, "validation_images": 100}
    runs = expand({"seeds": 2, **sizes, "grid": {"latent_dim": [4, 6]}})
    check_runs(runs, lambda name: small)
    with pytest.raises(ValueError, match=r"semi-burgess-seed0-\w+: latent_dim is 4; objective semi assigns a latent"):
        check_runs(expand({**sizes, "latent_dim": 4, "objective": {"name": "semi"}}), lambda name: small)


def test_the_same_runs_written_otherwise_are_the_same_study(tmp_path):
    create_study(tmp_path, RECIPE)
    assert (
        len(
            create_study(
                tmp_path, {"seeds": [0, 1, 2], "steps": 9, "grid": [{"latent_dim": 4}, {"latent_dim": 6}]}
            ).runs
        )
        == 6
    )


def test_folders_that_are_no_study(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="exists and is not a study; name another folder with --out"):
        create_study(tmp_path, RECIPE, overwrite=True)
    with pytest.raises(FileNotFoundError, match=r"contains no study.json, so it is not a study"):
        open_study(tmp_path)
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(ValueError, match="is damaged"):
        open_study(tmp_path)
    (tmp_path / "study.json").write_text('{"format": 99, "recipe": {}}')
    with pytest.raises(ValueError, match="has format 99, and this version reads format 2"):
        open_study(tmp_path)


def test_a_study_whose_file_is_damaged_is_written_again_and_keeps_its_runs(tmp_path):
    study = create_study(tmp_path, RECIPE)
    run_study(study, local(stubs.quick))
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(ValueError, match=r"study.json is damaged \(.*\); move it away: `betavae study` with the same"):
        create_study(tmp_path, RECIPE)
    (tmp_path / "study.json").rename(tmp_path / "study.json.before")
    again = create_study(tmp_path, RECIPE)
    assert set(states(again).values()) == {"done"}
    (tmp_path / "study.json").unlink()
    (tmp_path / "lock").unlink()  # such as a folder in which single runs were trained
    with pytest.raises(FileExistsError, match="exists and is not a study"):
        create_study(tmp_path, RECIPE)


@pytest.mark.parametrize("text", ["", "{}", '{"error": 3}', "[" * 2000, "\xff"])
def test_a_damaged_note_about_a_failure(tmp_path, text):
    study = create_study(tmp_path, {"seeds": 1})
    (run,) = study.runs
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / f"{run}.json").write_bytes(text.encode("latin-1"))
    assert failures(study)[run].startswith(f"unknown: {tmp_path}/failed/{run}.json is damaged (")


def test_no_workers(tmp_path):
    with pytest.raises(ValueError, match="workers is 0; it must be at least 1"):
        run_study(create_study(tmp_path, RECIPE), local(stubs.quick, workers=0))


def test_what_a_tally_makes_of_a_continued_run(monkeypatch):
    monkeypatch.setattr(studies.time, "monotonic", lambda: 100.0)
    tally = studies.Tally(total=4, started=64.0)
    for event in [Event("a", "started"), Event("a", "progress", 0.5), Event("a", "progress", 0.75)]:
        tally.count(event)
    trained = studies.TRAINING_FRACTION / 4  # of a model in 36 seconds
    assert tally.per_hour == pytest.approx(100 * trained)
    assert tally.seconds_left == pytest.approx(36 * (4 - 3 * trained) / trained)
    tally.count(Event("a", "progress", 1.0))
    assert tally.seconds_left > 36 * 3 / (2 * trained)  # scores and figures are still to come
    tally.count(Event("a", "done"))
    assert (tally.done, tally.per_hour) == (1, pytest.approx(100 * (1 - 2 * trained)))
