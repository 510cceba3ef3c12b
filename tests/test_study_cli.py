"""Studies and their results as a user meets them, with one real study of two tiny runs."""

import json

import pytest

from betavae.cli.main import main
from betavae.cli.recipes import find_recipe
from betavae.config_files import read
from betavae.data.exporting import export_npz
from betavae.studies.study import states
from betavae.studies.sweep import expand

pytest.importorskip("pyarrow", reason="pyarrow is not installed; the extra betavae[study] has it")

TINY = [
    *("--steps", "20", "--batch-size", "8", "--train-images", "600", "--validation-images", "50", "--latent-dim", "3"),
    *("--device", "cpu", "--precision", "fp32", "--scores", "sap", "mig", "--evaluations", "1"),
    *("--figures", "False"),
]


@pytest.fixture(scope="module")
def study(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    export_npz(small, folder / "small.npz")
    main(["study", *flags(folder), "--workers", "1"])
    return folder / "betas"


def flags(folder):
    where = ["--data", str(folder / "small.npz"), "--out", str(folder / "betas")]
    return ["--objective", "beta", "--beta", "1", "4", "--seeds", "1", *TINY, *where]


def refused(capsys, *words):
    with pytest.raises(SystemExit) as error:
        main(list(words))
    assert error.value.code == 2
    sentence = capsys.readouterr().err.strip()
    assert sentence.startswith("betavae: ")
    return sentence


def test_two_real_runs(study, capsys):
    found = sorted(path.name for path in (study / "runs").iterdir())
    assert len(found) == 2
    assert all((study / "runs" / run / "report.html").exists() for run in found)
    facts = json.loads((study / "runs" / found[0] / "provenance.json").read_text())
    assert facts["threads"] == 1
    page = (study / "report.html").read_text()
    assert "2 of 2 runs are finished" in page
    before = (study / "runs" / found[0] / "DONE").stat().st_mtime_ns
    main(["study", *flags(study.parent)])
    assert (study / "runs" / found[0] / "DONE").stat().st_mtime_ns == before
    assert "2 runs, 2 of them done" in capsys.readouterr().out.replace("\n", " ")


def test_a_study_gives_the_numbers_of_a_bare_run(study, tmp_path):
    from betavae.experiment import experiment
    from betavae.runs.folder import open_run

    run = open_run(next((study / "runs").iterdir()))
    again = experiment(run.config, tmp_path / "bare")
    assert run.path("model.safetensors").read_bytes() == again.path("model.safetensors").read_bytes()
    assert run.path("scores.json").read_bytes() == again.path("scores.json").read_bytes()


def test_results_and_report(study, capsys):
    pytest.importorskip("duckdb", reason="duckdb is not installed; the extra betavae[study] has it")
    main(["results", str(study)])
    output = capsys.readouterr().out
    assert "held_out.elbo" in output
    assert "beta 4" in output
    main(["results", str(study), "--query", "SELECT count(DISTINCT run) AS runs FROM results"])
    assert capsys.readouterr().out == "runs\n2\n"  # CSV, for it goes to no terminal
    assert "the query failed" in refused(capsys, "results", str(study), "--query", "SELEC")
    (study / "report.html").unlink()
    main(["report", str(study)])
    assert (study / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("smoke", 4),
        ("betas", 20),
        ("objectives", 48),
        ("precision", 16),
        ("rotation", 16),
        ("held-out", 54),
        ("correlated", 84),
        ("locatello-dsprites", 1800),
    ],
)
def test_shipped_recipes(name, number, capsys):
    runs = expand(read(find_recipe(name, "studies")))
    assert len(runs) == number
    main(["study", name, "--plan"])
    assert capsys.readouterr().out.rstrip().endswith(f"{len(runs):,} runs")
    assert "Cost" in find_recipe(name, "studies").read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no recipe is given; give one such as `smoke`, or flags"),
        (["smok"], "unknown recipe 'smok'; did you mean 'smoke'?"),
        (["smoke", "--beta", "3"], "--beta: with a recipe, a flag takes one value for a setting that all"),
        (["rotation", "--rotate-at", "5", "7"], "--rotate-at: with a recipe, a flag takes one value"),
        (["smoke", "--steps", "3", "4"], "--steps: with a recipe, a flag takes one value"),
        (["--gamma", "3"], "--gamma is not a setting of beta; remove the flag"),
        (["--objective", "bta"], "unknown objective 'bta'; did you mean 'beta'?"),
        (["--beta", "x"], "flags: grid, objective.name = beta, objective.beta = x: objective beta: beta is 'x'"),
        (["--steps", "0"], "grid, steps = 0, objective.name = beta: steps is 0; it must be a number of at least 1"),
        (["none.toml"], "none.toml: no such recipe"),
    ],
)
def test_refused_before_anything_is_written(words, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(capsys, "study", *words)
    assert not list(tmp_path.iterdir())


def test_flags_on_a_recipe_change_what_all_runs_share(capsys):
    main(["study", "smoke", "--steps", "9", "--seeds", "5", "7", "--plan"])
    lines = capsys.readouterr().out.splitlines()[:-1]
    assert [line.split("-")[2] for line in lines] == ["seed5"] * 2 + ["seed7"] * 2
    assert len({line.split("  ")[1] for line in lines}) == len({line.split()[0] for line in lines}) / 2


def test_metrics_are_a_list_and_no_grid(tmp_path):
    from betavae.cli.flags import varied
    from betavae.cli.study import StudyCommand

    recipe, _ = StudyCommand(varied()(objective=("vae",), scores=("dci", "mig")))._recipe()
    assert [config.scores for config in expand(recipe).values()] == [("dci", "mig")]


def test_studies_beyond_all_bounds_are_refused_at_once(capsys, tmp_path):
    words = ["study", "--seeds", "1000000000", "--out", str(tmp_path / "s")]
    for also in ([], ["--plan"]):
        assert "that is 1,000,000,000 runs, and 20,000 are allowed; give fewer seeds" in refused(capsys, *words, *also)
    words = ["study", "--seeds", "2", "--out", str(tmp_path / "s"), "--workers", "1000000000"]
    assert "workers is 1000000000, and this machine has" in refused(capsys, *words)
    assert not (tmp_path / "s").exists()


def test_workers_none(capsys, tmp_path):
    assert "workers is 0" in refused(capsys, "study", "--seeds", "2", "--out", str(tmp_path / "s"), "--workers", "0")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--ray", "auto", "--workers", "2"],
            "--workers is for this machine; with --ray, give the resources of one run",
        ),
        (["--gpus", "0.5"], "--url, --cpus and --gpus are for a Ray cluster; choose one with --ray auto"),
    ],
)
def test_what_does_not_go_together(words, sentence, capsys, tmp_path):
    assert sentence in refused(capsys, "study", "--seeds", "2", "--out", str(tmp_path / "s"), *words)


def test_a_failing_study_lists_its_errors(study, capsys, tmp_path):
    words = ["study", "--data", "nowhere.npz", "--seeds", "1", "--out", str(tmp_path / "s"), "--workers", "1"]
    assert "nowhere.npz" in refused(capsys, *words)
    assert not (tmp_path / "s").exists()
    words = [*words[:1], *words[3:], *TINY, "--data", str(study.parent / "small.npz"), "--learning-rate", "1e30"]
    assert "1 of 1 runs failed, see above; resume them with --retry" in refused(capsys, *words)
    from betavae.studies.study import open_study

    assert set(states(open_study(tmp_path / "s")).values()) == {"failed"}
