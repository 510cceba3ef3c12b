"""The models that come with the package are what their cards say, and one is made from any finished run."""

import io
import json
import shutil
import webbrowser
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import betavae
from betavae import Config, FactorData, experiment, metrics, zoo
from betavae.cli.main import main
from betavae.runs.contents import are_encoded
from betavae.zoo import making

NAMES = zoo.names()
LARGEST = 8_000_000
"""Largest size of all entries, compressed, which every wheel carries."""


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_what_its_card_says(name):
    run = zoo.open_entry(name)
    model = betavae.load(name, device="cpu")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    stored, details = run.latents, run.scores.details
    some = slice(0, 200)
    images = run.data.images(stored.rows[some])
    np.testing.assert_allclose(model.encode(images).mean, stored.mean[some], atol=0.02)
    pixels = torch.from_numpy(images / np.float32(run.data.max_value))
    with torch.inference_mode():
        loss = model.bernoulli_error(torch.from_numpy(stored.mean[some]), pixels).mean()
    assert float(loss) == pytest.approx(details["held_out"]["reconstruction"], rel=0.15)
    found = metrics.evaluate(
        stored.mean, stored.factors, metrics=["mig"], kl=stored.kl, num_train=2_000, num_test=1_000
    )
    assert found.scores["mig"] == pytest.approx(run.scores["mig"], abs=0.05)
    card = run.path("README.md").read_text(encoding="utf-8")
    for score, value in run.scores.items():
        assert f"| {score} | {value:.3f} |" in card
    assert f'betavae.load("{name}")' in card


def test_the_page_lists_the_entries():
    page = Path(__file__).parents[1] / "docs/zoo.md"
    assert zoo.overview() in page.read_text(encoding="utf-8"), "replace its table by betavae.zoo.overview()"


def test_all_entries_are_small():
    assert NAMES
    files = (path for name in NAMES for path in zoo.open_entry(name).folder.rglob("*"))
    assert sum(len(zlib.compress(path.read_bytes(), 1)) for path in files if path.is_file()) < LARGEST


def test_weights_that_changed_are_refused(tmp_path):
    folder = shutil.copytree(zoo.open_entry(NAMES[0]).folder, tmp_path / "copy")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match="its digest does not match its content"):
        betavae.load(folder, device="cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    rng = np.random.default_rng(0)
    factors = np.stack(np.unravel_index(np.arange(400), (20, 20)), 1)
    images = rng.integers(0, 256, (400, 16, 16), np.uint8)
    data = FactorData.from_arrays(images, {"a": factors[:, 0], "b": factors[:, 1]})
    config = Config(
        model="tiny",
        latent_dim=3,
        steps=4,
        batch_size=8,
        validation_images=50,
        scores=("mig",),
        evaluations=2,
        figures=False,
        device="cpu",
    )
    return experiment(config, tmp_path_factory.mktemp("runs") / "x", data=data, quiet=True)


def test_an_entry_is_made_from_a_run(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "STORED_ROWS", 100)
    folder = making.make_entry(finished, tmp_path / "zoo" / "small")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("DONE", "README.md", "config.json", "curve.jsonl", "latents.npz"),
        *("model.safetensors", "provenance.json", "scores.json"),
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["small"]
    entry = betavae.open_run(folder)
    images = finished.data.images(slice(0, 9))
    exact, rounded = finished.model.encode(images).mean, betavae.load(folder, device="cpu").encode(images).mean
    assert 0 < np.abs(exact - rounded).max() < 0.01
    assert len(entry.latents.rows) == 100
    assert not are_encoded(entry, finished.data)
    assert entry.scores.details["protocol"]["evaluations"] == making.EVALUATIONS
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "stored in half precision" in card
    assert "Rounding changed the held-out reconstruction from" in card
    assert "the scores by at most" in card
    with pytest.raises(FileExistsError, match="exists; delete it, or give another folder"):
        making.make_entry(finished, folder)


def test_the_command_writes_nothing_else_with_an_entry(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["export", NAMES[0], "--zoo", str(tmp_path / "x"), "--onnx"])
    assert "--zoo writes a small copy of the run and nothing else; leave out" in capsys.readouterr().err


def test_only_a_finished_run_becomes_an_entry(finished, tmp_path):
    folder = shutil.copytree(finished.folder, tmp_path / "x")
    (folder / "DONE").unlink()
    with pytest.raises(FileNotFoundError, match="is not finished; resume it with --resume"):
        making.make_entry(betavae.open_run(folder), tmp_path / "y")


def test_the_command_lists_the_entries_and_prints_a_card(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    main(["zoo"])
    listed = capsys.readouterr().out
    for name in NAMES:
        assert f"{zoo.open_entry(name).scores['mig']:.3f}" in listed
    main(["zoo", NAMES[0]])
    assert f"# {NAMES[0]}\n" in capsys.readouterr().out


def test_commands_take_a_name_for_its_copy_in_runs(capsys, monkeypatch, tmp_path):
    name = NAMES[0]
    monkeypatch.chdir(tmp_path)
    main(["export", name])
    assert capsys.readouterr().out.startswith(f"{name} of the zoo is copied to runs/{name}\n")
    (tmp_path / "runs" / name / "report.html").touch()
    monkeypatch.setattr(webbrowser, "open", lambda address: address.endswith(f"/runs/{name}/report.html"))
    main(["explore", name])
    assert capsys.readouterr().out == ""
    (tmp_path / "runs" / name / "model.safetensors").write_bytes(b"mine")
    with pytest.raises(SystemExit):
        main(["explore", name])
    assert f"runs/{name} is not a copy of the zoo's {name}; rename it, or give its path" in capsys.readouterr().err


def test_unknown_names_list_the_known_ones(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for command in ("explore", "score", "export"):
        with pytest.raises(SystemExit):
            main([command, f"{NAMES[0]}x"])
        error = capsys.readouterr().err
        assert f"{NAMES[0]}x: no such run folder, and unknown model of the zoo" in error
        assert f"did you mean '{NAMES[0]}'?" in error
    with pytest.raises(FileNotFoundError, match=f"no such folder; did you mean '{NAMES[0]}'"):
        betavae.load(f"{NAMES[0]}x", device="cpu")


def test_a_large_animation_loses_frames(monkeypatch):
    content = zoo.open_entry("dsprites-tc").path(making.ANIMATION).read_bytes()
    assert making._small_animation(content) == content
    monkeypatch.setattr(making, "ANIMATION_BYTES", 1_000)
    with Image.open(io.BytesIO(content)) as whole, Image.open(io.BytesIO(making._small_animation(content))) as fewer:
        assert fewer.n_frames == -(-whole.n_frames // 3)


def test_the_command_of_a_card_has_no_folder():
    command = ["betavae", "train", "--out", "runs/x", "--seed", "1", "--out=y"]
    assert making._without_out(command) == ["betavae", "train", "--seed", "1"]
    assert json.loads(zoo.open_entry(NAMES[0]).path("provenance.json").read_text())["command"][0] == "betavae"
