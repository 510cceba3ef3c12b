"""Mutual information gap: is each factor told by one code alone?"""

import numpy as np

from betavae.metrics.inputs import check_tables, draw_rows
from betavae.metrics.undefined import warn_undefined


def discretise(codes: np.ndarray, num_bins: int = 20) -> np.ndarray:
    """Number the equal-width bins of each code, from its smallest to its largest value.

    Args:
        codes: (N, D) codes.
        num_bins: bins of each code, at least 1.

    Returns:
        (N, D) integers in 0 .. num_bins - 1; 0 throughout for a constant code.

    Example:
        >>> discretise(np.array([[0.0], [0.4], [1.0]]), num_bins=2).ravel()
        array([0, 0, 1])
    """
    binned = np.empty(codes.shape, np.int64)
    for d in range(codes.shape[1]):
        edges = np.histogram_bin_edges(codes[:, d].astype(np.float64), num_bins)
        binned[:, d] = np.digitize(codes[:, d], edges[1:-1])
    return binned


def mutual_information(binned: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Mutual information of each discrete code and each factor, by the plug-in estimate, in nats.

    I(z; y) = sum over cells of p(z, y) log(p(z, y) / (p(z) p(y))), with the observed frequencies as p.

    The estimate is too large by about (bins - 1)(values - 1) / (2 N) nats when the two are independent.

    Args:
        binned: (N, D) non-negative integers, for instance from `discretise`.
        factors: (N, K) integers.

    Returns:
        (D, K) nats, each in 0 .. log(number of factor values).

    Example:
        >>> mutual_information(np.array([[0], [0], [1], [1]]), np.array([[5, 0], [5, 1], [7, 0], [7, 1]])).round(3)
        array([[0.693, 0.   ]])
    """
    labels = [np.unique(column, return_inverse=True)[1] for column in factors.T]
    nats = np.empty((binned.shape[1], factors.shape[1]))
    for d, code in enumerate(binned.T):
        for k, label in enumerate(labels):
            width = int(label.max()) + 1
            table = np.bincount(code * width + label, minlength=(int(code.max()) + 1) * width).reshape(-1, width)
            joint = table / len(code)
            nats[d, k] = entropy(joint.sum(axis=1)) + entropy(joint.sum(axis=0)) - entropy(joint.ravel())
    return nats.clip(min=0.0)


def entropy(probabilities: np.ndarray) -> float:
    """Entropy of one distribution in nats; zero probabilities count for nothing.

    Example:
        >>> round(entropy(np.array([0.5, 0.5, 0.0])), 4)
        0.6931
    """
    positive = probabilities[probabilities > 0]
    return float((positive * -np.log(positive)).sum())


def factor_entropies(factors: np.ndarray) -> np.ndarray:
    """Entropy of each factor's observed values in nats, (K,).

    Example:
        >>> factor_entropies(np.array([[0, 3], [1, 3]])).round(4)
        array([0.6931, 0.    ])
    """
    return np.array([entropy(np.unique(column, return_counts=True)[1] / len(column)) for column in factors.T])


def gaps(information: np.ndarray, entropies: np.ndarray) -> np.ndarray:
    """Difference between the most and the second most informative code, as a share of each factor's entropy.

    Args:
        information: (D, K) mutual information in nats.
        entropies: (K,) entropies of the factors in nats.

    Returns:
        (K,) gaps in 0..1; ``nan`` for a constant factor. A single code has nothing next to it: its gap is its
        information.

    Example:
        >>> gaps(np.array([[0.6], [0.1]]), np.array([1.0]))
        array([0.5])
    """
    ordered = np.sort(np.vstack([information, np.zeros(information.shape[1])]), axis=0)[::-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(entropies > 0, (ordered[0] - ordered[1]) / entropies, np.nan)


def mig(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    num_train: int = 10_000,
    num_bins: int = 20,
    with_replacement: bool = True,
) -> dict[str, float]:
    """Mutual information gap of disentanglement_lib: codes cut into equal-width bins, averaged over factors.

    MIG = mean over factors k of (I(z_1; y_k) - I(z_2; y_k)) / H(y_k), z_1 and z_2 the two codes that tell most about
    y_k.

    Chen et al. integrate over sampled codes instead and leave the shape out; their numbers are not comparable to these.

    Source:
        Isolating Sources of Disentanglement in VAEs (Chen, Li, Grosse & Duvenaud, 2018), equation 6.
        https://arxiv.org/abs/1802.04942

    Args:
        codes: (N, D) codes.
        factors: (N, K) integer factors.
        seed: seed of the rows drawn.
        num_train: rows drawn.
        num_bins: equal-width bins of each code.
        with_replacement: draw rows with replacement, as disentanglement_lib does.

    Returns:
        ``mig`` in 0..1, larger is better; ``nan`` with a warning when no factor varies. Constant factors are left out.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed, or holds too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(4, size=(1000, 2))
        >>> mig(factors.astype(float), factors, seed=0)["mig"] > 0.95
        True
    """
    codes, factors = check_tables(codes, factors)
    (rows,) = draw_rows(len(codes), (num_train,), np.random.default_rng(seed), with_replacement=with_replacement)
    information = mutual_information(discretise(codes[rows], num_bins), factors[rows])
    return {"mig": mean_gap(information, factor_entropies(factors[rows]))}


def mean_gap(information: np.ndarray, entropies: np.ndarray) -> float:
    """Mean of the `gaps` of the factors that vary; ``nan`` with a warning when none does.

    Example:
        >>> mean_gap(np.array([[0.6, 0.0], [0.1, 0.0]]), np.array([1.0, 0.0]))
        0.5
    """
    varying = entropies > 0
    if not varying.any():
        warn_undefined("MIG", "no factor varies")
        return float("nan")
    return float(gaps(information[:, varying], entropies[varying]).mean())
