"""The table of a study: its rows, its types, its SQL."""

import json
import os
import shutil

import numpy as np
import pytest

from betavae.config import Config
from betavae.runs.folder import create_run
from betavae.runs.latents import Latents, save_latents
from betavae.studies import results
from betavae.studies.results import agreement, collect, measurements, query, read, require
from betavae.studies.sweep import expand
from tests import stubs

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed; the extra betavae[study] has it")
GRID = [{"objective": {"name": "beta", "beta": [1, 4]}}, {"objective": {"name": "vae"}, "latent_dim": 6}]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    runs = {run: (config, folder / "runs" / run) for run, config in expand({"seeds": 2, "grid": GRID}).items()}
    for config, where in list(runs.values())[:-1]:
        stubs.quick(config, where, lambda share: None)
    assert collect(runs, folder / "results.parquet") == 5
    return folder / "results.parquet"


def test_a_row_a_run_and_metric(table):
    columns = read(table)
    assert len(set(columns["run"])) == 5
    assert len(columns["run"]) == 5 * 9
    assert set(columns["setting"]) == {
        "beta, beta 1, latent_dim 10",
        "beta, beta 4, latent_dim 10",
        "vae, latent_dim 6",
    }
    assert columns["objective.beta"].count(None) == 9
    row = columns["metric"].index("mig")
    assert columns["value"][row] == pytest.approx(0.1, abs=0.011)
    assert (columns["chance"][row], columns["low"][row]) == (0.01, None)
    assert columns["value"][columns["metric"].index("sap")] is None


def test_what_is_derived(tmp_path):
    stubs.quick(Config(latent_dim=7), tmp_path, lambda share: None)
    values = {row["metric"]: row["value"] for row in measurements(tmp_path, 7)}
    assert values["active_latents"] == 6
    assert values["held_out.elbo"] == -20 - values["held_out.rate"]
    assert values["train_seconds"] == 2


def test_intervals_and_ceilings(tmp_path):
    stubs.quick(Config(), tmp_path, lambda share: None)
    values = json.loads((tmp_path / "scores.json").read_text())
    values |= {"intervals": {"mig": [0.1, 0.2]}, "ceilings": {"mig": 0.9}}
    (tmp_path / "scores.json").write_text(json.dumps(values))
    row = next(row for row in measurements(tmp_path, 10) if row["metric"] == "mig")
    assert (row["low"], row["high"], row["ceiling"]) == (0.1, 0.2, 0.9)


def test_types_do_not_depend_on_what_is_finished(table, tmp_path):
    runs = {run: (config, tmp_path / run) for run, config in expand({"seeds": 2, "grid": GRID}).items()}
    assert collect(runs, tmp_path / "none.parquet") == 0
    schemas = [pyarrow.parquet.read_schema(path) for path in (table, tmp_path / "none.parquet")]
    assert schemas[0] == schemas[1]
    assert str(schemas[0].field("train_images").type) == "double"
    assert str(schemas[0].field("steps").type) == "int64"


def test_sql(table):
    pytest.importorskip("duckdb", reason="duckdb is not installed; the extra betavae[study] has it")
    names, rows = query(
        table,
        """SELECT "objective.beta" AS beta, count(*) AS n FROM results
                                  WHERE metric = 'mig' GROUP BY 1 ORDER BY 1 NULLS LAST""",
    )
    assert (names, rows) == (["beta", "n"], [(1.0, 2), (4.0, 2), (None, 1)])
    with pytest.raises(ValueError, match=r"the query failed: .*[Mm]etrics"):
        query(table, "SELECT metrics FROM results")
    with pytest.raises(FileNotFoundError, match="is missing: no run is finished yet"):
        query(table.parent / "none.parquet", "SELECT 1")


@pytest.mark.parametrize(
    "sql",
    [
        "COPY results TO '{file}'",
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "ATTACH '{file}.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ],
)
def test_sql_touches_no_file(table, tmp_path, sql):
    pytest.importorskip("duckdb", reason="duckdb is not installed; the extra betavae[study] has it")
    file = tmp_path / "study.json"
    file.write_text("precious,1\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"the query failed: .*(disabled|locked|[Pp]ermission)"):
        query(table, sql.format(file=file))
    assert file.read_text() == "precious,1\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_query_is_an_interruption(table, monkeypatch):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed; the extra betavae[study] has it")

    def interrupted(*given: object) -> None:
        raise duckdb.InterruptException("Interrupted!")

    connect = duckdb.connect

    class Connection:
        def __enter__(self):
            self.real = connect()
            return self

        def __exit__(self, *given):
            self.real.close()

        def read_parquet(self, path):
            return self.real.read_parquet(path)

        def execute(self, sql):
            return self.real.execute(sql) if sql.startswith("SET") else interrupted()

    monkeypatch.setattr(duckdb, "connect", Connection)
    with pytest.raises(KeyboardInterrupt):
        query(table, "SELECT 1")


def test_settings_that_some_runs_leave_out_are_numbers(tmp_path):
    recipe = {"grid": [{"latent_dim": 4}, {"muon_after": [500, 1000], "muon_learning_rate": 1e-4}]}
    runs = {run: (config, tmp_path / run) for run, config in expand(recipe).items()}
    for config, folder in runs.values():
        stubs.quick(config, folder, lambda share: None)
    collect(runs, tmp_path / "results.parquet")
    schema = pyarrow.parquet.read_schema(tmp_path / "results.parquet")
    assert [str(schema.field(name).type) for name in ("muon_after", "muon_learning_rate")] == ["int64", "double"]


def test_a_table_follows_the_folders(tmp_path):
    runs = {run: (config, tmp_path / run) for run, config in expand({"seeds": 3}).items()}
    path, folders = tmp_path / "results.parquet", [folder for _, folder in runs.values()]
    for config, folder in runs.values():
        stubs.quick(config, folder, lambda share: None)
    (folders[0] / "DONE").unlink()
    results.refresh(runs, path)
    assert len(set(results.read(path)["run"])) == 2
    (folders[0] / "DONE").touch()  # its scores are older than the table
    results.refresh(runs, path)
    assert len(set(results.read(path)["run"])) == 3
    changed = json.loads((folders[0] / "scores.json").read_text())
    changed["scores"] = dict.fromkeys(changed["scores"], 0.125)
    (folders[0] / "scores.json").write_text(json.dumps(changed))
    os.utime(folders[0] / "scores.json", (0, 0))  # a clock that was set back
    results.refresh(runs, path)
    assert 0.125 in results.read(path)["value"]
    written = path.stat().st_mtime_ns
    results.refresh(runs, path)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(b"damaged")
    results.refresh(runs, path)
    assert len(set(results.read(path)["run"])) == 3
    shutil.rmtree(folders[1])
    results.refresh(runs, path)
    assert len(set(results.read(path)["run"])) == 2
    (folders[2] / "scores.json").unlink()
    (folders[0] / "DONE").unlink()
    with pytest.raises(FileNotFoundError, match=r"scores.json is missing; score the run again: betavae score"):
        results.refresh(runs, path)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    results.refresh(runs, path)
    with pytest.raises(FileNotFoundError, match="no run is finished yet"):
        results.read(path)


def test_udr_tells_the_seed_that_found_something_else(tmp_path):
    """Two seeds agree up to order and sign; the third has the latents rotated; a run without latents is left out."""
    runs = {run: (config, tmp_path / run) for run, config in expand({"seeds": 4, "grid": {"latent_dim": 2}}).items()}
    latents = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    turned = latents @ np.array([[1, -1], [1, 1]], np.float32) / np.sqrt(2, dtype=np.float32)
    for (config, folder), table in zip(runs.values(), (latents, -latents[:, ::-1], turned), strict=False):
        run = create_run(folder, config)
        save_latents(run, Latents(np.arange(400), table, np.full_like(table, -2)))
    found = agreement(runs)
    agreed, agreed_too, alone = (values["udr.lasso"] for values in found.values())
    assert agreed == pytest.approx(agreed_too)
    assert agreed > alone + 0.2
    assert len(found) == 3


def test_eleven_seeds_are_two_groups_and_all_have_udr(tmp_path):
    runs = {run: (config, tmp_path / run) for run, config in expand({"seeds": 11, "grid": {"latent_dim": 2}}).items()}
    generator = np.random.default_rng(0)
    for config, folder in runs.values():
        table = generator.normal(size=(100, 2)).astype(np.float32)
        save_latents(create_run(folder, config), Latents(np.arange(100), table, np.full_like(table, -2)))
    assert len(agreement(runs)) == 11


def test_damaged_scores_are_named(tmp_path):
    stubs.quick(Config(), tmp_path, lambda share: None)
    (tmp_path / "scores.json").write_text("{")
    with pytest.raises(
        ValueError, match=r"scores.json is damaged \(Expecting .*\); score the run again: betavae score"
    ):
        measurements(tmp_path, 10)


def test_a_table_without_its_columns_is_damaged_and_made_again(tmp_path):
    pytest.importorskip("duckdb", reason="duckdb is not installed; the extra betavae[study] has it")
    runs = {run: (config, tmp_path / run) for run, config in expand({"seeds": 1}).items()}
    for config, folder in runs.values():
        stubs.quick(config, folder, lambda share: None)
    path = tmp_path / "results.parquet"
    collect(runs, path)
    whole = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(whole.drop(["run"]), path)  # its digest stays
    with pytest.raises(ValueError, match=r"results.parquet is damaged \(column run is missing or .*\); delete it"):
        read(path)
    results.refresh(runs, path)
    assert read(path)["run"] == whole["run"].to_pylist()
    path.write_bytes(path.read_bytes()[:-20])
    for ask in (read, lambda path: query(path, "SELECT 1")):
        with pytest.raises(ValueError, match=r"results.parquet is damaged \(.*\); delete it: `betavae report STUDY`"):
            ask(path)


def test_a_missing_library_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"need pyarrow, which is not installed; run: pip install 'betavae\[study\]'"
    ):
        require("pyarrow")
    with pytest.raises(ModuleNotFoundError, match="need duckdb"):
        results.query("x", "SELECT 1")
