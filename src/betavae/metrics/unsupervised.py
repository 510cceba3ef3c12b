"""Scores that need no factors: dependence between latents, and the number of active latents."""

import math

import numpy as np

from betavae.metrics.information import count_information, discretise
from betavae.metrics.inputs import active_latents, draw_rows, standard_deviation
from betavae.metrics.protocol import Protocol, choose, prepare, sample_sizes
from betavae.metrics.record import Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined


def unsupervised(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_bins: int = 20,
    with_replacement: bool | None = None,
) -> dict[str, float]:
    """Measure the dependence between latents, from their covariance C and from pairs of binned latents.

    - ``gaussian_total_correlation`` = (sum of log C_dd - log det C) / 2, in nats: the total correlation of a Gaussian
      with this covariance
    - ``gaussian_wasserstein_correlation`` = 2 tr C - 2 tr (diag(C)^1/2 C diag(C)^1/2)^1/2: squared Wasserstein distance
      between that Gaussian and the one without correlations; ``..._normalised`` is divided by tr C
    - ``mutual_information``: mean over pairs of different latents, in nats, 20 bins, plug-in estimate
    - ``active_latents``: number of active latents (see `betavae.metrics.inputs.active_latents`)

    In disentanglement_lib, a constant latent makes the first score undefined. Here, the Gaussian scores leave out
    constant latents, and the mutual information of a constant latent and any other latent is 0. None of these scores
    depends on the factors.

    Source:
        Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        2019), appendix. https://arxiv.org/abs/1811.12359

    Args:
        latents: (N, D) latents.
        factors: (N, K) any numbers; not used. The argument exists because all metrics have it.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of rows drawn; see `sample_sizes`.
        num_bins: number of equal-width bins for each latent.
        with_replacement: draw rows with replacement; defaults to the preset's value.

    Returns:
        The scores above, at least 0; smaller values mean less dependence. ``nan`` with one warning when fewer than two
        latents vary.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> a = rng.normal(size=5000)
        >>> latents = np.stack([a, 0.6 * a + 0.8 * rng.normal(size=5000)], axis=1)  # correlation 0.6
        >>> scores = unsupervised(latents, np.zeros((5000, 1), int), seed=0, num_train=5000)
        >>> round(scores["gaussian_total_correlation"], 1), scores["active_latents"]
        (0.2, 2.0)
    """
    protocol = choose(preset, with_replacement=with_replacement)
    latents, factors = prepare(latents, factors, protocol, integer_factors=False)
    size, _ = sample_sizes(len(latents), protocol, num_train)
    (rows,) = draw_rows(len(latents), (size,), np.random.default_rng(seed), with_replacement=protocol.with_replacement)
    z = latents[rows].astype(np.float64)
    num_active = float(active_latents(latents).sum())
    binned = discretise(z, num_bins)
    z = z[:, standard_deviation(z) > 0]
    if z.shape[1] < 2:
        warn_undefined("dependence between latents", f"it needs two latents that vary, got {z.shape[1]}")
        names = ("total_correlation", "wasserstein_correlation", "wasserstein_correlation_normalised")
        missing = {f"gaussian_{name}": float("nan") for name in names}
        return missing | {"mutual_information": float("nan"), "active_latents": num_active}
    covariance = np.cov(z.T)
    distance = _wasserstein_correlation(covariance)
    pairs = count_information(binned, binned, num_bins).shared[~np.eye(binned.shape[1], dtype=bool)]
    return {
        "gaussian_total_correlation": float((np.log(np.diag(covariance)).sum() - np.linalg.slogdet(covariance)[1]) / 2),
        "gaussian_wasserstein_correlation": distance,
        "gaussian_wasserstein_correlation_normalised": distance / float(np.trace(covariance)),
        "mutual_information": float(pairs.mean()),
        "active_latents": num_active,
    }


def _wasserstein_correlation(covariance: np.ndarray) -> float:
    std = np.sqrt(np.diag(covariance))
    eigenvalues = np.linalg.eigvalsh(covariance * std[:, None] * std)
    return max(0.0, float(2 * np.trace(covariance) - 2 * np.sqrt(eigenvalues.clip(min=0)).sum()))


METRIC = Metric(
    "unsupervised",
    unsupervised,
    {
        "gaussian_total_correlation": ScoreInfo(
            0, math.inf, False, "total correlation of the latents as a Gaussian, in nats", ignores_factors=True
        ),
        "gaussian_wasserstein_correlation": ScoreInfo(
            0, math.inf, False, "Wasserstein distance to independent latents", ignores_factors=True
        ),
        "gaussian_wasserstein_correlation_normalised": ScoreInfo(
            0, 2, False, "Wasserstein distance to independent latents, over their variance", ignores_factors=True
        ),
        "mutual_information": ScoreInfo(
            0, math.inf, False, "mean mutual information of two latents, in nats", ignores_factors=True
        ),
        "active_latents": ScoreInfo(0, math.inf, None, "number of active latents", 0, True),
    },
    "dependence between latents; no factors needed",
    takes_continuous=True,
)
