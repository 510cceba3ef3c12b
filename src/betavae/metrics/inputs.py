"""Validation of the two tables, sampling of rows, and detection of active latents."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from betavae.files.conversion import as_array, as_numbers

INACTIVE_NATS = 0.05
"""A latent with a mean KL divergence below this value (in nats) is inactive. Figures draw it in grey."""
MIN_RELATIVE_SPREAD = 0.05
"""A latent is inactive if its standard deviation, divided by the largest one, is below this value."""
_ROUNDING = 1e-12  # a range below this share of the largest value is rounding error
_LARGEST = {  # largest allowed absolute value of floats
    "latents": 1e12,  # products of larger values overflow float32, and fits do not converge
    "factors": 1e100,  # sums of squares of larger values may overflow
}


def check_tables(
    latents: np.ndarray, factors: np.ndarray, *, integer_factors: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Validate the two tables and convert them to arrays that all metrics accept.

    Args:
        latents: (N, D) finite numbers.
        factors: (N, K), or (N,) for one factor. Labels of any kind, see `as_numbers`, or finite numbers if
            ``integer_factors`` is false.
        integer_factors: whether factors are used as classes.

    Returns:
        Latents as float32 or float64, and factors as int64. If ``integer_factors`` is false, factors are float64, and
        integer factors are shifted so that they start at 0.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table has a wrong shape, is empty, or contains NaN, masked, infinite or huge values; the tables
            differ in their number of rows; a factor has missing or too many values.

    Example:
        >>> latents, factors = check_tables(np.array([[0, 1]]), np.array([[2.0]]))
        >>> latents.dtype, factors.dtype
        (dtype('float64'), dtype('int64'))
    """
    for name, argument in (("latents", latents), ("factors", factors)):
        if np.ma.is_masked(argument):
            raise ValueError(f"{name} has masked entries; remove their rows from both tables")
    latents, factors = as_array(latents), as_numbers(factors)
    for name, table, columns in (("latents", latents, "latents"), ("factors", factors, "factors")):
        if table.dtype.kind not in "fiub":
            text = table.dtype.kind in "US" or any(isinstance(value, str) for value in table.flat)
            advice = "remove text columns or encode them as numbers" if text else "convert it with astype(float)"
            raise TypeError(f"{name} must be numeric, got an array of {table.dtype}; {advice}")
        if table.ndim != 2:
            raise ValueError(
                f"{name} must have the shape (samples, {columns}), got {table.shape}; "
                f"for a single column, pass {name}[:, None]"
            )
        if table.size == 0:
            raise ValueError(f"{name} must not be empty, got the shape {table.shape}")
        _check_finite(name, table)
    if len(latents) != len(factors):
        transposed = next(
            (
                name
                for name, one, other in (("latents", latents, factors), ("factors", factors, latents))
                if one.shape[1] == len(other)
            ),
            "",
        )
        raise ValueError(
            f"latents and factors must have the same number of rows, got {len(latents):,} rows of latents "
            f"and {len(factors):,} rows of factors"
            + (f"; {transposed} seem to be transposed: pass {transposed}.T" if transposed else "")
        )
    if latents.dtype not in (np.float32, np.float64):
        latents = latents.astype(np.float64)
    if not integer_factors:
        if factors.dtype.kind in "iu":
            whole = factors.astype(np.int64, copy=False)
            factors = whole - whole.min(axis=0)  # float64 represents the differences of large integers exactly
        return latents, factors.astype(np.float64, copy=False)
    whole = factors.astype(np.int64, copy=False)
    if factors.dtype.kind == "f" and not np.array_equal(whole, factors):
        whole = np.stack([_as_labels(column, k) for k, column in enumerate(factors.T)], axis=1)
    return latents, whole


def _as_labels(column: np.ndarray, factor: int) -> np.ndarray:
    """Convert a factor to int64 labels: integers stay, other values are replaced by their ranks."""
    if np.array_equal(column, whole := column.astype(np.int64)):
        return whole
    values, ranks = np.unique(column, return_inverse=True)
    if _is_continuous(column):
        from betavae.metrics.registry import METRICS  # circular import

        accepting = [name for name, metric in METRICS.items() if metric.takes_continuous]
        raise ValueError(
            f"factor {factor} is continuous: {len(values):,} values in {len(column):,} rows, such as {column[0]:g}. "
            "This metric needs several rows for each value: merge values, for instance with np.digitize, or use a "
            f"metric that accepts continuous factors: {', '.join(accepting)}"
        )
    return ranks.astype(np.int64)


def check_whole(name: str, value: Any, least: int) -> int:
    """Return a Python or numpy integer as `int` if it is at least ``least``.

    Raises:
        ValueError: The value is not an integer, or is too small.

    Example:
        >>> check_whole("seed", np.int64(3), 0)
        3
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}")
    return int(value)


def _check_finite(name: str, table: np.ndarray) -> None:
    if table.dtype.kind != "f":
        return
    largest = float(max(table.max(), -table.min()))  # NaN if the table has one
    if largest <= _LARGEST[name]:
        return
    if math.isfinite(largest):
        raise ValueError(
            f"absolute values of {name} must be at most {_LARGEST[name]:g}, got {largest:g}; scale {name} down"
        )
    bad = np.argwhere(~np.isfinite(table))
    num_nan = int(np.isnan(table).sum())
    raise ValueError(
        f"{name} must be finite, got {num_nan:,} NaN and {len(bad) - num_nan:,} infinite values in columns "
        f"{sorted({int(column) for column in bad[:, 1]})}; the first is in row {bad[0, 0]}, column {bad[0, 1]}"
    )


def check_classes(factors: np.ndarray) -> None:
    """Reject factors with too few rows per class.

    If nearly every row has its own value, the factor is a row number or a measurement. Estimates from so few rows per
    class have no meaning: the plug-in estimate of mutual information, for example, reaches the entropy of the factor
    for any latent.

    Args:
        factors: (N, K) integer factors of the training rows.

    Raises:
        ValueError: The number of values of a factor is more than half the number of rows.

    Example:
        >>> check_classes(np.arange(10)[:, None] // 5)
    """
    for k, column in enumerate(factors.T):
        num_classes = len(np.unique(column))
        if num_classes > max(len(column) // 2, 1):
            raise ValueError(
                f"factor {k} has {num_classes:,} classes in {len(column):,} training rows; at least two rows per class "
                "are needed: use more rows, or merge values, for instance with np.digitize"
            )


def varying_factors(factors: np.ndarray) -> np.ndarray:
    """Return a (K,) mask of the factors that have more than one value.

    Example:
        >>> varying_factors(np.array([[0, 5], [1, 5]]))
        array([ True, False])
    """
    return np.asarray((factors != factors[0]).any(axis=0))


def draw_rows(
    num_rows: int, sizes: Sequence[int], rng: np.random.Generator, *, with_replacement: bool = False
) -> list[np.ndarray]:
    """Draw several sets of rows: disjoint by default, or independently and with replacement.

    Args:
        num_rows: number of rows to draw from.
        sizes: size of each set.
        rng: random number generator.
        with_replacement: draw with replacement, as disentanglement_lib does. A row may then occur several times, also
            in different sets.

    Returns:
        One (size,) array of row indices for each of ``sizes``.

    Raises:
        ValueError: A size is not positive, or there are too few rows for disjoint sets.

    Example:
        >>> first, second = draw_rows(5, (3, 2), np.random.default_rng(0))
        >>> sorted([*first, *second]) == [0, 1, 2, 3, 4]
        True
    """
    if min(sizes) < 1:
        raise ValueError(f"every set of rows needs at least one row, got the sizes {tuple(sizes)}")
    if with_replacement:
        return [rng.integers(num_rows, size=size) for size in sizes]
    if sum(sizes) > num_rows:
        requested = " + ".join(f"{size:,}" for size in sizes)
        raise ValueError(
            f"{requested} different rows are needed, got {num_rows:,}; lower num_train or num_test, use more rows, or "
            "draw with replacement (with_replacement=True)"
        )
    rows = rng.choice(num_rows, size=sum(sizes), replace=False)
    return np.split(rows, np.cumsum(sizes)[:-1])


def standard_deviation(latents: np.ndarray) -> np.ndarray:
    """Return the (D,) standard deviations of the latents; exactly 0 where a latent varies only by rounding errors.

    Example:
        >>> standard_deviation(np.full((2400, 1), 0.1))
        array([0.])
    """
    low, high = latents.min(axis=0), latents.max(axis=0)
    varies = high - low > _ROUNDING * np.maximum(high, -low)
    spread = [column.std(dtype=np.float64) for column in latents.T]  # a float64 copy of all of dSprites takes 60 MB
    return np.where(varies, spread, 0.0)


def standardised(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Standardise tables by the means and standard deviations of the first one; constant columns are only centred.

    Example:
        >>> standardised(np.array([[1.0], [3.0]]), np.array([[5.0]]))
        [array([[-1.],
               [ 1.]]), array([[3.]])]
    """
    mean, std = train.mean(axis=0, dtype=np.float64), standard_deviation(train)
    return [(table - mean) / np.where(std > 0, std, 1) for table in (train, *others)]


def active_latents(latents: np.ndarray, kl: np.ndarray | None = None) -> np.ndarray:
    """Return a mask of the active latents.

    A latent is inactive if its standard deviation is below 5 % of the largest one, or if its mean KL divergence from
    the prior is below 0.05 nats. The second test needs ``kl``. The first threshold is relative, so the mask does not
    depend on the unit of the latents.

    Args:
        latents: (N, D) latents.
        kl: (D,) mean KL divergence of each latent in nats.

    Returns:
        (D,) boolean mask, true for active latents.

    Raises:
        ValueError: ``kl`` does not have one finite number for each latent.

    Example:
        >>> active_latents(np.array([[0.0, 0.0, 5.0], [1.0, 0.01, 5.0]]))
        array([ True, False, False])
    """
    spread = standard_deviation(as_array(latents))
    active: np.ndarray = (spread > 0) & (spread >= MIN_RELATIVE_SPREAD * spread.max())
    if kl is None:
        return active
    kl = np.asarray(kl, dtype=np.float64)
    if kl.shape != spread.shape:
        raise ValueError(f"kl must have one number for each of the {len(spread)} latents, got the shape {kl.shape}")
    if not np.isfinite(kl).all():
        raise ValueError(f"kl must be finite, got {kl.tolist()}")
    return np.asarray(active & (kl >= INACTIVE_NATS))


def num_threads() -> int:
    """Return the number of cores that this process may use.

    Example:
        >>> num_threads() >= 1
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def by_kind(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find continuous factors, and convert the other factors to integer labels.

    A factor is continuous if some values are not integers and the number of different values is more than half the
    number of rows.

    Args:
        factors: (N, K) numbers.

    Returns:
        The factors, with labels that are not integers replaced by their ranks (int64 if no factor is continuous), and
        the (K,) mask of continuous factors.

    Example:
        >>> by_kind(np.array([[0.5, 0.11], [0.5, 0.12], [1.5, 0.13], [1.5, 0.14]]))[1]
        array([False,  True])
    """
    continuous = np.array([_is_continuous(column) for column in factors.T])
    table = factors.copy()
    for k in np.flatnonzero(~continuous).tolist():
        table[:, k] = _as_labels(factors[:, k], k)
    return table if continuous.any() else table.astype(np.int64), continuous


def _is_continuous(column: np.ndarray) -> bool:
    whole = column.dtype.kind in "iub" or bool((column == np.floor(column)).all())
    return not whole and len(np.unique(column)) > max(len(column) // 2, 1)
