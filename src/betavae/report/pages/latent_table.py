"""The heat map of a report: how well each active latent predicts each factor."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from betavae.metrics.inputs import INACTIVE_NATS
from betavae.report.explorer.latents import LatentSummary
from betavae.report.latent_meaning import Predictions, latent_name
from betavae.report.pages.templates import format_number

_UNITS = {"class": "accuracy", "number": "R²", "angle": "R², angle"}
_PERFECT = 0.995  # a ceiling above it is shown as 1


def latent_table(
    predictions: Predictions | None,
    kl: Sequence[float],
    factor_names: Sequence[str],
    latents: Sequence[LatentSummary] = (),
) -> dict[str, Any] | None:
    """The columns and rows of the heat map as texts, the largest KL first; None if nothing is known of the latents.

    Args:
        predictions: how well each latent predicts each factor.
        kl: KL of each latent, in nats.
        factor_names: names of the factors.
        latents: summaries of the latents, for their names; may be empty.

    Example:
        >>> known = Predictions(np.array([[0.9]]), np.zeros(1), ("number",), np.ones(1))
        >>> table = latent_table(known, [2.0], ["posX"])
        >>> table["columns"], table["rows"][0]["cells"][0]["text"]
        ([{'name': 'posX', 'unit': 'R²'}], '0.90')
    """
    if predictions is None or not len(kl):
        return None
    order = [int(d) for d in np.argsort(-np.asarray(kl), kind="stable")]
    active = [d for d in order if kl[d] >= INACTIVE_NATS]
    known = {latent.index: latent for latent in latents}
    return {
        "columns": [{"name": name, "unit": _unit(predictions, k)} for k, name in enumerate(factor_names)],
        "rows": [
            {
                "name": known[d].name if d in known else latent_name(d),
                "title": ", ".join(factor for factor, _ in known[d].captures) if d in known else "",
                "cells": [_cell(predictions, d, k) for k in range(len(factor_names))],
                "kl": format_number(kl[d], 2),
            }
            for d in active
        ],
        "inactive": len(order) - len(active),
    }


def _unit(predictions: Predictions, k: int) -> str:
    """What the numbers of a column are, and how large they can be."""
    kind, best = predictions.kinds[k], predictions.ceilings[k]
    limit = f", at most {100 * best:.0f} %" if kind == "class" else f", at most {best:.2f}"
    return _UNITS[kind] + (limit if best < _PERFECT else "")


def _cell(predictions: Predictions, d: int, k: int) -> dict[str, Any]:
    value, is_class = predictions.values[d, k], predictions.kinds[k] == "class"
    return {
        "text": f"{100 * value:.0f} %" if is_class else f"{value:.2f}",
        "heat": round(10 * predictions.gain()[d, k]),
        "note": f"chance: {100 * predictions.chance[k]:.0f} %" if is_class else "",
    }
