"""Turns columns of labels into factors: the index of each class, and the sorted values of the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from betavae.files.validation import short


@dataclass(frozen=True, eq=False)
class FactorTable:
    """Factors of N images.

    Attributes:
        factors: indices (N, K) int32 into the values of each factor.
        names: names of the K factors.
        values: for each factor, its values in ascending order: integers, floats or strings.
        continuous: for each factor, whether nearly every image has its own value.
    """

    factors: npt.NDArray[np.int32]
    names: tuple[str, ...]
    values: tuple[npt.NDArray[Any], ...]
    continuous: tuple[bool, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each factor."""
        return tuple(map(len, self.values))


def factor_table(columns: Mapping[str, npt.ArrayLike], num_images: int) -> FactorTable:
    """Convert columns of labels to factors. Columns with a single value are left out.

    Args:
        columns: labels (N,) by the name of the factor: integers, booleans, floats or strings.
        num_images: N.

    Raises:
        ValueError: a column has another length, missing values, or labels of another kind.

    Example:
        >>> table = factor_table({"scale": [0.5, 1.5, 0.5], "hue": ["red", "blue", "red"], "one": [1, 1, 1]}, 3)
        >>> table.factors.tolist(), [values.tolist() for values in table.values]
        ([[0, 1], [1, 0], [0, 1]], [[0.5, 1.5], ['blue', 'red']])
    """
    indices, names, all_values, continuous = [], [], [], []
    for name, labels in columns.items():
        column = _column(name, labels, num_images)
        values, index = np.unique(column, return_inverse=True)
        if len(values) < 2:
            continue
        indices.append(index.astype(np.int32))
        names.append(name)
        all_values.append(values)
        continuous.append(column.dtype.kind == "f" and len(values) > max(num_images // 2, 1))
    factors = np.stack(indices, 1) if indices else np.empty((num_images, 0), np.int32)
    return FactorTable(factors, tuple(names), tuple(all_values), tuple(continuous))


def grid_table(factors: Mapping[str, Sequence[Any] | npt.NDArray[Any]]) -> FactorTable:
    """The factors of a complete grid in row-major order: the last factor changes fastest.

    Args:
        factors: the values of each factor, in the order of the grid.

    Example:
        >>> grid_table({"hue": ["red", "blue"], "size": [1, 2, 3]}).factors[[0, 1, 3]].tolist()
        [[0, 0], [0, 1], [1, 0]]
    """
    sizes = tuple(map(len, factors.values()))
    table = np.empty((int(np.prod(sizes)), len(sizes)), np.int32)
    for k, index in enumerate(np.indices(sizes, np.int32, sparse=True)):
        table[:, k] = np.broadcast_to(index, sizes).ravel()
    return FactorTable(table, tuple(factors), tuple(map(np.asarray, factors.values())), (False,) * len(sizes))


def merge_values(table: FactorTable, bins: int) -> FactorTable:
    """Merge the values of each factor that has more than ``bins`` into intervals of equal width.

    The value of an interval is its centre. Intervals without images are left out.

    Raises:
        ValueError: a factor of text has too many values.

    Example:
        >>> merged = merge_values(factor_table({"x": [0.0, 0.1, 0.6, 1.0]}, 4), 2)
        >>> merged.factors.ravel().tolist(), merged.values[0].tolist()
        ([0, 0, 1, 1], [0.25, 0.75])
    """
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, column, values in zip(table.names, table.factors.T, table.values, strict=True):
        if len(values) <= bins:
            columns[name] = values[column]
            continue
        if values.dtype.kind not in "iuf":
            raise ValueError(
                f"factor {name} has {len(values):,} different texts, such as {short(str(values[0]))}, which cannot be "
                f"merged into {bins} intervals: leave it out of the factors, or give fewer texts"
            )
        low, high = float(values[0]), float(values[-1])
        interval = np.minimum((values.astype(np.float64) - low) / (high - low) * bins, bins - 1).astype(np.int64)
        columns[name] = (low + (interval + 0.5) * (high - low) / bins)[column]
    return factor_table(columns, len(table.factors))


def check_no_continuous(table: FactorTable) -> None:
    """Refuse factors of which nearly every image has its own value.

    Raises:
        ValueError: a factor is continuous. The message says how to merge its values.
    """
    for name, values, continuous in zip(table.names, table.values, table.continuous, strict=True):
        if continuous:
            raise ValueError(
                f"factor {name} has {len(values):,} different values for {len(table.factors):,} images, such as "
                f"{values[0]:g} and {values[1]:g}, and metrics need several images of each value: merge them with "
                "--bins 20 (in Python bins=20), or leave the factor out"
            )


def _column(name: str, labels: npt.ArrayLike, num_images: int) -> npt.NDArray[Any]:
    """A column as integers, floats that are not all whole, or strings."""
    column = np.asarray(labels)
    if column.dtype.kind == "O":
        column = np.array([str(label) for label in column])
    if column.shape != (num_images,):
        raise ValueError(
            f"factor {name} has {len(column) if column.ndim else 1:,} labels for {num_images:,} images; it must have "
            "one label per image"
        )
    if column.dtype.kind in "bu":
        column = column.astype(np.int64)
    if column.dtype.kind == "f":
        column = column.astype(np.float64)
        if not np.isfinite(column).all():
            raise ValueError(
                f"factor {name} has NaN or infinity in row {np.flatnonzero(~np.isfinite(column))[0]}; all values must "
                "be finite"
            )
        if (abs(column) < 2**53).all() and (column == np.floor(column)).all():
            column = column.astype(np.int64)
    if column.dtype.kind not in "ifU":
        raise ValueError(f"factor {name} is {column.dtype}; it must have numbers or text")
    return column
