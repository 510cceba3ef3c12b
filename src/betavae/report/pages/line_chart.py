"""Lays out line charts for pages: paths and ticks in SVG coordinates, and the points that the script shows on hover."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 28
COLOURS = 8
"""Number of line colours in the style sheet."""
_MOST_POINTS = 500
_TITLES = {"loss": "Loss", "reconstruction": "Reconstruction", "rate": "KL (rate)"}


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: what it shows.
        x: abscissas (N,), ascending.
        y: values (N,), finite.
        colour: number of its colour in the style sheet.
        faint: whether it is drawn thin, behind the others, and not shown on hover.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    colour: int = 0
    faint: bool = False


def line_chart(title: str, lines: Sequence[Line], *, from_zero: bool = False) -> dict[str, Any] | None:
    """Lay out a chart over training steps, in nats. The axis is logarithmic if all values are positive.

    Args:
        title: heading of the chart.
        lines: the lines.
        from_zero: whether the vertical axis is linear and starts at 0.

    Returns:
        Values for the macro `line_chart` in `charts.html`; None if there are no points.

    Example:
        >>> chart = line_chart("Loss", [Line("training", np.array([0.0, 10.0]), np.array([100.0, 1.0]))])
        >>> chart["paths"][0]["d"], chart["log"]
        ('M48 10L350 192', True)
    """
    lines = [_thinned(line) for line in lines if len(line.y)]
    if not lines:
        return None
    values = np.concatenate([line.y for line in lines])
    steps = np.concatenate([line.x for line in lines])
    log = bool(values.min() > 0) and not from_zero
    low, high = _ends(values, from_zero, log)
    left, right = float(steps.min()), max(float(steps.max()), float(steps.min()) + 1)

    def place_x(x: Any) -> Any:
        return LEFT + (WIDTH - LEFT - RIGHT) * (x - left) / (right - left)

    def place_y(y: Any) -> Any:
        share = (np.log(y / low) / np.log(high / low)) if log else (y - low) / (high - low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * np.clip(share, 0, 1)

    locator = LogLocator(subs=(1, 2, 5), numticks=12) if log else MaxNLocator(5)
    return {
        "title": title,
        "log": log,
        "ends": [left, right, low, high],
        "paths": [
            {
                "d": _path(place_x(line.x), place_y(line.y)),
                "dot": [_short(place_x(line.x[0])), _short(place_y(line.y[0]))] if len(line.x) == 1 else None,
                "colour": line.colour % COLOURS,
                "faint": line.faint,
            }
            for line in lines
        ],
        "x_ticks": [(_short(place_x(t)), f"{t:,.0f}") for t in _inside(MaxNLocator(4, integer=True), left, right)],
        "y_ticks": [(_short(place_y(t)), f"{t:,.6g}".replace("-", "−")) for t in _inside(locator, low, high)],
        "lines": [
            {"name": line.name, "faint": line.faint, "x": line.x.tolist(), "y": [float(f"{y:.5g}") for y in line.y]}
            for line in lines
        ],
    }


def loss_charts(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lay out the charts of one run: loss, reconstruction loss and KL."""
    charts = []
    for key, title in _TITLES.items():
        lines = []
        train, validation = (series(records, split, key) for split in ("train", "validation"))
        if len(train[0]) > 20:
            smooth = moving_average(train[1], len(train[1]) // 50)
            lines += [Line("all records", *train, 0, faint=True), Line("training", train[0], smooth, 0)]
        else:
            lines.append(Line("training", *train, 0))
        lines.append(Line("validation", *validation, 1))
        if key == "rate":
            lines.append(Line("capacity", *series(records, "train", "capacity_nats"), 2))
            lines.append(Line("total correlation", *series(records, "train", "total_correlation"), 3))
        charts.append(line_chart(title, lines, from_zero=key == "rate"))
    return [chart for chart in charts if chart]


def compared_charts(groups: Mapping[str, Sequence[tuple[str, Sequence[Mapping[str, Any]]]]]) -> list[dict[str, Any]]:
    """Lay out the charts of several runs: one line for each run, one colour for each group.

    Args:
        groups: for each label of a group, the names of its runs and their records.
    """
    charts = []
    for key, title in _TITLES.items():
        lines = [
            Line(name, *series(records, "train", key), number)
            for number, runs in enumerate(groups.values())
            for name, records in runs
        ]
        charts.append(line_chart(title, lines, from_zero=key == "rate"))
    return [chart for chart in charts if chart]


def chart_names(charts: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """The names of the lines in the charts with their colours, each once, without the faint lines."""
    pairs = [pair for chart in charts for pair in zip(chart["lines"], chart["paths"], strict=True)]
    return [*dict.fromkeys((line["name"], path["colour"]) for line, path in pairs if not line["faint"])]


def series(
    records: Sequence[Mapping[str, Any]], split: str, key: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The steps and values of one quantity, without values that are not finite.

    Example:
        >>> series([{"step": 5, "split": "train", "loss": 2.0}, {"step": 6, "split": "train"}], "train", "loss")
        (array([5.]), array([2.]))
    """
    pairs = [(r["step"], r[key]) for r in records if r["split"] == split and r.get(key) is not None]
    steps, values = np.array(pairs, dtype=float).reshape(-1, 2).T
    finite = np.isfinite(values)
    return steps[finite], values[finite]


def moving_average(values: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """Moving average over a centred window, which is narrow at the start so that the first decrease stays steep."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    before = np.minimum(half, index)
    after = np.minimum(before, len(values) - 1 - index)
    return np.asarray((sums[index + after + 1] - sums[index - before]) / (before + after + 1))


def _thinned(line: Line) -> Line:
    every = math.ceil(len(line.x) / _MOST_POINTS)
    kept = np.unique(np.append(np.arange(0, len(line.x), every), len(line.x) - 1))
    return Line(line.name, line.x[kept], line.y[kept], line.colour, line.faint)


def _ends(values: NDArray[np.float64], from_zero: bool, log: bool) -> tuple[float, float]:
    """The lower and the upper end of the vertical axis. A linear axis leaves out the first, much larger values."""
    low, high = float(values.min()), float(values.max())
    if log:
        return (low, high) if high > 1.01 * low else (low / 1.1, high * 1.1)
    if from_zero:
        return min(0.0, low), max(1.05 * high, 1e-9)
    high = float(np.quantile(values, 0.97))
    margin = 0.05 * max(high - low, 1.0)
    return low - margin, high + margin


def _inside(locator: Any, low: float, high: float) -> list[float]:
    return [float(tick) for tick in locator.tick_values(low, high) if low - 1e-9 <= tick <= high * (1 + 1e-9) + 1e-9]


def _path(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    return "M" + "L".join(f"{_short(a)} {_short(b)}" for a, b in zip(x, y, strict=True))


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
