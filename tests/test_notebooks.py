"""Every cell of the notebooks runs, and the notebooks are what their scripts say."""

import json
import re
import sys
import types
from pathlib import Path

import pytest

from betavae import Run, experiment
from betavae.data.registry import DATASETS

FOLDER = Path(__file__).parents[1] / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
INSTALL = "%pip install -q betavae"
FEWER = {
    r"STEPS = \d_\d{3}": "STEPS = 5",
    r"size=\(2_000": "size=(90",
    "steps=STEPS,": "steps=STEPS, model='tiny', evaluations=1,",
    '"dci", "mig"': '"mig",',
}
"""What a test changes in a cell, by the pattern that it replaces."""


def cells(notebook):
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(notebook.read_text())["cells"]]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebooks_are_made_from_their_scripts(script):
    """If not: `jupytext --to ipynb notebooks/*.py`."""
    code = [source for kind, source in cells(script.with_suffix(".ipynb")) if kind == "code"]
    assert code[0] == INSTALL
    written = re.split(r"^# %%(?: \[markdown\])?$", script.read_text(), flags=re.MULTILINE)
    texts = [text.strip() for text in written]
    assert all(source in texts for source in code[1:])
    assert len(cells(script.with_suffix(".ipynb"))) == len(texts) - 1


@pytest.mark.usefixtures("own_entries")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_cell_runs(script, grid, tmp_path, monkeypatch):
    """With a few steps and no figures, and with a small grid in place of the large data sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BETAVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(experiment, "draw_run", lambda run, data: [])
    monkeypatch.setattr(Run, "figures", {"traversals": "traversals.gif"})
    for name in ("dsprites", "xysquares"):
        monkeypatch.setitem(DATASETS._entries, name, lambda: grid)
    names = {"__name__": script.stem}
    monkeypatch.setitem(sys.modules, script.stem, types.SimpleNamespace(__dict__=names))  # where dataclasses look
    for kind, source in cells(script.with_suffix(".ipynb")):
        if kind == "code" and source != INSTALL:
            for full, fewer in FEWER.items():
                source = re.sub(full, fewer, source)
            exec(compile(source, script.name, "exec"), names)
