"""Interventions as table look-ups: draw rows with equal values of some factors and random values of the others."""

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Groups:
    """Groups of rows with equal factor values.

    Attributes:
        label: (N,) group of each row, 0 .. G - 1.
        order: (N,) row indices, sorted by group.
        starts: (G,) position in ``order`` where each group starts.
        sizes: (G,) number of rows of each group.
    """

    label: np.ndarray
    order: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    @classmethod
    def by_value(cls, factors: np.ndarray, fixed: list[int], metric: str, num_needed: int = 2) -> Self:
        """Group the rows by their values of the ``fixed`` factors.

        Args:
            factors: (N, K) integer factors.
            fixed: indices of the factors that are equal within a group.
            metric: name of the metric, for the error message.
            num_needed: minimum number of rows of a group.

        Raises:
            ValueError: A group has fewer than ``num_needed`` rows.

        Example:
            >>> groups = Groups.by_value(np.array([[0, 5], [1, 5], [0, 6], [1, 6]]), [0], "the score")
            >>> groups.order[groups.starts[1] :]
            array([1, 3])
        """
        number = np.zeros(len(factors), np.int64)
        for k in fixed:
            low, high = int(factors[:, k].min()), int(factors[:, k].max())
            if high - low < len(factors):
                label, num_values = factors[:, k] - low, high - low + 1
            else:
                values, label = np.unique(factors[:, k], return_inverse=True)
                num_values = len(values)
            number = number * num_values + label
            if number.max() > np.iinfo(np.int64).max // len(factors):  # the next product might overflow
                number = np.unique(number, return_inverse=True)[1]
        # Sorting 16-bit integers is several times faster.
        order = np.argsort(number.astype(np.uint16) if number.max() < 1 << 16 else number, kind="stable")
        starts = np.flatnonzero(np.diff(number[order], prepend=-1))
        sizes = np.diff(starts, append=len(order))
        if sizes.min() < num_needed:
            names = ", ".join(f"factor {k}" for k in fixed)
            raise ValueError(
                f"{metric} compares rows with equal values of {names} and needs {num_needed} rows of each value, but "
                f"{(sizes < num_needed).sum():,} of {len(sizes):,} values have fewer (the rarest has {sizes.min()}); "
                "use more rows, or leave this metric out"
            )
        label = np.empty(len(order), np.int64)
        label[order] = np.repeat(np.arange(len(sizes)), sizes)
        return cls(label, order, starts, sizes)

    def draw_like(self, rows: np.ndarray, rng: np.random.Generator, size: int | None = None) -> np.ndarray:
        """Draw rows from the groups of the given rows, with replacement.

        Args:
            rows: (B,) row indices.
            rng: random number generator.
            size: number of rows drawn for each of ``rows``; by default one, without a second axis.

        Returns:
            (B,) or (B, size) row indices.
        """
        group = self.label[rows]
        return self.draw(group, rng, size)

    def draw(self, group: np.ndarray, rng: np.random.Generator, size: int | None = None) -> np.ndarray:
        """Draw rows from the (B,) given groups, with replacement; see `draw_like`."""
        shape = group.shape if size is None else (*group.shape, size)
        starts, sizes = (a[group] if size is None else a[group][:, None] for a in (self.starts, self.sizes))
        return np.asarray(self.order[starts + rng.integers(sizes, size=shape)])
