"""Registry of metrics."""

from typing import Final

from betavae.files.validation import short
from betavae.metrics.beta_vae import METRIC as BETA_VAE
from betavae.metrics.dci import METRIC as DCI
from betavae.metrics.dci_es import METRIC as DCI_ES
from betavae.metrics.downstream import METRIC as DOWNSTREAM
from betavae.metrics.edi import METRIC as EDI
from betavae.metrics.factor_vae import FACTOR_VAE, Z_MAX_VARIANCE, Z_MIN_VARIANCE
from betavae.metrics.fairness import METRIC as FAIRNESS
from betavae.metrics.infomec import METRIC as INFOMEC
from betavae.metrics.irs import METRIC as IRS
from betavae.metrics.mcc import METRIC as MCC
from betavae.metrics.mig import DCIMIG, JEMMIG, MIG, MIG_CHEN, MIG_SUP
from betavae.metrics.modularity import EXPLICITNESS, MODULARITY
from betavae.metrics.r2 import METRIC as R2
from betavae.metrics.record import Metric, ScoreInfo
from betavae.metrics.sap import METRIC as SAP
from betavae.metrics.unibound import METRIC as UNIBOUND
from betavae.metrics.unsupervised import METRIC as UNSUPERVISED
from betavae.registry import Registry, check_callable

METRICS: Final[Registry[Metric]] = Registry("metric")
"""All metrics by name. Add one with `register`."""


def register(metric: Metric) -> None:
    """Register a metric for `evaluate`, ``betavae score --metrics`` and all reports.

    Raises:
        TypeError: The function cannot be called with latents, factors and a seed, or a score is not described by a
            `ScoreInfo`.
        ValueError: The name is not a valid flag, or belongs to a built-in metric.

    Example:
        >>> register(Metric("mig", lambda latents, factors, *, seed: {"mig": 1.0}))
        Traceback (most recent call last):
        ValueError: metric 'mig' is part of betavae; give yours another name
    """
    METRICS.check_new(metric.name)
    check_callable(f"metric {metric.name!r}", metric.function, "latents", "factors", seed=0)
    for score in metric.scores.values():
        if not isinstance(score, ScoreInfo):
            raise TypeError(
                f"metric {metric.name!r} describes a score as {short(score)}; it must be a betavae.metrics.ScoreInfo"
            )
    METRICS.add(metric.name, metric)


def score_info(name: str) -> ScoreInfo:
    """Return the meaning of a score by its name in `Scores`; an empty `ScoreInfo` for an unknown name.

    Example:
        >>> score_info("downstream.accuracy_40").question, score_info("mine").high
        ('accuracy of boosted trees with 40 labels', inf)
    """
    metric, _, part = name.partition(".")
    scores = METRICS[metric].scores if metric in METRICS else {}
    if (part or metric) in scores:
        return scores[part or metric]
    stem, _, number = part.rpartition("_")
    if f"{stem}_#" not in scores or not number.isdigit():
        return ScoreInfo()
    pattern = scores[f"{stem}_#"]
    return ScoreInfo(**vars(pattern) | {"question": pattern.question.replace("#", f"{int(number):,}")})


def overview() -> str:
    """Return a Markdown table of all built-in metrics for the documentation."""
    rows = ["| metric | measures | scores | range | better | factors |", "| --- | --- | --- | --- | --- | --- |"]
    for name, metric in METRICS.items():
        if not METRICS.is_shipped(name):
            continue
        kinds = "classes, continuous" if metric.takes_continuous else "classes"
        for part, score in metric.scores.items():
            ends = ", ".join(f"{end:g}".replace("inf", "∞").replace("-", "−") for end in (score.low, score.high))
            better = {True: "larger", False: "smaller", None: "—"}[score.larger_is_better]
            first = (f"`{name}`", metric.summary, kinds) if part == next(iter(metric.scores)) else ("", "", "")
            shown = part if part == name else f"{name}.{part}"
            rows.append(f"| {first[0]} | {first[1]} | `{shown}` | {ends} | {better} | {first[2]} |")
    return "\n".join(rows) + "\n"


for _metric in (
    DCI,
    MIG,
    MIG_CHEN,
    MIG_SUP,
    DCIMIG,
    JEMMIG,
    SAP,
    BETA_VAE,
    FACTOR_VAE,
    Z_MIN_VARIANCE,
    Z_MAX_VARIANCE,
    MODULARITY,
    EXPLICITNESS,
    IRS,
    INFOMEC,
    DCI_ES,
    DOWNSTREAM,
    FAIRNESS,
    MCC,
    R2,
    EDI,
    UNIBOUND,
    UNSUPERVISED,
):
    register(_metric)
METRICS.seal()
