"""The examples run from outside the package, as a user would start them."""

import runpy
import sys
from functools import partial
from pathlib import Path

import pytest
from torch import nn

from betavae import VAE, experiment, scoring
from betavae.runs.folder import open_run, read_curve

EXAMPLES_FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(EXAMPLES_FOLDER.glob("own_*.py"))


def once(score_tables, *tables, **options):
    """One evaluation instead of five."""
    return score_tables(*tables, **{**options, "repeats": 1})


@pytest.mark.usefixtures("own_entries")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, grid, tmp_path, monkeypatch, capsys):
    """Each is under 40 lines, trains, and leaves a run that is read back by name."""
    assert len(path.read_text().splitlines()) < 40
    load = experiment.load_for
    monkeypatch.setattr(experiment, "load_for", lambda config: grid if config.data == "dsprites" else load(config))
    monkeypatch.setattr(experiment, "draw_run", lambda run, data: [])
    monkeypatch.setattr(scoring, "score_tables", partial(once, scoring.score_tables))
    monkeypatch.setattr(sys, "argv", [str(path), str(tmp_path / "run"), "20"])
    runpy.run_path(str(path), run_name="__main__")
    run = open_run(tmp_path / "run")
    assert run.done
    assert read_curve(run)[-1]["step"] == 20
    assert capsys.readouterr().out.strip() == str(tmp_path / "run" / "report.html")


@pytest.mark.parametrize(
    "name", ["plain_loop", pytest.param("lightning_loop", marks=pytest.mark.filterwarnings("ignore"))]
)
def test_loops_of_ones_own(name, grid, tmp_path, monkeypatch, capsys):
    """The model that a plain loop, or Lightning, trains with our losses is saved and read like any other."""
    if name == "lightning_loop":
        pytest.importorskip("lightning", reason="lightning is not a dependency; install it to run this example")
    path = EXAMPLES_FOLDER / f"{name}.py"
    monkeypatch.setattr("betavae.data.loading.load_data", lambda source: grid)
    monkeypatch.setattr(sys, "argv", [str(path), str(tmp_path / "model"), "3"])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "model")
    networks = {}
    if name == "plain_loop":
        networks["encoder"] = nn.Sequential(nn.Flatten(), nn.Linear(4096, 400), nn.ReLU(), nn.Linear(400, 20))
        networks["decoder"] = nn.Sequential(
            nn.Linear(10, 400), nn.ReLU(), nn.Linear(400, 4096), nn.Unflatten(1, (1, 64, 64))
        )
    assert VAE.from_pretrained(tmp_path / "model", **networks).encode(grid.images([0, 1])).mean.shape == (2, 10)
