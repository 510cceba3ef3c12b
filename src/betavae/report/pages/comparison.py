"""Renders the comparison of several runs: scores over seeds, loss curves, traversals matched by factor.

The template is `assets/comparison.html`. Runs whose settings differ only in the seed form a group.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from betavae.metrics.registry import score_info
from betavae.metrics.statistics import summarise
from betavae.networks.registry import prior_note
from betavae.report.pages.dot_chart import Dot, dot_chart
from betavae.report.pages.image_strips import join
from betavae.report.pages.line_chart import COLOURS, compared_charts
from betavae.report.pages.templates import flatten, is_number, join_scripts, policy_hash, render_page
from betavae.report.published import CAVEAT, Published

_LONGEST_LABEL = 48


@dataclass(frozen=True)
class Traversal:
    """The traversal of one latent of a run.

    Attributes:
        latent: name of the latent with its sign: z3, or −z3.
        share: fraction of the factor's entropy that the latent explains.
        images: decoded images (n, C, H, W) uint8.
    """

    latent: str
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
        link: address of the run's report, relative to the page; "" if there is none.
    """

    name: str
    config: Mapping[str, Any]
    scores: Mapping[str, float | None]
    records: Sequence[Mapping[str, Any]]
    traversals: Mapping[str, Traversal]
    link: str = ""


def render_comparison(
    members: Sequence[Member], data: str, factor_names: Sequence[str], references: Sequence[Published] = ()
) -> str:
    """Render a comparison.

    For each score, the page shows the number of runs, the mean, with three or more runs the 95 % confidence interval of
    the mean (Student's t), and the value of every run.

    Args:
        members: two or more runs.
        data: name of the data of all runs.
        factor_names: names of the factors of the data.
        references: published scores on the same data.

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
    named = {
        _short(label, number, [members[i].name for i in rows]): rows
        for number, (label, rows) in enumerate(groups.items(), 1)
    }
    charts = compared_charts(
        {name: [(members[i].name, members[i].records) for i in rows] for name, rows in named.items()}
    )
    script = join_scripts("charts.js") if charts else ""
    return render_page(
        "comparison.html",
        members=members,
        data=data,
        prior_note=prior_note(str(member.config.get("model")) for member in members),
        groups=[
            (name, label, number % COLOURS, [members[i] for i in rows])
            for number, (name, (label, rows)) in enumerate(zip(named, groups.items(), strict=True))
        ],
        headlines=_headlines(members, named, names, references),
        caveat=CAVEAT if references else "",
        scores=[
            (name, [_summary(name, [members[i].scores.get(name) for i in rows]) for rows in groups.values()])
            for name in names
        ],
        charts=charts,
        legend=[(label, number % COLOURS) for number, label in enumerate(groups)],
        script=script,
        script_hash=policy_hash(script),
        factors=[
            (factor, [(m.name, m.traversals[factor], join(m.traversals[factor].images)) for m in members])
            for factor in factor_names
            if all(factor in member.traversals for member in members)
        ],
    )


def _short(label: str, number: int, names: Sequence[str]) -> str:
    """The name of a group in charts: its run, if it has only one, its settings if they are short, or its number.

    Example:
        >>> _short("beta 4", 2, ["a", "b"]), _short("beta 4", 2, ["a"])
        ('beta 4', 'a')
    """
    return names[0] if len(names) == 1 else label if len(label) <= _LONGEST_LABEL else f"group {number}"


def _headlines(
    members: Sequence[Member],
    groups: Mapping[str, Sequence[int]],
    names: Sequence[str],
    references: Sequence[Published],
) -> list[tuple[str, dict[str, Any]]]:
    """For each of the most prominent scores, its title and a chart of all runs with the published values."""
    charts = []
    for name in (name for name in names if score_info(name).title):
        dots = {
            label: [
                Dot(members[i].name, value, members[i].link)
                for i in rows
                if (value := _finite(members[i], name)) is not None
            ]
            for label, rows in groups.items()
        }
        published = [row for row in references if row.metric == name]
        charts.append((score_info(name).title, dot_chart(dots, published, ends=(0, 1))))
    return charts


def _finite(member: Member, name: str) -> float | None:
    value = member.scores.get(name)
    return value if is_number(value) else None


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
