"""Converts tables to arrays of numbers: tensors, lists, DataFrames, text, categories."""

from typing import Any

import numpy as np


def as_numbers(factors: Any) -> np.ndarray:
    """Convert factors to a table of numbers with one column per factor. Text labels become ranks.

    Accepts what `as_array` accepts, lists of strings, and DataFrames. Categories of a DataFrame keep their order.

    Raises:
        ValueError: a label is missing.

    Example:
        >>> as_numbers([["heart", True], ["square", False], ["heart", False]]).tolist()
        [[0, 1], [1, 0], [0, 0]]
        >>> as_numbers(np.array([0.5, 0.25])).tolist()
        [[0.5], [0.25]]
    """
    if hasattr(factors, "columns") and hasattr(factors, "iloc"):  # a DataFrame
        columns = [_column(factors.iloc[:, k], name) for k, name in enumerate(factors.columns)]
        return np.stack(columns, axis=1) if columns else np.empty((len(factors), 0))
    table = as_array(factors)
    table = table[:, None] if table.ndim == 1 else table
    if table.dtype.kind in "fiub" or table.ndim != 2:
        return table
    if table.dtype.kind in "US" and not isinstance(factors, np.ndarray):  # NumPy converts mixed rows to strings
        table = np.array([list(row) if isinstance(row, list | tuple) else [row] for row in factors], object)
    return np.stack([_column(column, k) for k, column in enumerate(table.T)], axis=1)


def _column(column: Any, name: Any) -> np.ndarray:
    """Convert a column of a DataFrame, or of objects, to numbers."""
    if hasattr(column, "cat"):
        ranks = np.asarray(column.cat.codes, np.int64)
        if (ranks < 0).any():
            raise ValueError(f"factor {name} has missing values; leave their rows out of both tables")
        return ranks
    if bool(getattr(column, "isna", lambda: np.zeros(1, bool))().any()):
        raise ValueError(f"factor {name} has missing values; leave their rows out of both tables")
    values = np.array(column.tolist())
    if values.dtype.kind in "fiub":
        return values
    labels = [str(value) for value in column.tolist() if value is not None]
    if len(labels) < len(values):
        raise ValueError(f"factor {name} has missing values; leave their rows out of both tables")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def as_array(table: Any) -> np.ndarray:
    """Convert a table to a NumPy array. A PyTorch tensor is detached and copied to the CPU.

    Example:
        >>> as_array([[1, 2]]).shape
        (1, 2)
    """
    if hasattr(table, "detach"):
        table = table.detach().cpu()
        table = table.float() if table.is_floating_point() and table.element_size() < 4 else table  # NumPy has no bf16
    return np.asarray(table)
