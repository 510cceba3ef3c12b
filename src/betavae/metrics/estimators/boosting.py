"""Compiled gradient boosted trees: the algorithm of scikit-learn, for eight classes or eight targets in parallel.

DCI is defined by the impurity importances of scikit-learn's ``GradientBoostingClassifier`` with its defaults, and its
value depends on the classifier. This module implements the same algorithm: softmax residuals, regression trees of depth
3 with squared error, exact splits between any two rows, one Newton step per leaf, shrinkage 0.1, 100 stages, and
importances that sum the gains of all splits. It is fast for three reasons:

- Rows are sorted once, not in every node.
- The trees of one stage are independent, so eight classes are fitted in parallel in the lanes of vector registers.
- Histograms are summed first. The rows of a bin are searched only if an upper bound shows that the best split may lie
  inside the bin, which is the case for one of a hundred bins.

Regression fits the same trees to plain residuals, and a leaf predicts their mean.

Histograms alone are not exact, because they cannot split off a single row. With 256 or 1,024 bins, they changed the
importances of a periodic factor by 0.03.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit

_LANES: Final = 8  # classes that are fitted in parallel
_DEPTH: Final = 3
_SPLITS: Final = 7  # inner nodes of a tree: node i has the children 2i + 1 and 2i + 2
_LEAVES: Final = 8
_MAX_BINS: Final = 256
_ROWS_PER_BIN: Final = 40
_SAME: Final = 1e-7  # latents that differ by less are equal, as in scikit-learn
_LARGE_STEP: Final = 5.0  # smaller steps cannot restore underflowed odds within 100 stages
_FLAT: Final = 2.2e-16  # nodes with a smaller variance are not split, as in scikit-learn


class Boosted(NamedTuple):
    """Gains and predictions of boosted classification trees. The trees themselves are not kept.

    Attributes:
        gain: (D,) reduction of the squared error by the splits on each latent, summed over all trees; not normalised.
        train_class: (N,) predicted class of each training row.
        test_class: (M,) predicted class of each test row.
        classes: (C,) classes, ascending.
        test_logits: (M, C) logits of each test row.
    """

    gain: np.ndarray
    train_class: np.ndarray
    test_class: np.ndarray
    classes: np.ndarray
    test_logits: np.ndarray


class BoostedValues(NamedTuple):
    """Gains and predictions of boosted regression trees.

    Attributes:
        gain: (D, K) reduction of the squared error by the splits on each latent, summed over all trees; not normalised.
        train: (N, K) predicted values of the training rows.
        test: (M, K) predicted values of the test rows.
    """

    gain: np.ndarray
    train: np.ndarray
    test: np.ndarray


class _Table(NamedTuple):
    """Training latents with precomputed sorting and binning, which are the same for all trees.

    Attributes:
        latents: (D, N) latents, float32.
        rows: (D, N) row indices, sorted by each latent.
        is_step: (D, N) whether a split is possible after each sorted position.
        bins: (D, N) bin of each row.
        starts: (D, bins + 1) sorted position where each bin starts.
        is_one: (D, bins) whether all latents of a bin are equal, so that no split is possible inside it.
    """

    latents: np.ndarray
    rows: np.ndarray
    is_step: np.ndarray
    bins: np.ndarray
    starts: np.ndarray
    is_one: np.ndarray


class _Trees(NamedTuple):
    """One tree per lane: (_SPLITS, _LANES) gain, latent and threshold of inner nodes, and (N, _LANES) nodes of rows."""

    gain: np.ndarray
    latent: np.ndarray
    threshold: np.ndarray
    node: np.ndarray


class _Work(NamedTuple):
    """Buffers that all trees share.

    Attributes:
        packed: (3, N, _LANES) residuals packed with counts: for all rows, and for the rows of up to two nodes.
        sums: (4, D, bins, _LANES) packed sums of each node.
        rises: (4, D, bins, _LANES) sums of positive residuals of each node.
        heads: (2, D, bins, _LANES) cumulative sums and counts of one node up to the end of each bin.
    """

    packed: np.ndarray
    sums: np.ndarray
    rises: np.ndarray
    heads: np.ndarray


def boost(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    *,
    num_stages: int = 100,
    learning_rate: float = 0.1,
    seed: int = 0,
) -> Boosted:
    """Fit gradient boosted trees of depth 3 and predict the rows of two tables.

    Source:
        Greedy Function Approximation: A Gradient Boosting Machine (Friedman, 2001), algorithm 6.
        https://doi.org/10.1214/aos/1013203451

    Args:
        train: (N, D) training latents.
        labels: (N,) integer classes of ``train`` with at least two different values.
        test: (M, D) test latents.
        num_stages: trees for each class.
        learning_rate: shrinkage of each tree.
        seed: seed for the order in which latents are tried. The first of equally good splits wins, as in scikit-learn.

    Returns:
        Gains and predicted classes; see `Boosted`.

    Example:
        >>> latents = np.linspace(0, 1, 100)[:, None]
        >>> boost(latents, np.arange(100) // 25, np.array([[0.1], [0.9]]), num_stages=5).test_class
        array([0, 3])
    """
    classes, indices = np.unique(labels, return_inverse=True)
    latent_dim = train.shape[1]
    train, test = _centre_distant(train, test)
    orders = np.broadcast_to(np.arange(latent_dim), (num_stages, -(-len(classes) // _LANES), latent_dim))
    gain, train_raw, test_raw = _boost(
        _sort(np.ascontiguousarray(train.T, dtype=np.float32)),
        indices.astype(np.int64),
        np.ascontiguousarray(test.T, dtype=np.float32),
        len(classes),
        learning_rate,
        np.ascontiguousarray(np.random.default_rng(seed).permuted(orders, axis=2)),
    )
    return Boosted(
        gain,
        classes[_decide(train_raw, len(classes))],
        classes[_decide(test_raw, len(classes))],
        classes,
        _logits(test_raw, len(classes)),
    )


def boost_values(
    train: np.ndarray,
    values: np.ndarray,
    test: np.ndarray,
    *,
    num_stages: int = 100,
    learning_rate: float = 0.1,
    seed: int = 0,
) -> BoostedValues:
    """Fit gradient boosted regression trees of depth 3 to several targets, and predict the rows of two tables.

    This is the algorithm of scikit-learn's ``GradientBoostingRegressor`` with its defaults: squared error, and leaves
    that predict the mean residual of their rows.

    Source:
        Greedy Function Approximation: A Gradient Boosting Machine (Friedman, 2001), algorithm 2.
        https://doi.org/10.1214/aos/1013203451

    Args:
        train: (N, D) training latents.
        values: (N, K) targets, each with at least two different values.
        test: (M, D) test latents.
        num_stages: trees for each target.
        learning_rate: shrinkage of each tree.
        seed: seed for the order in which latents are tried. The first of equally good splits wins, as in scikit-learn.

    Returns:
        Gains and predicted values; see `BoostedValues`.

    Example:
        >>> latents = np.linspace(0, 1, 100)[:, None]
        >>> boost_values(latents, latents, np.array([[0.1], [0.9]])).test.round(1)
        array([[0.1],
               [0.9]])
    """
    num_targets = values.shape[1]
    train, test = _centre_distant(train, test)
    low, span = values.min(axis=0), np.ptp(values.astype(np.float64), axis=0)
    unit = 2 * span  # so that residuals are at most 1 / 2 and their sums fit into packed integers
    table = _sort(np.ascontiguousarray(train.T, dtype=np.float32))
    test = np.ascontiguousarray(test.T, dtype=np.float32)
    gain = np.empty((train.shape[1], num_targets))
    train_values, test_values = np.empty((len(train), num_targets)), np.empty((test.shape[1], num_targets))
    orders = np.broadcast_to(np.arange(train.shape[1]), (num_stages, train.shape[1]))
    orders = np.ascontiguousarray(np.random.default_rng(seed).permuted(orders, axis=1))
    for first in range(0, num_targets, _LANES):
        lanes = slice(first, min(first + _LANES, num_targets))
        width = lanes.stop - first
        target = np.zeros((len(train), _LANES))
        target[:, :width] = (values[:, lanes] - low[lanes]) / unit[lanes]
        raw = np.tile(target.mean(axis=0), (len(train), 1))
        test_raw = np.repeat(target.mean(axis=0)[:, None], test.shape[1], axis=1)
        work, trees = _memory(len(train), table)
        lane_gain = np.zeros((train.shape[1], _LANES))
        _value_stages(table, target, test, learning_rate, orders, raw, test_raw, work, trees, lane_gain)
        gain[:, lanes] = lane_gain[:, :width]
        train_values[:, lanes] = raw[:, :width] * unit[lanes] + low[lanes]
        test_values[:, lanes] = test_raw[:width].T * unit[lanes] + low[lanes]
    return BoostedValues(gain, train_values, test_values)


def _centre_distant(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre the latents whose mean is much larger than their standard deviation; float32 would round them too much."""
    centre, spread = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    far = np.where(np.abs(centre) > 1e3 * spread, centre, 0).astype(train.dtype)
    return train - far, test - far


def _memory(n: int, table: _Table) -> tuple[_Work, _Trees]:
    latent_dim, num_bins = len(table.latents), table.starts.shape[1] - 1
    work = _Work(
        np.empty((3, n, _LANES), np.int64),
        np.empty((4, latent_dim, num_bins, _LANES), np.int64),
        np.empty((4, latent_dim, num_bins, _LANES)),
        np.empty((2, latent_dim, num_bins, _LANES)),
    )
    trees = _Trees(
        np.zeros((_SPLITS, _LANES)),
        np.zeros((_SPLITS, _LANES), np.int64),
        np.zeros((_SPLITS, _LANES)),
        np.zeros((n, _LANES), np.uint8),
    )
    return work, trees


def _boost(
    table: _Table, labels: np.ndarray, test: np.ndarray, num_classes: int, learning_rate: float, orders: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gain of each latent, and the logits of both tables, (blocks, _LANES, rows), after all stages.

    This function does all work outside the loop over stages, and gives all arrays the same layout, so that only a few
    functions are compiled, and only once.
    """
    latent_dim, n = table.latents.shape
    blocks = orders.shape[1]
    prior = np.bincount(labels) / n
    if two := num_classes == 2:  # two classes need only one tree per stage
        start, shrinkage = [math.log(prior[1] / prior[0])], learning_rate
        members = np.flatnonzero(labels == 1)
        lanes, ends = np.zeros_like(members), np.array([0, len(members)])
    else:
        start, shrinkage = [math.log(share) for share in prior], learning_rate * ((num_classes - 1) / num_classes)
        members = np.argsort(labels // _LANES, kind="stable")
        lanes, ends = labels[members] % _LANES, np.append(0, np.bincount(labels // _LANES).cumsum())
    raw, test_raw = np.full((blocks, n, _LANES), -np.inf), np.full((blocks, _LANES, test.shape[1]), -np.inf)
    for k, value in enumerate(start):
        raw[k // _LANES, :, k % _LANES] = test_raw[k // _LANES, k % _LANES] = value
    work, trees = _memory(n, table)
    gain, residual = np.zeros(latent_dim), np.zeros_like(raw)
    _stages(
        table, labels, members, lanes, ends, test, two, shrinkage, orders, raw, residual, test_raw, work, trees, gain
    )
    return gain, raw.transpose(0, 2, 1), test_raw


def _sort(latents: np.ndarray) -> _Table:
    latent_dim, n = latents.shape
    rows = np.argsort(latents, axis=1, kind="stable")
    ordered = np.take_along_axis(latents, rows, axis=1).astype(np.float64)
    is_step = np.diff(ordered, axis=1, append=ordered[:, -1:]) > _SAME
    num_bins = min(_MAX_BINS, 2 + n // _ROWS_PER_BIN)
    bins = np.empty((latent_dim, n), np.uint16)
    starts = np.full((latent_dim, num_bins + 1), n)
    for d in range(latent_dim):
        places = np.flatnonzero(is_step[d]) + 1
        if len(places) >= num_bins:
            quantiles = np.arange(1, num_bins) * n / num_bins
            places = np.unique(places[np.searchsorted(places, quantiles).clip(max=len(places) - 1)])
        starts[d, 0] = 0
        starts[d, 1 : len(places) + 1] = places
        bins[d, rows[d]] = np.searchsorted(places, np.arange(n), side="right")
    starts = starts[:, : bins.max() + 2].copy()
    steps = np.concatenate([np.zeros((latent_dim, 1), np.int64), is_step.cumsum(axis=1)], axis=1)
    first, last = starts[:, :-1], (starts[:, 1:] - 1).clip(min=0)
    inside = np.take_along_axis(steps, last, 1) - np.take_along_axis(steps, first, 1)
    return _Table(latents, rows, is_step, bins, starts, inside <= 0)


def _decide(raw: np.ndarray, num_classes: int) -> np.ndarray:
    """Most probable class of each row, from (blocks, _LANES, rows)."""
    if num_classes == 2:
        return np.asarray(raw[0, 0] > 0, np.int64)
    return np.asarray(raw.reshape(-1, raw.shape[2])[:num_classes].argmax(axis=0))


def _logits(raw: np.ndarray, num_classes: int) -> np.ndarray:
    """(rows, classes) logits, from (blocks, _LANES, rows)."""
    if num_classes == 2:
        return np.stack([np.zeros(raw.shape[2]), raw[0, 0]], axis=1)
    return np.ascontiguousarray(raw.reshape(-1, raw.shape[2])[:num_classes].T)


@njit(cache=True, nogil=True, error_model="numpy")
def _value_stages(  # type: ignore[no-untyped-def]
    table, target, test, learning_rate, orders, raw, test_raw, work, trees, gain
):
    """Run all stages of one block of targets; update predictions and gains in place."""
    n, width = target.shape
    members = np.empty(n * width, np.int64)
    lanes = np.empty(n * width, np.int64)
    for s in range(n):
        for j in range(width):
            members[s * width + j] = s
            lanes[s * width + j] = j
    residual = np.empty_like(target)
    values = np.empty((_LEAVES, width))
    counts = np.empty((_LEAVES, width))
    for stage in range(orders.shape[0]):
        for s in range(n):
            for j in range(width):
                residual[s, j] = target[s, j] - raw[s, j]
        _grow(table, orders[stage], residual, members, lanes, work, trees)
        for node in range(_SPLITS):
            for j in range(width):
                gain[trees.latent[node, j], j] += trees.gain[node, j]
        values[:] = 0.0
        counts[:] = 0.0
        for s in range(n):
            for j in range(width):
                values[trees.node[s, j], j] += residual[s, j]
                counts[trees.node[s, j], j] += 1.0
        for node in range(_LEAVES):
            for j in range(width):
                values[node, j] = learning_rate * values[node, j] / counts[node, j] if counts[node, j] > 0.0 else 0.0
        for s in range(n):
            for j in range(width):
                raw[s, j] += values[trees.node[s, j], j]
        _add_leaves(test, trees, values, test_raw)


@njit(cache=True, nogil=True, error_model="numpy")
def _stages(  # type: ignore[no-untyped-def]
    table, labels, members, lanes, ends, test, two, shrinkage, orders, raw, residual, test_raw, work, trees, gain
):
    """Run all stages; update logits and gains in place. The rows of block i are members[ends[i] : ends[i + 1]]."""
    num_stages, blocks, _ = orders.shape
    odds = np.empty(raw.shape)
    growth = np.empty((_LEAVES, _LANES))
    for i in range(blocks):
        for s in range(raw.shape[1]):
            for j in range(_LANES):
                odds[i, s, j] = math.exp(raw[i, s, j])
    for stage in range(num_stages):
        _residuals(raw, odds, labels, two, residual)
        for i in range(blocks):
            block = slice(ends[i], ends[i + 1])
            _grow(table, orders[stage, i], residual[i], members[block], lanes[block], work, trees)
            for node in range(_SPLITS):
                for j in range(_LANES):
                    gain[trees.latent[node, j]] += trees.gain[node, j]
            values = _leaf_values(residual[i], trees.node, shrinkage)
            # Underflowed odds stay 0 when multiplied, so a large step marks them with nan to be recomputed.
            for node in range(_LEAVES):
                for j in range(_LANES):
                    growth[node, j] = np.nan if abs(values[node, j]) > _LARGE_STEP else math.exp(values[node, j])
            for s in range(raw.shape[1]):
                for j in range(_LANES):
                    raw[i, s, j] += values[trees.node[s, j], j]
                    odds[i, s, j] *= growth[trees.node[s, j], j]
            _add_leaves(test, trees, values, test_raw[i])


@njit(cache=True, nogil=True, error_model="numpy")
def _residuals(raw, odds, labels, two, residual):  # type: ignore[no-untyped-def]
    """Compute label minus probability.

    ``odds`` is exp(raw) up to one factor per row. It is recomputed if its sum is out of range or ``nan``.
    """
    blocks, n, _ = raw.shape
    if two:
        for s in range(n):
            residual[0, s, 0] = labels[s] - 1.0 / (1.0 + math.exp(-raw[0, s, 0]))
        return
    for s in range(n):
        norm = 0.0
        for i in range(blocks):
            for j in range(_LANES):
                norm += odds[i, s, j]
        if not 1e-100 < norm < 1e100:
            peak = -np.inf
            for i in range(blocks):
                for j in range(_LANES):
                    peak = max(peak, raw[i, s, j])
            norm = 0.0
            for i in range(blocks):
                for j in range(_LANES):
                    odds[i, s, j] = math.exp(raw[i, s, j] - peak)
                    norm += odds[i, s, j]
        for i in range(blocks):
            for j in range(_LANES):
                residual[i, s, j] = -odds[i, s, j] / norm
        residual[labels[s] // _LANES, s, labels[s] % _LANES] += 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def _leaf_values(residual, leaf, shrinkage):  # type: ignore[no-untyped-def]
    """Return the Newton step of each leaf: sum of residuals over the sum of p (1 - p)."""
    slope = np.zeros((_LEAVES, _LANES))
    curvature = np.zeros((_LEAVES, _LANES))
    for s in range(leaf.shape[0]):
        for j in range(_LANES):
            r = residual[s, j]
            slope[leaf[s, j], j] += r
            curvature[leaf[s, j], j] += abs(r) * (1.0 - abs(r))
    for node in range(_LEAVES):
        for j in range(_LANES):
            slope[node, j] = shrinkage * slope[node, j] / curvature[node, j] if curvature[node, j] > 1e-150 else 0.0
    return slope


@njit(cache=True, nogil=True, error_model="numpy")
def _descend(latents, trees, level):  # type: ignore[no-untyped-def]
    """Move all rows one level down; nodes of a level are numbered from 0."""
    node = np.empty(latents.shape[1], np.uint8)
    above = np.empty(latents.shape[1], np.uint8)
    for j in range(_LANES):
        for s in range(latents.shape[1]):
            node[s] = trees.node[s, j]
        _step_down(latents, trees, level, j, node, above)
        for s in range(latents.shape[1]):
            trees.node[s, j] = node[s]


@njit(cache=True, nogil=True, error_model="numpy")
def _add_leaves(latents, trees, values, raw):  # type: ignore[no-untyped-def]
    """Move test rows down to the leaves and add the values of their leaves to raw, (_LANES, rows)."""
    node = np.empty(latents.shape[1], np.uint8)
    above = np.empty(latents.shape[1], np.uint8)
    for j in range(_LANES):
        node[:] = 0
        for level in range(_DEPTH):
            _step_down(latents, trees, level, j, node, above)
        for s in range(latents.shape[1]):
            raw[j, s] += values[node[s], j]


@njit(cache=True, nogil=True, error_model="numpy")
def _step_down(latents, trees, level, lane, node, above):  # type: ignore[no-untyped-def]
    """Move all rows one level down the tree of one lane.

    Each inner node compares all rows, including rows of other nodes. These plain loops over columns are vectorised,
    which is faster than looking up the latent and threshold of each row.
    """
    first = (1 << level) - 1
    above[:] = 0
    for i in range(1 << level):
        column, threshold = latents[trees.latent[first + i, lane]], trees.threshold[first + i, lane]
        for s in range(node.shape[0]):
            above[s] |= np.uint8((node[s] == i) & (column[s] > threshold))
    for s in range(node.shape[0]):
        node[s] = 2 * node[s] + above[s]


@njit(cache=True, nogil=True, error_model="numpy")
def _grow(table, order, residual, members, lanes, work, trees):  # type: ignore[no-untyped-def]
    """Grow one tree per lane, level by level, and assign each row to its leaf.

    A count and a sum of residuals are packed into one integer, 2^shift count + 2^bits sum, which halves the memory
    traffic. Of two sibling nodes, only the left one is summed; the right one is the parent minus the left one. The sums
    of the nodes are in slots 1 and 0 on level 1, and in slots 2, 1, 3 and 0 on level 2.
    """
    latent_dim, n = table.latents.shape
    bits = 62 - 2 * math.ceil(math.log2(n + 1))
    shift = (bits + 63) // 2
    packed, sums, rises, heads = work
    width = packed.shape[2]
    trees.node[:] = 0
    trees.latent[:] = 0
    trees.threshold[:] = np.inf  # no split: every row goes left
    for s in range(n):
        for j in range(width):
            packed[0, s, j] = (1 << shift) + int(residual[s, j] * (1 << bits))
    for level in range(_DEPTH):
        num_nodes = 1 << level
        for left in range(0, num_nodes, 2):
            part = packed[1 + left // 2]
            for s in range(n):
                for j in range(width):
                    part[s, j] = packed[0, s, j] if trees.node[s, j] == left else 0
            left_sums, parent = sums[level + left // 2], sums[level - 1 - left // 2]
            for d in range(latent_dim):
                _accumulate(table.bins[d], part, left_sums[d])
                if level > 0:
                    for b in range(left_sums.shape[1]):
                        for j in range(width):
                            parent[d, b, j] -= left_sums[d, b, j]
        rises[:num_nodes] = 0.0
        for d in range(latent_dim):
            for i in range(len(members)):
                s, j = members[i], lanes[i]
                rises[trees.node[s, j], d, table.bins[d, s], j] += max(residual[s, j], 0.0)
        for node in range(num_nodes):
            slot = level + node // 2 if node % 2 == 0 else level - 1 - node // 2
            for d in range(latent_dim):
                _unpack(sums[slot, d], bits, shift, heads[0, d], heads[1, d])
            _split(table, order, residual, rises[node], heads, num_nodes - 1 + node, node, trees)
        _descend(table.latents, trees, level)


@njit(cache=True, nogil=True, error_model="numpy")
def _accumulate(bins, packed, sums):  # type: ignore[no-untyped-def]
    sums[:] = 0
    width = packed.shape[1]  # not the constant _LANES: the loop would be unrolled instead of vectorised
    for s in range(bins.shape[0]):
        row, one = sums[bins[s]], packed[s]
        for j in range(width):
            row[j] += one[j]


@njit(cache=True, nogil=True, error_model="numpy")
def _unpack(sums, bits, shift, residuals, counts):  # type: ignore[no-untyped-def]
    """Compute cumulative sums over the bins and unpack them into residuals and counts."""
    half = 1 << (shift - 1)
    scale = 1.0 / (1 << bits)
    num_bins, width = sums.shape
    running = np.zeros(width, np.int64)
    for b in range(num_bins):
        for j in range(width):
            running[j] += sums[b, j]
            count = (running[j] + half) >> shift
            residuals[b, j] = (running[j] - (count << shift)) * scale
            counts[b, j] = count


@njit(cache=True, nogil=True, error_model="numpy")
def _split(table, order, residual, rises, heads, node, here, trees):  # type: ignore[no-untyped-def]
    """Find the best split of one node in each lane.

    Let S and n be the sum and number of the residuals left of a split, and T and N those of the node. A split reduces
    the squared error by (N S - n T)^2 / (N n (N - n)). First, all splits at the ends of bins are evaluated. Inside a
    bin, S can increase at most by the positive residuals of the bin, and decrease at most by the negative ones. Bins
    that cannot contain a better split are skipped.
    """
    sums, counts = heads[0], heads[1]
    latent_dim, num_bins, width = sums.shape
    total = sums[0, num_bins - 1].copy()
    size = counts[0, num_bins - 1].copy()
    best = _FLAT * size * size  # N times the gain
    for d in range(latent_dim):
        for b in range(num_bins - 1):
            better = 0
            for j in range(width):
                excess = size[j] * sums[d, b, j] - counts[d, b, j] * total[j]
                better += excess * excess > best[j] * (counts[d, b, j] * (size[j] - counts[d, b, j]))
            if better:
                for j in range(width):
                    excess = size[j] * sums[d, b, j] - counts[d, b, j] * total[j]
                    product = counts[d, b, j] * (size[j] - counts[d, b, j])
                    if product > 0.0 and excess * excess > best[j] * product:
                        best[j] = excess * excess / product
    best *= 1.0 - 1e-9  # so that the search below finds the same split again

    place = np.full(width, -1)
    reach = np.zeros(width)
    zero = np.zeros(width)
    for d in order:
        for b in range(num_bins):
            sum0, count0 = (sums[d, b - 1], counts[d, b - 1]) if b > 0 else (zero, zero)
            sum1, count1 = sums[d, b], counts[d, b]
            better = 0
            for j in range(width):
                drift0, drift1 = count0[j] * total[j], count1[j] * total[j]
                high = size[j] * (sum0[j] + rises[d, b, j]) - min(drift0, drift1)
                low = size[j] * (sum1[j] - rises[d, b, j]) - max(drift0, drift1)
                excess = max(high, -low)
                product = min(count0[j] * (size[j] - count0[j]), count1[j] * (size[j] - count1[j]))
                reach[j] = excess * excess - best[j] * product
                better += (reach[j] > 0.0) & (count1[j] > count0[j])
            if better:
                for j in range(width):
                    if reach[j] > 0.0 and count1[j] > count0[j]:
                        s, n = sum0[j], count0[j]
                        last = table.starts[d, b + 1] - 1
                        for i in range(last if table.is_one[d, b] else table.starts[d, b], last + 1):
                            row = table.rows[d, i]
                            if trees.node[row, j] == here:
                                s += residual[row, j]
                                n += 1.0
                            if i == last:  # same bits as in the first pass: s has different rounding errors
                                s, n = sum1[j], count1[j]
                            if table.is_step[d, i]:
                                excess = size[j] * s - n * total[j]
                                product = n * (size[j] - n)
                                if product > 0.0 and excess * excess > best[j] * product:
                                    best[j] = excess * excess / product
                                    trees.latent[node, j] = d
                                    place[j] = i
    for j in range(width):
        trees.gain[node, j] = 0.0
        if place[j] >= 0:
            trees.gain[node, j] = best[j] / size[j]
            d = trees.latent[node, j]
            before, after = place[j], place[j] + 1
            while trees.node[table.rows[d, before], j] != here:
                before -= 1
            while trees.node[table.rows[d, after], j] != here:
                after += 1
            below, above = table.latents[d, table.rows[d, before]], table.latents[d, table.rows[d, after]]
            trees.threshold[node, j] = (float(below) + float(above)) / 2.0
