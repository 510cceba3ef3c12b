"""Gradient boosted trees for classification, compiled: the algorithm of scikit-learn's, on histograms.

DCI is defined on the impurity importances of scikit-learn's ``GradientBoostingClassifier`` at its defaults, and moves
when the classifier is swapped. This module is the same algorithm: softmax residuals, depth-3 regression trees by
squared error, one Newton step a leaf, shrinkage 0.1, 100 stages, importances that add up the gain of every split. What
differs is where a split may fall (between quantile bins instead of between any two samples) and the order of work: the
trees of one stage do not depend on each other, so eight classes grow side by side in the lanes of a vector register.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit

_LANES: Final = 8  # classes that grow together; a multiple of the vector width in doubles
_SPLITS: Final = 7  # inner nodes of a tree of depth 3: node i has the children 2i + 1 and 2i + 2
_LEAVES: Final = 8


class Boosted(NamedTuple):
    """What boosting leaves behind: no trees, only what they did.

    Attributes:
        gain: (D,) squared error removed by the splits on each code, over all trees; not normalised.
        train_class: (N,) predicted class of each training row.
        test_class: (M,) predicted class of each test row.
    """

    gain: np.ndarray
    train_class: np.ndarray
    test_class: np.ndarray


def boost(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    *,
    num_bins: int = 1024,
    num_stages: int = 100,
    learning_rate: float = 0.1,
    seed: int = 0,
) -> Boosted:
    """Fit gradient boosted trees of depth 3 and predict the rows of two tables.

    Source:
        Greedy Function Approximation: A Gradient Boosting Machine (Friedman, 2001), algorithm 6.
        https://doi.org/10.1214/aos/1013203451

    Args:
        train: (N, D) codes to fit.
        labels: (N,) integer classes of ``train``; any values, at least two different ones.
        test: (M, D) further codes to predict.
        num_bins: at most so many quantile bins a code, 2 to 65,536; N or more makes every split exact.
        num_stages: trees for each class.
        learning_rate: shrinkage of each tree.
        seed: seed of the order in which codes are tried; of equally good splits the first wins, as in scikit-learn.

    Returns:
        Gains and predicted classes; see `Boosted`.

    Example:
        >>> codes = np.linspace(0, 1, 100)[:, None]
        >>> boost(codes, np.arange(100) // 25, np.array([[0.1], [0.9]]), num_stages=5).test_class
        array([0, 3])
    """
    classes, indices = np.unique(labels, return_inverse=True)
    train_bins, test_bins = _bin(train.astype(np.float32), test.astype(np.float32), num_bins)
    blocks = -(-len(classes) // _LANES)
    orders = np.broadcast_to(np.arange(train.shape[1]), (num_stages, blocks, train.shape[1]))
    orders = np.random.default_rng(seed).permuted(orders, axis=2)
    gain, train_raw, test_raw = _boost(
        train_bins,
        indices.astype(np.int64),
        test_bins,
        int(train_bins.max()) + 1,
        len(classes),
        num_stages,
        learning_rate,
        orders,
    )
    return Boosted(gain, classes[_decide(train_raw, len(classes))], classes[_decide(test_raw, len(classes))])


def _decide(raw: np.ndarray, num_classes: int) -> np.ndarray:
    if num_classes == 2:
        return (raw[0, :, 0] > 0).astype(np.int64)
    by_row = raw.transpose(1, 0, 2).reshape(raw.shape[1], -1)
    return np.asarray(by_row[:, :num_classes].argmax(axis=1))


def _bin(train: np.ndarray, test: np.ndarray, num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantile bins of the training codes; edges lie half way between neighbouring values, as scikit-learn's do."""
    bins = np.empty(train.T.shape, np.uint16), np.empty(test.T.shape, np.uint16)
    for d, ordered in enumerate(np.sort(train.T.astype(np.float64), axis=1)):
        starts = np.flatnonzero(np.diff(ordered) > 1e-7) + 1  # scikit-learn takes closer values for equal
        if len(starts) >= num_bins:
            wanted = np.arange(1, num_bins) * len(ordered) / num_bins
            starts = np.unique(starts[np.searchsorted(starts, wanted).clip(max=len(starts) - 1)])
        edges = (ordered[starts - 1] + ordered[starts]) / 2
        for table, out in zip((train, test), bins, strict=True):
            out[d] = np.searchsorted(edges, table[:, d], side="left")
    return bins


@njit(cache=True, nogil=True, error_model="numpy")
def _boost(bins, labels, test_bins, num_bins, num_classes, num_stages, learning_rate, orders):  # type: ignore[no-untyped-def]
    num_codes, n = bins.shape
    columns = 1 if num_classes == 2 else num_classes  # two classes need one tree a stage
    blocks = (columns + _LANES - 1) // _LANES
    step = learning_rate * (1.0 if num_classes == 2 else (num_classes - 1) / num_classes)
    raw = np.full((blocks, n, _LANES), -np.inf)
    test_raw = np.full((blocks, test_bins.shape[1], _LANES), -np.inf)
    prior = np.bincount(labels) / n
    for k in range(columns):
        start = math.log(prior[1] / prior[0]) if num_classes == 2 else math.log(prior[k])
        raw[k // _LANES, :, k % _LANES] = start
        test_raw[k // _LANES, :, k % _LANES] = start

    bits = 62 - 2 * math.ceil(math.log2(n + 1))  # of the fraction of a residual; see _pack
    residual = np.zeros((blocks, n, _LANES))
    odds = np.exp(raw)
    packed = np.empty((3, n, _LANES), np.int64)
    sums = np.empty((4, num_codes, num_bins, _LANES), np.int64)
    gains = np.zeros((_SPLITS, _LANES))
    splits = np.zeros((_SPLITS, 2, _LANES), np.int64)
    leaf = np.zeros((n, _LANES), np.uint8)
    test_leaf = np.zeros((test_bins.shape[1], _LANES), np.uint8)
    total_gain = np.zeros(num_codes)
    for stage in range(num_stages):
        _residuals(raw, odds, labels, num_classes, residual)
        for i in range(blocks):
            _grow(bins, orders[stage, i], residual[i], bits, packed, sums, gains, splits, leaf)
            for node in range(_SPLITS):
                for j in range(_LANES):
                    total_gain[splits[node, 0, j]] += gains[node, j]
            values = _leaf_values(residual[i], leaf, step)
            growth = np.exp(values)
            for s in range(n):
                for j in range(_LANES):
                    raw[i, s, j] += values[leaf[s, j], j]
                    odds[i, s, j] *= growth[leaf[s, j], j]
            for level in range(3):
                _descend(test_bins, splits, level, test_leaf)
            for s in range(test_leaf.shape[0]):
                for j in range(_LANES):
                    test_raw[i, s, j] += values[test_leaf[s, j], j]
    return total_gain, raw, test_raw


@njit(cache=True, nogil=True, error_model="numpy")
def _residuals(raw, odds, labels, num_classes, residual):  # type: ignore[no-untyped-def]
    """Label minus probability. ``odds`` follows exp(raw) up to a factor a row and is rebuilt where it runs away."""
    blocks, n, _ = raw.shape
    if num_classes == 2:
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
def _leaf_values(residual, leaf, step):  # type: ignore[no-untyped-def]
    """One Newton step a leaf: sum of residuals over the sum of p (1 - p)."""
    slope = np.zeros((_LEAVES, _LANES))
    curvature = np.zeros((_LEAVES, _LANES))
    for s in range(leaf.shape[0]):
        for j in range(_LANES):
            r = residual[s, j]
            slope[leaf[s, j], j] += r
            curvature[leaf[s, j], j] += abs(r) * (1.0 - abs(r))
    for node in range(_LEAVES):
        for j in range(_LANES):
            slope[node, j] = step * slope[node, j] / curvature[node, j] if curvature[node, j] > 1e-150 else 0.0
    return slope


@njit(cache=True, nogil=True, error_model="numpy")
def _grow(bins, order, residual, bits, packed, sums, gains, splits, leaf):  # type: ignore[no-untyped-def]
    """Grow one tree a lane, level by level; of two siblings one is summed and the other is parent minus sibling.

    A count and a sum of residuals share one integer, 2^shift count + 2^bits sum: half the memory traffic, and sums that
    do not depend on their order.
    """
    n = bins.shape[1]
    shift = (bits + 63) // 2
    gains[:] = 0.0
    splits[:, 0] = 0
    splits[:, 1] = sums.shape[2]  # no split: everything goes left
    for s in range(n):
        for j in range(_LANES):
            packed[0, s, j] = (1 << shift) + int(residual[s, j] * (1 << bits))
    for d in order:
        _accumulate(bins[d], packed[0], sums[0, d])
        _scan(sums[0, d], shift, bits, d, 0, gains, splits)
    _descend(bins, splits, 0, leaf)
    for s in range(n):
        for j in range(_LANES):
            packed[1, s, j] = packed[0, s, j] if leaf[s, j] == 0 else 0
    for d in order:
        _accumulate(bins[d], packed[1], sums[1, d])
        sums[0, d] -= sums[1, d]
        _scan(sums[1, d], shift, bits, d, 1, gains, splits)
        _scan(sums[0, d], shift, bits, d, 2, gains, splits)
    _descend(bins, splits, 1, leaf)
    for s in range(n):
        for j in range(_LANES):
            packed[1, s, j] = packed[0, s, j] if leaf[s, j] == 0 else 0
            packed[2, s, j] = packed[0, s, j] if leaf[s, j] == 2 else 0
    for d in order:
        for i in range(2):
            parent = sums[1 - i, d]
            part = sums[2 + i, d]
            _accumulate(bins[d], packed[1 + i], part)
            _scan(part, shift, bits, d, 3 + 2 * i, gains, splits)
            parent -= part
            _scan(parent, shift, bits, d, 4 + 2 * i, gains, splits)
    _descend(bins, splits, 2, leaf)


@njit(cache=True, nogil=True, error_model="numpy")
def _descend(bins, splits, level, leaf):  # type: ignore[no-untyped-def]
    """Move every row one level down; ``leaf`` counts the nodes of a level from 0."""
    for j in range(_LANES):
        first = (1 << level) - 1
        for s in range(leaf.shape[0]):
            node = leaf[s, j] if level else 0
            leaf[s, j] = 2 * node + (bins[splits[first + node, 0, j], s] > splits[first + node, 1, j])


@njit(cache=True, nogil=True, error_model="numpy")
def _accumulate(row, packed, sums):  # type: ignore[no-untyped-def]
    sums[:] = 0
    for s in range(row.shape[0]):
        for j in range(_LANES):
            sums[row[s], j] += packed[s, j]


@njit(cache=True, nogil=True, error_model="numpy")
def _scan(sums, shift, bits, code, node, gains, splits):  # type: ignore[no-untyped-def]
    """Keep the best split of one node: the gain is (n S_left - n_left S)^2 / (n n_left n_right)."""
    num_bins = sums.shape[0]
    half = 1 << (shift - 1)
    scale = 1.0 / (1 << bits)
    whole = np.zeros(_LANES, np.int64)
    for b in range(num_bins):
        for j in range(_LANES):
            whole[j] += sums[b, j]
    size = np.empty(_LANES)
    total = np.empty(_LANES)
    for j in range(_LANES):
        count = (whole[j] + half) >> shift
        size[j] = count
        total[j] = (whole[j] - (count << shift)) * scale
    best = gains[node] * size
    left = np.zeros(_LANES, np.int64)
    value = np.zeros(_LANES)
    for b in range(num_bins - 1):
        better = 0
        for j in range(_LANES):
            left[j] += sums[b, j]
            count = (left[j] + half) >> shift
            left_size = float(count)
            excess = size[j] * ((left[j] - (count << shift)) * scale) - left_size * total[j]
            value[j] = excess * excess / max(left_size * (size[j] - left_size), 0.5)
            better += value[j] > best[j]
        if better:
            for j in range(_LANES):
                if value[j] > best[j]:
                    best[j] = value[j]
                    gains[node, j] = value[j] / size[j]
                    splits[node, 0, j] = code
                    splits[node, 1, j] = b
