"""What is known of a metric in one place: its function, what its scores mean, and what it takes."""

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
    """What one score means.

    Attributes:
        low: smallest possible value.
        high: largest possible value.
        larger_is_better: which end is good; `None` for a score that only describes.
        question: what the score asks, in a line.
        prominence: 0 for a detail that pages fold away, 1 for a score that is listed, 2 for one that is printed after
            training, 3 for one that comes first on every page.
        ignores_factors: whether the score is the same for shuffled rows, so that it has no chance level.
    """

    low: float = -math.inf
    high: float = math.inf
    larger_is_better: bool | None = None
    question: str = ""
    prominence: int = 1
    ignores_factors: bool = False

    @property
    def arrow(self) -> str:
        """The good end: up, down, or nothing.

        Example:
            >>> ScoreInfo(0, 1, True).arrow, ScoreInfo(0, 1, False).arrow, ScoreInfo().arrow
            ('↑', '↓', '')
        """
        return {True: "↑", False: "↓", None: ""}[self.larger_is_better]


@dataclass(frozen=True)
class Metric:
    """A metric under a name. Calling it calls its function.

    Attributes:
        name: name, as in ``--metrics`` and in front of its scores.
        function: function of ``(latents, factors, *, seed)`` that returns numbers by name. It may take ``preset``,
            ``num_train``, ``num_test`` and ``discrete`` as well.
        scores: what each of the numbers means; ``"accuracy_#"`` stands for ``accuracy_`` and any number.
        summary: what the metric measures, in a line.
        takes_continuous: whether factors may be continuous.
        counts_classes: whether something is estimated for each class, which takes several rows of each.
        own_sizes: whether numbers of rows or points are those of its paper, whatever others use.
        on_request: whether it takes long, and is part of an evaluation only if it is named.
        takes_sampled: whether it takes latents sampled from the posteriors; it then uses every row.
        shared: how to compute it in an evaluation, where several metrics share trees and information matrices; the
            function is called if this is not given.
        per_latent: names of those arrays of ``shared`` whose first axis is the latents.
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
