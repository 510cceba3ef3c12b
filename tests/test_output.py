"""What commands print and where: --quiet, --verbose, --json, exit codes, lists, completion, the log file of a run."""

import json
import logging
import os
import re
import subprocess
import sys

import pytest

from betavae.cli import main as command_line
from betavae.cli import output
from betavae.cli.main import COMMANDS, WITH_JSON, main
from betavae.data.exporting import export_npz
from betavae.metrics import METRICS
from betavae.runs import log_file
from betavae.runs.folder import open_run

TINY = [
    *("--model", "tiny", "--steps", "20", "--batch-size", "8", "--validation-images", "50", "--latent-dim", "3"),
    *("--device", "cpu", "--precision", "fp32", "--scores", "mig", "--evaluations", "1", "--no-figures"),
]


@pytest.fixture(scope="module")
def words(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("output")
    export_npz(small, folder / "small.npz")
    return ["train", "beta", "--data", str(folder / "small.npz"), *TINY, "--out", str(folder / "run")]


@pytest.fixture(scope="module")
def run(words):
    main([*words, "--quiet"])
    return open_run(words[-1])


def printed(capsys, *words):
    main(list(words))
    shown = capsys.readouterr()
    return json.loads(shown.out), shown.err


def test_quiet_prints_nothing(words, run, capsys):
    main(["score", words[-1], "--metrics", "mig", "--quiet"])
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_json_is_one_object_and_the_rest_goes_to_standard_error(words, run, capsys):
    trained, progress = printed(capsys, *words, "--overwrite", "--json")
    assert trained["scores"] == json.loads(run.path("scores.json").read_text())["scores"]
    assert trained["report"] == str(run.path("report.html"))
    assert "step 20/20" in progress
    scored, table = printed(capsys, "score", words[-1], "--json")
    assert scored["run"] == words[-1]
    assert "mig" in table


def test_data_as_json(words, capsys):
    known, _ = printed(capsys, "data", "list", "--json")
    assert {"name": "rooms", "images": "", "licence": "", "source": "generated"} in known["data"]
    described, _ = printed(capsys, "--json", "data", "info", words[3])
    assert described["factors"] == {"shape": 3, "scale": 6, "orientation": 40, "posX": 32, "posY": 32}
    assert described["image_shape"] == [1, 64, 64]


def test_commands_without_a_result_refuse_json(capsys):
    with pytest.raises(SystemExit) as error:
        main(["export", "runs/x", "--json"])
    assert error.value.code == 2
    assert "--json is for data info, data list, demo, list, results, score, train, zoo" in capsys.readouterr().err
    assert {name.split()[0] for name in WITH_JSON} <= COMMANDS.keys()


@pytest.mark.parametrize(
    ("what", "name", "sentence"),
    [
        ("recipes", "study smoke", "does everything work?"),
        ("objectives", "beta", "β-VAE: reconstruction + β · KL term (rate) (Higgins et al. 2017)."),
        ("metrics", "mig", METRICS["mig"].summary),
        ("models", "higgins", "Fully connected: two layers of 1200"),
        ("data", "rooms", "480,000 colour images of an object in a room."),
    ],
)
def test_lists(what, name, sentence, capsys):
    listed, _ = printed(capsys, "list", what, "--json")
    assert sentence in listed[what][name]
    assert all(listed[what].values()) or what == "models"  # the tests' own model has no docstring
    main(["list", what])
    assert len(capsys.readouterr().out.splitlines()) == len(listed[what])


def test_verbose_shows_log_messages_and_tracebacks(words, run, capsys):
    main(["score", words[-1], "--metrics", "mig", "--verbose"])
    assert "computing mig" in capsys.readouterr().err
    with pytest.raises(SystemExit) as error:
        main(["score", "nowhere", "--verbose"])
    assert error.value.code == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1].startswith("betavae: nowhere: no such run folder")


def test_quiet_and_verbose_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as error:
        main(["list", "data", "--quiet", "--verbose"])
    assert error.value.code == 2
    assert "exclude each other" in capsys.readouterr().err


def raising(error):
    def run(self, console):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code"), [(ValueError("wrong"), 2), (OSError("wrong"), 2), (KeyboardInterrupt(), 130)]
)
def test_exit_codes(error, code, capsys, monkeypatch):
    monkeypatch.setattr(command_line.ListCommand, "__call__", raising(error))
    with pytest.raises(SystemExit) as stop:
        main(["list", "data"])
    assert stop.value.code == code


def test_an_error_inside_betavae_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(command_line.ListCommand, "__call__", raising(KeyError("unforeseen")))
    with pytest.raises(KeyError, match="unforeseen"):  # Python prints it and exits with 1
        main(["list", "data"])


def test_help_ends_with_the_exit_codes_and_has_no_none(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.endswith(output.EXIT_CODES)
    with pytest.raises(SystemExit):
        main(["train", "beta", "--help"])
    assert "{None}" not in capsys.readouterr().out


def test_none_is_still_accepted(run, capsys):
    """A setting of a recipe can be unset."""
    chosen = command_line._parse(["train", "beta", "--muon-after", "None"])
    assert chosen.config.muon_after is None


def test_completion_in_bash(capsys):
    with pytest.raises(SystemExit):
        main(["--tyro-print-completion", "bash"])
    script = capsys.readouterr().out
    typed = "COMP_WORDS=(betavae da); COMP_CWORD=1; "
    function = re.search(r"complete .*-F (\S+) betavae", script)[1]
    done = subprocess.run(
        ["bash", "-c", f'{script}\n{typed}{function}; echo "${{COMPREPLY[@]}}"'], capture_output=True, text=True
    )
    assert done.stdout.split() == ["data"]


def test_a_run_has_a_log_file(run):
    lines = [line.split(maxsplit=2)[2] for line in run.path("run.log").read_text(encoding="utf-8").splitlines()]
    assert "INFO training from step 0 of 20 on cpu" in lines
    assert lines[-1] == "INFO finished"


def test_what_the_log_file_takes_is_not_shown_to_programs_that_ask_for_less(run, caplog):
    with caplog.at_level(logging.WARNING), log_file.log_file(run):
        logging.getLogger("betavae.some").info("quiet")
        logging.getLogger("betavae.some").warning("loud")
    assert [record.message for record in caplog.records] == ["loud"]
    assert "quiet" in run.path("run.log").read_text(encoding="utf-8")


def test_the_log_file_is_bounded_and_may_be_unwritable(run, monkeypatch):
    monkeypatch.setattr(log_file, "LARGEST_BYTES", 300)
    for _ in range(5):
        with pytest.raises(ValueError, match="wrong"), log_file.log_file(run):
            raise ValueError("wrong")
    assert "ERROR ValueError: wrong" in run.path("run.log").read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in run.folder.glob("run.log*")) < 1000
    for path in run.folder.glob("run.log*"):
        path.unlink()
    run.path("run.log").mkdir()
    with log_file.log_file(run):
        pass
    run.path("run.log").rmdir()
    os.mkfifo(run.path("run.log"))  # nobody reads it: opening it would block
    with log_file.log_file(run):
        pass
    run.path("run.log").unlink()


def test_heavy_modules_load_when_a_command_runs():
    heavy = "torch", "numpy", "matplotlib", "tensorboard", "wandb", "mlflow", "trackio", "betavae.studies.study"
    code = f"import sys, betavae, betavae.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
