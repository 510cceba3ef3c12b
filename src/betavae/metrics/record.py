"""Records that describe metrics: function, meaning of the scores, and requirements."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from betavae.metrics.evaluation import Evaluation

Measured = tuple[dict[str, float], dict[str, np.ndarray]]
"""Scores and arrays by name."""


@dataclass(frozen=True)
class ScoreInfo:
    """Meaning of one score.

    Attributes:
        low: smallest possible value.
        high: largest possible value.
        larger_is_better: direction of the score; `None` for a descriptive score.
        question: the question that the score answers, in one line.
        prominence: where the score is shown. 0: collapsed on pages; 1: listed; 2: also printed after training; 3: first
            on every page.
        ignores_factors: whether the score does not depend on the factors. Such a score has no chance level.
        title: its name in the literature, for pages; empty if that is the name of the score.
    """

    low: float = -math.inf
    high: float = math.inf
    larger_is_better: bool | None = None
    question: str = ""
    prominence: int = 1
    ignores_factors: bool = False
    title: str = ""

    @property
    def arrow(self) -> str:
        """Arrow that points to better values; empty for a descriptive score.

        Example:
            >>> ScoreInfo(0, 1, True).arrow, ScoreInfo(0, 1, False).arrow, ScoreInfo().arrow
            ('↑', '↓', '')
        """
        return {True: "↑", False: "↓", None: ""}[self.larger_is_better]


@dataclass(frozen=True)
class Metric:
    """A named metric. Calling it calls its function.

    Attributes:
        name: name of the metric, used by ``--metrics`` and as prefix of its scores.
        function: function of ``(latents, factors, *, seed)`` that returns numbers by name. It may also accept
            ``preset``, ``num_train``, ``num_test`` and ``discrete``.
        scores: meaning of each number; ``"accuracy_#"`` matches ``accuracy_`` followed by any number.
        summary: what the metric measures, in one line.
        takes_continuous: whether the metric accepts continuous factors.
        counts_classes: whether the metric estimates something for each class and needs several rows per class.
        own_sizes: whether the metric uses the sample sizes of its paper and ignores ``num_train`` and ``num_test``.
        on_request: whether `evaluate` computes the metric only if it is named, because it is slow.
        takes_sampled: whether the metric uses latents sampled from the posteriors. It then uses all rows.
        shared: function that computes the metric from an `Evaluation`, which shares trees and information matrices
            between metrics. If `None`, ``function`` is called.
        per_latent: names of the arrays from ``shared`` whose first axis is the latents.
    """

    name: str
    function: Callable[..., dict[str, float]]
    scores: Mapping[str, ScoreInfo] = field(default_factory=dict)
    summary: str = ""
    takes_continuous: bool = False
    counts_classes: bool = False
    own_sizes: bool = False
    on_request: bool = False
    takes_sampled: bool = False
    shared: "Callable[[Evaluation], Measured] | None" = None
    per_latent: tuple[str, ...] = ()

    def __call__(self, latents: Any, factors: Any, **options: Any) -> dict[str, float]:
        """Call the function."""
        return self.function(latents, factors, **options)
