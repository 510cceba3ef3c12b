"""The run folder: nothing is lost, nothing damaged is believed."""

import json
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from betavae.config import Config
from betavae.data.splits import split_rows
from betavae.files.atomic import replacing, write_atomically
from betavae.objectives.settings import TC
from betavae.runs import folder
from betavae.runs.checkpoints import load_checkpoint, load_model, save_checkpoint, save_model
from betavae.runs.folder import (
    append_record,
    create_run,
    cut_curve,
    drop_half_written,
    locked,
    open_run,
    read_curve,
    read_json,
    write_json,
)
from betavae.runs.latents import Latents, load_latents, save_latents
from betavae.training.loop import Record, train
from betavae.training.state import new_state

CONFIG = Config(
    objective=TC(memory_images=50),
    steps=100,
    batch_size=4,
    precision="fp32",
    device="cpu",
    model="residual",
    latent_dim=3,
)


@pytest.fixture
def run(tmp_path):
    return create_run(tmp_path / "a" / "run", CONFIG)


def advance(state, small, stop, config=CONFIG):
    split = split_rows(len(small), 700, 0, seed=0)
    for _ in train(config, small, split.train, split.validation, state):
        if state.step == stop:
            break


@pytest.mark.parametrize("muon_after", [None, 0, 14])
def test_a_restored_state_goes_on_to_the_same_weights(run, small, muon_after, monkeypatch):
    monkeypatch.setattr("betavae.training.steps.RECORD_STEPS", 10)
    config = replace(CONFIG, muon_after=muon_after)
    whole, broken = new_state(config, small), new_state(config, small)
    advance(whole, small, 20, config)
    advance(broken, small, 10, config)
    save_checkpoint(run, broken)
    restored = new_state(config, small)
    load_checkpoint(run, restored)
    assert (restored.step, restored.wall_seconds) == (10, broken.wall_seconds)
    advance(restored, small, 20, config)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, restored.model.state_dict()[name]), name


def test_settings_that_cannot_be_read_back_replace_no_run(run):
    @dataclass(frozen=True)
    class Elsewhere:
        """Not in the table of objectives."""

        entries: object = 3

    for settings, message in (
        (Elsewhere(), "these settings: unknown objective 'elsewhere'"),
        (Elsewhere({1, 2}), r"these settings cannot be stored as JSON \(Object of type set is not"),
    ):
        with pytest.raises(ValueError, match=message):
            create_run(run.folder, Config(objective=settings), overwrite=True)
    assert open_run(run.folder).config == CONFIG


def test_a_folder_is_as_good_as_its_run(run, small):
    state = new_state(CONFIG, small)
    save_model(run, state.model)
    before = torch.get_rng_state()
    model = load_model(str(run.folder))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model.decoder[0].weight, state.model.decoder[0].weight)
    save_latents(
        run, Latents(np.arange(5), np.zeros((5, CONFIG.latent_dim), np.float32), np.zeros((5, CONFIG.latent_dim)))
    )
    assert load_latents(run.folder).rows.tolist() == [0, 1, 2, 3, 4]


def test_folders_are_not_overwritten_unless_told(run, tmp_path):
    with pytest.raises(FileExistsError, match=r"holds a run already; resume it with --resume .*, replace it with"):
        create_run(run.folder, CONFIG)
    run.path("DONE").touch()
    assert open_run(run.folder).done
    for mine in (".git", "latents.npz.mine.tex"):
        run.path(mine).touch()
        with pytest.raises(FileExistsError, match=rf"holds files that are not part of a run \({mine}\)"):
            create_run(run.folder, CONFIG, overwrite=True)
        run.path(mine).unlink()
    for theirs in ("figures/thesis.txt", "figures/mine.png", "figures/traversals/mine.gif"):
        run.path(theirs).parent.mkdir(parents=True, exist_ok=True)
        run.path(theirs).touch()
        with pytest.raises(FileExistsError, match=rf"holds files that are not part of a run \({theirs}\)"):
            create_run(run.folder, CONFIG, overwrite=True)
        run.path(theirs).unlink()
    for half_written in (".scores.json.123", "figures/traversals/.seed0_z1_fixed.gif.9", "figures/importance.pdf"):
        run.path(half_written).touch()
    (tmp_path / "link").symlink_to(run.folder)
    with pytest.raises(FileExistsError, match="is a link, which cannot be replaced"):
        create_run(tmp_path / "link", CONFIG, overwrite=True)
    assert not create_run(run.folder, CONFIG, overwrite=True).done
    run.path("config.json").rename(run.path(".config.json.77"))  # killed before anything else was written
    assert create_run(run.folder, CONFIG).path("config.json").exists()
    with pytest.raises(ValueError, match=r"'.*\\udcff' is not valid UTF-8"):
        create_run(tmp_path / "bad\udcff", CONFIG)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match="exists and is not a run; name another folder"):
        create_run(tmp_path / "mine", CONFIG, overwrite=True)
    (tmp_path / "mine" / "config.json").write_text('{"name": "a web project"}')
    with pytest.raises(
        FileExistsError, match=r"holds files that are not part of a run \(thesis.tex\); name another folder"
    ):
        create_run(tmp_path / "mine", CONFIG, overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize("line", ["5", '{"a": 1}', "[]", '{"step": "1", "split": "train", "wall_seconds": 0}', "\xff"])
def test_a_curve_of_something_else(run, line):
    whole = {"step": 0, "split": "train", "wall_seconds": 0}
    run.path("curve.jsonl").write_bytes(f"{line}\n{json.dumps(whole)}\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"line 1 of .*curve.jsonl is damaged \(.+\); restore it, or move it away"):
        read_curve(run)


def test_what_is_no_run_is_refused(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such run folder"):
        open_run(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"contains no config\.json, so it is not a run"):
        open_run(tmp_path)
    write_json(run, "provenance.json", {"format": 99})
    with pytest.raises(ValueError, match=r"provenance.json has format 99, and this version reads format 1"):
        open_run(run.folder)


def test_curve(run):
    assert read_curve(run) == []
    for step in (50, 100, 150):
        append_record(run, Record(step, 1.0, "train", {"loss": 2.0}))
    assert read_curve(run)[1] == {"step": 100, "wall_seconds": 1.0, "split": "train", "loss": 2.0}
    with run.path("curve.jsonl").open("a") as file:
        file.write('{"step": 200, "wall')
    assert [record["step"] for record in read_curve(run)] == [50, 100, 150]
    cut_curve(run, 100)
    assert [record["step"] for record in read_curve(run)] == [50, 100]
    whole = run.path("curve.jsonl").read_text()
    run.path("curve.jsonl").write_text(f"{whole}nonsense\n{whole}")
    with pytest.raises(ValueError, match=r"line 3 of .*curve\.jsonl is damaged"):
        read_curve(run)


def test_a_run_continued_from_its_beginning_has_no_curve_yet(run):
    append_record(run, Record(0, 0.0, "validation", {"loss": 3.0}))
    append_record(run, Record(50, 1.0, "train", {"loss": 2.0}))
    cut_curve(run, 50)
    assert [record["step"] for record in read_curve(run)] == [0, 50]
    cut_curve(run, 0)
    assert read_curve(run) == []


def test_model_round_trip(run, small):
    model = new_state(CONFIG, small).model.eval()
    save_model(run, model)
    images = torch.from_numpy(small.images([0, 1])).float()
    with torch.no_grad():
        torch.testing.assert_close(load_model(run).encode(images), model.encode(images))


def test_missing_files(run):
    for call in (load_model, load_latents):
        with pytest.raises(FileNotFoundError, match="is missing: the run is not finished"):
            call(run)
    with pytest.raises(FileNotFoundError, match=r"scores\.json is missing"):
        read_json(run, "scores.json")


def test_damaged_files(run, small):
    state = new_state(CONFIG, small)
    for name, save, load in (
        ("model.safetensors", lambda: save_model(run, state.model), lambda: load_model(run)),
        ("checkpoint.safetensors", lambda: save_checkpoint(run, state), lambda: load_checkpoint(run, state)),
        (
            "latents.npz",
            lambda: save_latents(run, Latents(np.arange(4), np.zeros((4, 3), "f4"), np.zeros((4, 3), "f4"))),
            lambda: load_latents(run),
        ),
    ):
        save()
        load()
        whole = run.path(name).read_bytes()
        for damaged in (whole[: len(whole) // 2], b"", b"nonsense" * 100):
            run.path(name).write_bytes(damaged)
            with pytest.raises(ValueError, match=f"{name} is damaged"):
                load()
    run.path("scores.json").write_text('{"scores": ')
    with pytest.raises(ValueError, match=r"scores\.json is damaged"):
        read_json(run, "scores.json")


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint.safetensors"])
def test_flipped_bits_of_weights_are_noticed(run, small, name):
    """Wherever they are: 24 places of a file, of which most belong to tensors."""
    state = new_state(CONFIG, small)
    if name.startswith("model"):
        save_model(run, state.model)
    else:
        save_checkpoint(run, state)
    whole, rng = run.path(name).read_bytes(), np.random.default_rng(0)
    for place in rng.choice(len(whole), 24, replace=False):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        run.path(name).write_bytes(damaged)
        with pytest.raises(ValueError, match=name):
            load_model(run) if name.startswith("model") else load_checkpoint(run, new_state(CONFIG, small))
    run.path(name).write_bytes(whole)
    load_model(run) if name.startswith("model") else load_checkpoint(run, state)


def test_a_checkpoint_whose_step_was_edited_is_refused(run, small):
    state = new_state(CONFIG, small)
    save_checkpoint(run, state)
    with safe_open(run.path("checkpoint.safetensors"), "pt") as file:
        header = json.loads(file.metadata()["betavae"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for edited, reason in (
        (header | {"step": 50}, "its digest does not match"),
        ({key: value for key, value in header.items() if key != "sha256"}, "it lacks sha256"),
    ):
        save_file(tensors, run.path("checkpoint.safetensors"), {"betavae": json.dumps(edited)})
        with pytest.raises(ValueError, match=rf"checkpoint.safetensors is damaged \({reason}"):
            load_checkpoint(run, state)


@pytest.mark.parametrize("step", [-1, 101])
def test_a_checkpoint_of_a_step_that_the_run_has_not_is_refused(run, small, step):
    state = new_state(CONFIG, small)
    state.step = step
    save_checkpoint(run, state)
    with pytest.raises(ValueError, match=rf"checkpoint.safetensors is damaged \(step is {step} of 100\)"):
        load_checkpoint(run, state)


@pytest.mark.parametrize("lost", ["steps", "seed", "learning_rate"])
def test_settings_that_lost_a_key_are_not_trained_on(tmp_path, small, lost):
    """Without its steps a run of 40 would go on to 300,000."""
    config = replace(CONFIG, steps=40, seed=5, learning_rate=3e-3)
    run = create_run(tmp_path / "run", config)
    save_checkpoint(run, new_state(config, small))
    values = json.loads(run.path("config.json").read_text())
    run.path("config.json").write_text(json.dumps(values | {"device": "auto"}))
    load_checkpoint(open_run(run.folder), new_state(config, small))  # another machine's device is no other run
    del values[lost]
    run.path("config.json").write_text(json.dumps(values))
    with pytest.raises(
        ValueError, match=r"config.json has other settings than those that checkpoint.safetensors was written"
    ):
        load_checkpoint(open_run(run.folder), new_state(config, small))


def test_weights_that_do_not_fit(run, small, tmp_path):
    other = create_run(tmp_path / "other", Config(model="burgess", latent_dim=5, device="cpu"))
    save_model(other, new_state(other.config, small).model)
    os.replace(other.path("model.safetensors"), run.path("model.safetensors"))
    with pytest.raises(
        ValueError, match=r"config.json has other settings than those that model.safetensors was written"
    ):
        load_model(run)
    save_model(run, new_state(other.config, small).model)
    with pytest.raises(ValueError, match="does not match the run's settings"):
        load_model(run)
    save_file({"x": torch.zeros(1)}, run.path("model.safetensors"), {"betavae": '{"format": 7}'})
    with pytest.raises(ValueError, match="has format 7, and this version reads format 1"):
        load_model(run)
    with np.errstate(all="ignore"):
        np.savez(run.path("latents.npz"), rows=np.arange(4), mean=np.zeros((4, 9)), log_var=np.zeros((4, 9)))
    with pytest.raises(ValueError, match=r"holds latents of shape \(4, 9\), which does not match the run's settings"):
        load_latents(run)


def test_weights_that_are_not_finite(run, small):
    state = new_state(CONFIG, small)
    save_checkpoint(run, state)
    good = run.path("checkpoint.safetensors").read_bytes()
    with torch.no_grad():
        next(state.model.parameters()).fill_(float("nan"))
    with pytest.raises(RuntimeError, match=r"model\.encoder.* is not finite after step 0"):
        save_checkpoint(run, state)
    assert run.path("checkpoint.safetensors").read_bytes() == good
    save_model(run, state.model)
    with pytest.raises(ValueError, match="has values that are not finite"):
        load_model(run)


def test_pickled_latents_are_refused(run):
    np.savez(run.path("latents.npz"), rows=np.array([object()]), mean=np.zeros((1, 3)), log_var=np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"latents\.npz is damaged"):
        load_latents(run)


def test_a_full_disk_loses_nothing(run, small):
    """Files may not grow beyond 64 KiB in the child: the checkpoint cannot be written, the one before stays."""
    state = new_state(CONFIG, small)
    save_checkpoint(run, state)
    good = run.path("checkpoint.safetensors").read_bytes()

    def save():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        try:
            save_checkpoint(run, state)
        except OSError as error:
            sys.exit(0 if "checkpoint.safetensors" in str(error) else str(error))
        sys.exit("the checkpoint was written")

    child = multiprocessing.get_context("fork").Process(target=save)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert run.path("checkpoint.safetensors").read_bytes() == good
    assert sorted(path.name for path in run.folder.iterdir()) == ["checkpoint.safetensors", "config.json"]


def test_replacing_removes_what_it_could_not_finish(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_layout_is_documented(run):
    for name in ("config.json", "curve.jsonl", "checkpoint.safetensors", "latents.npz", "DONE"):
        assert name in folder.__doc__
    assert json.loads(run.path("config.json").read_text())["objective"]["name"] == "tc"


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: calls.append("fsync") or fsync(number))
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append("replace") or replace(*paths))
    write_atomically(tmp_path / "whole", b"nats")
    assert calls == ["fsync", "replace"]


def test_a_failed_write_keeps_what_was_there_and_leaves_nothing(tmp_path, monkeypatch):
    target = tmp_path / "note.txt"
    target.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
    assert target.read_text() == "old"


def test_a_folder_in_use_is_not_trained_in_twice(tmp_path):
    """Told by which process; free again when that ends, also where it is killed."""
    run = create_run(tmp_path / "run", Config())
    script = (
        "import sys, time; from betavae.runs.folder import locked, open_run\n"
        "with locked(open_run(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(run.folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        sentence = (
            f"{run.folder} is in use by process {other.pid} on {socket.gethostname()}, since 20.*: wait until it ends"
        )
        with pytest.raises(BlockingIOError, match=sentence), locked(run):
            pass
        with pytest.raises(BlockingIOError, match=sentence):
            create_run(run.folder, Config(), overwrite=True)
        assert open_run(run.folder).config == Config()
        other.kill()
    with locked(run):
        pass
    create_run(run.folder, Config(seed=1), overwrite=True)


def test_only_what_a_inactive_process_left_of_a_run_is_removed(tmp_path):
    run = create_run(tmp_path / "run", Config())
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    half_written = [f".latents.npz.{ended.pid}", f".scores.json.{os.getpid()}", f"figures/.importance.png.{ended.pid}"]
    kept = [".notes.2026", ".git/.x.1", f".own.txt.{ended.pid}", f".latents.npz.{os.getppid()}"]
    for name in (*half_written, *kept):
        run.path(name).parent.mkdir(exist_ok=True)
        run.path(name).touch()
    drop_half_written(run)
    assert [name for name in (*half_written, *kept) if run.path(name).exists()] == kept
