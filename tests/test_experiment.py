"""The whole story on a small data set: complete, repeatable, interruptible at any moment."""

import html
import json
import multiprocessing
import os
import random
import shlex
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from betavae import experiment as story
from betavae import scoring
from betavae.config import Config
from betavae.data.exporting import export_npz
from betavae.experiment import experiment, resume
from betavae.model import VAE
from betavae.objectives.settings import TC, AdaGvae, Semi
from betavae.report import run_figures
from betavae.report.run_figures import draw_run, seed_rows
from betavae.report.run_page import report_run
from betavae.runs import contents, provenance
from betavae.runs.contents import data_of
from betavae.runs.folder import open_run, read_curve, read_json
from betavae.runs.latents import load_latents
from betavae.scoring import encode_run, score_run
from betavae.training import interrupts, seeding, steps

CONFIG = Config(
    objective=TC(6.0, 50),
    train_images=700,
    validation_images=100,
    steps=100,
    batch_size=8,
    learning_rate=1e-3,
    latent_dim=4,
    model="tiny",
    scores=("dci", "mig"),
    evaluations=2,
    precision="fp32",
    device="cpu",
)


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory, few_pictures):
    return experiment(CONFIG, tmp_path_factory.mktemp("runs") / "<b>run", data=small)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures take longer than all the rest of a small run."""
    monkeypatch.setattr(story, "draw_run", lambda run, data: [])


def test_the_folder_is_complete(finished):
    assert finished.done
    names = {path.name for path in finished.folder.iterdir()}
    assert names == {
        *("DONE", "checkpoint.safetensors", "latents.npz", "config.json", "curve.jsonl", "figures"),
        *("model.safetensors", "provenance.json", "report.html", "run.log", "scores.json"),
    }
    assert len(list(finished.path("figures").glob("traversals/*.gif"))) == 2 * 2 * 4
    page = finished.path("report.html").read_text()
    assert "&lt;b&gt;run" in page
    assert "<b>run" not in page


def test_scores(finished, small):
    values = read_json(finished, "scores.json")
    assert {"dci.disentanglement", "dci.completeness", "dci.informativeness", "mig"} <= values["scores"].keys()
    assert np.shape(values["arrays"]["dci.importance"]) == (4, 5)
    assert len(values["kl"]) == 4
    assert values["held_out"]["reconstruction"] > 0
    assert load_latents(finished).mean.shape == (len(small), 4)


def test_provenance(finished):
    facts = read_json(finished, "provenance.json")
    assert facts["data"]["images"] == 900
    assert len(facts["data"]["sha256"]) == 64
    assert facts["images_per_second"] > 0
    assert {"torch", "numpy", "python", "betavae"} <= facts["versions"].keys()
    assert facts["seeds"] == {"split": CONFIG.seed} | seeding.seeds(CONFIG)
    assert len(set(facts["seeds"].values())) == len(facts["seeds"]) >= 12


def test_a_finished_run_is_left_alone(finished, small):
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")}
    assert resume(finished.folder, data=small).done
    assert before == {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")}


def test_same_settings_same_numbers(finished, small, tmp_path, undrawn):
    again = experiment(CONFIG, tmp_path / "again", data=small)
    assert again.path("model.safetensors").read_bytes() == finished.path("model.safetensors").read_bytes()
    assert read_json(again, "scores.json") == read_json(finished, "scores.json")


def test_bad_settings_leave_no_folder(small, tmp_path):
    for settings, message in (
        ({"train_images": 10_000}, "train 10000 .* but the data have 900"),
        ({"device": "cuda:99"}, "cannot be used here"),
        (
            {"validation_images": 1},
            "validation_images selects 1 images; .* needs at least 2 images: hold out more, or none",
        ),
        ({"objective": AdaGvae()}, "of the partners that pair rule locatello draws are among the images of sprites"),
        ({"scored_images": 1}, "scored_images selects 1 images; it must select at least 3"),
        ({"device": "meta"}, "device 'meta' cannot be used here .* use auto, cpu, cuda or mps"),
        ({"objective": Semi()}, "latent_dim is 4; objective semi assigns a latent to each of the 5 factors"),
        (
            {"objective": Semi(), "latent_dim": 6},
            "labelled_images is 1000, which is 1000 images; .* number of training images, 700",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            experiment(replace(CONFIG, **settings), tmp_path / "run", data=small)
    assert list(tmp_path.iterdir()) == []


def test_changed_data_are_noticed(finished, small):
    black = replace(small, packed=np.zeros_like(small.packed))
    for tell in (score_run, draw_run, encode_run, report_run):
        with pytest.raises(ValueError, match=r"holds other images than .* was started with.*; restore them, or train"):
            tell(finished, black)


def test_a_factor_that_is_no_class_leaves_scores_out(small, tmp_path):
    """Nearly every image has its own value: there is nothing to learn from, but the rest of the run is there."""
    measured = replace(small, factors=np.arange(len(small))[:, None], factor_names=("angle",), factor_sizes=(900,))
    run = experiment(replace(CONFIG, scores=(), steps=2, figures=False), tmp_path / "run", data=measured)
    scores = read_json(run, "scores.json")
    assert len(scores["kl"]) == 4
    assert "not scored: angle has 600 classes in 600 training rows" in scores["notes"][0]
    assert "angle has 600 classes" in run.path("report.html").read_text()
    with pytest.raises(ValueError, match="angle has 600 classes in 600 training rows; at least two rows per class are"):
        experiment(CONFIG, tmp_path / "again", data=measured)
    assert not (tmp_path / "again").exists()


def test_the_command_that_repeats_a_run_is_one(finished, small, tmp_path, monkeypatch):
    (tmp_path / "mine.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BETAVAE_IMPORT", json.dumps([str(tmp_path / "mine.py")]))
    data = replace(small, source="dsprites")
    run = experiment(replace(CONFIG, steps=1, figures=False), tmp_path / "my run's", data=data)
    page = html.unescape(run.path("report.html").read_text())
    said = next(line for line in page.split("<code>") if line.startswith("betavae --import")).split("</code>")[0]
    words = ["betavae", "--import", str(tmp_path / "mine.py"), "train", "--from", str(run.path("config.json"))]
    assert shlex.split(said) == [*words, "--out", "runs/again"]


def test_nan_names_step_and_checkpoint(small, tmp_path):
    config = replace(CONFIG, learning_rate=1e30)
    with pytest.raises(RuntimeError, match=r"at step \d+; there is no checkpoint yet. Try a lower learning rate"):
        experiment(config, tmp_path / "run", data=small)


def test_without_factors_and_without_held_out_images(small, tmp_path, few_pictures):
    bare = replace(small, factors=np.zeros((len(small), 0), np.int32), factor_names=(), factor_sizes=())
    run = experiment(
        replace(CONFIG, validation_images=0, steps=10, latent_dim=2, scores=()), tmp_path / "run", data=bare
    )
    values = read_json(run, "scores.json")
    assert values["held_out"] == {}
    assert "scores" not in values
    assert run.path("report.html").exists()


def test_a_constant_latent_and_a_constant_factor_are_said_so(small, tmp_path, monkeypatch, few_pictures):
    """The run still ends, with all scores, figures and report. One image has the attribute, and it is not scored."""
    encode = scoring.encode

    def inactive(*arguments):
        mean, log_var = encode(*arguments)
        mean[:, 2], log_var[:, 2] = 0, 0
        return mean, log_var

    monkeypatch.setattr(scoring, "encode", inactive)
    scored = np.random.default_rng(0).choice(len(small), 600, replace=False)
    rare = np.zeros((len(small), 1), np.int32)
    rare[np.setdiff1d(np.arange(len(small)), scored)[0]] = 1
    data = replace(
        small,
        factors=np.hstack([small.factors, rare]),
        factor_names=(*small.factor_names, "hat"),
        factor_sizes=(*small.factor_sizes, 2),
    )
    config = replace(CONFIG, steps=10, latent_dim=3, scored_images=600, scores=(), evaluations=1)
    run = experiment(config, tmp_path / "run", data=data)
    assert run.done
    values = read_json(run, "scores.json")
    assert values["arrays"]["active"][2] is False
    assert values["kl"][2] == 0
    assert "hat: does not vary" in run.path("report.html").read_text(encoding="utf-8")
    assert values["captures"][-1]["strength"] is None


def _unclocked(run):
    return [{key: value for key, value in record.items() if key != "wall_seconds"} for record in read_curve(run)]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_interrupt_saves_and_resume_reaches_the_same_weights(split, finished, small, tmp_path, undrawn):
    def interrupt(record):
        if record.split == split and record.step == 50:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        experiment(CONFIG, tmp_path / "run", data=small, callbacks=[interrupt])
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
    began = read_json(open_run(tmp_path / "run"), "provenance.json")["started"]
    run = resume(tmp_path / "run", data=small)
    facts = read_json(run, "provenance.json")
    assert (facts["started"], len(facts["continued"])) == (began, 1)
    assert run.path("model.safetensors").read_bytes() == finished.path("model.safetensors").read_bytes()
    assert _unclocked(run) == _unclocked(finished)


def test_a_second_sigterm_does_not_cut_short_what_the_first_began():
    """Schedulers send it to a worker and to its driver, which passes it on; a second Ctrl-C is a person's."""
    with interrupts.deferred_interrupts() as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert caught
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_stopped_before_the_first_checkpoint_it_begins_again(finished, small, tmp_path, undrawn, monkeypatch):
    """As an installed package, which has no commit to name."""

    def stop(record):
        raise ZeroDivisionError

    monkeypatch.setattr(provenance, "_commit", dict)
    with pytest.raises(ZeroDivisionError):
        experiment(CONFIG, tmp_path / "run", data=small, callbacks=[stop])
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert [record["step"] for record in read_curve(open_run(tmp_path / "run"))] == [0]
    (tmp_path / "run" / ".checkpoint.safetensors.123").touch()  # of a process that was killed while it saved
    run = resume(tmp_path / "run", data=small)
    assert not (tmp_path / "run" / ".checkpoint.safetensors.123").exists()
    assert _unclocked(run) == _unclocked(finished)
    assert "commit" not in read_json(run, "provenance.json")["continued"][0]


def test_a_trained_run_is_looked_at_from_elsewhere(small, tmp_path, monkeypatch):
    """From another folder, and on a machine without the device that it was trained on."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    export_npz(small, Path("small.npz"))
    settings = replace(CONFIG, data="small.npz", steps=10, scores=("mig",), evaluations=1, figures=False)
    run = open_run(experiment(settings, tmp_path / "run").folder)  # does not remember the images
    monkeypatch.chdir("elsewhere")
    assert data_of(run).digest == small.digest
    export_npz(replace(small, packed=np.zeros_like(small.packed)), Path("small.npz"))  # another of the same name
    assert data_of(run).digest == small.digest
    Path("small.npz").unlink()
    config = read_json(run, "config.json") | {"device": "cuda:99"}
    run.path("config.json").write_text(json.dumps(config))
    far, before = open_run(run.folder), load_latents(run)
    assert np.array_equal(encode_run(far, small).mean, before.mean)
    assert score_run(far, small)["held_out"] == read_json(run, "scores.json")["held_out"]
    (tmp_path / "small.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no file 'small.npz'"):
        data_of(run)


def test_pictures_do_not_depend_on_one_another(small, tmp_path, monkeypatch):
    """`residual` has statistics of batches in training: a latent decoded alone gives what it gives among others."""
    config = replace(CONFIG, model="residual", steps=2, scores=("mig",), evaluations=1, figures=False)
    run, decoders = experiment(config, tmp_path / "run", data=small), []
    monkeypatch.setattr(run_figures, "draw_all", lambda *args, decode, **arrays: decoders.append(decode))
    draw_run(run, small)
    latents = load_latents(run).mean[:8]
    np.testing.assert_allclose(decoders[0](latents)[:1], decoders[0](latents[:1]), atol=1e-5)


def test_an_unknown_metric_is_refused_before_training(small, tmp_path):
    with pytest.raises(ValueError, match="unknown metric 'mgi'; did you mean 'mig'"):
        experiment(replace(CONFIG, scores=("mgi",)), tmp_path / "run", data=small)
    assert not (tmp_path / "run").exists()


def test_a_run_without_figures_still_has_its_report(small, tmp_path):
    run = experiment(
        replace(CONFIG, steps=10, figures=False, scores=("mig",), evaluations=1), tmp_path / "run", data=small
    )
    assert not run.path("figures").exists()
    assert run.path("report.html").exists()
    assert set(read_json(run, "scores.json")["scores"]) == {"mig"}


def test_killed_at_random_moments_it_ends_with_the_same_weights(small, tmp_path, monkeypatch):
    """kill -9, again and again, then left alone; fp32 on the CPU: the very weights of an undisturbed run."""
    config = replace(CONFIG, steps=80, scores=("mig",), evaluations=1, figures=False)
    monkeypatch.setattr(steps, "RECORD_STEPS", 10)
    monkeypatch.setattr(story, "CHECKPOINT_SECONDS", 0.0)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    experiment(config, whole, data=small)

    def work():
        if (broken / "config.json").exists():
            resume(broken, data=small)
        else:
            experiment(config, broken, data=small)

    chance, reached = random.Random(0), 0
    for _ in range(3):
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        reached += chance.choice([10, 20])
        while child.is_alive():
            lines = (broken / "curve.jsonl").read_text().splitlines() if (broken / "curve.jsonl").exists() else []
            if any(f'"step": {reached}' in line for line in lines):
                time.sleep(chance.random() / 10)
                break
            time.sleep(0.001)
        child.kill()
        child.join()
    assert not (broken / "DONE").exists()
    resume(broken, data=small)
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert _unclocked(open_run(broken)) == _unclocked(open_run(whole))
    assert json.loads((broken / "scores.json").read_text()) == json.loads((whole / "scores.json").read_text())


def test_seed_images_are_held_out_and_take_turns(small):
    model = VAE(CONFIG.model, small.image_shape, CONFIG.latent_dim)
    rows = seed_rows(CONFIG, small, model)
    assert len(set(rows)) == len(rows) == run_figures.SEED_IMAGES
    assert small.factors[rows[1:4], 0].tolist() == [2, 1, 0]
    split = contents.split_of(CONFIG, small)
    assert set(rows) <= set(split.validation)


def test_the_first_seed_image_is_of_median_size_and_reconstructed_best(small, monkeypatch):
    """A model that misses more of larger objects reconstructs the smallest best, which is not typical."""

    class Remembering(VAE):
        def decode(self, latents):
            return torch.from_numpy(small.images(self.rows) / np.float32(2 * small.max_value))

    model = Remembering(CONFIG.model, small.image_shape, CONFIG.latent_dim)

    def remember(config, data, rows, model):
        model.rows = rows
        return np.zeros((len(rows), config.latent_dim), np.float32), None

    monkeypatch.setattr(run_figures, "encode", remember)
    first = small.images(seed_rows(CONFIG, small, model)[:1]).sum()
    sizes = small.images(contents.split_of(CONFIG, small).validation).sum((1, 2, 3))
    low, high = np.quantile(sizes, [0.2, 0.8])
    assert low <= first <= high


def test_images_given_in_python_are_recorded_as_such(finished, small, capsys):
    """No command repeats the run, none scores it, and settings that name other data are refused at the start."""
    assert finished.config.data == "in memory"
    page = finished.path("report.html").read_text(encoding="utf-8")
    assert "This command repeats the run" not in page
    assert read_json(finished, "provenance.json")["data"]["sha256"] == small.digest
    with pytest.raises(
        ValueError, match=r"was trained on images given in Python \(.+, 900 images\), which betavae cannot"
    ):
        data_of(open_run(finished.folder))
    with pytest.raises(ValueError, match="the images were given in Python, so they cannot be loaded"):
        experiment(finished.config)
    with pytest.raises(ValueError, match=r"have data mine.npz, but the given images were made in Python: give Config"):
        experiment(replace(CONFIG, data="mine.npz"), data=small)
    with pytest.raises(ValueError, match=r"have data mine.npz, but the given images were read from dsprites"):
        experiment(replace(CONFIG, data="mine.npz"), data=replace(small, source="dsprites"))
