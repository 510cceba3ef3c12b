"""Mutual information between latents and factors, estimated from histograms."""

from dataclasses import dataclass

import numpy as np

from betavae.metrics.inputs import check_classes, check_tables, draw_rows, standard_deviation
from betavae.metrics.protocol import Protocol, choose, prepare, sample_sizes


@dataclass(frozen=True)
class Information:
    """Entropies and mutual information of D binned latents and K factors, in nats.

    Attributes:
        shared: (D, K) mutual information of each latent and each factor.
        joint: (D, K) joint entropy of each latent and each factor.
        latent_entropy: (D,) entropy of the bins of each latent.
        factor_entropy: (K,) entropy of each factor.
        num_bins: number of bins for each latent.
        noise: (D, K) significance threshold: one of 10,000 independent pairs has a bias-corrected information above it.
            It is 0 without bias correction, and where there are fewer rows than cells, because the chi-squared
            approximation does not hold there.
    """

    shared: np.ndarray
    joint: np.ndarray
    latent_entropy: np.ndarray
    factor_entropy: np.ndarray
    num_bins: int
    noise: np.ndarray | float = 0.0

    @property
    def varying(self) -> np.ndarray:
        """(K,) mask of the factors that have more than one value."""
        return np.asarray(self.factor_entropy > 0)


def measure_information(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_bins: int = 20,
    with_replacement: bool | None = None,
    bias_correction: bool | None = None,
) -> Information:
    """Estimate entropies and mutual information from equal-width bins of all latents, including inactive ones.

    The plug-in estimate of an entropy, - sum p log p with the observed frequencies p, is too small by about
    (occupied cells - 1) / (2 N) nats. The Miller-Madow correction adds this value. Without the correction, the
    estimated mutual information of independent variables is about (bins - 1)(values - 1) / (2 N), so it is larger for
    factors with more values.

    Source:
        Estimation of Entropy and Mutual Information (Paninski, 2003), section 4.2 (plug-in and Miller-Madow).
        https://doi.org/10.1162/089976603321780272

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of rows drawn; see `sample_sizes`.
        num_bins: number of equal-width bins for each latent, from its minimum to its maximum over the drawn rows.
        with_replacement: draw rows with replacement; defaults to the preset's value.
        bias_correction: apply the Miller-Madow correction to entropies; defaults to the preset's value.

    Returns:
        The `Information`, in nats; a constant latent or factor has entropy 0.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(4, size=(1000, 1))
        >>> information = measure_information(factors * 0.5, factors, seed=0, num_train=1000, bias_correction=False)
        >>> information.shared.round(2), np.log(4).round(2)
        (array([[1.38]]), np.float64(1.39))
    """
    latents, factors = check_tables(latents, factors)
    if num_bins < 2:
        raise ValueError(f"num_bins must be at least 2, got {num_bins}")
    protocol = choose(preset, with_replacement=with_replacement, bias_correction=bias_correction)
    size, _ = sample_sizes(len(latents), protocol, num_train)
    (rows,) = draw_rows(len(latents), (size,), np.random.default_rng(seed), with_replacement=protocol.with_replacement)
    check_classes(factors[rows])
    return count_information(discretise(latents[rows], num_bins), factors[rows], num_bins, protocol.bias_correction)


def information_of_kept(
    latents: np.ndarray, factors: np.ndarray, protocol: Protocol, *, seed: int, num_train: int | None, num_bins: int
) -> Information:
    """Estimate the `Information` of the latents that a protocol keeps; see `measure_information`.

    Example:
        >>> latents, factors = np.array([[0.0, 7], [1, 7]] * 50), np.array([[0], [1]] * 50)
        >>> information_of_kept(latents, factors, Protocol(), seed=0, num_train=None, num_bins=20).shared.shape
        (1, 1)
    """
    latents, factors = prepare(latents, factors, protocol)
    return measure_information(latents, factors, seed=seed, preset=protocol, num_train=num_train, num_bins=num_bins)


def count_information(
    binned: np.ndarray, factors: np.ndarray, num_bins: int, bias_correction: bool = False
) -> Information:
    """Estimate the `Information` of discrete latents.

    Args:
        binned: (N, D) integers in 0 .. num_bins - 1.
        factors: (N, K) integers.
        num_bins: number of possible values of a latent.
        bias_correction: apply the Miller-Madow correction.

    Returns:
        The `Information`, in nats.

    Example:
        >>> latents, factors = np.array([[0], [0], [1], [1]]), np.array([[5, 0], [5, 1], [7, 0], [7, 1]])
        >>> count_information(latents, factors, 2).shared.round(3)
        array([[0.693, 0.   ]])
    """
    joint, cells = np.empty((2, binned.shape[1], factors.shape[1]))
    factor_entropy, num_values = np.empty((2, factors.shape[1]))
    for k, column in enumerate(factors.T):
        values, label = np.unique(column, return_inverse=True)
        factor_entropy[k], num_values[k] = entropy(np.bincount(label), bias_correction), len(values)
        for d, latent in enumerate(binned.T):
            counts = np.bincount(label * num_bins + latent)
            joint[d, k], cells[d, k] = entropy(counts, bias_correction), np.count_nonzero(counts)
    latent_counts = [np.bincount(latent) for latent in binned.T]
    latent_entropy = np.array([entropy(counts, bias_correction) for counts in latent_counts])
    shared = (latent_entropy[:, None] + factor_entropy - joint).clip(min=0.0)
    if not bias_correction:
        return Information(shared, joint, latent_entropy, factor_entropy, num_bins)
    occupied = np.array([np.count_nonzero(counts) for counts in latent_counts])[:, None]
    noise = _likelihood_ratio((occupied - 1) * (num_values - 1)) + occupied + num_values - cells - 1
    noise = np.where(len(binned) >= occupied * num_values, noise / (2 * len(binned)), 0.0)
    return Information(shared, joint, latent_entropy, factor_entropy, num_bins, noise)


def _likelihood_ratio(freedom: np.ndarray) -> np.ndarray:
    """Return 2 N times the plug-in information above which one of 10,000 independent pairs lies (G test)."""
    from scipy.stats import chi2

    return np.asarray(chi2.ppf(0.9999, freedom))


def discretise(latents: np.ndarray, num_bins: int = 20) -> np.ndarray:
    """Discretise each latent into equal-width bins from its minimum to its maximum.

    Args:
        latents: (N, D) latents.
        num_bins: number of bins for each latent, at least 1.

    Returns:
        (N, D) integers in 0 .. num_bins - 1, int16 if ``num_bins`` fits; all equal for a constant latent.

    Example:
        >>> discretise(np.array([[0.0], [0.4], [1.0]]), num_bins=2).ravel()
        array([0, 0, 1], dtype=int16)
    """
    binned = np.zeros(latents.shape, np.int16 if num_bins <= np.iinfo(np.int16).max else np.int64)
    for d in np.flatnonzero(standard_deviation(latents)):
        edges = np.histogram_bin_edges(latents[:, d].astype(np.float64), num_bins)
        binned[:, d] = np.digitize(latents[:, d], edges[1:-1])
    return binned


def entropy(counts: np.ndarray, bias_correction: bool = False) -> float:
    """Estimate the entropy of a distribution in nats from the count of each value.

    Example:
        >>> round(entropy(np.array([5, 5, 0])), 4), round(entropy(np.array([5, 5, 0]), bias_correction=True), 4)
        (0.6931, 0.7431)
    """
    occupied = counts[counts > 0]
    share = occupied / occupied.sum()
    nats = float((share * -np.log(share)).sum())
    return nats + (len(occupied) - 1) / (2 * int(occupied.sum())) if bias_correction else nats
