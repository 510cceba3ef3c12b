"""Lays out charts with one row for each group of runs, one dot for each run, and published scores below them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from betavae.report.published import Published

WIDTH = 300
_EDGE = 6  # room for half a dot at both ends


@dataclass(frozen=True)
class Dot:
    """One run.

    Attributes:
        name: name of the run.
        value: its score.
        link: address of its report, relative to the page; "" if there is none.
    """

    name: str
    value: float
    link: str = ""


def dot_chart(
    groups: Mapping[str, Sequence[Dot]],
    references: Sequence[Published] = (),
    ends: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Lay out a chart of one score.

    Args:
        groups: the runs of each group, by its label.
        references: published values of the score.
        ends: ends of the axis; the range of all values if None.

    Returns:
        Values for the macro `dot_chart` in `parts.html`.

    Example:
        >>> chart = dot_chart({"all runs": [Dot("a", 0.25), Dot("b", 0.75)]}, ends=(0, 1))
        >>> [dot["x"] for dot in chart["rows"][0]["dots"]], chart["rows"][0]["median"]
        ([78.0, 222.0], '0.500')
    """
    values = [dot.value for dots in groups.values() for dot in dots]
    values += [end for row in references for end in (row.mean - row.spread, row.mean + row.spread)]
    low, high = ends or ((min(values), max(values)) if values else (0.0, 1.0))
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5

    def place(value: float) -> float:
        return round(_EDGE + (WIDTH - 2 * _EDGE) * min(max((value - low) / (high - low), 0), 1), 1)

    rows = []
    for number, (label, dots) in enumerate(groups.items()):
        median = float(np.median([dot.value for dot in dots])) if dots else None
        rows.append(
            {
                "label": label,
                "colour": number % 8,
                "dots": [
                    {"x": place(dot.value), "link": dot.link, "text": f"{dot.name}: {dot.value:.4g}"} for dot in dots
                ],
                "median": "undefined" if median is None else _text(median),
                "median_x": None if median is None else place(median),
            }
        )
    return {
        "rows": rows,
        "published": [
            {
                "label": f"published: {row.method}" + (" (quoted)" if row.grade == "quoted" else ""),
                "x": place(row.mean),
                "low": place(row.mean - row.spread),
                "high": place(row.mean + row.spread),
                "text": f"{row.mean:.3f} ± {row.spread:.3f}",
            }
            for row in references
        ],
        "ticks": [
            (place(tick), f"{tick:,.6g}".replace("-", "−"))
            for tick in MaxNLocator(4).tick_values(low, high)
            if low - 1e-9 <= tick <= high + 1e-9
        ],
    }


def _text(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
