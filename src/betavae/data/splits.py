"""Seeded training, validation and test subsets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint rows for training, validation and test (int64, in random order)."""

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def split_rows(
    num_rows: int, train: int | float = 1.0, validation: int | float = 0, test: int | float = 0, seed: int = 0
) -> Split:
    """Split rows into disjoint random subsets.

    A size is a number of rows (an int) or a fraction of all rows (a float in (0, 1]), rounded down; 0 means none. A
    training size of 1.0 means all rows that are not held out. The held-out rows depend only on the seed and their own
    sizes, not on the size of the training set.

    Args:
        num_rows: number of rows.
        train: size of the training set.
        validation: size of the validation set.
        test: size of the test set.
        seed: seed of the shuffle.

    Raises:
        ValueError: a size is neither a number nor a fraction, it selects no rows, or the sizes exceed the data.

    Example:
        >>> split = split_rows(737_280, train=150_000, validation=15_000)
        >>> len(split.train), len(split.validation), len(split.test)
        (150000, 15000, 0)
        >>> [len(rows) for rows in vars(split_rows(10, 0.8, 0.1, 0.1)).values()]
        [8, 1, 1]
    """
    counts = {
        name: _count(name, share, num_rows)
        for name, share in (("train", train), ("validation", validation), ("test", test))
    }
    if isinstance(train, float) and train == 1:
        counts["train"] -= min(num_rows, counts["validation"] + counts["test"])
    if not counts["train"]:
        raise ValueError(
            f"of {num_rows} images, train is {train!r}, validation is {validation!r} and test is {test!r}, so no "
            "images remain for training: hold out fewer, for example a tenth with validation_images 0.1"
        )
    total = sum(counts.values())
    if total > num_rows:
        parts = " + ".join(f"{name} {count}" for name, count in counts.items() if count)
        raise ValueError(f"the split needs {parts} = {total} rows, but the data have {num_rows}; reduce the sizes.")
    order = np.random.default_rng(seed).permutation(num_rows)
    test_end, validation_end = counts["test"], counts["test"] + counts["validation"]
    return Split(train=order[validation_end:total], validation=order[test_end:validation_end], test=order[:test_end])


def _count(name: str, share: int | float, num_rows: int) -> int:
    if isinstance(share, bool) or not 0 <= share <= (1.0 if isinstance(share, float) else math.inf):
        raise ValueError(
            f"{name} is {share!r}; it must be a number of rows (an integer, such as 150000) "
            "or a fraction of them (between 0.0 and 1.0)."
        )
    count = math.floor(share * num_rows + 1e-9) if isinstance(share, float) else share
    if share and not count:
        raise ValueError(f"{name} is {share!r}, which is less than one of the {num_rows} rows; use 0 for none.")
    return count
