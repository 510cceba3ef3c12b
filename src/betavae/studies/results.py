"""All scores of a study in one table, results.parquet: a row a run and metric; and questions to it in SQL.

    run, setting, objective, seed      which run
    metric, value                      what was measured; undefined scores are null
    low, high, chance, ceiling         where scores.json has them
    preset                             of scores: the protocol by which they were made
    data, steps, objective.beta, ...   settings of the run, as config.json names them

Metrics are those of scores.json under their own names, and these:

    held_out.loss, held_out.rate ...   terms on held-out images, in nats
    held_out.elbo                      - (reconstruction + rate), in nats
    active_latents                       latents whose KL is above 0.05 nats
    udr.lasso, udr.spearman            agreement with the latents of other seeds of the setting
    train_seconds, images_per_second   of training alone
"""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from betavae.config import Config, run_id
from betavae.files import schemas
from betavae.files.atomic import replacing
from betavae.metrics.inputs import INACTIVE_NATS
from betavae.studies.sweep import flat, label, varied

if TYPE_CHECKING:
    import pyarrow

COLUMNS = {
    **{"run": "text", "setting": "text", "objective": "text", "seed": "whole", "metric": "text"},
    **dict.fromkeys(("value", "low", "high", "chance", "ceiling"), "number"),
    "preset": "text",
}
"""Columns that every table has, and what is in them; settings of the runs are further ones."""
_AGAIN = "delete it: `betavae report STUDY` writes it again from the runs"
_DIGEST = "betavae.scores"
"""Key of a table's metadata: `_digest` of the scores that it was made from."""
UDR_MODELS = 10
"""Most seeds of a setting whose latents are compared with one another; more are groups as equal as can be."""


def collect(runs: Mapping[str, tuple[Config, Path]], path: Path) -> int:
    """Gather the scores of finished runs into one Parquet file.

    Args:
        runs: settings and folder of each run of a study; those that are not finished are left out.
        path: file to write or replace.

    Returns:
        How many runs are in it.

    Raises:
        ModuleNotFoundError: pyarrow is not installed; the message has the command.
        ValueError: a finished run's scores are damaged.
    """
    require("pyarrow")
    import pyarrow.parquet

    keys = varied([config for config, _ in runs.values()])
    finished = {run: place for run, place in runs.items() if (place[1] / "DONE").exists()}
    agreements = agreement(finished)
    rows: list[dict[str, Any]] = []
    for run, (config, folder) in finished.items():
        which = {"run": run, "setting": label(config, keys), **flat(config)}
        agreed = [{"metric": metric, "value": value} for metric, value in agreements.get(run, {}).items()]
        rows += [which | row for row in measurements(folder, config.latent_dim) + agreed]
    table = _table(rows, [config for config, _ in runs.values()])
    digest = _digest({run: folder for run, (_, folder) in finished.items()})
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table.replace_schema_metadata({_DIGEST: digest}), temporary)
    return len(finished)


def refresh(runs: Mapping[str, tuple[Config, Path]], path: Path) -> None:
    """`collect`, unless the file was made from the scores that the folders hold; without finished runs, no file."""
    finished = {run: folder for run, (_, folder) in runs.items() if (folder / "DONE").exists()}
    if not finished:
        path.unlink(missing_ok=True)
    elif _digest_in(path) != _digest(finished):
        collect(runs, path)


def _digest(folders: Mapping[str, Path]) -> str:
    """SHA-256 of the scores of runs: times of files may mislead, on a clock set back or after a copy."""
    digest = hashlib.sha256()
    for run, folder in sorted(folders.items()):
        file = folder / "scores.json"
        scores = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        digest.update(f"{run} {scores}\n".encode())
    return digest.hexdigest()


def _digest_in(path: Path) -> str:
    """The digest that a table was written with; "" where there is none, or no table of the right columns."""
    import pyarrow.parquet

    if not path.is_file():
        return ""
    try:
        schema = pyarrow.parquet.read_schema(path)
    except (OSError, pyarrow.ArrowException):
        return ""
    if _misfit(schema):
        return ""
    return str((schema.metadata or {}).get(_DIGEST.encode(), b"").decode(errors="replace"))


def _misfit(schema: "pyarrow.Schema") -> str:
    """The first of `COLUMNS` that a table lacks or has of another type; "" if there is none."""
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
    """Rows of one run of so many latents: everything that its folder holds a number for.

    Raises:
        FileNotFoundError, ValueError: scores.json is missing or damaged, or provenance.json is damaged.
    """
    scores = schemas.read_scores(folder, latent_dim)
    facts: Mapping[str, Any] = schemas.read_provenance(folder) if (folder / "provenance.json").exists() else {}
    chance, ceilings = scores.get("chance", {}), scores.get("ceilings", {})
    preset, rows = scores["protocol"]["preset"] if "protocol" in scores else None, []
    for metric, value in scores.get("scores", {}).items():
        low, high = scores.get("intervals", {}).get(metric, (None, None))
        beside = {"chance": chance.get(metric), "ceiling": ceilings.get(metric), "preset": preset}
        rows.append({"metric": metric, "value": value, "low": low, "high": high, **beside})
    terms = scores["held_out"]
    others = {f"held_out.{name}": value for name, value in terms.items()}
    if "reconstruction" in terms and "rate" in terms:
        others["held_out.elbo"] = -(terms["reconstruction"] + terms["rate"])
    others["active_latents"] = float(sum(kl >= INACTIVE_NATS for kl in scores["kl"]))
    others |= {name: facts[name] for name in ("train_seconds", "images_per_second") if name in facts}
    return rows + [{"metric": metric, "value": value} for metric, value in others.items()]


def agreement(runs: Mapping[str, tuple[Config, Path]]) -> dict[str, dict[str, float]]:
    """UDR of each finished run among the other seeds of its setting, by the run's id.

    Runs that kept no latents, have none in use, or have no other seed, are left out; see `betavae.metrics.udr`.

    Raises:
        ValueError: a run's latents are damaged.
    """
    from betavae.metrics import udr
    from betavae.runs.folder import open_run
    from betavae.runs.latents import load_latents

    settings: dict[str, list[str]] = {}
    for run, (config, folder) in runs.items():
        if (folder / "latents.npz").exists():
            settings.setdefault(run_id(replace(config, seed=0)), []).append(run)
    found: dict[str, dict[str, float]] = {}
    for members in settings.values():
        groups = [group.tolist() for group in np.array_split(members, -(-len(members) // UDR_MODELS))]
        for group in groups if len(members) > 1 else []:
            latents = [load_latents(open_run(runs[run][1])) for run in group]
            tables, kl = [each.mean for each in latents], np.array([each.kl for each in latents])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that UDR is undefined: such a run has none
                values = {f"udr.{method}": udr(tables, kl, seed=0, method=method) for method in ("lasso", "spearman")}
            for index, run in enumerate(group):
                found[run] = {name: float(value[index]) for name, value in values.items() if np.isfinite(value[index])}
    return found


def query(path: str | Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Answer a question in SQL about a study's table, which is called `results`.

    The query sees a copy of the table in memory. It can neither read nor write files.

    Args:
        path: results.parquet.
        sql: a query in DuckDB's SQL; names with a dot are quoted: "objective.beta".

    Returns:
        Names of the columns, and the rows.

    Raises:
        ModuleNotFoundError: duckdb is not installed; the message has the command.
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or the query is wrong; the message is the database's.
        KeyboardInterrupt: Ctrl-C.
    """
    require("duckdb")
    import duckdb

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing: no run is finished yet; run the study first")
    with duckdb.connect() as connection:
        try:
            connection.read_parquet(str(path)).create("results")
        except duckdb.Error as error:
            raise ValueError(f"{path} is damaged ({' '.join(str(error).split())}); {_AGAIN}") from None
        try:
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            answer = connection.execute(sql)
            if answer.description is None:
                raise ValueError("the query asks for nothing; begin it with SELECT")
            return [column[0] for column in answer.description], answer.fetchall()
        except duckdb.InterruptException:
            raise KeyboardInterrupt from None
        except duckdb.Error as error:
            raise ValueError(f"the query cannot be answered: {' '.join(str(error).split())}") from None


def read(path: str | Path) -> dict[str, list[Any]]:
    """The columns of results.parquet by name.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    require("pyarrow")
    import pyarrow.parquet

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing: no run is finished yet; run the study first")
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())}); {_AGAIN}") from None
    if wrong := _misfit(table.schema):
        raise ValueError(f"{path} is damaged (column {wrong} is missing or of another type); {_AGAIN}")
    columns: dict[str, list[Any]] = table.to_pydict()
    return columns


def require(module: str, who: str = "tables of studies need", extra: str = "study") -> None:
    """Refuse early and with the command to type, where an optional library is missing.

    Raises:
        ModuleNotFoundError: it is not installed.

    Example:
        >>> require("json")
    """
    from importlib.util import find_spec

    if not find_spec(module):
        raise ModuleNotFoundError(f"{who} {module}, which is not installed; run: pip install 'betavae[{extra}]'")


def _table(rows: Sequence[Mapping[str, Any]], configs: Sequence[Config]) -> "pyarrow.Table":
    """Rows as columns whose types do not depend on which runs are finished."""
    import pyarrow

    kind_of = _types()
    types = {name: kind_of[kind] for name, kind in COLUMNS.items()}
    kinds: dict[str, set[type]] = {}
    for config in configs:
        for key, value in flat(config).items():
            kinds.setdefault(key, set()).update({type(value)} - {type(None)})
    for key, found in kinds.items():
        number_like = bool(found) and found <= {int, float}
        whole = "truth" if found == {bool} else "whole" if found == {int} else "number"
        types.setdefault(key, kind_of[whole if number_like or found == {bool} else "text"])
    arrays = {}
    for key, kind in types.items():
        values = [row.get(key) for row in rows]
        if kind == kind_of["text"]:
            arrays[key] = pyarrow.array([None if v is None else str(v) for v in values], pyarrow.string()).cast(kind)
        else:
            as_float = kind == kind_of["number"]
            arrays[key] = pyarrow.array([float(v) if as_float and v is not None else v for v in values], kind)
    return pyarrow.table(arrays)
