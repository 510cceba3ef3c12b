"""Writes the report of a study: varied settings, scores over seeds, comparisons of settings, explained variance.

The template is `report/assets/study.html`. All numbers come from results.parquet.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from betavae.config import Config
from betavae.config_files import flat
from betavae.files.atomic import write_atomically
from betavae.metrics.registry import score_info
from betavae.metrics.statistics import Summary, probability_better, rank_correlation, summarise, variance_explained
from betavae.networks.registry import prior_note
from betavae.report.pages.dot_chart import Dot, dot_chart
from betavae.report.pages.templates import render_page
from betavae.report.published import CAVEAT, DSPRITES, Published
from betavae.studies.results import collect, read
from betavae.studies.study import Study, failures, states
from betavae.studies.sweep import varied, worded

SELECTORS = ("udr.lasso", "udr.spearman", "held_out.elbo", "active_latents")
"""Quantities that need no labels, for unsupervised model selection."""
COSTS = ("train_seconds", "images_per_second")
"""Quantities that measure the cost of a run, not its quality."""
_POSITIVE = (
    *(*COSTS, "active_latents", "held_out.reconstruction", "held_out.rate"),
    *(f"{kind}_combinations.{name}" for kind in ("seen", "unseen") for name in ("reconstruction", "accuracy")),
)
MAX_COMPARED = 12
"""Largest number of settings in a pairwise comparison. With more settings, those with the highest medians are shown."""


@dataclass(frozen=True)
class _Results:
    """The contents of results.parquet.

    Attributes:
        settings: label of the setting of each run, by run id.
        objectives: name of the objective of each run, by run id.
        scores: value of each metric by run id, without undefined values.
    """

    settings: Mapping[str, str]
    objectives: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float]]

    @property
    def groups(self) -> dict[str, list[str]]:
        """The run ids of each setting, by its label."""
        groups: dict[str, list[str]] = {}
        for run, label in self.settings.items():
            groups.setdefault(label, []).append(run)
        return groups

    def values(self, metric: str) -> list[float]:
        """The values of a metric over all runs; nan where it is undefined."""
        return [self.scores[metric].get(run, math.nan) for run in self.settings]

    @property
    def headlines(self) -> list[str]:
        """The most prominent scores, for the pairwise comparison of settings."""
        return [metric for metric in self.scores if score_info(metric).prominence > 2]

    def present(self, metrics: Sequence[str]) -> list[str]:
        """Those of the metrics that the study has."""
        return [metric for metric in metrics if metric in self.scores]


def finish_study(study: Study) -> Path:
    """Write results.parquet and report.html of a study from its finished runs.

    Returns:
        Path of the page.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: the scores of a finished run are damaged.
    """
    table = study.folder / "results.parquet"
    collect({run: (config, study.path(run)) for run, config in study.runs.items()}, table)
    page = render_study(study, read(table))
    return write_atomically(study.folder / "report.html", page.encode())


def render_study(study: Study, columns: Mapping[str, Sequence[Any]]) -> str:
    """Render the report of a study.

    Args:
        study: the study, for its settings and failures.
        columns: columns of its results.parquet.

    Returns:
        A self-contained HTML document.
    """
    results = _Results(
        dict(zip(columns["run"], columns["setting"], strict=True)),
        dict(zip(columns["run"], columns["objective"], strict=True)),
        scores_by_run(columns),
    )
    configs = [*study.runs.values()]
    state_of_runs = [*states(study).values()]
    return render_page(
        "study.html",
        title=study.folder.resolve().name,
        total=len(state_of_runs),
        counts={state: state_of_runs.count(state) for state in ("done", "begun", "waiting", "failed")},
        failures=failures(study),
        varied=_varied_values(configs),
        seeds=len({config.seed for config in configs}),
        groups=[*results.groups],
        prior_note=prior_note(config.model for config in configs),
        **_spread(study, results, on_dsprites={config.data for config in configs} == {"dsprites"}),
        picks=_picks(study, results, results.headlines),
        **_tables(results),
    )


def _varied_values(configs: Sequence[Config]) -> list[tuple[str, str]]:
    """The settings that the study varies, each with its values as text."""
    tables = [flat(config) for config in configs]
    return [
        (key, ", ".join(value for value in dict.fromkeys(worded(table, key) for table in tables) if value))
        for key in varied(configs)
    ]


def _spread(study: Study, results: _Results, on_dsprites: bool) -> dict[str, Any]:
    """The charts of the page, with the sources of the published scores in them."""
    shown = results.headlines + results.present(SELECTORS)
    published = {metric: _references(metric, on_dsprites) for metric in shown}
    charts = [(metric, _dots(metric, study, results, references)) for metric, references in published.items()]
    return {
        "charts": charts if results.settings else [],
        "references": sorted({reference.source for references in published.values() for reference in references}),
        "caveat": CAVEAT,
    }


def _tables(results: _Results) -> dict[str, Any]:
    """The tables of the page: scores, comparisons, variance, agreement of metrics, selection without labels."""
    groups, headlines = results.groups, results.headlines
    supervised = [m for m in results.scores if m not in (*SELECTORS, *COSTS) and not m.startswith("held_out.")]
    summaries = {
        metric: {label: _summary(metric, [by_run.get(run, math.nan) for run in runs]) for label, runs in groups.items()}
        for metric, by_run in results.scores.items()
    }
    comparisons, variance, selection = [], [], []
    if len(groups) > 1:
        comparisons = [(m, *_comparison(results.scores[m], groups, summaries[m])) for m in headlines]
        variance = _variance(results, supervised)
    if len(results.settings) > 2:
        selection = _selection(results, headlines)
    return {
        "scores": [(metric, [_cell(summary) for summary in by.values()]) for metric, by in summaries.items()],
        "comparisons": comparisons,
        "variance": variance,
        "correlation": _correlations({metric: results.values(metric) for metric in supervised}),
        "selection": selection,
        "headlines": headlines,
    }


def scores_by_run(columns: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, float]]:
    """The values of each metric by run id. Undefined values are left out.

    Example:
        >>> scores_by_run({"run": ["a", "b"], "metric": ["mig", "mig"], "value": [0.3, None]})
        {'mig': {'a': 0.3}}
    """
    scores: dict[str, dict[str, float]] = {}
    for run, metric, value in zip(columns["run"], columns["metric"], columns["value"], strict=True):
        scores.setdefault(metric, {})
        if value is not None:
            scores[metric][run] = value
    return scores


def _summary(metric: str, values: Sequence[float]) -> Summary:
    """Summarise a score over seeds. UDR has no interval, because its values depend on one another."""
    low, high = (0.0, math.inf) if metric in _POSITIVE else (score_info(metric).low, score_info(metric).high)
    summary = summarise(values, (low, high))
    return replace(summary, low=math.nan, high=math.nan) if metric.startswith("udr.") else summary


def _cell(summary: Summary) -> dict[str, str]:
    """The texts of one cell in the table of scores."""

    def text(value: float) -> str:
        return "undefined" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"

    quartiles = f"{text(summary.quarter)} to {text(summary.three_quarters)}" if summary.n else ""
    interval = "" if math.isnan(summary.low) else f"{text(summary.low)} to {text(summary.high)}"
    return {
        "n": str(summary.n),
        "median": text(summary.median),
        "mean": text(summary.mean),
        "quartiles": quartiles,
        "interval": interval,
    }


def _comparison(
    scores: Mapping[str, float], groups: Mapping[str, Sequence[str]], summaries: Mapping[str, Summary]
) -> tuple[list[str], list[tuple[str, list[dict[str, str]]]], int]:
    """Compare settings pairwise by the probability that a run of the row's setting beats one of the column's.

    Returns:
        The labels of the settings in descending order of their medians; for each of them a row of cells; and the
        number of settings with scores, of which at most `MAX_COMPARED` are shown.
    """
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


def _variance(results: _Results, metrics: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The fractions of each metric's variance that objectives, settings and seeds explain."""
    rows = []
    for metric in metrics:
        fractions = variance_explained(
            results.values(metric), [*results.objectives.values()], [*results.settings.values()]
        )
        if not math.isnan(fractions["seed"]):
            rows.append((metric, {key: f"{100 * fraction:.0f} %" for key, fraction in fractions.items()}))
    return rows


def _selection(results: _Results, supervised: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Rank correlation of each quantity that needs no labels with each supervised score."""
    rows = []
    for selector in results.present(SELECTORS):
        cells = []
        for metric in supervised:
            pair = {selector: results.values(selector), metric: results.values(metric)}
            value = rank_correlation(pair)[0, 1]
            cells.append("undefined" if math.isnan(value) else f"{value:+.2f}")
        rows.append((selector, cells))
    return rows


def _references(metric: str, on_dsprites: bool) -> list[Published]:
    return [row for row in DSPRITES if row.metric == metric] if on_dsprites else []


def _dots(metric: str, study: Study, results: _Results, references: Sequence[Published]) -> dict[str, Any]:
    """A chart of one metric: a row for each setting, a dot for each run, published scores below."""
    scores, info = results.scores[metric], score_info(metric)
    dots = {
        label: [Dot(run, scores[run], _link(study, run)) for run in runs if run in scores]
        for label, runs in results.groups.items()
    }
    return dot_chart(dots, references, ends=(0, 1) if (info.low, info.high) == (0, 1) else None)


def _link(study: Study, run: str) -> str:
    """The address of a run's report, relative to the study's page; "" if it has none."""
    report = study.path(run) / "report.html"
    return quote(report.relative_to(study.folder).as_posix()) if report.is_file() else ""


def _correlations(values: Mapping[str, Sequence[float]]) -> tuple[list[str], list[list[dict[str, str]]]]:
    """The rank correlations of the scores over all runs, as texts with a shade; empty if none is defined.

    Example:
        >>> _correlations({"mig": [0.1, 0.2, 0.3], "sap": [0.3, 0.2, 0.1]})[1][0]
        [{'text': '1.0', 'shade': 'heat10'}, {'text': '−1.0', 'shade': 'less10'}]
    """
    matrix: NDArray[np.float64] = rank_correlation(values)
    if not np.isfinite(matrix).any():
        return [], []

    def cell(value: float) -> dict[str, str]:
        if math.isnan(value):
            return {"text": "–", "shade": ""}
        shade = f"{'heat' if value > 0 else 'less'}{round(10 * abs(value))}"
        return {"text": f"{round(value, 1) + 0.0:.1f}".replace("-", "−"), "shade": shade}

    return [*values], [[cell(value) for value in row] for row in matrix]


def _picks(study: Study, results: _Results, supervised: Sequence[str]) -> list[dict[str, Any]]:
    """The run with the highest value of each quantity that needs no labels, and its supervised scores."""
    picks = []
    for selector in results.present(SELECTORS[:3]):
        if not results.scores[selector]:
            continue
        run = max(results.scores[selector], key=results.scores[selector].__getitem__)
        picks.append(
            {
                "selector": selector,
                "run": run,
                "link": _link(study, run),
                "cells": [_rank(results.scores[metric], run) for metric in supervised],
            }
        )
    return picks


def _rank(scores: Mapping[str, float], run: str) -> str:
    """The score of a run and its rank among all runs.

    Example:
        >>> _rank({"a": 0.3, "b": 0.4}, "a")
        '0.300 (2nd of 2)'
    """
    if run not in scores:
        return "undefined"
    rank = 1 + sum(value > scores[run] for value in scores.values())
    ending = "th" if 10 < rank % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{scores[run]:.3f} ({rank}{ending} of {len(scores)})"
