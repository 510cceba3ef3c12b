"""Samples pairs of images that share some of their factors, for weakly supervised objectives."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from betavae.data.factor_data import FactorData
from betavae.objectives.needs import PairRule

TRIES = 64
"""Number of attempts to find a partner before an image is paired with itself."""


class Partners:
    """Samples a partner for each image: some factors are resampled, and the others are the same.

    A resampled value may equal the old one. If the data have no image with the sampled factors, the factors are sampled
    again. If no partner is found, the image is paired with itself.

    Args:
        data: images and factors.
        rule: rule for the number of resampled factors, a key of `PAIR_RULES`. The choice of the factors is random.
        rows: rows of the images that may be partners. If None, all images.

    Raises:
        ValueError: the data have fewer than two factors, or most of the sampled partners do not exist.

    Example:
        >>> dots = np.zeros((4, 1), np.uint8)
        >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.int32)
        >>> data = FactorData("dots", dots, (1, 2, 2), 1, factors, ("x", "y"), (2, 2))
        >>> Partners(data, "one")(np.array([0, 0, 0, 0]), np.random.default_rng(2))
        array([2, 1, 0, 0])
    """

    def __init__(self, data: FactorData, rule: PairRule, rows: NDArray[np.int64] | None = None) -> None:
        num_factors = data.factors.shape[1]
        if num_factors < 2:
            raise ValueError(
                f"pairs of images share a factor and differ in another; {data.name} has {num_factors}, "
                "and at least 2 are needed"
            )
        self._data, self._rule = data, rule
        allowed = np.ones(len(data), bool)
        if rows is not None:
            allowed[:] = False
            allowed[rows] = True
        keys, indexed = data.index
        self._keys, self._rows = keys[allowed[indexed]], indexed[allowed[indexed]]
        trial = np.flatnonzero(allowed)[:: max(1, np.count_nonzero(allowed) // 256)]
        fraction = np.mean(self._sample(trial, np.random.default_rng(0), tries=1) >= 0)
        if fraction < 0.5:
            raise ValueError(
                f"only {100 * fraction:.0f} % of the partners that pair rule {rule} draws are among the images of "
                f"{data.name} that may be partners; use data with most combinations of the factors"
            )

    def __call__(self, rows: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """A partner for each image."""
        partners = self._sample(rows, generator)
        return np.where(partners >= 0, partners, rows)

    def _sample(self, rows: NDArray[np.int64], generator: np.random.Generator, tries: int = TRIES) -> NDArray[np.int64]:
        """A partner for each image; -1 if none is found."""
        factors = self._data.factors[rows]
        resampled = drawn_anew(self._rule, len(rows), factors.shape[1], generator)
        partners = np.full(len(rows), -1)
        for _ in range(tries):
            missing = np.flatnonzero(partners < 0)
            if not len(missing):
                break
            values = generator.integers(0, self._data.factor_sizes, (len(missing), factors.shape[1]))
            partners[missing] = self._choose(np.where(resampled[missing], values, factors[missing]), generator)
        return partners

    def _choose(self, factors: NDArray[np.integer], generator: np.random.Generator) -> NDArray[np.int64]:
        """A random image with the given factors, among the possible partners; -1 if there is none."""
        keys = self._data.keys(factors)
        first, last = (np.searchsorted(self._keys, keys, side) for side in ("left", "right"))
        count = last - first
        if (count > 1).any():
            first = first + generator.integers(0, np.maximum(count, 1))
        return np.where(count > 0, self._rows[np.minimum(first, len(self._rows) - 1)], -1)


def drawn_anew(rule: PairRule, num_pairs: int, num_factors: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Choose the factors of each pair that are resampled (num_pairs, num_factors): at least one, but not all.

    Example:
        >>> drawn_anew("one", 2, 3, np.random.default_rng(0)).sum(1)
        array([1, 1])
    """
    counts = PAIR_RULES[rule](num_pairs, num_factors, generator)
    ranks = generator.random((num_pairs, num_factors)).argsort(1).argsort(1)
    chosen: NDArray[np.bool_] = ranks < counts[:, None]
    return chosen


def _locatello(num_pairs: int, num_factors: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """One factor in half of the pairs; in the others, any number from 1 to K - 1.

    Source:
        Weakly-Supervised Disentanglement Without Compromises (Locatello et al., 2020), and its published code.
        https://arxiv.org/abs/2002.02886
    """
    return np.where(generator.random(num_pairs) < 0.5, 1, _uniform(num_pairs, num_factors, generator))


def _one(num_pairs: int, num_factors: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """One factor of each pair."""
    return np.ones(num_pairs, np.int64)


def _uniform(num_pairs: int, num_factors: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Any number of factors from 1 to K - 1."""
    return generator.integers(1, num_factors, num_pairs)


PAIR_RULES: dict[PairRule, Callable[[int, int, np.random.Generator], NDArray[np.int64]]] = {
    "locatello": _locatello,
    "one": _one,
    "uniform": _uniform,
}
"""Rules for the number of resampled factors of each pair, by name."""
