"""One evaluation of two tables: its rows, and the trees and information matrices that several metrics share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from betavae.metrics.dci import DCI, TreeFits, fit_trees, summarise
from betavae.metrics.fairness import draw_probes
from betavae.metrics.information import Information, measure_information
from betavae.metrics.inputs import check_classes, draw_rows
from betavae.metrics.protocol import Protocol, sample_sizes


@dataclass(frozen=True)
class Evaluation:
    """Tables, seed, sizes and protocol of one evaluation. What metrics share is computed when first needed.

    Attributes:
        label: what the evaluation is called in progress reports.
        names: metrics to compute.
        latents: (N, D) latents, without those that the protocol leaves out.
        sampled: returns the (N, D) latents sampled from the posteriors.
        factors: (N, K) factors as float64.
        labels: (N, K) factors as classes, int64, if none is continuous; see `by_kind`.
        continuous: (K,) which factors are continuous.
        seed: seed of everything random.
        given: numbers of training and test rows, `None` where the protocol decides.
        protocol: the protocol.
        discrete: whether latents are discrete.
    """

    label: str
    names: Sequence[str]
    latents: np.ndarray
    sampled: Callable[[], np.ndarray]
    factors: np.ndarray
    labels: np.ndarray
    continuous: np.ndarray
    seed: int
    given: Mapping[str, int | None]
    protocol: Protocol
    discrete: bool

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """Numbers of training and test rows."""
        return sample_sizes(len(self.latents), self.protocol, **self.given)

    @cached_property
    def information(self) -> Information:
        """Entropies and mutual information of binned latents and factors."""
        return measure_information(
            self.latents, self.labels, seed=self.seed, num_train=self.sizes[0], preset=self.protocol
        )

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Training and test rows."""
        rng = np.random.default_rng(self.seed)
        train, test = draw_rows(len(self.latents), self.sizes, rng, with_replacement=self.protocol.with_replacement)
        check_classes(self.labels[train][:, ~self.continuous])
        return train, test

    @cached_property
    def probes(self) -> list[np.ndarray]:
        """Rows that fairness predicts factors of; none if it is not computed."""
        if "fairness" not in self.names or self.continuous.any():
            return []
        return draw_probes(self.labels, self.seed, paired=self.protocol.paired_fairness)

    @cached_property
    def trees(self) -> TreeFits:
        """Trees on the training rows, and their predictions for the test rows and then for the fairness probes."""
        train, test = self.rows
        others = np.concatenate([test, *(probe.ravel() for probe in self.probes)])
        return fit_trees(
            self.latents[train], self.labels[train], self.latents[others], seed=self.seed, continuous=self.continuous
        )

    @cached_property
    def dci(self) -> DCI:
        """DCI from the shared trees."""
        test = self.rows[1]
        fits = self.trees._replace(predicted=self.trees.predicted[: len(test)])
        return summarise(fits, self.labels[test], self.continuous)
