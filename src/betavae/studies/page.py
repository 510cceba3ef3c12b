"""The page of a study: what was run, scores with their spread over seeds, comparisons, what explains the variance.

`study.html` beside this file is the template; numbers come from results.parquet alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from betavae.config import prior_note
from betavae.files.atomic import write_atomically
from betavae.metrics.registry import score_info
from betavae.metrics.statistics import Summary, probability_better, rank_correlation, summarise, variance_explained
from betavae.report.charts import BLUE, INK, VERMILLION, plain, style_axes
from betavae.report.templates import figure_uri, render_page
from betavae.studies.published import CAVEAT, DSPRITES, Published
from betavae.studies.results import collect, read
from betavae.studies.study import Study, failures, states
from betavae.studies.sweep import flat, varied, worded

SELECTORS = ("udr.lasso", "udr.spearman", "held_out.elbo", "active_latents")
"""What can be known of a run without labels."""
COSTS = ("train_seconds", "images_per_second")
"""What runs took; no scores."""
_POSITIVE = (*COSTS, "active_latents", "held_out.reconstruction", "held_out.rate")
MAX_COMPARED = 12
"""Settings compared one by one; of more, those with the highest medians, for a wider table is hard to read."""


def finish_study(study: Study) -> Path:
    """Gather the results of a study as far as it is and write its report.html.

    Returns:
        The page.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: scores of a finished run are damaged.
    """
    table = study.folder / "results.parquet"
    collect({run: (config, study.path(run)) for run, config in study.runs.items()}, table)
    page = render_study(study, read(table))
    return write_atomically(study.folder / "report.html", page.encode())


def render_study(study: Study, columns: Mapping[str, Sequence[Any]]) -> str:
    """The study as one self-contained HTML document.

    Args:
        study: its settings and what has failed.
        columns: of its results.parquet.

    Returns:
        HTML with styles and pictures inside.
    """
    now = states(study)
    scores = scores_by_run(columns)
    settings = dict(zip(columns["run"], columns["setting"], strict=True))
    objectives = dict(zip(columns["run"], columns["objective"], strict=True))
    runs = list(settings)
    groups = {label: [run for run in runs if settings[run] == label] for label in dict.fromkeys(settings.values())}
    values = {metric: [table.get(run, math.nan) for run in runs] for metric, table in scores.items()}
    summaries = {
        metric: {
            label: _summary(metric, [table.get(run, math.nan) for run in members]) for label, members in groups.items()
        }
        for metric, table in scores.items()
    }
    supervised = [m for m in scores if m not in (*SELECTORS, *COSTS) and not m.startswith("held_out.")]
    headlines = [metric for metric in scores if score_info(metric).prominence > 2]
    configs = [*study.runs.values()]
    tables = [flat(config) for config in configs]
    on_dsprites = {config.data for config in configs} == {"dsprites"}
    drawn = headlines + [metric for metric in SELECTORS if metric in scores]
    return render_page(
        "study.html",
        title=study.folder.resolve().name,
        total=len(now),
        counts={state: list(now.values()).count(state) for state in ("done", "begun", "waiting", "failed")},
        failures=failures(study),
        varied=[
            (key, ", ".join(word for word in dict.fromkeys(worded(table, key) for table in tables) if word))
            for key in varied(configs)
        ],
        seeds=len({config.seed for config in configs}),
        groups=list(groups),
        scores=[(metric, [_cell(summary) for summary in by.values()]) for metric, by in summaries.items()],
        violins=[
            (metric, figure_uri(_violins(metric, scores[metric], groups, _references(metric, on_dsprites)), 130))
            for metric in drawn
        ],
        references=sorted({p.source for metric in drawn for p in _references(metric, on_dsprites)}),
        caveat=CAVEAT,
        prior_note=prior_note(config.model for config in configs),
        comparisons=[(metric, *_comparison(scores[metric], groups, summaries[metric])) for metric in headlines]
        if len(groups) > 1
        else [],
        variance=_variance(values, supervised, [objectives[run] for run in runs], [settings[run] for run in runs])
        if len(groups) > 1
        else [],
        correlation=_correlations({metric: values[metric] for metric in supervised}),
        selection=_selection(values, [m for m in SELECTORS if m in scores], headlines) if len(runs) > 2 else [],
        headlines=headlines,
    )


def scores_by_run(columns: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, float]]:
    """Values of each metric by run; those that are undefined are left out.

    Example:
        >>> scores_by_run({"run": ["a", "b"], "metric": ["mig", "mig"], "value": [0.3, None]})
        {'mig': {'a': 0.3}}
    """
    found: dict[str, dict[str, float]] = {}
    for run, metric, value in zip(columns["run"], columns["metric"], columns["value"], strict=True):
        found.setdefault(metric, {})
        if value is not None:
            found[metric][run] = value
    return found


def _summary(metric: str, values: Sequence[float]) -> Summary:
    """Of a score over seeds; without an interval where each value depends on those of the other seeds."""
    low, high = (0.0, math.inf) if metric in _POSITIVE else (score_info(metric).low, score_info(metric).high)
    summary = summarise(values, (low, high))
    return replace(summary, low=math.nan, high=math.nan) if metric.startswith("udr.") else summary


def _cell(summary: Summary) -> dict[str, str]:
    def text(value: float) -> str:
        return "undefined" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"

    known = {"n": str(summary.n), "median": text(summary.median), "mean": text(summary.mean)}
    quartiles = f"{text(summary.quarter)} to {text(summary.three_quarters)}" if summary.n else ""
    interval = "" if math.isnan(summary.low) else f"{text(summary.low)} to {text(summary.high)}"
    return known | {"quartiles": quartiles, "interval": interval}


def _comparison(
    scores: Mapping[str, float], groups: Mapping[str, Sequence[str]], summaries: Mapping[str, Summary]
) -> tuple[list[str], list[tuple[str, list[dict[str, str]]]], int]:
    """Probabilities that a run of the row's setting beats one of the column's; settings by falling median."""
    ranked = sorted((g for g in groups if summaries[g].n), key=lambda label: -summaries[label].median)
    shown = ranked[:MAX_COMPARED]
    values = {label: [scores[run] for run in groups[label] if run in scores] for label in shown}
    rows = []
    for first in shown:
        cells = []
        for second in shown:
            if first == second:
                cells.append({"text": "—", "shows": "", "interval": ""})
                continue
            probability, low, high = probability_better(values[first], values[second])
            shows = "more" if low > 0.5 else "less" if high < 0.5 else ""
            interval = "" if math.isnan(low) else f"{low:.2f}–{high:.2f}"
            cells.append({"text": f"{probability:.2f}", "shows": shows, "interval": interval})
        rows.append((first, cells))
    return shown, rows, len(ranked)


def _variance(
    values: Mapping[str, Sequence[float]], metrics: Sequence[str], objectives: Sequence[str], settings: Sequence[str]
) -> list[tuple[str, dict[str, str]]]:
    found = []
    for metric in metrics:
        shares = variance_explained(values[metric], objectives, settings)
        if not math.isnan(shares["seed"]):
            found.append((metric, {key: f"{100 * share:.0f} %" for key, share in shares.items()}))
    return found


def _selection(
    values: Mapping[str, Sequence[float]], selectors: Sequence[str], supervised: Sequence[str]
) -> list[tuple[str, list[str]]]:
    """Rank correlation of what is known without labels with each headline score."""
    rows = []
    for selector in selectors:
        cells = []
        for metric in supervised:
            value = rank_correlation({selector: values[selector], metric: values[metric]})[0, 1]
            cells.append("undefined" if math.isnan(value) else f"{value:+.2f}")
        rows.append((selector, cells))
    return rows


def _references(metric: str, on_dsprites: bool) -> list[Published]:
    return [row for row in DSPRITES if row.metric == metric] if on_dsprites else []


def _violins(
    metric: str,
    scores: Mapping[str, float],
    groups: Mapping[str, Sequence[str]],
    references: Sequence[Published],
) -> Figure:
    """Every run a point, the spread a violin, the median a bar; a row a setting; below, others' means and spreads."""
    labels = list(groups)
    figure = Figure(figsize=(9, 1.1 + 0.42 * (len(labels) + len(references))), layout="constrained")
    axes = figure.subplots()
    generator = np.random.default_rng(0)
    for place, label in enumerate(labels):
        values = np.array([scores[run] for run in groups[label] if run in scores])
        if len(values) > 4 and np.ptp(values) > 0:
            parts: Any = axes.violinplot(values, [place], orientation="horizontal", widths=0.8, showextrema=False)
            for body in parts["bodies"]:
                body.set(facecolor=BLUE, alpha=0.18)
        if len(values):
            axes.plot(values, place + generator.uniform(-0.12, 0.12, len(values)), "o", ms=3.5, color=BLUE, alpha=0.75)
            axes.plot([np.median(values)] * 2, [place - 0.3, place + 0.3], color=INK, lw=2)
    for place, row in enumerate(references, len(groups)):
        axes.errorbar(row.mean, place, xerr=row.spread, fmt="D", ms=4, color=VERMILLION, capsize=3, lw=1.2)
        labels.append(f"published: {row.method}" + (" (quoted)" if row.grade == "quoted" else ""))
    style_axes(axes, metric, grid="x", longest=80)
    axes.set_yticks(range(len(labels)), [plain(label, 80) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    return figure


def _correlations(values: Mapping[str, Sequence[float]]) -> str:
    """Rank correlations of the scores over all runs, drawn; nothing where there are none."""
    names = list(values)
    matrix: NDArray[np.float64] = rank_correlation(values)
    if not np.isfinite(matrix).any():
        return ""
    side = 1.9 + 0.42 * len(names)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(matrix, cmap="PuOr", vmin=-1, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for (i, j), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.55 else INK
            axes.text(j, i, f"{value.round(1) + 0.0:.1f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, shrink=0.7, label="rank correlation")
    return figure_uri(figure, 130)
