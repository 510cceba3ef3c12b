"""Disentanglement metrics on two tables: codes (N, D) and factors (N, K). No model, no data set, no torch."""

from betavae.metrics.carriers import Carrier, describe_carriers, find_carriers
from betavae.metrics.dci import DCI, dci, fit_dci
from betavae.metrics.inputs import active_codes
from betavae.metrics.mig import mig, mutual_information
from betavae.metrics.suite import METRICS, PRESETS, Scores, evaluate

__all__ = [
    "DCI",
    "METRICS",
    "PRESETS",
    "Carrier",
    "Scores",
    "active_codes",
    "dci",
    "describe_carriers",
    "evaluate",
    "find_carriers",
    "fit_dci",
    "mig",
    "mutual_information",
]
