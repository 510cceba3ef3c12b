"""What a finished run gives in Python and in notebooks, and loading models by folder or name."""

import base64
import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import betavae
from betavae.files import frames
from betavae.runs import views
from betavae.training import progress

SEEN = []


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    config = betavae.Config(
        objective=betavae.TC(beta=2.0),
        model="tiny",
        steps=60,
        batch_size=8,
        validation_images=100,
        latent_dim=3,
        scores=("mig",),
        evaluations=2,
        figures=False,
        precision="fp32",
        device="cpu",
    )
    folder = tmp_path_factory.mktemp("runs") / "<b>run"
    run = betavae.experiment(config, folder, data=small, callbacks=[SEEN.append])
    run.path("figures/traversals").mkdir(parents=True)
    Image.new("L", (4, 4)).save(run.path("figures/traversals.gif"))
    Image.new("L", (4, 4)).save(run.path("figures/traversals/seed0_z1_fixed.gif"))
    for ending in ("png", "pdf"):
        Image.new("L", (4, 4)).save(run.path(f"figures/loss_curves.{ending}"))
    return run


def test_callbacks_see_every_record(run):
    assert [(record.step, record.split) for record in SEEN] == [
        *((0, "validation"), (50, "validation"), (50, "train")),
        *((60, "validation"), (60, "train")),
    ]


def test_an_error_in_a_callback_stops_and_the_run_resumes(run, small, tmp_path):
    def fail(record):
        raise LookupError(f"at step {record.step}")

    config = replace(run.config, steps=2, scores=(), scored_images=10)
    with pytest.raises(LookupError, match="at step 0"):
        betavae.experiment(config, tmp_path / "run", data=small, callbacks=[fail])
    assert betavae.resume(tmp_path / "run", data=small).done


def test_scores_are_a_dict_and_a_frame(run):
    assert list(run.scores) == ["mig"]
    assert 0 <= run.scores["mig"] <= 1
    frame = run.scores.to_frame()
    assert list(frame.columns) == ["value", "low", "high", "chance", "ceiling"]
    assert frame.loc["mig", "value"] == run.scores["mig"]
    assert frame.loc["mig", "low"] <= frame.loc["mig", "high"]
    assert len(run.scores.details["kl"]) == 3
    assert np.isnan(views.RunScores({"scores": {"mig": None}})["mig"])


def test_the_curve_has_columns(run):
    curve = run.curve
    assert curve["step"].tolist() == [0, 50, 50, 60, 60]
    assert curve.split("train")["step"].tolist() == [50, 60]
    assert curve["reconstruction"].dtype == np.float64
    assert curve.to_frame().shape == (5, len(curve))


def test_latents_have_their_factors(run, small):
    latents = run.latents
    assert latents.mean.shape == latents.log_var.shape == (900, 3)
    assert np.array_equal(latents.factors, small.factors[latents.rows])
    assert run.data is small
    reopened = betavae.open_run(run.folder)
    assert reopened == run
    with pytest.raises(ValueError, match="was trained on images given in Python"):
        _ = reopened.latents.factors
    with pytest.raises(ValueError, match=r"belong to no run, so their factors are unknown; use data.factors\[rows\]"):
        _ = replace(latents, run=None).factors
    scores = betavae.evaluate(latents.mean, latents.factors, metrics=["mig"], repeats=2, chance=False)
    assert scores.to_frame().loc["mig", "value"] == scores.scores["mig"]


def test_figures_are_paths_that_notebooks_show(run):
    assert list(run.figures) == ["loss_curves", "traversals", "traversals/seed0_z1_fixed"]
    assert Path(run.figures["loss_curves"]).suffix == ".png"
    shown = run.figures["traversals"]._repr_html_()
    content = re.search(r'src="data:image/gif;base64,([^"]+)"', shown)
    assert base64.b64decode(content[1]) == run.path("figures/traversals.gif").read_bytes()
    with pytest.raises(KeyError, match="no figure 'traversal'; did you mean 'traversals'"):
        _ = run.figures["traversal"]


def test_a_notebook_shows_a_summary_without_markup_of_names(run, tmp_path):
    shown = run._repr_html_()
    assert "<b>run" not in shown
    assert "&lt;b&gt;run" in shown
    assert "tc objective, tiny network with 3 latents, in memory, 60 steps" in shown
    assert "<td>mig</td>" in shown
    assert "data:image/gif" in shown
    assert "mig" in run.scores._repr_html_()
    damaged = replace(run, folder=tmp_path)
    (tmp_path / "scores.json").write_text("<script>")
    assert "is damaged" in damaged._repr_html_()
    assert "not finished" in damaged._repr_html_()


def test_the_model_is_loaded_once(run, small):
    assert run.model is run.model
    assert not run.model.training
    latents = run.model.encode(small.images([3, 1]))
    np.testing.assert_allclose(latents.mean, run.latents.mean[[3, 1]], atol=1e-5)


def test_models_are_loaded_from_runs_and_saved_models(run, small, tmp_path):
    image = small.images([5])
    expected = run.model.encode(image).mean
    saved = run.save_pretrained(tmp_path / "saved")
    for source in (run.folder, str(run.folder), saved):
        vae = betavae.load(source, device="cpu")
        assert not vae.training
        np.testing.assert_array_equal(vae.encode(image).mean, expected)
    with pytest.raises(
        FileNotFoundError, match="nowhere: no such folder; give a run folder, a saved model, a model of the zoo"
    ):
        betavae.load("nowhere")
    with pytest.raises(ValueError, match="is a folder, which has no revision 'main': leave revision out"):
        betavae.load(saved, revision="main")
    with pytest.raises(ValueError, match="device 'cuda:99' cannot be used here"):
        betavae.load(saved, device="cuda:99")
    run_without = tmp_path / "unfinished"
    run_without.mkdir()
    (run_without / "config.json").write_bytes(run.path("config.json").read_bytes())
    (run_without / "curve.jsonl").touch()
    with pytest.raises(FileNotFoundError, match="the run is not finished; resume it with --resume"):
        betavae.load(run_without)


def test_a_model_card_says_what_was_trained_how_and_how_well(run, tmp_path):
    folder = run.save_pretrained(tmp_path / "card")
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: betavae\n")
    assert "![Traversals of the latents](traversals.gif)" in card
    assert (folder / "traversals.gif").read_bytes() == run.path("figures/traversals.gif").read_bytes()
    interval = run.scores.details["intervals"]["mig"]
    assert f"| mig | {run.scores['mig']:.3f} | {interval[0]:.3f} to {interval[1]:.3f} |" in card
    assert "| seed | 0 |" in card
    assert "sprites (900 images, given in Python)" in card
    assert run.data.digest in card
    assert "held-out reconstruction" in card
    run.path("figures/traversals.gif").rename(tmp_path / "moved.gif")
    try:
        run.save_pretrained(folder)
        assert not (folder / "traversals.gif").exists()
        assert "traversals.gif" not in (folder / "README.md").read_text()
    finally:
        (tmp_path / "moved.gif").rename(run.path("figures/traversals.gif"))


def test_without_pandas_a_frame_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r"need pandas, which is not installed: pip install 'betavae\[fr"):
        frames.data_frame({})


def test_progress_is_shown_in_terminals_and_notebooks_unless_quiet():
    def shown(quiet=False, **kind):
        console = progress.Console(file=io.StringIO(), **kind)
        with progress.training_bar(betavae.Config(steps=50), quiet=quiet, console=console) as bar:
            if bar:
                bar(progress.Record(50, 1.0, "train", {"loss": 3.0, "reconstruction": 2.0, "rate": 1.0}))
        return console.file.getvalue()

    assert shown() == shown(quiet=True, force_terminal=True) == ""
    assert "50/50" in shown(force_terminal=True, width=120)
    assert shown(force_jupyter=True) == "\rstep 50/50 · reconstruction 2.0 nats · rate 1.0 nats\n"


def test_importing_is_fast_and_leaves_the_environment_alone():
    """No torch, no NumPy, and nothing that a child process would inherit."""
    script = (
        "import os, sys; before = dict(os.environ); import betavae; assert before == dict(os.environ);"
        "assert not {'torch', 'numpy', 'importlib.metadata', 'rich'} & set(sys.modules), set(sys.modules);"
        "assert 'load' in dir(betavae) and betavae.__version__;"
        "import betavae.cli.main; assert 'torch' not in sys.modules"  # which reads variables that commands set
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_type_checkers_see_every_public_name():
    text = Path(betavae.__file__).read_text(encoding="utf-8")
    seen = set(re.findall(r"import \w+ as (\w+)$", text, re.MULTILINE))
    assert seen == set(betavae.__all__)


def test_the_experiment_module_is_the_function():
    assert callable(betavae.experiment)
    assert betavae.experiment.resume is betavae.resume
