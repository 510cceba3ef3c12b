"""Renders the comparison of several runs: loss curves, scores over seeds, traversals matched by factor.

The template is `assets/comparison.html`. Runs whose settings differ only in the seed form a group.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from betavae.config import prior_note
from betavae.metrics.registry import score_info
from betavae.metrics.statistics import summarise
from betavae.report.charts import plain
from betavae.report.templates import figure_uri, flatten, png_uri, render_page

_LEGEND_COLUMNS = 3
_PANELS = ("loss", "reconstruction", "rate")


@dataclass(frozen=True)
class Traversal:
    """The traversal of one latent of a run.

    Attributes:
        latent: index of the latent.
        share: fraction of the factor's entropy that the latent explains.
        images: decoded images (n, C, H, W) uint8.
    """

    latent: int
    share: float
    images: NDArray[np.uint8]


@dataclass(frozen=True)
class Member:
    """One run of a comparison.

    Attributes:
        name: name of the run.
        config: settings, nested as in config.json.
        scores: scores by name; None if undefined.
        records: records of the loss curves.
        traversals: for each factor, the traversal of the latent that explains most of it.
    """

    name: str
    config: Mapping[str, Any]
    scores: Mapping[str, float | None]
    records: Sequence[Mapping[str, Any]]
    traversals: Mapping[str, Traversal]


def render_comparison(members: Sequence[Member], data: str, factor_names: Sequence[str]) -> str:
    """Render a comparison.

    For each score, the page shows the number of runs, the mean, with three or more runs the 95 % confidence interval of
    the mean (Student's t), and the value of every run.

    Args:
        members: two or more runs.
        data: name of the data of all runs.
        factor_names: names of the factors of the data.

    Returns:
        A self-contained HTML document.

    Raises:
        ValueError: there are fewer than two runs.

    Example:
        >>> runs = [Member(f"s{seed}", {"seed": seed}, {"mig": 0.3 + 0.1 * seed}, [], {}) for seed in range(2)]
        >>> "0.350" in render_comparison(runs, "dsprites", ["posX"])
        True
    """
    if len(members) < 2:
        raise ValueError(f"a comparison needs two runs or more, and got {len(members)}")
    groups = group_runs([member.config for member in members])
    names = list(dict.fromkeys(name for member in members for name in member.scores))
    colours = _colours(len(groups))
    return render_page(
        "comparison.html",
        members=members,
        data=data,
        prior_note=prior_note(str(member.config.get("model")) for member in members),
        groups=[(label, [members[i].name for i in rows]) for label, rows in groups.items()],
        scores=[
            (name, [_summary(name, [members[i].scores.get(name) for i in rows]) for rows in groups.values()])
            for name in names
        ],
        curves=_curves(members, groups, colours),
        factors=[
            (factor, [(m.name, m.traversals[factor], _strip(m.traversals[factor])) for m in members])
            for factor in factor_names
            if all(factor in member.traversals for member in members)
        ],
    )


def group_runs(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Group the runs that differ only in their seed. The label of a group has the settings that differ among groups.

    Example:
        >>> group_runs([{"beta": 1, "seed": 0}, {"beta": 1, "seed": 1}, {"beta": 4, "seed": 0}])
        {'beta 1': [0, 1], 'beta 4': [2]}
        >>> group_runs([{"beta": 1, "seed": 0}, {"beta": 1, "seed": 1}])
        {'all runs': [0, 1]}
    """
    flat = [dict(flatten(config)) for config in configs]
    keys = dict.fromkeys(key for settings in flat for key in settings if key != "seed")
    differing = [key for key in keys if len({settings.get(key) for settings in flat}) > 1]
    groups: dict[str, list[int]] = {}
    for i, settings in enumerate(flat):
        label = ", ".join(f"{key} {settings[key]}" for key in differing if key in settings)
        groups.setdefault(label or "all runs", []).append(i)
    return groups


def _summary(name: str, values: Sequence[float | None]) -> dict[str, Any]:
    """Summarise a score of one group: number of runs, mean, interval, and the position of each run from 0 to 100."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    summary = summarise(known, (score_info(name).low, score_info(name).high))
    return {
        "n": summary.n,
        "mean": f"{summary.mean:.3f}" if known else "undefined",
        "interval": "" if math.isnan(summary.low) else f"{summary.low:.3f} to {summary.high:.3f}",
        "dots": [round(100 * value, 1) for value in known if 0 <= value <= 1],
        "every": ", ".join(f"{value:.3f}" for value in known),
    }


def _curves(members: Sequence[Member], groups: Mapping[str, Sequence[int]], colours: Sequence[Any]) -> str:
    """Draw the loss curves of all runs, with one colour per group, as a data URI; "" if no run has a curve."""
    if not any(member.records for member in members):
        return ""
    legend_rows = math.ceil(len(groups) / _LEGEND_COLUMNS) if len(groups) > 1 else 0
    figure = Figure(figsize=(12, 3.6 + 0.18 * legend_rows), layout="constrained")
    for axes, key in zip(figure.subplots(1, 3), _PANELS, strict=True):
        for (label, rows), colour in zip(groups.items(), colours, strict=True):
            for number, i in enumerate(rows):
                points = [(r["step"], r[key]) for r in members[i].records if r["split"] == "train" and key in r]
                steps, values = np.array(points, float).reshape(-1, 2).T
                style = {"color": colour, "lw": 1, "alpha": 0.8, "marker": "o" if len(points) == 1 else ""}
                axes.plot(steps, values, **style, label=None if number else plain(label, 80))
        axes.set_title(key, fontsize=11, fontweight="bold")
        axes.set_xlabel("step")
        axes.set_ylabel("nats")
        axes.spines[["top", "right"]].set_visible(False)
    if legend_rows:
        handles = axes.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=_LEGEND_COLUMNS, frameon=False, fontsize=8)
    return figure_uri(figure, 140)


def _colours(count: int) -> list[Any]:
    return [colormaps["viridis"](0.8 * i / max(count - 1, 1)) for i in range(count)]


def _strip(traversal: Traversal) -> str:
    """The images of a traversal side by side, with a gap of one pixel, as a data URI."""
    padded = np.pad(traversal.images, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=128)
    return png_uri(np.concatenate(list(padded), axis=-1)[..., :-1])
