"""The examples run from outside the package, as a user would start them."""

import runpy
import sys
from functools import partial
from pathlib import Path

import pytest

from betavae import experiment
from betavae.runs.folder import open_run, read_curve

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("own_*.py"))


def once(score_tables, *tables, **options):
    """One evaluation instead of five."""
    return score_tables(*tables, **{**options, "repeats": 1})


@pytest.mark.usefixtures("own_entries")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, grid, tmp_path, monkeypatch, capsys):
    """Each is under 40 lines, trains, and leaves a run that is read back by name."""
    assert len(path.read_text().splitlines()) < 40
    load = experiment.load_data
    monkeypatch.setattr(experiment, "load_data", lambda source: grid if source == "dsprites" else load(source))
    monkeypatch.setattr(experiment, "draw_run", lambda run, data: [])
    monkeypatch.setattr(experiment, "score_tables", partial(once, experiment.score_tables))
    monkeypatch.setattr(sys, "argv", [str(path), str(tmp_path / "run"), "20"])
    runpy.run_path(str(path), run_name="__main__")
    run = open_run(tmp_path / "run")
    assert run.done
    assert read_curve(run)[-1]["step"] == 20
    assert capsys.readouterr().out.strip() == str(tmp_path / "run" / "report.html")
