"""Runs that log to TensorBoard, W&B, MLflow and trackio, without a network, and resumed ones."""

import json
import os
import socket
import sqlite3
import sys
import warnings

import pytest
import torch

from betavae.config import Config
from betavae.experiment import experiment, resume
from betavae.integrations import loggers, tensorboard
from betavae.integrations.loggers import LOGGERS, LogStart, RunLog, check_loggers
from betavae.runs.folder import create_run, read_curve
from betavae.training import steps

for library in LOGGERS:
    pytest.importorskip(library, reason=f"{library} is not installed; the extra betavae[{library}] has it")

STEPS, EVERY = 20, 5
SETTINGS = {
    **{"model": "tiny", "latent_dim": 3, "steps": STEPS, "batch_size": 16, "device": "cpu"},
    **{"validation_images": 100, "scores": ("mig",), "evaluations": 1, "figures": False, "precision": "fp32"},
}


class Stop(Exception):
    """Interrupts a training, as a kill would."""


@pytest.fixture(scope="module")
def offline():
    """No address but this machine's can be reached, and the settings of the user's tools are left out."""
    patch = pytest.MonkeyPatch()
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_"))]:
        patch.delenv(name)
    connect = socket.socket.connect

    def refuse(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"connects to {address}")
        return connect(self, address)

    patch.setattr(socket.socket, "connect", refuse)
    patch.setattr(steps, "RECORD_STEPS", EVERY)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def settings(small):
    return Config(**SETTINGS)


@pytest.fixture(scope="module")
def logged(small, settings, offline, tmp_path_factory):
    """A run with all logs, interrupted after step 15 with a checkpoint from step 5, and resumed without naming them."""
    folder = tmp_path_factory.mktemp("logged") / "run"

    def stop(record):
        if record.step == 15 and record.split == "train":
            raise Stop

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tools warn about one another
        patch.setattr("betavae.experiment.CHECKPOINT_SECONDS", -1.0)
        patch.setattr("betavae.experiment.save_checkpoint", saving_until(5))
        with pytest.raises(Stop):
            experiment(settings, folder, data=small, quiet=True, callbacks=[stop], log=LOGGERS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return resume(folder, data=small, quiet=True)


def saving_until(step):
    from betavae.runs.checkpoints import save_checkpoint

    return lambda run, state: save_checkpoint(run, state) if state.step <= step else None


@pytest.fixture(scope="module")
def plain(small, settings, offline, tmp_path_factory):
    return experiment(settings, tmp_path_factory.mktemp("plain") / "run", data=small, quiet=True)


def test_logs_do_not_change_the_numbers(logged, plain):
    assert all(
        torch.equal(a, b) for a, b in zip(*(r.model.state_dict().values() for r in (logged, plain)), strict=True)
    )
    assert logged.scores == plain.scores
    assert logged.path("config.json").read_bytes() == plain.path("config.json").read_bytes()
    assert not plain.path("logs").exists()


def test_tensorboard_has_every_point_once(logged):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logged.path("logs/tensorboard")), {"images": 0, "scalars": 0})
    events.Reload()
    points = [(event.step, event.value) for event in events.Scalars("train/kl")]
    curve = logged.curve.split("train")
    assert [step for step, _ in points] == curve["step"].tolist() == [*range(EVERY, STEPS + 1, EVERY)]
    assert [value for _, value in points] == pytest.approx(curve["rate"].tolist())
    assert events.Scalars("train/elbo")[-1].value == pytest.approx(-(curve["rate"] + curve["reconstruction"])[-1])
    validation = logged.curve.split("validation")
    assert [event.step for event in events.Scalars("validation/loss")] == validation["step"].tolist()
    assert events.Scalars("scores/mig")[0].value == pytest.approx(logged.scores["mig"])
    for tag in ("reconstructions", "traversals"):
        assert [event.step for event in events.Images(tag)] == [*range(EVERY, STEPS + 1, EVERY)]
    assert "_hparams_/experiment" in events.summary_metadata


def test_mlflow_has_every_point_once(logged):
    with sqlite3.connect(logged.path("logs/mlflow/mlflow.db")) as store:
        rows = store.execute("SELECT step, value FROM metrics WHERE key = 'train/kl' ORDER BY step").fetchall()
        assert dict(store.execute("SELECT key, value FROM params"))["objective.beta"] == "4.0"
        assert store.execute("SELECT status FROM runs").fetchall() == [("FINISHED",)]
    store.close()
    assert rows == list(zip(*(logged.curve.split("train")[name].tolist() for name in ("step", "rate")), strict=True))
    assert len(list(logged.path("logs/mlflow/artifacts").rglob("traversals*.png"))) == STEPS // EVERY


def test_wandb_writes_both_parts_under_one_id(logged):
    name = json.loads(logged.path("logs/ids.json").read_text())["wandb"]
    parts = list(logged.path("logs/wandb").glob(f"offline-run-*-{name}"))
    assert len(parts) == 2
    assert all(part.joinpath(f"run-{name}.wandb").stat().st_size > 1000 for part in parts)


def test_trackio_has_every_point_once(logged):
    (file,) = logged.path("logs/trackio").glob("*.db")
    with sqlite3.connect(file) as store:
        rows = store.execute("SELECT step, metrics FROM metrics ORDER BY step").fetchall()
    store.close()
    points = [(step, values["train/kl"]) for step, text in rows if "train/kl" in (values := json.loads(text))]
    assert points == list(zip(*(logged.curve.split("train")[name].tolist() for name in ("step", "rate")), strict=True))


def test_a_run_with_foreign_files_among_its_logs_is_not_replaced(settings, tmp_path):
    run = create_run(tmp_path / "run", settings)
    run.path("logs/wandb").mkdir(parents=True)
    create_run(run.folder, settings, overwrite=True)
    run.path("logs").mkdir()
    run.path("logs/thesis.txt").touch()
    with pytest.raises(FileExistsError, match=r"not part of a run \(logs/thesis\.txt\)"):
        create_run(run.folder, settings, overwrite=True)


class Broken:
    """A tool that fails at a step."""

    id = "broken"

    def __init__(self, fails_at):
        self.fails_at, self.steps = fails_at, []

    def scalars(self, values, step):
        if step >= self.fails_at:
            raise OSError(28, "No space left on device")
        self.steps.append(step)

    def images(self, images, step):
        assert {image.mode for image in images.values()} == {"L"}

    def scores(self, values, step):
        pass

    def close(self, finished):
        pass


def test_a_log_that_fails_is_dropped_with_one_warning(small, settings, plain, tmp_path, monkeypatch):
    tool = Broken(fails_at=15)
    monkeypatch.setattr(tensorboard, "open_tensorboard", lambda start: tool)
    with pytest.warns(UserWarning, match="tensorboard logs no more of this run .*No space left") as warned:
        run = experiment(settings, tmp_path / "run", data=small, quiet=True, log=["tensorboard"])
    assert len(warned) == 1
    assert tool.steps == [0, 5, 5, 10, 10]
    assert run.scores == plain.scores
    assert "No space left on device" in run.path("run.log").read_text()


def test_a_log_that_cannot_be_opened_is_no_error(small, settings, tmp_path, monkeypatch):
    def fail(start):
        raise ConnectionError("the server is away\nhint")

    monkeypatch.setattr(tensorboard, "open_tensorboard", fail)
    run = create_run(tmp_path / "run", settings)
    with pytest.warns(UserWarning, match=r"tensorboard logs no more of this run \(the server is away\)"):
        RunLog(run, small, ["tensorboard"]).close(finished=True)


def test_a_log_added_to_an_interrupted_run_has_its_curves_from_the_start(small, plain, monkeypatch):
    tool = Broken(fails_at=99)
    monkeypatch.setattr(tensorboard, "open_tensorboard", lambda start: tool)
    RunLog(plain, small, ["tensorboard"]).close(finished=True)
    assert tool.steps == [record["step"] for record in read_curve(plain)]


def test_damaged_ids_begin_new_logs(small, settings, tmp_path):
    run = create_run(tmp_path / "run", settings)
    run.path("logs").mkdir()
    run.path("logs/ids.json").write_text('{"wandb": 3}')
    with pytest.warns(UserWarning, match=r"ids\.json is damaged.*new logs begin"):
        RunLog(run, small, []).close(finished=True)


def test_tools_are_checked_before_a_training(small, settings, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="unknown logger 'wandbb'; did you mean 'wandb'"):
        experiment(settings, tmp_path / "run", data=small, log=["wandbb"])
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"--log mlflow needs mlflow.*pip install 'betavae\[mlflow\]'"):
        check_loggers(["mlflow"])
    assert not (tmp_path / "run").exists()


def test_places_that_the_user_names_are_used(tmp_path, offline, monkeypatch):
    from betavae.integrations.trackio import open_trackio

    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "mine"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)
    log = open_trackio(LogStart("run", tmp_path / "folder", {}))
    log.scalars({"train/kl": 1.0}, 1)
    log.close(finished=True)
    assert list((tmp_path / "mine").glob("*.db"))
    assert not (tmp_path / "folder").exists()
