"""The papers' formulas in plain numpy: slow, literal, and written apart from the package.

Every function follows the published equation, or the published protocol where that is what is compared with; loops are
left as loops. Tests compare the package with them.
"""

import itertools
import math

import numpy as np


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """sum p(a, b) log(p(a, b) / (p(a) p(b))), in nats."""
    total = 0.0
    for x, y in itertools.product(set(a.tolist()), set(b.tolist())):
        joint = np.mean((a == x) & (b == y))
        if joint > 0:
            total += joint * math.log(joint / (np.mean(a == x) * np.mean(b == y)))
    return total


def entropy(a: np.ndarray) -> float:
    """-sum p log p, in nats."""
    return -sum(np.mean(a == x) * math.log(np.mean(a == x)) for x in set(a.tolist()))


def histogram_bins(latent: np.ndarray, num_bins: int = 20) -> np.ndarray:
    """Equal-width bins as disentanglement_lib numbers them, 1 .. num_bins."""
    return np.digitize(latent, np.histogram(latent, num_bins)[1][:-1])


def information_matrix(latents: np.ndarray, factors: np.ndarray, num_bins: int = 20) -> np.ndarray:
    """(D, K) plug-in mutual information of binned latents."""
    return np.array([[mutual_information(histogram_bins(z, num_bins), y) for y in factors.T] for z in latents.T])


def mig(matrix: np.ndarray, entropies: np.ndarray) -> float:
    """Chen et al. 2018, equation 6."""
    gaps = []
    for k, total in enumerate(entropies):
        first, second = sorted(matrix[:, k], reverse=True)[:2]
        gaps.append((first - second) / total)
    return float(np.mean(gaps))


def mig_sup(matrix: np.ndarray, entropies: np.ndarray) -> float:
    """Li et al. 2020: the gap over factors, of information relative to each factor's entropy."""
    gaps = []
    for row in matrix:
        first, second = sorted(row / entropies, reverse=True)[:2]
        gaps.append(first - second)
    return float(np.mean(gaps))


def dcimig(matrix: np.ndarray, entropies: np.ndarray) -> float:
    """Sepliarskaia et al. 2019: each latent's gap is kept for its best factor; the largest of each factor counts."""
    best = [0.0] * len(entropies)
    for row in matrix:
        order = np.argsort(row)
        gap = row[order[-1]] - row[order[-2]]
        best[order[-1]] = max(best[order[-1]], gap)
    return float(sum(best) / sum(entropies))


def jemmig(latents: np.ndarray, factors: np.ndarray, num_bins: int = 20) -> float:
    """Do & Tran 2020, normalised by H(y) + log(bins) and turned round."""
    scores = []
    binned = [histogram_bins(z, num_bins) for z in latents.T]
    for y in factors.T:
        found = [mutual_information(z, y) for z in binned]
        best, runner_up = sorted(range(len(found)), key=found.__getitem__)[::-1][:2]
        joint = entropy(binned[best] * 1_000 + y)
        loss = joint - found[best] + found[runner_up]
        scores.append(1 - loss / (entropy(y) + math.log(num_bins)))
    return float(np.mean(scores))


def modularity(matrix: np.ndarray) -> float:
    """Ridgeway & Mozer 2018: deviation from the template that keeps the largest entry of a row."""
    scores = []
    for row in matrix:
        template = np.where(np.arange(len(row)) == row.argmax(), row.max(), 0.0)
        deviation = ((row - template) ** 2).sum() / (row.max() ** 2 * (len(row) - 1)) if row.max() > 0 else 1.0
        scores.append(1 - deviation)
    return float(np.mean(scores))


def disentanglement(importance: np.ndarray) -> float:
    """Eastwood & Williams 2018, with the 1e-11 that disentanglement_lib adds before it normalises."""
    total = 0.0
    for row in importance:
        p = (row + 1e-11) / (row + 1e-11).sum()
        total += (1 + (p * np.log(p)).sum() / math.log(len(p))) * row.sum() / importance.sum()
    return total


def completeness(importance: np.ndarray) -> float:
    """The same for columns."""
    return disentanglement(importance.T)


def irs(latents: np.ndarray, factors: np.ndarray, quantile: float = 0.99, reference: float = 1.0) -> float:
    """Suter et al. 2019 as disentanglement_lib computes it; ``reference`` 1 is its maximum deviation."""
    reach = np.array([np.quantile(np.abs(z - z.mean()), reference) for z in latents.T])
    best = []
    for d, z in enumerate(latents.T):
        per_factor = []
        for y in factors.T:
            deviations = [np.quantile(np.abs(z[y == v] - z[y == v].mean()), quantile) for v in sorted(set(y.tolist()))]
            per_factor.append(1 - np.mean(deviations) / reach[d])
        best.append(max(per_factor))
    return float((np.array(best) * reach).sum() / reach.sum())


def boosted_trees(
    latents: np.ndarray, labels: np.ndarray, test: np.ndarray, num_stages: int, rate: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Friedman 2001, algorithm 6, three or more classes: (gain of each latent, test class); every split is tried."""
    classes = np.unique(labels)
    gain = np.zeros(latents.shape[1])
    raw, test_raw = (np.tile(np.log([np.mean(labels == c) for c in classes]), (len(x), 1)) for x in (latents, test))
    for _ in range(num_stages):
        p = np.exp(raw - raw.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        for k, c in enumerate(classes):
            residual = (labels == c) - p[:, k]
            nodes = [(np.arange(len(latents)), np.arange(len(test)), 0)]
            while nodes:
                rows, test_rows, depth = nodes.pop()
                split = (
                    _best_split(latents[rows], residual[rows]) if depth < 3 and residual[rows].var() > 2.3e-16 else None
                )
                if split is None:
                    r = residual[rows]
                    curvature = (np.abs(r) * (1 - np.abs(r))).sum()
                    step = (len(classes) - 1) / len(classes) * r.sum() / curvature if curvature > 1e-150 else 0.0
                    raw[rows, k] += rate * step
                    test_raw[test_rows, k] += rate * step
                    continue
                improvement, d, threshold = split
                gain[d] += improvement
                inside, test_inside = latents[rows, d] <= threshold, test[test_rows, d] <= threshold
                nodes.append((rows[inside], test_rows[test_inside], depth + 1))
                nodes.append((rows[~inside], test_rows[~test_inside], depth + 1))
    return gain, classes[test_raw.argmax(axis=1)]


def _best_split(latents: np.ndarray, residual: np.ndarray) -> tuple[float, int, float] | None:
    best = None
    whole = ((residual - residual.mean()) ** 2).sum()
    for d, column in enumerate(latents.T):
        values = np.unique(column)
        for low, high in itertools.pairwise(values):
            left, right = residual[column <= low], residual[column > low]
            rest = ((left - left.mean()) ** 2).sum() + ((right - right.mean()) ** 2).sum()
            if best is None or whole - rest > best[0]:
                best = (whole - rest, d, (low + high) / 2)
    return best


def beta_vae_points(
    latents: np.ndarray, factors: np.ndarray, num_points: int, batch_size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of the BetaVAE score on a table that holds every combination of factors."""
    points, labels = [], []
    for _ in range(num_points):
        k = rng.integers(factors.shape[1])
        differences = []
        for _ in range(batch_size):
            first = rng.integers(len(latents))
            second = rng.choice(np.flatnonzero(factors[:, k] == factors[first, k]))
            differences.append(np.abs(latents[first] - latents[second]))
        points.append(np.mean(differences, axis=0))
        labels.append(k)
    return np.array(points), np.array(labels)


def factor_vae(
    latents: np.ndarray, factors: np.ndarray, num_points: int, batch_size: int, rng: np.random.Generator
) -> float:
    """FactorVAE score of the voting points themselves, without pruning."""
    variance = latents.var(axis=0, ddof=1)
    votes = np.zeros((latents.shape[1], factors.shape[1]))
    for _ in range(num_points):
        k = rng.integers(factors.shape[1])
        value = factors[rng.integers(len(latents)), k]
        rows = rng.choice(np.flatnonzero(factors[:, k] == value), batch_size)
        votes[(latents[rows].var(axis=0, ddof=1) / variance).argmin(), k] += 1
    return float(votes.max(axis=1).sum() / votes.sum())


def nearest_neighbour_information(latent: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Ross 2014, equation 2, by sorting all distances."""
    terms = []
    for z, y in zip(latent, labels, strict=True):
        same = np.abs(latent[labels == y] - z)
        radius = np.sort(same)[min(k, len(same) - 1)]  # the row itself is at distance 0
        closer = int((np.abs(latent - z) < radius).sum())
        terms.append(_digamma(min(k, len(same) - 1)) - _digamma(len(same)) - _digamma(max(closer, 1)))
    return max(0.0, _digamma(len(latent)) + float(np.mean(terms)))


def _digamma(n: int) -> float:
    return -0.5772156649015329 + sum(1 / i for i in range(1, n))


def concentration(share: np.ndarray) -> float:
    """Hsu et al. 2023: mean over rows of max / sum, from 1 / columns .. 1 to 0 .. 1; InfoM of (latents, factors)."""
    columns = share.shape[1]
    ratio = np.mean([row.max() / row.sum() for row in share])
    return float((ratio - 1 / columns) / (1 - 1 / columns))


def explicitness(log_capacity: np.ndarray, losses: np.ndarray) -> float:
    """Eastwood et al. 2023, with loss 1 for a probe that sees nothing and a lowest conceivable loss of 0."""
    best = np.array([losses[: i + 1].min() for i in range(len(losses))])
    area = sum(
        (best[i] + best[i + 1] - 2 * best.min()) / 2 * (log_capacity[i + 1] - log_capacity[i])
        for i in range(len(best) - 1)
    )
    return float(1 - area / ((log_capacity[-1] - log_capacity[0]) / 2))


def dci_es(latents: np.ndarray, factors: np.ndarray, capacities: tuple[int, ...], num_train: int, seed: int) -> float:
    """Explicitness with ridge probes on random Fourier features of standardised latents; the first rows train."""
    rng = np.random.default_rng(seed)
    z = (latents - latents.mean(axis=0)) / latents.std(axis=0)
    found = []
    for y in factors.T:
        target = (y[:, None] == np.unique(y)).astype(float)
        centre = target[:num_train].mean(axis=0)
        losses = []
        for capacity in capacities:
            waves = np.cos(
                z @ rng.normal(size=(z.shape[1], capacity)) / z.shape[1] ** 0.5 + rng.uniform(0, 7, capacity)
            )
            waves -= waves[:num_train].mean(axis=0)
            gram = waves[:num_train].T @ waves[:num_train] + 1e-4 * num_train * np.eye(capacity)
            weights = np.linalg.solve(gram, waves[:num_train].T @ (target - centre)[:num_train])
            rest = (target - centre)[num_train:]
            losses.append(((rest - waves[num_train:] @ weights) ** 2).sum() / (rest**2).sum())
        found.append(explicitness(np.log(capacities), np.array(losses)))
    return float(np.mean(found))


def mean_gap(matrix: np.ndarray) -> float:
    """Kumar et al. 2018: mean over factors of the gap between the two best latents."""
    return float(np.mean([sorted(column)[-1] - sorted(column)[-2] for column in matrix.T]))


def total_variation(counts: np.ndarray) -> np.ndarray:
    """Locatello et al. 2019: of each sensitive value's predictions (a column) from those of all values together."""
    together = counts.sum(axis=1) / counts.sum()
    return np.array([np.abs(column / column.sum() - together).sum() / 2 for column in counts.T])


def roc_area(scores: np.ndarray, member: np.ndarray) -> float:
    """Share of (member, other) pairs that are in the right order; ties count half."""
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[member] for b in scores[~member]]
    return float(np.mean(pairs))
