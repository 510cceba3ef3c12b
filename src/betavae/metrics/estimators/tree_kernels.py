"""Compiled functions that grow the trees of `boosting`; eight trees in the lanes of vector registers."""

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit

LANES: Final = 8  # classes that are fitted in parallel
_DEPTH: Final = 3
SPLITS: Final = 7  # inner nodes of a tree: node i has the children 2i + 1 and 2i + 2
_LEAVES: Final = 8
_LARGE_STEP: Final = 5.0  # smaller steps cannot restore underflowed odds within 100 stages
_FLAT: Final = 2.2e-16  # nodes with a smaller variance are not split, as in scikit-learn


class SortedTable(NamedTuple):
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


class Trees(NamedTuple):
    """One tree per lane: (SPLITS, LANES) gain, latent and threshold of inner nodes, and (N, LANES) nodes of rows."""

    gain: np.ndarray
    latent: np.ndarray
    threshold: np.ndarray
    node: np.ndarray


class Workspace(NamedTuple):
    """Buffers that all trees share.

    Attributes:
        packed: (3, N, LANES) residuals packed with counts: for all rows, and for the rows of up to two nodes.
        sums: (4, D, bins, LANES) packed sums of each node.
        rises: (4, D, bins, LANES) sums of positive residuals of each node.
        heads: (2, D, bins, LANES) cumulative sums and counts of one node up to the end of each bin.
    """

    packed: np.ndarray
    sums: np.ndarray
    rises: np.ndarray
    heads: np.ndarray


@njit(cache=True, nogil=True, error_model="numpy")
def regression_stages(  # type: ignore[no-untyped-def]
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
        for node in range(SPLITS):
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
def classification_stages(  # type: ignore[no-untyped-def]
    table, labels, members, lanes, ends, test, two, shrinkage, orders, raw, residual, test_raw, work, trees, gain
):
    """Run all stages; update logits and gains in place. The rows of block i are members[ends[i] : ends[i + 1]]."""
    num_stages, blocks, _ = orders.shape
    odds = np.empty(raw.shape)
    growth = np.empty((_LEAVES, LANES))
    for i in range(blocks):
        for s in range(raw.shape[1]):
            for j in range(LANES):
                odds[i, s, j] = math.exp(raw[i, s, j])
    for stage in range(num_stages):
        _residuals(raw, odds, labels, two, residual)
        for i in range(blocks):
            block = slice(ends[i], ends[i + 1])
            _grow(table, orders[stage, i], residual[i], members[block], lanes[block], work, trees)
            for node in range(SPLITS):
                for j in range(LANES):
                    gain[trees.latent[node, j]] += trees.gain[node, j]
            values = _leaf_values(residual[i], trees.node, shrinkage)
            # Underflowed odds stay 0 when multiplied, so a large step marks them with nan to be recomputed.
            for node in range(_LEAVES):
                for j in range(LANES):
                    growth[node, j] = np.nan if abs(values[node, j]) > _LARGE_STEP else math.exp(values[node, j])
            for s in range(raw.shape[1]):
                for j in range(LANES):
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
            for j in range(LANES):
                norm += odds[i, s, j]
        if not 1e-100 < norm < 1e100:
            peak = -np.inf
            for i in range(blocks):
                for j in range(LANES):
                    peak = max(peak, raw[i, s, j])
            norm = 0.0
            for i in range(blocks):
                for j in range(LANES):
                    odds[i, s, j] = math.exp(raw[i, s, j] - peak)
                    norm += odds[i, s, j]
        for i in range(blocks):
            for j in range(LANES):
                residual[i, s, j] = -odds[i, s, j] / norm
        residual[labels[s] // LANES, s, labels[s] % LANES] += 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def _leaf_values(residual, leaf, shrinkage):  # type: ignore[no-untyped-def]
    """Return the Newton step of each leaf: sum of residuals over the sum of p (1 - p)."""
    slope = np.zeros((_LEAVES, LANES))
    curvature = np.zeros((_LEAVES, LANES))
    for s in range(leaf.shape[0]):
        for j in range(LANES):
            r = residual[s, j]
            slope[leaf[s, j], j] += r
            curvature[leaf[s, j], j] += abs(r) * (1.0 - abs(r))
    for node in range(_LEAVES):
        for j in range(LANES):
            slope[node, j] = shrinkage * slope[node, j] / curvature[node, j] if curvature[node, j] > 1e-150 else 0.0
    return slope


@njit(cache=True, nogil=True, error_model="numpy")
def _descend(latents, trees, level):  # type: ignore[no-untyped-def]
    """Move all rows one level down; nodes of a level are numbered from 0."""
    node = np.empty(latents.shape[1], np.uint8)
    above = np.empty(latents.shape[1], np.uint8)
    for j in range(LANES):
        for s in range(latents.shape[1]):
            node[s] = trees.node[s, j]
        _step_down(latents, trees, level, j, node, above)
        for s in range(latents.shape[1]):
            trees.node[s, j] = node[s]


@njit(cache=True, nogil=True, error_model="numpy")
def _add_leaves(latents, trees, values, raw):  # type: ignore[no-untyped-def]
    """Move test rows down to the leaves and add the values of their leaves to raw, (LANES, rows)."""
    node = np.empty(latents.shape[1], np.uint8)
    above = np.empty(latents.shape[1], np.uint8)
    for j in range(LANES):
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
    width = packed.shape[1]  # not the constant LANES: the loop would be unrolled instead of vectorised
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
