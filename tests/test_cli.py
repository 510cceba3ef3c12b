"""The command line as a user meets it: help, one sentence and exit code 2 for every mistake."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from betavae.cli import train
from betavae.cli.main import main
from betavae.config import Config
from betavae.data.exporting import export_npz
from betavae.objectives.registry import OBJECTIVES
from betavae.objectives.settings import Vae
from betavae.runs.folder import create_run, open_run

TINY = [
    *("--steps", "20", "--batch-size", "8", "--train-images", "600", "--validation-images", "50", "--latent-dim", "3"),
    *("--device", "cpu", "--precision", "fp32", "--scores", "dci", "mig", "--evaluations", "1"),
]


@pytest.fixture(scope="module")
def file(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "small.npz"
    export_npz(small, path)
    return str(path)


@pytest.fixture(scope="module")
def done(file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    main(["train", "beta", "--beta", "2", "--data", file, *TINY, "--no-figures", "--out", str(folder)])
    return folder


def refused(capsys, *words):
    """The sentence with which the words are refused."""
    with pytest.raises(SystemExit) as error:
        main(list(words))
    assert error.value.code == 2
    sentence = capsys.readouterr().err.strip()
    assert len(sentence.splitlines()) == 1
    assert sentence.startswith("betavae: ")
    return sentence


@pytest.mark.parametrize(
    "words",
    [["train", name] for name in OBJECTIVES]
    + [[], ["train"], ["demo"], ["score"], ["report"], ["explore"], ["data", "export"]],
)
def test_help(words, capsys):
    with pytest.raises(SystemExit) as error:
        main([*words, "--help"])
    assert error.value.code == 0
    assert "usage: betavae" in capsys.readouterr().out


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"betavae {metadata.version('betavae')}\n"


def test_help_shows_source_and_main_setting_of_every_objective(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, objective in OBJECTIVES.items():
        described = words.split(f"• {name} ")[1].split("•")[0]
        assert "https://" in described, name
        assert "Main setting: --" in described or objective.settings is Vae, name


def test_python_m():
    done = subprocess.run([sys.executable, "-m", "betavae", "--help"], capture_output=True, text=True, check=True)
    assert "train" in done.stdout


def test_a_run(done, capsys, few_pictures):
    config = json.loads((done / "config.json").read_text())
    assert config["objective"] == {"name": "beta", "beta": 2.0, "warmup_steps": 0}
    assert config["steps"] == 20
    for words in (["score"], ["figures", "--formats", "pdf"], ["report"], ["train", "--resume"]):
        main([words[0], *words[1:], str(done)] if words[0] != "figures" else ["figures", str(done), *words[1:]])
    output = capsys.readouterr().out
    assert "dci.disentanglement" in output
    assert "report.html" in output
    assert "KL weight: 2 with sums over pixels and latents, which equals 0.000488 with pixels averaged" in output
    assert "is finished already" in output
    assert (done / "figures" / "loss_curves.pdf").exists()


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A folder with latents of four samples a factor value, as .npy, .npz and .csv."""
    folder = tmp_path_factory.mktemp("tables")
    factors = np.random.default_rng(0).integers((2, 3), size=(900, 2))
    latents = factors + np.random.default_rng(1).normal(0, 0.1, size=(900, 2))
    np.save(folder / "latents.npy", latents)
    np.savez(folder / "both.npz", mean=latents, factors=factors)
    np.savetxt(folder / "factors.csv", factors, delimiter=",", fmt="%d", header="a,b", comments="")
    return folder


def test_latents_of_any_model_are_scored(tables, capsys):
    chosen = ["--metrics", "mig", "sap", "--evaluations", "3", "--out", str(tables / "scores.json")]
    main(["score", "--latents", str(tables / "latents.npy"), "--factors", str(tables / "factors.csv"), *chosen])
    output = capsys.readouterr().out
    assert "900 samples" in output
    assert "a: z0" in output  # by the name of its column
    assert "sap.regression" in output
    values = json.loads((tables / "scores.json").read_text())
    low, high = values["intervals"]["mig"]
    assert low <= values["scores"]["mig"] <= high
    assert values["scores"]["mig"] > 0.9 > 0.1 > values["chance"]["mig"]
    assert values["protocol"] == {
        **{"betavae": metadata.version("betavae"), "preset": "default", "seed": 0, "evaluations": 3},
        **{"rows": 900, "num_train": 600, "num_test": 300},
    }
    both = str(tables / "both.npz")
    main(["score", "--latents", f"{both}:mean", "--factors", f"{both}:factors", *chosen])
    for capture, name in zip(values["captures"], ("factor 0", "factor 1"), strict=True):
        capture["factor"] = name  # an array has no names of columns
    assert json.loads((tables / "scores.json").read_text()) == values
    assert "factor 0: z0" in capsys.readouterr().out


@pytest.mark.parametrize("separator", [",", ";"])
def test_one_file_with_latents_and_factors(tables, capsys, separator):
    latents, factors = np.load(tables / "latents.npy"), np.load(tables / "both.npz")["factors"]
    rows = [["", "z0", "z1", "shape", "scale"]] + [
        [str(k), f"{latent[0]:.6f}", f"{latent[1]:.6f}", ("heart", "ellipse")[factor[0]], str(factor[1])]
        for k, (latent, factor) in enumerate(zip(latents, factors, strict=True))
    ]
    file = tables / "all.csv"
    file.write_text("".join(separator.join(row) + "\r\n" for row in rows), encoding="utf-8-sig")
    out = ["--metrics", "mig", "--evaluations", "1", "--out", str(tables / "scores.json")]
    main(["score", "--latents", f"{file}:z*", "--factors", f"{file}:shape,scale", *out])
    assert "shape: z0 (100 %) · scale: z1 (100 %)" in capsys.readouterr().out
    values = json.loads((tables / "scores.json").read_text())
    both = str(tables / "both.npz")
    main(["score", "--latents", f"{both}:mean", "--factors", f"{both}:factors", *out])
    assert values["scores"]["mig"] == pytest.approx(json.loads((tables / "scores.json").read_text())["scores"]["mig"])
    assert "column 'shape' contains text, such as 'ellipse', which is allowed for factors only" in refused(
        capsys, "score", "--latents", str(file), "--factors", str(file)
    )
    assert "has no column 'scal'; did you mean 'scale'?; its columns are z0, z1, shape, scale" in refused(
        capsys, "score", "--latents", f"{file}:z*", "--factors", f"{file}:scal"
    )


def test_notes_say_what_is_left_out(tables, capsys):
    np.save(tables / "one.npy", np.load(tables / "both.npz")["factors"][:, :1])
    words = ["--metrics", "mig", "modularity", "--evaluations", "1"]
    main(["score", "--latents", str(tables / "latents.npy"), "--factors", str(tables / "one.npy"), *words])
    output = capsys.readouterr().out
    assert "note: modularity is undefined (nan): it needs two factors that vary, got 1" in output.replace("\n", " ")
    assert "undefined" in output


def test_the_short_table_tells_why_it_lacks_only_what_it_would_show(done, capsys, tmp_path):
    run = open_run(shutil.copytree(done, tmp_path / "run"))
    values = json.loads(run.path("scores.json").read_text())
    values["scores"] = {"mig": 0.5, "irs": 0.5}
    values["notes"], values["skipped"] = ["mig is odd"], {"z_max_variance": "too few rows", "dcimig": "of this"}
    run.path("scores.json").write_text(json.dumps(values))
    train.show(run, Console(width=200), brief=True)
    short = capsys.readouterr().out
    assert (
        "1 more scores, and the reasons why z_max_variance and dcimig could not be computed, are in scores.json"
        in short
    )
    assert "note: mig is odd" in short
    assert "too few rows" not in short
    train.show(run, Console(width=200))
    assert "note: z_max_variance is left out: too few rows" in capsys.readouterr().out


def test_metrics_join_those_of_the_same_protocol(done, capsys):
    main(["score", str(done)])
    whole = json.loads((done / "scores.json").read_text())
    for name in ("mig", "dci"):
        main(["score", str(done), "--metrics", name, "--evaluations", "2", "--seed", "7"])
    joined = json.loads((done / "scores.json").read_text())
    assert {"mig", "dci.disentanglement"} <= joined["scores"].keys() == joined["intervals"].keys()
    assert joined["arrays"].keys() == whole["arrays"].keys()
    assert {"mig", "dci.disentanglement"} <= joined["chance"].keys()
    assert joined["ceilings"] == whole["ceilings"]
    main(["score", str(done), "--metrics", "mig", "--evaluations", "2", "--seed", "8"])
    assert json.loads((done / "scores.json").read_text())["scores"].keys() == {"mig"}
    main(["score", str(done)])
    assert json.loads((done / "scores.json").read_text()) == whole


def test_a_run_by_another_protocol(done, capsys):
    main(["score", str(done)])
    before = (done / "scores.json").read_bytes()
    main(["score", str(done), "--metrics", "mig", "--preset", "dlib", "--sampled", "--seed", "5", "--evaluations", "1"])
    values = json.loads((done / "scores.json").read_text())
    assert values["protocol"]["preset"] == "dlib"
    assert (values["protocol"]["latents"], values["protocol"]["seed"]) == ("sampled", 5)
    assert values["intervals"] == {}
    main(["score", str(done), "--metrics", "mig", "--fold-orientation", "--evaluations", "1"])
    captures = json.loads((done / "scores.json").read_text())["captures"]
    assert [capture["factor"] for capture in captures][2] == "orientation (folded)"
    main(["score", str(done)])
    assert (done / "scores.json").read_bytes() == before
    assert "dci.disentanglement" in capsys.readouterr().out


def test_scores_that_cannot_be(done, tables, capsys):
    latents, factors = ["--latents", str(tables / "latents.npy")], ["--factors", str(tables / "factors.csv")]
    assert "either a run folder, or --latents FILE together with --factors" in refused(capsys, "score")
    assert "either a run folder" in refused(capsys, "score", *latents)
    assert "either a run folder" in refused(capsys, "score", str(done), *latents, *factors)
    assert "--sampled and --fold-orientation are for runs" in refused(capsys, "score", *latents, *factors, "--sampled")
    drawn = ["--sampled-latents", str(tables / "latents.npy")]
    assert "--sampled-latents is for the metric mig_chen" in refused(
        capsys, "score", *latents, *factors, *drawn, "--metrics", "mig"
    )
    assert "unknown metric 'migg'; " in refused(capsys, "score", *latents, *factors, "--metrics", "migg")
    assert "contains 2 arrays (mean, factors); select one" in refused(
        capsys, "score", *latents, "--factors", str(tables / "both.npz")
    )
    assert "did you mean" in refused(capsys, "score", "--latents", str(tables / "latent.npy"), *factors)
    said = refused(capsys, "score", "--latents", str(done / "latents.npz"), *factors)
    assert said.endswith(f"select one, as in {done / 'latents.npz'}:mean")
    assert "is a folder; give --out the name of a file" in refused(
        capsys, "score", *latents, *factors, "--out", str(tables)
    )
    assert "--out is for two tables" in refused(capsys, "score", str(done), "--out", "x.json")
    assert "is continuous" in refused(
        capsys, "score", *latents, "--factors", str(tables / "latents.npy"), "--metrics", "mig"
    )
    assert "--num-train, --num-test and --discrete are for two tables" in refused(
        capsys, "score", str(done), "--discrete"
    )


def test_a_run_is_repeated_from_its_settings(done, tmp_path, monkeypatch):
    monkeypatch.setattr("betavae.experiment.draw_run", lambda run, data: [])
    main(["train", "--from", str(done / "config.json"), "--out", str(tmp_path / "again")])
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (done / "model.safetensors").read_bytes()


def test_flags_change_a_recipe(monkeypatch):
    started = []
    monkeypatch.setattr(train, "start", lambda config, *rest: started.append(config))
    monkeypatch.setattr(train, "show", lambda *rest, **options: None)
    monkeypatch.setattr(train, "result_of", lambda run: {})
    recipe = Path(__file__).parents[1] / "recipes" / "demo.toml"
    main(["train", "--from", str(recipe), "--steps", "7"])
    main(["train", f"--from={recipe}", "tc", "--beta", "9", "--seed", "3"])
    main(["train", "--from", "demo"])
    main(["train", "annealed", "--steps", "300000", "--seed", "3", "--capacity-nats", "20"])
    shipped = started[2]
    assert (started[0].steps, started[0].objective) == (7, shipped.objective)
    assert (started[1].objective.beta, started[1].seed, started[1].steps) == (9, 3, shipped.steps)
    assert (started[3].objective.capacity_nats, started[3].steps, started[3].seed) == (20, 300_000, 3)


def test_several_runs_are_compared(done, capsys, tmp_path):
    page = tmp_path / "comparison.html"
    other = shutil.copytree(done, tmp_path / "other")
    main(["report", str(done), str(other), "--out", str(page)])
    assert str(page) in capsys.readouterr().out
    assert "<h1>2 runs on " in page.read_text(encoding="utf-8")


def test_a_page_too_small_for_the_decoder_says_which_size_holds_it(done):
    page = done / "report.html"
    main(["report", str(done), "--megabytes", "1"])
    assert "data-explorer>" not in page.read_text(encoding="utf-8")
    needed = re.search(r"betavae report --megabytes (\d+)\.", page.read_text(encoding="utf-8"))
    main(["report", str(done), "--megabytes", needed[1]])
    assert "data-explorer>" in page.read_text(encoding="utf-8")
    assert page.stat().st_size < 1e6 * int(needed[1])


@pytest.mark.parametrize("works", [True, False])
def test_explore_opens_the_report_or_says_where_it_is(done, capsys, monkeypatch, works):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or works)
    page = done / "report.html"
    page.unlink()  # it is written where it is missing
    main(["explore", str(done)])
    assert opened == [page.resolve().as_uri()]
    assert page.exists()
    assert (f"no browser could be started; open {page.resolve()}" in capsys.readouterr().out) is not works


def test_reports_that_cannot_be(done, capsys, tmp_path):
    assert "no run is given; give one run folder" in refused(capsys, "report")
    assert "a run is given twice" in refused(capsys, "report", str(done), str(done / ".." / done.name))
    assert "--out is for several runs" in refused(capsys, "report", str(done), "--out", "x.html")
    assert "megabytes is 0.0; it must be from 1 to 1000" in refused(capsys, "report", str(done), "--megabytes", "0")
    for words in (["report"], ["report", str(done)], ["explore"]):
        assert "no such run folder" in refused(capsys, *words, str(tmp_path / "none"))


def test_mistakes(done, file, capsys, tmp_path):
    out = ["--out", str(tmp_path / "x")]
    assert "holds a run already" in refused(capsys, "train", "--data", file, *TINY, "--out", str(done))
    assert "no such run folder" in refused(capsys, "score", str(tmp_path / "none"))
    assert "no such run folder" in refused(capsys, "train", "--resume", str(tmp_path / "none"))
    for steps in ("3", str(Config().steps)):
        assert "leave out all other flags" in refused(capsys, "train", "--resume", str(done), "--steps", steps)
    assert "leave out all other flags" in refused(capsys, "train", "tc", f"--resume={done}")
    assert f"its settings are in {done / 'config.json'}" in refused(capsys, "train", "--from", str(done))
    assert "unknown recipe 'dem'; did you mean 'demo'" in refused(capsys, "train", "--from", "dem")
    assert "no such recipe" in refused(capsys, "train", "--from", str(tmp_path / "none.toml"))
    assert "none.npz" in refused(capsys, "train", "--data", str(tmp_path / "none.npz"), *out)
    assert "train 5000 + validation 50 = 5050 rows, but the data have 900" in refused(
        capsys, "train", "--data", file, *TINY, "--train-images", "5000", *out
    )
    assert "cannot be used here" in refused(capsys, "train", "--data", file, *TINY, "--device", "cuda:77", *out)
    assert "none.npz" in refused(capsys, "data", "check", str(tmp_path / "none.npz"))
    assert not (tmp_path / "x").exists()


def test_a_full_disk_says_how_to_go_on(file, capsys, tmp_path, monkeypatch):
    def full(run, model):
        raise OSError(errno.ENOSPC, "No space left on device", str(run.path("model.safetensors")))

    run = str(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("betavae.experiment.save_model", full)
        with pytest.raises(SystemExit) as error:
            main(["train", "beta", "--data", file, *TINY, "--no-figures", "--out", run])
    said = capsys.readouterr()
    assert error.value.code == 2
    assert said.err.strip() == f"betavae: {run}/model.safetensors: No space left on device"
    assert f"the last checkpoint is intact; free disk space, then resume with: betavae train --resume {run}" in said.out
    main(["train", "--resume", run])
    assert (tmp_path / "run" / "DONE").exists()


def test_a_reader_that_has_had_enough_is_left_in_peace():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "betavae", "study", "--help"]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no memory left for a convolution"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 49152000000 bytes."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_batches_that_are_too_large_are_named(error, file, capsys, tmp_path, monkeypatch):
    def full(*_):
        raise error

    monkeypatch.setattr("betavae.training.steps.StepRunner.__call__", full)
    said = refused(capsys, "train", "beta", "--data", file, *TINY, "--out", str(tmp_path / "run"))
    assert said.startswith("betavae: a batch of ")
    assert said.endswith("images does not fit into memory; reduce it with --batch-size")


def test_where_nothing_can_be_written(file, done, capsys, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    said = refused(capsys, "train", "beta", "--data", file, *TINY, "--out", str(tmp_path / "file" / "run"))
    assert said == f"betavae: {tmp_path}/file/run: Not a directory"
    before = sorted(done.rglob("*"))
    monkeypatch.setattr(os, "access", lambda path, mode: path != done / "figures")
    said = refused(capsys, "train", "beta", "--data", file, *TINY, "--out", str(done), "--overwrite")
    assert said == f"betavae: {done}/figures: cannot be written to, so the run is not replaced"
    assert sorted(done.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--stepz", "3"], "--steps"),
        (["train", "--steps", "many"], "many"),
        (["train", "--steps", "0"], "steps is 0; it must be a number of at least 1"),
        (["train", "beta", "--beta", "-1"], "beta is -1.0; it must be a number of at least 0"),
        (["train", "betta"], "beta"),
        (["train", "--model", "burges"], "; did you mean burgess? See betavae train --help"),
        (["figures", "x", "--formats", "pgn"], "; did you mean png? See betavae figures --help"),
        (["data", "chek", "x.npz"], "unknown command 'chek'; did you mean 'check'?"),
        (["train", "--train-images", "0"], "betavae: train_images is 0; it must be a number of images (150000)"),
        (
            ["train", "--steeps", "5"],
            "unrecognized options: --steeps, 5; did you mean --steps? See betavae train --help",
        ),
        (["train", "beta", "--gamma", "5"], "(applied to betavae train beta); see betavae train --help"),
        (["train", "--from"], "missing value for argument '--from'"),
        (["train", "--steps"], "missing value for argument '--steps'. Expected 1 values; see betavae train --help"),
        (["data"], "expected one of {list, info, view, convert, fetch, export, check}; see betavae data --help"),
    ],
)
def test_flags_that_cannot_be(words, message, capsys):
    assert message in refused(capsys, *words)


def test_a_folder_that_cannot_be_written(file, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    sentence = refused(capsys, "train", "--data", file, *TINY, "--out", str(tmp_path / "file" / "run"))
    assert str(tmp_path / "file") in sentence


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("key.toml", '"st\\u001b[31meps" = 3', r"unknown key 'st\x1b[31meps'"),
        ("value.toml", 'model = "\\u009b31m\\u202ered"', r"unknown model '\x9b31m\u202ered'"),
        ("lines.toml", 'model = "a\\nb"', "unknown model 'a b'"),
        ("\x1b]0;name.toml", "steps = -1", r"\x1b]0;name.toml"),
    ],
)
def test_terminals_do_not_obey_what_files_say(capsys, tmp_path, name, text, shown):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert shown in refused(capsys, "train", "--from", str(tmp_path / name))


@pytest.mark.parametrize("name", ["images.h5", "images.npy", "images"])
def test_damaged_data_of_other_kinds_are_named(capsys, tmp_path, name):
    (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n")
    said = refused(capsys, "train", "--data", str(tmp_path / name), "--out", str(tmp_path / "run"))
    assert f"{name} is damaged, or not an HDF5 file" in said


@pytest.mark.filterwarnings("default")
def test_members_of_data_that_are_not_read_are_named(file, capsys, tmp_path):
    bare = [*TINY, "--steps", "1", "--scores", "mig", "--no-figures"]
    main(["train", "--data", file, *bare, "--out", str(tmp_path / "whole")])
    assert "note:" not in capsys.readouterr().err
    with np.load(file) as arrays:
        np.savez(tmp_path / "more.npz", labels=np.zeros(3), **arrays)
    main(["train", "--data", str(tmp_path / "more.npz"), *bare, "--out", str(tmp_path / "more")])
    assert capsys.readouterr().err == (
        f"betavae: note: {tmp_path / 'more.npz'}: ignored 'labels'; only imgs, latents_classes, "
        "latents_values, factor_names are read\n"
    )


def test_warnings_of_others_are_shown_as_usual(capsys, monkeypatch):
    from betavae import experiment

    def warned(*_: object, **__: object) -> None:
        warnings.warn_explicit("far away", UserWarning, "/elsewhere/module.py", 7)
        raise ValueError("enough")

    monkeypatch.setattr(experiment, "experiment", warned)
    with pytest.warns(UserWarning, match="far away") as said:
        assert refused(capsys, "train") == "betavae: enough"
    assert said[0].filename == "/elsewhere/module.py"


def test_a_pickled_file_is_refused(capsys, tmp_path):
    np.savez(tmp_path / "evil.npz", imgs=np.array([object()]), latents_classes=np.zeros((1, 1)))
    assert "evil.npz" in refused(capsys, "train", "--data", str(tmp_path / "evil.npz"), "--out", str(tmp_path / "x"))


def test_a_demo_of_another_seed_is_not_taken_for_this_one(capsys, tmp_path):
    create_run(tmp_path / "demo", Config(model="burgess", seed=1))
    sentence = (
        "holds a run of burgess on dsprites with seed 1; name another folder with --out, or replace it with --overwrite"
    )
    assert sentence in refused(capsys, "demo", "--out", str(tmp_path / "demo"))
    assert sentence in refused(capsys, "demo", "--model", "affine", "--seed", "1", "--out", str(tmp_path / "demo"))


@pytest.mark.parametrize(("words", "near"), [(["trian"], "train"), (["train", "betta"], "beta")])
def test_misspelt_commands_and_objectives(words, near, capsys):
    what = "objective" if words[1:] else "command"
    assert f"unknown {what} '{words[-1]}'; did you mean '{near}'?" in refused(capsys, *words)


def test_check_says_how_many_images_differ(file, capsys):
    main(["data", "check", file])
    assert "900" in capsys.readouterr().out


def test_interrupted_it_says_how_to_go_on(monkeypatch, capsys, file, tmp_path):
    from betavae import experiment

    def interrupted(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "train_run", interrupted)
    with pytest.raises(SystemExit) as error:
        main(["train", "--data", file, *TINY, "--out", str(tmp_path / "run")])
    assert error.value.code == 130
    assert f"betavae train --resume {tmp_path / 'run'}" in capsys.readouterr().out.replace("\n", "")


def test_data_without_factors_are_not_scored(file, capsys, tmp_path):
    with np.load(file) as arrays:
        np.savez(tmp_path / "bare.npz", imgs=arrays["imgs"])
    data = ["--data", str(tmp_path / "bare.npz"), "--out", str(tmp_path / "run")]
    assert "has no factors that vary: leave scores out" in refused(capsys, "train", *data, *TINY)
    assert not (tmp_path / "run").exists()
    bare = TINY[: TINY.index("--scores")]
    main(["train", *data, *bare, "--no-figures", "--muon-after", "500"])
    assert "note: training ends after 20 steps, before muon_after 500" in capsys.readouterr().out
    for words in (["--metrics", "mig"], ["--fold-orientation"]):
        assert "so its latents cannot be scored" in refused(capsys, "score", str(tmp_path / "run"), *words)


def test_words_that_went_to_another_flag_are_named(done, capsys):
    assert f"--metrics reads {done} as the name of a metric; put the run folder before it" in refused(
        capsys, "score", "--metrics", "mig", str(done)
    )
    assert "did you mean --figures? See betavae study --help" in refused(capsys, "study", "betas", "--no-figures")


def test_too_many_held_out_images_are_named(file, capsys, tmp_path):
    sentence = refused(capsys, "train", "--data", file, "--out", str(tmp_path / "run"))
    assert "validation is 15000 and test is 0, so no images remain for training: hold out fewer" in sentence


OWN = """
from dataclasses import dataclass
from betavae.networks.registry import ARCHITECTURES, register as register_architecture
from betavae.objectives.elbo import vae
from betavae.objectives.registry import register
from betavae.objectives.settings import Vae

@dataclass(frozen=True)
class Mine:
    \"\"\"The VAE again.\"\"\"
    dial_of_mine: float = 1.0

register("mine", Mine, lambda settings, model, batch: vae(Vae(), model, batch))
register_architecture("ours", ARCHITECTURES["burgess"])
"""


def test_own_code_is_known_to_commands_and_to_the_processes_of_a_study(
    file, own_entries, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed; the extra betavae[study] has it")
    (tmp_path / "mine_alone.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("BETAVAE_IMPORT", "[]")
    settings = ["--dial-of-mine", "3", "--model", "ours", "--data", file, *TINY, "--steps", "2", "--scores", "mig"]
    main(["--import", "mine_alone.py", "train", "mine", *settings, "--no-figures", "--out", "run"])
    config = json.loads(Path("run/config.json").read_text())
    assert (config["objective"]["dial_of_mine"], config["model"]) == (3, "ours")
    study = ["study", "--objective", "mine", "--seeds", "1", *settings, "--figures", "False", "--workers", "1"]
    main([*study, "--out", "study", "--import=mine_alone.py"])
    assert "1 of 1 runs done" in capsys.readouterr().out
    run = str(next(Path("study/runs").iterdir()))
    own_entries()
    assert "if it is your own, name the file that defines it" in refused(capsys, "score", run)
    del sys.modules["mine_alone"]
    main(["--import", "mine_alone.py", "score", run])
    assert "mig" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.py", None, "there is no file"),
        ("text.txt", "", "takes a Python file"),
        ("broken_file.py", "1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("json.py", "", "there is another module 'json'"),
        ("my.own.py", "", "my.own.py cannot be a module's name; give the file one without further dots"),
        ("leaves_early.py", "import sys\nsys.exit(0)", "cannot be imported: SystemExit: 0 (line 2 of leaves_early.py)"),
        (
            "says_two_lines.py",
            "raise BaseException('a\\nb')",
            "cannot be imported: BaseException: a b (line 1 of ",
        ),
        ("no_python.py", "def f(:", "cannot be imported: SyntaxError: invalid syntax (no_python.py, line 1)"),
    ],
)
def test_own_code_that_cannot_be_imported(name, content, message, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("BETAVAE_IMPORT", "[]")
    if content is not None:
        (tmp_path / name).write_text(content)
    assert message in refused(capsys, "--import", str(tmp_path / name), "train", "--help")


NONSENSE = """
from dataclasses import dataclass
from betavae import metrics
from betavae.networks import registry as networks
from betavae.objectives.elbo import vae
from betavae.objectives.registry import OBJECTIVES, register
from betavae.objectives.settings import Vae

@dataclass(frozen=True)
class Mine:
    dial: float = 1.0

@dataclass(frozen=True)
class Steps:
    steps: int = 1

@dataclass(frozen=True)
class Unknown:
    dial: "nowhere" = 1.0

@dataclass(frozen=True)
class Needy:
    needs: str = "pairs"

def good(settings, model, batch):
    return vae(Vae(), model, batch)

"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("register('beta', Mine, good)", "ValueError: objective 'beta' is part of betavae; give yours another name"),
        ("networks.register('burgess', good)", "ValueError: model 'burgess' is part of betavae; give yours another"),
        (
            "metrics.register(metrics.Metric('mig', good))",
            "ValueError: metric 'mig' is part of betavae; give yours another name (line 28 of own_nonsense.py)",
        ),
        ("OBJECTIVES['mine'] = good", "TypeError: 'Registry' object does not support item assignment"),
        ("register('mine', 5, good)", "TypeError: the settings of objective 'mine' are 5; they must be a dataclass"),
        ("register('mine', Mine, 3)", "TypeError: objective 'mine' is 3; it must be a function of (settings, model, "),
        ("register('mine', Mine, lambda one: 1)", "TypeError: objective 'mine' cannot be called as (settings, model, "),
        (
            "register('mine', Mine, good, network=3)",
            "TypeError: the network of objective 'mine' is 3; it must be a function of (settings, latent_dim)",
        ),
        ("register('my own', Mine, good)", "ValueError: objective 'my own': a name must be a letter, then letters, "),
        ("register(3, Mine, good)", "ValueError: objective 3: a name must be a letter, then letters, digits, - or _"),
        ("register('s', Steps, good)", "ValueError: objective 's' has a setting steps, which is the name of a"),
        (
            "register('u', Unknown, good)",
            "TypeError: the settings of objective 'u' have an unknown type (name 'nowhere' is not defined)",
        ),
        (
            "register('n', Needy, good)",
            "TypeError: the needs of objective 'n' are 'pairs'; they must be betavae.objectives.needs.Needs",
        ),
        ("networks.register('mine', good)", "TypeError: model 'mine' cannot be called as (image_shape, latent_dim)"),
        (
            "metrics.register(metrics.Metric('mine', 5))",
            "TypeError: metric 'mine' is 5; it must be a function of (latents, factors, seed=0)",
        ),
        (
            "metrics.register(metrics.Metric('mine', lambda latents: {}))",
            "TypeError: metric 'mine' cannot be called as (latents, factors, seed=0)",
        ),
        (
            "metrics.register(metrics.Metric('mine', lambda latents, factors, *, seed: {}, {'mine': 'good'}))",
            "TypeError: metric 'mine' describes a score as 'good'; it must be a betavae.metrics.ScoreInfo",
        ),
    ],
)
def test_own_code_that_defines_nonsense(content, message, own_entries, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("BETAVAE_IMPORT", "[]")
    monkeypatch.delitem(sys.modules, "own_nonsense", raising=False)
    (tmp_path / "own_nonsense.py").write_text(NONSENSE + content)
    said = refused(capsys, "--import", str(tmp_path / "own_nonsense.py"), "train", "--help")
    assert said.startswith(f"betavae: {tmp_path / 'own_nonsense.py'} cannot be imported: {message}")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("None", "objective mine returned None; it must return a betavae.objectives.api.Loss"),
        (
            "Loss(3.0, {})",
            "objective mine returned a loss of 3.0 with terms ; it must be a tensor without axes, ",
        ),
        ("{}['x']", "objective mine failed: KeyError: 'x' (line 9 of own_objective_that_fails.py)"),
    ],
)
def test_an_own_objective_that_fails_is_named(returned, message, file, own_entries, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("BETAVAE_IMPORT", "[]")
    monkeypatch.delitem(sys.modules, "own_objective_that_fails", raising=False)
    text = f"""from dataclasses import dataclass
from betavae.objectives.api import Loss
from betavae.objectives.registry import register


@dataclass(frozen=True)
class Mine:
    dial: float = 1.0
register("mine", Mine, lambda settings, model, batch: {returned})
"""
    (tmp_path / "own_objective_that_fails.py").write_text(text)
    words = ["--import", str(tmp_path / "own_objective_that_fails.py"), "train", "mine", "--data", file, *TINY]
    assert message in refused(capsys, *words, "--out", str(tmp_path / "run"))


def test_an_environment_that_names_no_files_to_import(capsys, monkeypatch, tmp_path):
    (tmp_path / "empty_file.py").touch()
    for text in ("[3]", "own.py"):
        monkeypatch.setenv("BETAVAE_IMPORT", text)
        said = refused(capsys, "--import", str(tmp_path / "empty_file.py"), "train", "--help")
        assert "the environment's BETAVAE_IMPORT is not a list of files" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--batch-size", "100000000"],
            "batch_size is 100000000, but there are only 600 training images: set",
        ),
        (["--latent-dim", "1000000000"], "the latents of 900 images take 7,200.0 GB, and this machine has "),
        (["--latent-dim", "4097"], "latent_dim is 4097, and an image has 4,096 pixels: give at most that many latents"),
        (
            ["--evaluations", "1000000000"],
            "evaluations is 1000000000; it must be at most 1,000; ten are enough for an interval",
        ),
        (
            ["--scored-images", "1e9"],
            "scored_images is 1000000000.0; it must be a number of images (150000) or, ",
        ),
    ],
)
def test_settings_that_would_take_forever_or_all_memory(words, sentence, file, capsys, tmp_path):
    given = ["train", "beta", "--data", file, *TINY, *words, "--out", str(tmp_path / "run")]
    assert sentence in refused(capsys, *given)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_no_memory_holds(file, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("betavae.training.state.memory_of", lambda device: 10**6)
    sentence = "batch_size is 50; such a batch needs at least 0.0 GB, but cpu has 0.0 GB: reduce batch_size"
    words = ["--data", file, *TINY, "--batch-size", "50", "--out", str(tmp_path / "run")]
    assert sentence in refused(capsys, "train", "beta", *words)


def test_scores_of_a_factor_that_does_not_vary_are_written_and_shown(capsys, tmp_path):
    rng = np.random.default_rng(0)
    factors = rng.integers(4, size=(2000, 2))
    factors[:, 0] = 0
    np.save(tmp_path / "factors.npy", factors)
    np.save(tmp_path / "latents.npy", factors + rng.normal(0, 0.1, factors.shape))
    tables = ("--latents", str(tmp_path / "latents.npy"), "--factors", str(tmp_path / "factors.npy"))
    main(
        ["score", *tables, "--metrics", "mig", "modularity", "--evaluations", "1", "--out", str(tmp_path / "out.json")]
    )
    assert "factor 0: does not vary · factor 1: z1 (100 %)" in capsys.readouterr().out
    values = json.loads((tmp_path / "out.json").read_text())
    assert values["scores"]["mig"] > 0.9
    assert values["scores"]["modularity"] is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("train", "--steps", "9" * 400), "steps has 400 digits; it must be below 2 to the power of 63"),
        (("train", "--rotate-at", "9" * 400), "rotate_at has 400 digits; it must be below 2 to the power of 63"),
        (("demo", "--seed", "9" * 400), "seed has 400 digits; it must be below 2 to the power of 63"),
        (("train", "--data", "fifo"), "fifo is not a regular file; give a file or a folder of images"),
        (("train", "--data", "."), ". has no images; give a folder of PNG or JPEG files"),
        (("score", "--latents", "fifo", "--factors", "fifo"), "fifo is not a regular file; give a file with a table"),
        (("score", "--latents", ".", "--factors", "."), ". is a folder; give a file with a table"),
    ],
)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_numbers_that_nothing_can_hold_and_files_that_never_end(capsys, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    assert sentence in refused(capsys, *words)


@pytest.mark.parametrize(
    ("name", "text"), [("r.toml", "steps = {}"), ("r.json", '{{"objective": {{"name": "beta", "warmup_steps": {}}}}}')]
)
def test_recipes_with_numbers_that_nothing_can_hold(capsys, tmp_path, name, text):
    (tmp_path / name).write_text(text.format("9" * 400))
    assert "has 400 digits; it must be below 2 to the power of 63" in refused(
        capsys, "train", "--from", str(tmp_path / name)
    )
