"""Damaged files of our own: each command that reads them ends well, or says in a sentence what is wrong with which.

Each case changes one file of a finished run or of a study: a key is lost or holds something else, a byte is flipped,
the file is cut, emptied, missing, or a folder. `DAMAGE_CASES=5000` tries so many of each file instead of a few.
"""

import contextlib
import io
import json
import os
import random
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from betavae import experiment, scoring
from betavae.cli import main
from betavae.cli.pages import FiguresCommand, ReportCommand
from betavae.cli.score import ScoreCommand
from betavae.cli.study import ResultsCommand
from betavae.cli.train import TrainCommand
from betavae.config import Config
from betavae.data.exporting import export_npz
from betavae.data.factor_data import FactorData
from betavae.files import schemas
from betavae.report import run_figures
from betavae.runs import checkpoints, provenance
from betavae.runs.folder import append_record, open_run
from betavae.studies.study import create_study, failures, open_study, run_study
from betavae.training.loop import Record
from tests import stubs

CASES = int(os.environ.get("DAMAGE_CASES", "3"))
RAW = {"huge": "1e400", "digits": "9" * 400, "deep": "[" * 2000 + "]" * 2000, "nan": "NaN", "surrogate": '"\\ud800"'}
VALUES = [None, "x", "[/x]", -1, 0, 10**12, 0.5, [], {}, [[]], [None], {"x": "x"}, True, *(f"@{name}@" for name in RAW)]
GONE = object()
SETTINGS = {
    **{"model": "tiny", "latent_dim": 3, "steps": 2, "batch_size": 4, "train_images": 200, "validation_images": 30},
    **{"device": "cpu", "precision": "fp32", "scores": ("mig",), "evaluations": 1, "figures": False},
}


def squares() -> FactorData:
    """A white square on 8 x 8 pixels: two sizes, five places each way, six of each."""
    factors = np.stack(np.unravel_index(np.arange(300) % 50, (2, 5, 5)), 1).astype(np.int32)
    images = np.zeros((300, 1, 8, 8), np.uint8)
    for image, (size, row, column) in zip(images, factors, strict=True):
        image[0, row : row + size + 2, column : column + size + 2] = 1
    return FactorData(
        "squares", np.packbits(images.reshape(300, -1), axis=1), (1, 8, 8), 1, factors, ("size", "y", "x"), (2, 5, 5)
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a run that has everything, `run`, another, `other`, and a study of three runs, `study`."""
    folder = tmp_path_factory.mktemp("whole")
    export_npz(squares(), folder / "squares.npz")
    run = experiment.experiment(Config(data=str(folder / "squares.npz"), **SETTINGS), folder / "run")
    values = json.loads(run.path("scores.json").read_text())
    values["arrays"] |= {"dci.importance": [[0.5] * 3] * 3} | {
        name: [0.5, None, 0.5] for name in ("dci.per_latent", "dci.per_factor", "dci.accuracy")
    }
    values |= {"intervals": {"mig": [0.1, None]}, "ceilings": {"mig": 0.9}}
    values["scores"] |= {"sap": None}
    run.path("scores.json").write_text(json.dumps(values))
    for step in (1, 2):
        append_record(run, Record(step, 1.0, "train", {"loss": 3.0, "reconstruction": 2.0, "rate": 1.0}))
    shutil.copytree(run.folder, folder / "other")
    study = create_study(folder / "study", {"seeds": 3, "steps": 9, "latent_dim": 3})
    *done, failed = study.runs
    for name in done:
        stubs.quick(study.runs[name], study.path(name), lambda share: None)
    (study.folder / "failed").mkdir()
    (study.folder / "failed" / f"{failed}.json").write_text('{"error": "it failed", "when": "2026-01-01"}')
    ReportCommand((study.folder,))(silent())
    return folder


def silent():
    from rich.console import Console

    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def quick(whole, monkeypatch):
    """Scores are computed and pictures drawn from what was read, and take longer than all the rest."""
    scores = json.loads((whole / "run" / "scores.json").read_text())
    monkeypatch.setattr(scoring, "score_tables", lambda *given, **options: json.loads(json.dumps(scores)))
    monkeypatch.setattr(run_figures, "draw_all", lambda *given, **arrays: [])
    monkeypatch.setattr(provenance, "_commit", dict)


def commands(folder: Path, name: str):
    """What reads a file of a run or of a study."""
    run, other, study = (folder / part for part in ("run", "other", "study"))
    if name.startswith("study/"):
        return [
            ReportCommand((study,)),
            ResultsCommand(study),
            ResultsCommand(study, query="SELECT run, value FROM results"),
            lambda console: run_study(open_study(study), lambda jobs: (event for event in ())),
        ]
    return [
        ReportCommand((run,)),
        ReportCommand((run, other), out=folder / "comparison.html"),
        FiguresCommand(run),
        ScoreCommand(run, metrics=("mig",), evaluations=1),
        TrainCommand(Config(), resume=run),
    ]


def outcome(monkeypatch, capsys, command) -> str:
    """What a command says on the error stream: "" or one sentence."""
    monkeypatch.setattr(main, "_parse", lambda words: command)
    with contextlib.suppress(SystemExit):
        main.main([])
        return ""
    said = capsys.readouterr().err
    assert said.startswith("betavae: "), said
    assert len(said.splitlines()) == 1, said
    return said


def test_the_undamaged_are_read(whole, tmp_path, quick, monkeypatch, capsys):
    folder = shutil.copytree(whole, tmp_path / "undamaged")
    for name in ("run/scores.json", "study/study.json"):
        for command in commands(folder, name):
            assert outcome(monkeypatch, capsys, command) == "", command


def paths(value, before=()):
    """Where there is something in a value: every key of its tables, the first of its lists."""
    inside = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*before, key)
        yield from paths(inner, (*before, key))


def changed(text: str, path, value) -> str:
    """A JSON text with something else in a place."""
    values = json.loads(text)
    table = values
    for key in path[:-1]:
        table = table[key]
    if value is GONE:
        del table[path[-1]]
    else:
        table[path[-1]] = value
    text = json.dumps(values)
    for name, raw in RAW.items():
        text = text.replace(f'"@{name}@"', raw)
    return text


def in_json(file: Path):
    """Of a JSON file: something else in every place."""
    text = file.read_text()
    for path in paths(json.loads(text)):
        for value in (GONE, *VALUES):
            yield f"{path} = {value!r}", lambda path=path, value=value: file.write_text(changed(text, path, value))


def in_curve(file: Path):
    """Of a curve: the same in its first line."""
    first, *others = file.read_text().splitlines(keepends=True)
    for path in paths(json.loads(first)):
        for value in (GONE, *VALUES):
            text = "".join([changed(first, path, value), "\n", *others])
            yield f"{path} = {value!r}", partial(file.write_text, text)


def in_header(file: Path):
    """Of a file of tensors: the same beside them, and other tensors, with a digest that fits nevertheless."""
    with safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()["betavae"])
        tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118

    def write(there, path=("sha256",), value=GONE):
        text = changed(json.dumps(header), path, value)
        if value is GONE or path != ("sha256",):
            with contextlib.suppress(ValueError, RecursionError):
                others = {key: item for key, item in json.loads(text).items() if key != "sha256"}
                text = json.dumps(others | {"sha256": checkpoints._digest(there, others)})
        save_file(there, file, {"betavae": text})

    for path in paths(header):
        for value in (GONE, *VALUES):
            yield f"{path} = {value!r}", partial(write, tensors, path, value)
    for name, tensor in tensors.items():
        rest = {key: other for key, other in tensors.items() if key != name}
        yield f"no {name}", partial(write, rest)
        for other in (tensor.flatten()[:1].clone(), tensor.double() * float("nan")):
            yield f"other {name}", partial(write, rest | {name: other})


def in_arrays(file: Path):
    """Of an .npz: other arrays."""
    with np.load(file) as opened:
        arrays = dict(opened)
    strange = [["x"], 5, np.zeros((2, 2, 2)), [1j], [10**18], [-1], [np.nan], [], [True], np.array([None])]
    for name, array in arrays.items():
        yield f"no {name}", partial(np.savez, file, **{key: other for key, other in arrays.items() if key != name})
        for other in map(np.array, (*strange, array[:-1], array.astype(float) * 1e300)):
            yield f"{name} = {other!r:.60}", partial(np.savez, file, **arrays | {name: other})


def in_table(file: Path):
    """Of a Parquet file: no column, another one."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed; the extra betavae[study] has it")
    table = parquet.read_table(file)
    for place, name in enumerate(table.schema.names):
        yield f"no {name}", partial(parquet.write_table, table.drop([name]), file)
        yield f"other {name}", partial(parquet.write_table, table.set_column(place, name, [[[1]] * len(table)]), file)


def in_bytes(file: Path, chance: random.Random):
    """Of any file: cut, emptied, flipped, replaced, gone."""
    content = file.read_bytes()
    yield "missing", file.unlink
    yield "a folder", lambda: (file.unlink(), file.mkdir())
    if hasattr(os, "mkfifo"):
        yield "a pipe", lambda: (file.unlink(), os.mkfifo(file))
    for kept in (0, 1, chance.randrange(len(content)), len(content) - 1):
        yield f"{kept} bytes", partial(file.write_bytes, content[:kept])
    for flips in (1, 1, 1, 20):
        damaged = bytearray(content)
        for _ in range(flips):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        yield f"{flips} flipped", partial(file.write_bytes, bytes(damaged))
    for text in ("\0" * len(content), "null", "[]", "{}", "5", '"x"', RAW["deep"], RAW["digits"]):
        yield text[:9], partial(file.write_text, text)


FILES = {
    **dict.fromkeys(["run/config.json", "run/provenance.json", "run/scores.json"], in_json),
    "run/curve.jsonl": in_curve,
    **dict.fromkeys(["run/model.safetensors", "run/checkpoint.safetensors"], in_header),
    "run/latents.npz": in_arrays,
    **dict.fromkeys(["study/study.json", "study/failed/*.json", "study/runs/*/scores.json"], in_json),
    **dict.fromkeys(["study/runs/*/config.json", "study/runs/*/provenance.json"], in_json),
    "study/results.parquet": in_table,
    "study/holder": None,
}


@pytest.mark.parametrize("name", FILES)
def test_damage_ends_in_a_sentence(name, whole, tmp_path, quick, monkeypatch, capsys):
    folder, part = shutil.copytree(whole, tmp_path / "damaged"), name.partition("/")[0]
    file, chance = next(folder.glob(name)), random.Random(name)
    cases = [*(FILES[name](file) if FILES[name] else ()), *in_bytes(file, chance)]
    for what, damage in chance.sample(cases, min(CASES, len(cases))):
        damage()
        for command in commands(folder, name):
            if isinstance(command, TrainCommand):
                (folder / "run" / "DONE").unlink(missing_ok=True)
            try:
                said = outcome(monkeypatch, capsys, command)
            except Exception as error:
                raise AssertionError(f"{name}, {what}: {command} ends in {type(error).__name__}: {error}") from error
            if not name.endswith("config.json"):  # what follows from settings may be refused as such
                assert file.name in said or not said, f"{name}, {what}: {command} says {said}"
        shutil.rmtree(folder / part)
        shutil.copytree(whole / part, folder / part)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("run/config.json", lambda folder: open_run(folder / "run")),
        ("run/provenance.json", lambda folder: schemas.read_provenance(folder / "run")),
        ("run/scores.json", lambda folder: schemas.read_scores(folder / "run", 3, 3)),
        ("run/curve.jsonl", lambda folder: schemas.read_curve(folder / "run")),
        ("study/study.json", lambda folder: open_study(folder / "study")),
        ("study/failed/*.json", lambda folder: failures(open_study(folder / "study"))),
    ],
)
def test_every_place_of_a_file_may_hold_anything(name, read, whole, tmp_path):
    """By the readers alone, which takes a thousandth of the time of commands."""
    folder = shutil.copytree(whole, tmp_path / "damaged")
    file = next(folder.glob(name))
    for what, damage in FILES[name](file):
        damage()
        said = ""
        try:
            read(folder)
        except ValueError as error:
            said = str(error)
        assert not said or (file.name in said and len(said.splitlines()) == 1), f"{what}: {said}"
