"""The report of a run: one HTML file that holds everything and asks the network for nothing.

`report.html` beside this file is the template and `report.css` its style; both can be edited without knowing Python.
Everything a run brings with it is escaped, and a content security policy forbids the page to load anything.
"""

import base64
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from betavae.figures import DEAD_NATS, write_atomically

_PICTURE_BYTES = 3_600_000  # as base64 a third more, so that the file stays below 5 MB; GIFs of single codes give way

_MEANINGS = {
    "dci.disentanglement": "Does each code know only one factor?",
    "dci.completeness": "Is each factor known by only one code?",
    "dci.informativeness": "Share of factor values predicted rightly from the codes",
    "mig": "How far the best code for a factor is ahead of the second best",
}

_TILES = {"dci.disentanglement": "DCI disentanglement", "mig": "MIG"}


@dataclass(frozen=True)
class Report:
    """What a report tells. Only the title is needed; the report says what is missing."""

    title: str
    """Name of the run."""
    summary: str = ""
    """One sentence on what was trained, on what, for how long."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings, nested as in config.json."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the run comes from, nested as in provenance.json."""
    command: str = ""
    """The command that repeats the run."""
    carriers: Sequence[str] = ()
    """One text for each factor, such as "posX: z6"."""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Scores by name; None or nan is shown as undefined."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """95 % intervals, for any of the scores."""
    chance: Mapping[str, float] = field(default_factory=dict)
    """What codes that know nothing reach, for any of the scores."""
    ceilings: Mapping[str, float] = field(default_factory=dict)
    """The best that any codes could reach, for any of the scores."""
    records: Sequence[Mapping[str, Any]] = ()
    """Lines of the training curve; the last of each split is shown as numbers."""
    kl: Sequence[float] = ()
    """KL of each code in nats, to count the live ones."""
    figures: Sequence[Path] = ()
    """The files that `betavae.figures.draw_all` wrote; only PNG and GIF are shown."""


def render_report(report: Report) -> str:
    """The report as one HTML document.

    Args:
        report: What to tell.

    Returns:
        HTML with styles and pictures inside.

    Raises:
        FileNotFoundError: A figure is not where the report says.

    Example:
        >>> page = render_report(Report(title="<script>"))
        >>> "<script>" in page, "<h1>&lt;script&gt;</h1>" in page
        (False, True)
    """
    files = resources.files("betavae")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files.joinpath("report.html").read_text(encoding="utf-8"))
    stills = {path.stem: path for path in report.figures if path.suffix == ".png"}
    animation = next((path for path in report.figures if path.name == "traversals.gif"), None)
    always = [*stills.values(), *([animation] if animation else [])]
    room = _PICTURE_BYTES - sum(path.stat().st_size for path in always)
    traversals, left_out = _traversals(report, room)
    return template.render(
        report=report,
        style=files.joinpath("report.css").read_text(encoding="utf-8"),
        tiles=_tiles(report),
        scores=[_score_row(name, report) for name in report.scores],
        endings=_endings(report.records),
        settings=_flat(report.config),
        provenance=_flat(report.provenance),
        images={name: _data_uri(path) for name, path in stills.items()},
        animation=_data_uri(animation) if animation else "",
        grids=[name for name in sorted(stills, key=_natural) if name.startswith("traversal_grid_")],
        traversals=traversals,
        left_out=left_out,
    )


def write_report(report: Report, path: str | os.PathLike[str]) -> Path:
    """Writes the report as one self-contained HTML file, atomically.

    Args:
        report: What to tell.
        path: Where to, in a folder that exists; a file there is replaced.

    Returns:
        The path.

    Raises:
        FileNotFoundError: A figure is not where the report says.

    Example:
        >>> import tempfile
        >>> write_report(Report(title="first run"), Path(tempfile.mkdtemp()) / "report.html").name
        'report.html'
    """
    return write_atomically(path, render_report(report).encode())


def _tiles(report: Report) -> list[tuple[str, str, str]]:
    """The few numbers at the top: what, how much, unit."""
    tiles = [(label, _number(report.scores[name]), "") for name, label in _TILES.items() if name in report.scores]
    last = _endings(report.records)[-1:]
    tiles += [(key, ending[key], "nats") for ending in last for key in ("reconstruction", "rate")]
    if len(report.kl):
        live = sum(value >= DEAD_NATS for value in report.kl)
        tiles.append(("live codes", str(live), f"of {len(report.kl)}"))
    return tiles


def _score_row(name: str, report: Report) -> dict[str, Any]:
    value, interval = report.scores[name], report.intervals.get(name)
    return {
        "name": name,
        "meaning": _MEANINGS.get(name, ""),
        "value": _number(value),
        "interval": f"{_number(interval[0])} to {_number(interval[1])}" if interval else "",
        "chance": _number(report.chance[name]) if name in report.chance else "",
        "ceiling": _number(report.ceilings[name]) if name in report.ceilings else "",
        "bar": _bar(name, value, interval, report.chance.get(name), report.ceilings.get(name)),
    }


def _bar(
    name: str, value: float | None, interval: tuple[float, float] | None, chance: float | None, ceiling: float | None
) -> dict[str, Any] | None:
    """Places on a bar from 0 to 100; none for what is undefined or not a share."""
    if value is None or not 0 <= value <= 1 or name.endswith("_nats"):
        return None
    return {
        "value": round(100 * value, 1),
        "interval": [round(100 * min(max(end, 0), 1), 1) for end in interval] if interval else None,
        "marks": [round(100 * mark, 1) for mark in (chance, ceiling) if mark is not None and 0 <= mark <= 1],
    }


def _endings(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The last record of each split, training first, as texts."""
    last = {record["split"]: record for record in records}
    return [
        {
            "split": split,
            "step": f"{last[split]['step']:,}",
            **{key: _number(last[split].get(key), 2) for key in ("loss", "reconstruction", "rate")},
        }
        for split in ("train", "validation")
        if split in last
    ]


def _traversals(report: Report, room: int) -> tuple[list[tuple[str, list[tuple[str, str]]]], int]:
    """GIFs of live codes over the fitted interval, by KL, that fit into so many bytes, and how many did not.

    Each entry is a seed image, counted from 1, with pairs of a code and a data URI.
    """
    kl, found = report.kl, []
    for path in report.figures:
        if match := re.fullmatch(r"seed(\d+)_z(\d+)_fitted\.gif", path.name):
            seed, code = map(int, match.groups())
            nats = kl[code] if code < len(kl) else math.inf
            if nats >= DEAD_NATS:
                found.append((seed, -nats, code, path))
    rows: dict[int, list[tuple[str, str]]] = {}
    left_out = 0
    for seed, _, code, path in sorted(found):
        room -= path.stat().st_size
        if room < 0:
            left_out += 1
        else:
            rows.setdefault(seed, []).append((f"z{code}", _data_uri(path)))
    return [(str(seed + 1), cells) for seed, cells in rows.items()], left_out


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and texts."""
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            rows.append((prefix + key, ", ".join(map(str, value))))
        else:
            rows.append((prefix + key, "—" if value is None else str(value)))
    return rows


def _number(value: float | None, digits: int = 3) -> str:
    return "undefined" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}".replace("-", "−")


def _natural(name: str) -> tuple[int, str]:
    """Sorts names that end in a number by that number."""
    return int(re.sub(r"\D", "", name) or 0), name


def _data_uri(path: Path) -> str:
    return f"data:image/{path.suffix[1:]};base64,{base64.b64encode(path.read_bytes()).decode()}"
