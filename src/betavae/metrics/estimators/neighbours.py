"""Mutual information of continuous variables, estimated from distances to nearest neighbours."""

import numpy as np

from betavae.metrics.information import entropy


def neighbour_information(
    latents: np.ndarray, factors: np.ndarray, continuous: np.ndarray, num_neighbours: int
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the mutual information of each latent and each factor, and of each factor with itself.

    Args:
        latents: (N, D) continuous latents.
        factors: (N, K) factors that vary.
        continuous: (K,) mask of continuous factors.
        num_neighbours: number of nearest neighbours.

    Returns:
        (D, K) and (K,) information in nats. The information of a label with itself is its entropy.

    Example:
        >>> labels = np.arange(1000)[:, None] % 2
        >>> shared, own = neighbour_information(labels + 0.1, labels, np.array([False]), 10)
        >>> own.round(2)
        array([0.69])
    """
    own = np.empty(factors.shape[1])
    shared = np.empty((latents.shape[1], factors.shape[1]))
    for k, column in enumerate(factors.T):
        estimate = continuous_information if continuous[k] else nearest_neighbour_information
        shared[:, k] = [estimate(latent, column, num_neighbours) for latent in latents.T]
        own[k] = (
            continuous_information(column, column, num_neighbours)
            if continuous[k]
            else entropy(np.unique(column, return_counts=True)[1])
        )
    return shared, own


def tell_apart(latents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise with a standard deviation of 1e-7 to standardised latents, so that no two values are equal.

    Example:
        >>> z = tell_apart(np.zeros((100, 1)), np.random.default_rng(0))
        >>> len(np.unique(z)), bool(abs(z).max() < 1e-6)
        (100, True)
    """
    return np.asarray(latents + 1e-7 * rng.normal(size=latents.shape))


def nearest_neighbour_information(latent: np.ndarray, labels: np.ndarray, num_neighbours: int = 10) -> float:
    """Estimate the mutual information of a continuous latent and a discrete factor from nearest neighbours, in nats.

    For row i, r is the distance to its k-th neighbour among the N_y rows with the same label (k is at most N_y - 1),
    and m is the number of rows with any label that are closer than r, including i.
    I = psi(N) + mean psi(k) - mean psi(N_y) - mean psi(m). Rows with a unique label are left out.

    Source:
        Mutual Information between Discrete and Continuous Data Sets (Ross, 2014), equation 2.
        https://doi.org/10.1371/journal.pone.0087357

    Args:
        latent: (N,) numbers.
        labels: (N,) integers.
        num_neighbours: number of neighbours k.

    Returns:
        Information in nats, at least 0.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(2, size=2000)
        >>> round(nearest_neighbour_information(labels + rng.normal(0, 0.01, 2000), labels), 2)  # log 2
        0.69
    """
    from scipy.special import digamma

    radius = np.zeros(len(latent))
    used = np.zeros(len(latent), np.int64)
    sizes = np.zeros(len(latent), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            continue
        k = min(num_neighbours, len(rows) - 1)
        rows = rows[np.argsort(latent[rows], kind="stable")]
        ordered = np.concatenate([np.full(k, -np.inf), latent[rows], np.full(k, np.inf)])
        n = len(rows)
        # The k nearest neighbours lie in a window of k + 1 consecutive sorted values that contains the row.
        windows = [
            np.maximum(
                ordered[k : k + n] - ordered[k - j : k - j + n], ordered[2 * k - j : 2 * k - j + n] - ordered[k : k + n]
            )
            for j in range(k + 1)
        ]
        radius[rows], used[rows], sizes[rows] = np.min(windows, axis=0), k, n
    kept = used > 0
    if not kept.any():
        return 0.0
    z = latent[kept]
    r = np.maximum(radius[kept] - 2 * np.spacing(np.abs(z).max()), 0)  # the k-th neighbour itself is not counted
    ordered = np.sort(z)
    closer = np.searchsorted(ordered, z + r, side="right") - np.searchsorted(ordered, z - r, side="left")
    nats = digamma(len(z)) + np.mean(digamma(used[kept]) - digamma(sizes[kept]) - digamma(np.maximum(closer, 1)))
    return max(0.0, float(nats))


def continuous_information(first: np.ndarray, second: np.ndarray, num_neighbours: int = 10) -> float:
    """Estimate the mutual information of two continuous variables from nearest neighbours, in nats.

    Both variables are standardised. For row i, r is the distance to its k-th neighbour in the plane by the maximum
    norm, and n_1 and n_2 are the numbers of other rows that are closer than r in the first and second variable.
    I = psi(N) + psi(k) - mean psi(n_1 + 1) - mean psi(n_2 + 1).

    Source:
        Estimating Mutual Information (Kraskov, Stoegbauer & Grassberger, 2004), equation 8.
        https://doi.org/10.1103/PhysRevE.69.066138

    Args:
        first: (N,) numbers.
        second: (N,) numbers.
        num_neighbours: number of neighbours k.

    Returns:
        Information in nats, at least 0.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> a, b = rng.normal(size=(2, 5000))
        >>> round(continuous_information(a, 0.6 * a + 0.8 * b), 1)  # -log(1 - 0.36) / 2 = 0.22
        0.2
    """
    from scipy.spatial import cKDTree
    from scipy.special import digamma

    plane = np.stack([(x - x.mean()) / (x.std() or 1) for x in (first.astype(float), second.astype(float))], axis=1)
    n = len(plane)
    k = min(num_neighbours, n - 1)
    radius = cKDTree(plane).query(plane, k=[k + 1], p=np.inf)[0][:, 0]
    nats = digamma(n) + digamma(k)
    for x in plane.T:
        ordered = np.sort(x)
        r = np.maximum(radius - 2 * np.spacing(np.abs(x).max()), 0)  # the k-th neighbour itself is not counted
        closer = np.searchsorted(ordered, x + r, side="right") - np.searchsorted(ordered, x - r, side="left")
        nats -= float(np.mean(digamma(np.maximum(closer, 1))))  # closer counts the row itself, so it is n + 1
    return max(0.0, float(nats))
