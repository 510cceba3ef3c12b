"""What a run shows of its folder in Python and in notebooks: scores, curve, figures, a summary in HTML."""

import base64
import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from betavae.files.frames import data_frame, score_frame
from betavae.files.validation import nearest
from betavae.metrics import score_info
from betavae.objectives.registry import objective_name
from betavae.runs.folder import Run, read_curve, read_json

if TYPE_CHECKING:
    import pandas

LARGEST_PICTURE = 4_000_000
"""Largest figure that is embedded in a notebook, in bytes."""
_KINDS = {".png": "image/png", ".gif": "image/gif", ".svg": "image/svg+xml"}


class RunScores(dict[str, float]):
    """The scores of a run: value of each score by name, such as `scores["mig"]`; nan if it is undefined.

    Attributes:
        details: contents of scores.json: intervals, chance, ceilings, captures, kl, held_out, protocol, notes, arrays.
    """

    def __init__(self, details: Mapping[str, Any]) -> None:
        super().__init__({name: _number(value) for name, value in details.get("scores", {}).items()})
        self.details = dict(details)

    def to_frame(self) -> "pandas.DataFrame":
        """Return a data frame with a row per score: value, 95 % interval, chance level and ceiling."""
        return score_frame(self, *(self.details.get(name, {}) for name in ("intervals", "chance", "ceilings")))

    def main(self) -> dict[str, float]:
        """Return the most important scores."""
        return {name: value for name, value in self.items() if score_info(name).prominence > 1}

    def _repr_html_(self) -> str:
        return _html_table(self)


class Curve(dict[str, NDArray[Any]]):
    """The training curve of a run: a column for each name, such as `curve["loss"]`; nan where a term is undefined.

    The columns `step`, `wall_seconds` and `split` ("train" or "validation") are always there; loss terms are in nats.

    Example:
        >>> first = {"step": 0, "split": "validation", "loss": 9.0}
        >>> curve = Curve([first, {"step": 50, "split": "train", "loss": 7.0}])
        >>> curve["step"].tolist(), curve.split("train")["loss"].tolist()
        ([0, 50], [7.0])
    """

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        records = list(records)
        names = dict.fromkeys(["step", "wall_seconds", "split", *(name for record in records for name in record)])
        columns = {name: [record.get(name) for record in records] for name in names}
        kinds: dict[str, Any] = {"step": np.int64, "split": np.str_}
        super().__init__(
            {
                name: np.array(
                    values if name in kinds else [_number(value) for value in values], kinds.get(name, np.float64)
                )
                for name, values in columns.items()
            }
        )

    def split(self, name: str) -> "Curve":
        """Return the records of "train" or of "validation"."""
        chosen = self["split"] == name
        part = Curve([])
        part.update({column: values[chosen] for column, values in self.items()})
        return part

    def to_frame(self) -> "pandas.DataFrame":
        """Return a data frame with a row per record."""
        return data_frame(self)


@dataclass(frozen=True)
class Picture:
    """A figure of a run: the path of its file. Notebooks show it.

    Attributes:
        path: the file.
    """

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        if self.path.suffix not in _KINDS or self.path.stat().st_size > LARGEST_PICTURE:
            return html.escape(str(self.path))
        content = base64.b64encode(self.path.read_bytes()).decode()
        name = html.escape(self.path.stem, quote=True)
        return f'<img alt="{name}" style="max-width:100%" src="data:{_KINDS[self.path.suffix]};base64,{content}">'


class Pictures(dict[str, Picture]):
    """The figures of a run by name, such as `figures["traversals"]` or `figures["traversals/seed0_z3_fixed"]`."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.rglob("*"), key=lambda path: (path.suffix in _KINDS, path), reverse=True)
        known = (*_KINDS, ".pdf")
        named = {
            path.relative_to(folder).with_suffix("").as_posix(): Picture(path)
            for path in reversed(files)
            if path.suffix in known and not path.name.startswith(".")
        }
        super().__init__(sorted(named.items()))

    def __missing__(self, name: str) -> Picture:
        hint = nearest(name, self) or ";"
        raise KeyError(f"no figure {name!r}{hint} the run has {', '.join(self) or 'none'}")


def summary_html(run: Run) -> str:
    """Describe a run in HTML: settings, the most important scores, the animated traversals, the path of its report."""
    config = run.config
    facts = (
        f"{objective_name(config.objective)} objective, {config.model} network with {config.latent_dim} latents, "
        f"{config.data}, {config.steps:,} steps{'' if run.done else ', not finished'}"
    )
    parts = [f"<p><b>{html.escape(str(run.folder))}</b><br>{html.escape(facts)}</p>"]
    try:
        if run.path("scores.json").exists():
            parts.append(_html_table(RunScores(read_json(run, "scores.json")).main()))
        picture = Pictures(run.path("figures")).get("traversals")
        parts.append(picture._repr_html_() if picture else "")
    except (OSError, ValueError) as error:
        parts.append(f"<p>{html.escape(str(error))}</p>")
    if run.path("report.html").exists():
        parts.append(f"<p>Report: {html.escape(str(run.path('report.html')))}</p>")
    return "\n".join(part for part in parts if part)


def curve_of(run: Run) -> Curve:
    """Read the training curve of a run."""
    return Curve(read_curve(run))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _html_table(scores: Mapping[str, float]) -> str:
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{value:.3f}</td></tr>" for name, value in scores.items())
    return f"<table>{rows}</table>"
