"""Prepares the scores of a report: the headline panel with published values, the table, the protocol."""

from collections.abc import Mapping, Sequence
from typing import Any

from betavae.metrics.inputs import INACTIVE_NATS
from betavae.metrics.registry import score_info
from betavae.report.pages.templates import format_number, is_number
from betavae.report.published import Published

_HEADLINE = 3  # prominence of the scores in the panel


def headlines(
    scores: Mapping[str, float | None],
    method: str = "",
    references: Sequence[Published] = (),
    chance: Mapping[str, float] | None = None,
    ceilings: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """The most prominent scores that have a title, each with the published values of the same score.

    Args:
        scores: scores by name.
        method: name of the run's method in the literature. Its published value is named.
        references: published scores on the same data.
        chance: chance levels by name.
        ceilings: best possible values by name.

    Example:
        >>> from betavae.report.published import DSPRITES
        >>> panel, = headlines({"mig": 0.3, "kl_nats": 9.0}, "β-TCVAE", DSPRITES)
        >>> panel["title"], panel["value"], panel["named"][0]
        ('MIG', '0.300', 'β-TCVAE 0.239 ± 0.101')
    """
    panels = []
    for name, value in scores.items():
        info = score_info(name)
        if info.prominence < _HEADLINE or not info.title:
            continue
        row = score_row(name, value, None, (chance or {}).get(name), (ceilings or {}).get(name))
        found = [reference for reference in references if reference.metric == name]
        same = [reference for reference in found if reference.method == method]
        best = [max(found, key=lambda reference: reference.mean)] if found else []
        named = [_worded(reference) for reference in same]
        named += [f"{_worded(reference)} (best)" for reference in best if reference not in same]
        dots = [
            {
                "name": _worded(reference),
                "x": _percent(reference.mean),
                "low": _percent(reference.mean - reference.spread),
                "high": _percent(reference.mean + reference.spread),
            }
            for reference in found
        ]
        panels.append(row | {"title": info.title, "named": named, "published": dots})
    return panels


def _worded(reference: Published) -> str:
    return f"{reference.method} {reference.mean:.3f} ± {reference.spread:.3f}"


def _percent(share: float) -> float:
    return round(100 * min(max(share, 0), 1), 1)


def score_row(
    name: str,
    value: float | None,
    interval: tuple[float, float] | None,
    chance: float | None,
    ceiling: float | None,
) -> dict[str, Any]:
    """The texts of one score, and its bar."""
    if interval and not all(map(is_number, interval)):
        interval = None
    chance, ceiling = (mark if is_number(mark) else None for mark in (chance, ceiling))
    meaning = score_info(name)
    return {
        "name": name,
        "meaning": meaning.question[:1].upper() + meaning.question[1:],
        "arrow": meaning.arrow,
        "value": format_number(value),
        "interval": f"{format_number(interval[0])} to {format_number(interval[1])}" if interval else "",
        "chance": "" if chance is None else format_number(chance),
        "ceiling": "" if ceiling is None else format_number(ceiling),
        "bar": _bar(value, interval, chance, ceiling) if meaning.high == 1 else None,
    }


def _bar(
    value: float | None, interval: tuple[float, float] | None, chance: float | None, ceiling: float | None
) -> dict[str, Any] | None:
    """Positions on a bar from 0 to 100; None if the value is undefined or outside 0 to 1."""
    if value is None or not 0 <= value <= 1:
        return None
    return {
        "value": round(100 * value, 1),
        "interval": [_percent(end) for end in interval] if interval else None,
        "marks": [round(100 * mark, 1) for mark in (chance, ceiling) if mark is not None and 0 <= mark <= 1],
    }


def key_numbers(
    records: Sequence[Mapping[str, Any]], kl: Sequence[float], provenance: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """Numbers below the headline panel: label, value, unit."""
    last = last_records(records)[-1:]
    names = (("reconstruction", "reconstruction loss"), ("rate", "KL (rate)"))
    tiles = [(label, ending[key], "nats") for ending in last for key, label in names]
    if len(kl):
        tiles.append(("active latents", str(sum(value >= INACTIVE_NATS for value in kl)), f"of {len(kl)}"))
    if "train_seconds" in provenance:
        tiles.append(("trained in", format_number(provenance["train_seconds"] / 60, 1), "minutes"))
    if "images_per_second" in provenance:
        tiles.append(("speed", format_number(provenance["images_per_second"], 0), "images/s"))
    return tiles


def protocol_text(protocol: Mapping[str, Any]) -> str:
    """The protocol of the evaluation as text; "" if it is unknown."""
    if not protocol:
        return ""
    latents = "samples from the posteriors" if protocol.get("latents") == "sampled" else "posterior means"
    is_folded = "orientation (folded)" in protocol.get("factors", ())
    folded = ", orientation modulo the symmetry of each shape" if is_folded else ""
    return (
        f"Protocol: {protocol['preset']} preset on the {latents} of {protocol['rows']:,} images{folded}; "
        f"{protocol['num_train']:,} train the predictors and {protocol['num_test']:,} test them. "
        f"Interval: 95 % prediction interval for another evaluation of the same model, from {protocol['evaluations']} "
        "evaluations. Chance: the score of the same latents in random order."
    )


def last_records(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The last record of each split as text, training first."""
    last = {record["split"]: record for record in records}
    return [
        {
            "split": split,
            "step": f"{last[split]['step']:,}",
            **{key: format_number(last[split].get(key), 2) for key in ("loss", "reconstruction", "rate")},
        }
        for split in ("train", "validation")
        if split in last
    ]
