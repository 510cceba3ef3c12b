"""Rows that agree in some factors and are random in the others: interventions as look-ups in the table."""

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Groups:
    """Rows sorted into groups of equal labels.

    Attributes:
        label: (N,) group of each row, 0 .. G - 1.
        order: (N,) row numbers, one group after the other.
        starts: (G,) where each group begins in ``order``.
        sizes: (G,) rows of each group.
    """

    label: np.ndarray
    order: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    @classmethod
    def by_value(cls, factors: np.ndarray, held: list[int], what: str, num_needed: int = 2) -> Self:
        """Group the rows that agree in all the ``held`` factors.

        Args:
            factors: (N, K) integer factors.
            held: factors that a group agrees in.
            what: who asks, for the error message.
            num_needed: rows that every group must have.

        Raises:
            ValueError: A group has fewer than ``num_needed`` rows.

        Example:
            >>> groups = Groups.by_value(np.array([[0, 5], [1, 5], [0, 6], [1, 6]]), [0], "the score")
            >>> groups.order[groups.starts[1] :]
            array([1, 3])
        """
        number = np.zeros(len(factors), np.int64)
        for k in held:
            low, high = int(factors[:, k].min()), int(factors[:, k].max())
            if high - low < len(factors):
                label, num_values = factors[:, k] - low, high - low + 1
            else:
                values, label = np.unique(factors[:, k], return_inverse=True)
                num_values = len(values)
            number = number * num_values + label
            if number.max() > np.iinfo(np.int64).max // len(factors):  # the next factor might overflow
                number = np.unique(number, return_inverse=True)[1]
        # Sorting numbers of 16 bits is several times as fast.
        order = np.argsort(number.astype(np.uint16) if number.max() < 1 << 16 else number, kind="stable")
        starts = np.flatnonzero(np.diff(number[order], prepend=-1))
        sizes = np.diff(starts, append=len(order))
        if sizes.min() < num_needed:
            names = ", ".join(f"factor {k}" for k in held)
            raise ValueError(
                f"{what} compares rows that agree in {names} and needs {num_needed} rows of each value, but "
                f"{(sizes < num_needed).sum():,} of {len(sizes):,} values have fewer (the rarest has {sizes.min()}); "
                "give more rows, or leave this metric out"
            )
        label = np.empty(len(order), np.int64)
        label[order] = np.repeat(np.arange(len(sizes)), sizes)
        return cls(label, order, starts, sizes)

    def draw_like(self, rows: np.ndarray, rng: np.random.Generator, size: int | None = None) -> np.ndarray:
        """Draw rows from the groups of the given rows, with replacement.

        Args:
            rows: (B,) row numbers.
            rng: source of randomness.
            size: rows drawn for each of ``rows``; one, without a second axis, by default.

        Returns:
            (B,) or (B, size) row numbers.
        """
        group = self.label[rows]
        return self.draw(group, rng, size)

    def draw(self, group: np.ndarray, rng: np.random.Generator, size: int | None = None) -> np.ndarray:
        """Draw rows from the given groups, with replacement; as `draw_like`, but from (B,) group numbers."""
        shape = group.shape if size is None else (*group.shape, size)
        starts, sizes = (a[group] if size is None else a[group][:, None] for a in (self.starts, self.sizes))
        return np.asarray(self.order[starts + rng.integers(sizes, size=shape)])
