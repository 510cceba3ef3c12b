"""State of one evaluation: sampled rows, and the trees and information matrices that metrics share."""

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
    """Tables, seed, sizes and protocol of one evaluation. Shared quantities are computed on first use.

    Attributes:
        label: name of the evaluation in progress reports.
        names: names of the metrics to compute.
        latents: (N, D) latents that the protocol keeps.
        sampled: function that returns the (N, D) latents sampled from the posteriors.
        factors: (N, K) factors as float64.
        labels: (N, K) factors as class labels; int64 if no factor is continuous, see `by_kind`.
        continuous: (K,) mask of continuous factors.
        seed: seed for everything random.
        requested_sizes: ``num_train`` and ``num_test`` as requested by the caller; `None` for the default.
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
    requested_sizes: Mapping[str, int | None]
    protocol: Protocol
    discrete: bool

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """Numbers of training and test rows."""
        return sample_sizes(len(self.latents), self.protocol, **self.requested_sizes)

    @cached_property
    def information(self) -> Information:
        """Entropies and mutual information of binned latents and factors, in nats."""
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
        """Rows for which fairness predicts factors; empty if fairness is not computed."""
        if "fairness" not in self.names or self.continuous.any():
            return []
        return draw_probes(self.labels, self.seed, paired=self.protocol.paired_fairness)

    @cached_property
    def trees(self) -> TreeFits:
        """Trees fitted to the training rows. Their predictions are for the test rows, then for the fairness probes."""
        train, test = self.rows
        predicted_rows = np.concatenate([test, *(probe.ravel() for probe in self.probes)])
        return fit_trees(
            self.latents[train],
            self.labels[train],
            self.latents[predicted_rows],
            seed=self.seed,
            continuous=self.continuous,
        )

    @cached_property
    def dci(self) -> DCI:
        """DCI computed from the shared trees."""
        test = self.rows[1]
        fits = self.trees._replace(predicted=self.trees.predicted[: len(test)])
        return summarise(fits, self.labels[test], self.continuous)
