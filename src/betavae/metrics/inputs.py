"""What every metric checks about its two tables, once, and how rows are drawn from them."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from betavae.files.conversion import as_array, as_numbers

INACTIVE_NATS = 0.05
"""A latent whose KL is below this carries next to nothing: it counts as inactive, and is drawn in grey."""
MIN_RELATIVE_SPREAD = 0.05
_ROUNDING = 1e-12  # of the largest value: less variation than this is rounding
_LARGEST = {  # of floats
    "latents": 1e12,  # products of more leave the range in which fits converge and float32 ends
    "factors": 1e100,  # whose square can still be summed
}


def check_tables(
    latents: np.ndarray, factors: np.ndarray, *, integer_factors: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return the two tables as arrays that every metric can work on, or say what is wrong with them.

    Args:
        latents: (N, D) finite numbers.
        factors: (N, K), or (N,) for one factor: labels of any kind, see `as_numbers`; any finite numbers where
            ``integer_factors`` is false.
        integer_factors: whether factors serve as classes.

    Returns:
        Latents as float32 or float64, factors as int64; where ``integer_factors`` is false as float64, whole ones from
        0 on.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table has a wrong shape, is empty, or holds NaN, masked, infinite or huge values; the two differ
            in rows; a factor has missing or too many values.

    Example:
        >>> latents, factors = check_tables(np.array([[0, 1]]), np.array([[2.0]]))
        >>> latents.dtype, factors.dtype
        (dtype('float64'), dtype('int64'))
    """
    for name, given in (("latents", latents), ("factors", factors)):
        if np.ma.is_masked(given):
            raise ValueError(f"{name} has masked entries; leave their rows out of both tables")
    latents, factors = as_array(latents), as_numbers(factors)
    for name, table, columns in (("latents", latents, "latents"), ("factors", factors, "factors")):
        if table.dtype.kind not in "fiub":
            text = table.dtype.kind in "US" or any(isinstance(value, str) for value in table.flat)
            cure = "leave out what is text, or give each text a number" if text else "convert it with astype(float)"
            raise TypeError(f"{name} must hold numbers, got an array of {table.dtype}; {cure}")
        if table.ndim != 2:
            raise ValueError(
                f"{name} must have the shape (samples, {columns}), got {table.shape}; "
                f"a single column is {name}[:, None]"
            )
        if table.size == 0:
            raise ValueError(f"{name} is empty: its shape is {table.shape}")
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
            f"latents and factors must have one row for each sample, got {len(latents):,} rows of latents "
            f"and {len(factors):,} rows of factors"
            + (f"; {transposed} seem to be transposed: pass {transposed}.T" if transposed else "")
        )
    if latents.dtype not in (np.float32, np.float64):
        latents = latents.astype(np.float64)
    if not integer_factors:
        if factors.dtype.kind in "iu":
            whole = factors.astype(np.int64, copy=False)
            factors = whole - whole.min(axis=0)  # of large ones a double holds the differences, not the numbers
        return latents, factors.astype(np.float64, copy=False)
    whole = factors.astype(np.int64, copy=False)
    if factors.dtype.kind == "f" and not np.array_equal(whole, factors):
        whole = np.stack([_numbered(column, k) for k, column in enumerate(factors.T)], axis=1)
    return latents, whole


def _numbered(column: np.ndarray, factor: int) -> np.ndarray:
    """Values of a factor by their rank, where there are few; whole numbers stay."""
    if np.array_equal(column, whole := column.astype(np.int64)):
        return whole
    values, ranks = np.unique(column, return_inverse=True)
    if _is_continuous(column):
        from betavae.metrics.registry import METRICS  # which imports this file

        able = [name for name, metric in METRICS.items() if metric.takes_continuous]
        raise ValueError(
            f"factor {factor} is continuous: {len(values):,} values in {len(column):,} rows, such as {column[0]:g}. "
            "Metrics by class need several rows each: merge some, for instance with np.digitize. "
            f"{', '.join(able)} take it as it is"
        )
    return ranks.astype(np.int64)


def check_whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least so much, of Python or numpy.

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
    largest = float(max(table.max(), -table.min()))  # NaN if there is one
    if largest <= _LARGEST[name]:
        return
    if math.isfinite(largest):
        raise ValueError(f"{name} must be at most {_LARGEST[name]:g} in size, got {largest:g}; scale it down")
    bad = np.argwhere(~np.isfinite(table))
    num_nan = int(np.isnan(table).sum())
    raise ValueError(
        f"{name} must be finite, got {num_nan:,} NaN and {len(bad) - num_nan:,} infinite values in columns "
        f"{sorted({int(column) for column in bad[:, 1]})}; the first is in row {bad[0, 0]}, column {bad[0, 1]}"
    )


def check_classes(factors: np.ndarray) -> None:
    """Refuse factors that cannot serve as classes because nearly every row has its own value.

    Such a factor is a row number or a measurement; every estimate from so few rows a class would be a number without
    meaning (plug-in information, for one, would say that any latent tells everything about it).

    Args:
        factors: (N, K) integer factors of the rows that something is estimated from.

    Raises:
        ValueError: A factor has more values than half the rows.

    Example:
        >>> check_classes(np.arange(10)[:, None] // 5)
    """
    for k, column in enumerate(factors.T):
        num_classes = len(np.unique(column))
        if num_classes > max(len(column) // 2, 1):
            raise ValueError(
                f"factor {k} has {num_classes:,} classes in {len(column):,} training rows; at least two rows a class "
                "are needed: give more rows or merge values, for instance with np.digitize"
            )


def varying_factors(factors: np.ndarray) -> np.ndarray:
    """Which factors have more than one value among the rows, (K,) boolean.

    Example:
        >>> varying_factors(np.array([[0, 5], [1, 5]]))
        array([ True, False])
    """
    return np.asarray((factors != factors[0]).any(axis=0))


def draw_rows(
    num_rows: int, sizes: Sequence[int], rng: np.random.Generator, *, with_replacement: bool = False
) -> list[np.ndarray]:
    """Draw several sets of rows: disjoint by default, or independent of each other and with replacement.

    Args:
        num_rows: rows to draw from.
        sizes: how many rows each set holds.
        rng: source of randomness.
        with_replacement: draw as disentanglement_lib does; a row may then be in two sets, or in one set twice.

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
        raise ValueError(f"every set of rows needs at least one row, got sizes {tuple(sizes)}")
    if with_replacement:
        return [rng.integers(num_rows, size=size) for size in sizes]
    if sum(sizes) > num_rows:
        wanted = " + ".join(f"{size:,}" for size in sizes)
        raise ValueError(
            f"{wanted} different rows are needed, got {num_rows:,}; ask for fewer (num_train, num_test), give more "
            "rows, or draw with replacement (with_replacement=True)"
        )
    rows = rng.choice(num_rows, size=sum(sizes), replace=False)
    return np.split(rows, np.cumsum(sizes)[:-1])


def standard_deviation(latents: np.ndarray) -> np.ndarray:
    """Standard deviation of each latent, (D,) float64; exactly 0 where a latent varies by rounding only.

    Example:
        >>> standard_deviation(np.full((2400, 1), 0.1))
        array([0.])
    """
    low, high = latents.min(axis=0), latents.max(axis=0)
    varies = high - low > _ROUNDING * np.maximum(high, -low)
    spread = [column.std(dtype=np.float64) for column in latents.T]  # doubles of all of dSprites would take 60 MB
    return np.where(varies, spread, 0.0)


def standardised(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Tables with mean 0 and standard deviation 1 in each column of the first; a constant column is only centred.

    Example:
        >>> standardised(np.array([[1.0], [3.0]]), np.array([[5.0]]))
        [array([[-1.],
               [ 1.]]), array([[3.]])]
    """
    mean, std = train.mean(axis=0, dtype=np.float64), standard_deviation(train)
    return [(table - mean) / np.where(std > 0, std, 1) for table in (train, *others)]


def active_latents(latents: np.ndarray, kl: np.ndarray | None = None) -> np.ndarray:
    """Tell which latents are in use.

    A latent is inactive when its standard deviation is below 5 % of the largest one, or, where ``kl`` is known, when
    its mean KL divergence from the prior is below 0.05 nats. A relative spread leaves the mask independent of the unit
    of the latents.

    Args:
        latents: (N, D) latents.
        kl: (D,) mean KL divergence of each latent in nats.

    Returns:
        (D,) boolean mask, true for active latents.

    Raises:
        ValueError: ``kl`` does not hold one finite number for each latent.

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
        raise ValueError(f"kl must hold one number for each of the {len(spread)} latents, got the shape {kl.shape}")
    if not np.isfinite(kl).all():
        raise ValueError(f"kl must be finite, got {kl.tolist()}")
    return np.asarray(active & (kl >= INACTIVE_NATS))


def num_threads() -> int:
    """Number of cores that this process may use.

    Example:
        >>> num_threads() >= 1
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def by_kind(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell continuous factors from labels, and number the labels.

    A factor is continuous when its values are not all whole, and are more than half as many as the rows.

    Args:
        factors: (N, K) numbers.

    Returns:
        The table with labels that are not whole replaced by their ranks, int64 if no factor is continuous; and the (K,)
        mask of continuous factors.

    Example:
        >>> by_kind(np.array([[0.5, 0.11], [0.5, 0.12], [1.5, 0.13], [1.5, 0.14]]))[1]
        array([False,  True])
    """
    continuous = np.array([_is_continuous(column) for column in factors.T])
    table = factors.copy()
    for k in np.flatnonzero(~continuous).tolist():
        table[:, k] = _numbered(factors[:, k], k)
    return table if continuous.any() else table.astype(np.int64), continuous


def _is_continuous(column: np.ndarray) -> bool:
    whole = column.dtype.kind in "iub" or bool((column == np.floor(column)).all())
    return not whole and len(np.unique(column)) > max(len(column) // 2, 1)
