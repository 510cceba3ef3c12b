"""Writes the scores of a study to one table, results.parquet, with one row per run and metric; answers SQL queries.

    run, setting, objective, seed      the run
    metric, value                      the score; null if it is undefined
    low, high, chance, ceiling         confidence interval, chance level and ceiling, if scores.json has them
    preset                             the protocol of the score
    data, steps, objective.beta, ...   settings of the run, with the names in config.json

The metrics are those of scores.json and the following:

    held_out.loss, held_out.rate ...   loss terms on held-out images, in nats
    held_out.elbo                      -(reconstruction + rate), in nats
    seen_combinations.accuracy ...     reconstruction loss and factor accuracy on combinations in training
    unseen_combinations.accuracy ...   the same on combinations that hold_out leaves out
    active_latents                     number of latents whose KL is above 0.05 nats
    udr.lasso, udr.spearman            UDR: agreement with the latents of the setting's other seeds
    train_seconds, images_per_second   training time and speed, without scoring
"""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from betavae.config import Config
from betavae.config_files import flat, run_id
from betavae.files import schemas
from betavae.files.atomic import replacing
from betavae.metrics.inputs import INACTIVE_NATS
from betavae.studies.sweep import label, varied

if TYPE_CHECKING:
    import pyarrow

COLUMNS = {
    **{"run": "text", "setting": "text", "objective": "text", "seed": "whole", "metric": "text"},
    **dict.fromkeys(("value", "low", "high", "chance", "ceiling"), "number"),
    "preset": "text",
}
"""Columns that every table has, and their types. Each setting of the runs adds a column."""
_REMEDY = "delete it: `betavae report STUDY` writes it again from the runs"
_DIGEST = "betavae.scores"
"""Metadata key of the table: `_digest` of the scores that it was made from."""
UDR_MODELS = 10
"""Largest number of seeds whose latents UDR compares. More seeds are divided into groups of nearly equal size."""


def collect(runs: Mapping[str, tuple[Config, Path]], path: Path) -> int:
    """Write the scores of the finished runs to one Parquet file.

    Args:
        runs: settings and folder of each run of a study, by run id. Unfinished runs are left out.
        path: file to write or replace.

    Returns:
        Number of runs in the file.

    Raises:
        ModuleNotFoundError: pyarrow is not installed. The message contains the command that installs it.
        ValueError: the scores of a finished run are damaged.
    """
    require("pyarrow")
    import pyarrow.parquet

    keys = varied([config for config, _ in runs.values()])
    finished = {run: (config, folder) for run, (config, folder) in runs.items() if (folder / "DONE").exists()}
    agreements = agreement(finished)
    rows: list[dict[str, Any]] = []
    for run, (config, folder) in finished.items():
        settings = {"run": run, "setting": label(config, keys), **flat(config)}
        udr_rows = [{"metric": metric, "value": value} for metric, value in agreements.get(run, {}).items()]
        rows += [settings | row for row in measurements(folder, config.latent_dim) + udr_rows]
    table = _table(rows, [config for config, _ in runs.values()])
    digest = _digest({run: folder for run, (_, folder) in finished.items()})
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table.replace_schema_metadata({_DIGEST: digest}), temporary)
    return len(finished)


def refresh(runs: Mapping[str, tuple[Config, Path]], path: Path) -> None:
    """Call `collect` if the scores have changed since the file was written. Without finished runs, delete the file."""
    finished = {run: folder for run, (_, folder) in runs.items() if (folder / "DONE").exists()}
    if not finished:
        path.unlink(missing_ok=True)
    elif _digest_in(path) != _digest(finished):
        collect(runs, path)


def _digest(folders: Mapping[str, Path]) -> str:
    """SHA-256 of the scores of runs. File times are not reliable after a copy or a change of the clock."""
    digest = hashlib.sha256()
    for run, folder in sorted(folders.items()):
        file = folder / "scores.json"
        scores = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        digest.update(f"{run} {scores}\n".encode())
    return digest.hexdigest()


def _digest_in(path: Path) -> str:
    """The digest in a table's metadata; "" if the file is missing, damaged or has other columns."""
    import pyarrow.parquet

    if not path.is_file():
        return ""
    try:
        schema = pyarrow.parquet.read_schema(path)
    except (OSError, pyarrow.ArrowException):
        return ""
    if _invalid_column(schema):
        return ""
    return str((schema.metadata or {}).get(_DIGEST.encode(), b"").decode(errors="replace"))


def _invalid_column(schema: "pyarrow.Schema") -> str:
    """The first of `COLUMNS` that is missing or has another type; "" if all are valid."""
    types = _types()
    return next(
        (name for name, kind in COLUMNS.items() if name not in schema.names or schema.field(name).type != types[kind]),
        "",
    )


def _types() -> dict[str, "pyarrow.DataType"]:
    import pyarrow

    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    return {"text": text, "whole": pyarrow.int64(), "number": pyarrow.float64(), "truth": pyarrow.bool_()}


def measurements(folder: Path, latent_dim: int) -> list[dict[str, Any]]:
    """The rows of one run: its scores, held-out loss terms, active latents, training time and speed.

    Raises:
        FileNotFoundError: scores.json is missing.
        ValueError: scores.json or provenance.json is damaged.
    """
    scores = schemas.read_scores(folder, latent_dim)
    provenance: Mapping[str, Any] = schemas.read_provenance(folder) if (folder / "provenance.json").exists() else {}
    chance, ceilings = scores.get("chance", {}), scores.get("ceilings", {})
    preset, rows = scores["protocol"]["preset"] if "protocol" in scores else None, []
    for metric, value in scores.get("scores", {}).items():
        low, high = scores.get("intervals", {}).get(metric, (None, None))
        context = {"chance": chance.get(metric), "ceiling": ceilings.get(metric), "preset": preset}
        rows.append({"metric": metric, "value": value, "low": low, "high": high, **context})
    terms = scores["held_out"]
    others = {f"held_out.{name}": value for name, value in terms.items()}
    if "reconstruction" in terms and "rate" in terms:
        others["held_out.elbo"] = -(terms["reconstruction"] + terms["rate"])
    combinations: Mapping[str, Any] = scores.get("combinations", {})
    for kind, values in combinations.items():
        named = {"reconstruction": values["reconstruction"], "accuracy": values.get("mean_accuracy")}
        others |= {f"{kind}_combinations.{name}": value for name, value in named.items() if value is not None}
    others["active_latents"] = float(sum(kl >= INACTIVE_NATS for kl in scores["kl"]))
    others |= {name: provenance[name] for name in ("train_seconds", "images_per_second") if name in provenance}
    return rows + [{"metric": metric, "value": value} for metric, value in others.items()]


def agreement(runs: Mapping[str, tuple[Config, Path]]) -> dict[str, dict[str, float]]:
    """UDR of each finished run with the other seeds of its setting, by run id; see `betavae.metrics.udr`.

    A run is left out if it has no latents on disk, no active latents, or no other seed.

    Raises:
        ValueError: the latents of a run are damaged.
    """
    from betavae.metrics import udr
    from betavae.runs.folder import open_run
    from betavae.runs.latents import load_latents

    settings: dict[str, list[str]] = {}
    for run, (config, folder) in runs.items():
        if (folder / "latents.npz").exists():
            settings.setdefault(run_id(replace(config, seed=0)), []).append(run)
    agreements: dict[str, dict[str, float]] = {}
    for members in settings.values():
        groups = [group.tolist() for group in np.array_split(members, -(-len(members) // UDR_MODELS))]
        for group in groups if len(members) > 1 else []:
            latents = [load_latents(open_run(runs[run][1])) for run in group]
            tables, kl = [each.mean for each in latents], np.array([each.kl for each in latents])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # an undefined UDR is left out below
                values = {f"udr.{method}": udr(tables, kl, seed=0, method=method) for method in ("lasso", "spearman")}
            for index, run in enumerate(group):
                agreements[run] = {
                    name: float(value[index]) for name, value in values.items() if np.isfinite(value[index])
                }
    return agreements


def query(path: str | Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run an SQL query on the table of a study, which is named `results`.

    The query works on a copy of the table in memory. It can neither read nor write files.

    Args:
        path: results.parquet.
        sql: query in DuckDB's SQL. Quote names that contain a dot: "objective.beta".

    Returns:
        The names of the columns, and the rows.

    Raises:
        ModuleNotFoundError: duckdb is not installed. The message contains the command that installs it.
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, or the query is invalid; the message contains DuckDB's own.
        KeyboardInterrupt: interrupted with Ctrl-C.
    """
    require("duckdb")
    import duckdb

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing: no run is finished yet; run the study first")
    with duckdb.connect() as connection:
        try:
            connection.read_parquet(str(path)).create("results")
        except duckdb.Error as error:
            raise ValueError(f"{path} is damaged ({' '.join(str(error).split())}); {_REMEDY}") from None
        try:
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            answer = connection.execute(sql)
            if answer.description is None:
                raise ValueError("the query returns no rows; start it with SELECT")
            return [column[0] for column in answer.description], answer.fetchall()
        except duckdb.InterruptException:
            raise KeyboardInterrupt from None
        except duckdb.Error as error:
            raise ValueError(f"the query failed: {' '.join(str(error).split())}") from None


def read(path: str | Path) -> dict[str, list[Any]]:
    """Read the columns of results.parquet, by name.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged.
    """
    require("pyarrow")
    import pyarrow.parquet

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing: no run is finished yet; run the study first")
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())}); {_REMEDY}") from None
    if column := _invalid_column(table.schema):
        raise ValueError(f"{path} is damaged (column {column} is missing or has another type); {_REMEDY}")
    columns: dict[str, list[Any]] = table.to_pydict()
    return columns


def require(module: str, who: str = "tables of studies need", extra: str = "study") -> None:
    """Check that an optional library is installed.

    Args:
        module: name of the library.
        who: start of the error message: what needs the library.
        extra: extra of betavae that installs it.

    Raises:
        ModuleNotFoundError: the library is not installed. The message contains the command that installs it.

    Example:
        >>> require("json")
    """
    from importlib.util import find_spec

    if not find_spec(module):
        raise ModuleNotFoundError(f"{who} {module}, which is not installed; run: pip install 'betavae[{extra}]'")


def _table(rows: Sequence[Mapping[str, Any]], configs: Sequence[Config]) -> "pyarrow.Table":
    """Convert rows to a table. The types of the columns depend on the settings of all runs, finished or not."""
    import pyarrow

    kind_of = _types()
    types = {name: kind_of[kind] for name, kind in COLUMNS.items()}
    kinds: dict[str, set[type]] = {}
    for config in configs:
        for key, value in flat(config).items():
            kinds.setdefault(key, set()).update({type(value)} - {type(None)})
    for key, classes in kinds.items():
        if classes == {bool}:
            column_kind = "truth"
        elif classes == {int}:
            column_kind = "whole"
        else:
            column_kind = "number" if classes and classes <= {int, float} else "text"
        types.setdefault(key, kind_of[column_kind])
    arrays = {}
    for key, kind in types.items():
        values = [row.get(key) for row in rows]
        if kind == kind_of["text"]:
            arrays[key] = pyarrow.array([None if v is None else str(v) for v in values], pyarrow.string()).cast(kind)
        else:
            as_float = kind == kind_of["number"]
            arrays[key] = pyarrow.array([float(v) if as_float and v is not None else v for v in values], kind)
    return pyarrow.table(arrays)
