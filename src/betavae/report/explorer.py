"""Prepares the explorer of the report: the range and the histogram of each latent, and the start images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from betavae.model import VAE

BINS = 32
"""Number of bars in the histogram behind a slider."""
_SAMPLES = 20_000


@dataclass(frozen=True)
class LatentSummary:
    """The slider of one latent.

    Attributes:
        index: index of the latent.
        kl: KL of the latent, in nats.
        low: lower end of the slider.
        high: upper end of the slider.
        counts: histogram of the aggregate posterior between `low` and `high`, scaled to a maximum of 1.
        captures: factors that the latent captures, each with the fraction of its entropy that the latent explains.
    """

    index: int
    kl: float
    low: float
    high: float
    counts: tuple[float, ...]
    captures: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Explorer:
    """A model to explore in a page.

    Attributes:
        model: the model, on the CPU and in evaluation mode.
        latents: one summary per latent, in the order of the sliders.
        seed_images: start images (S, C, H, W) uint8, 0 to 255.
        seed_latents: posterior means of the start images (S, D).
    """

    model: VAE
    latents: Sequence[LatentSummary]
    seed_images: NDArray[np.uint8]
    seed_latents: NDArray[np.float32]


def describe_latents(
    mean: NDArray[np.float32],
    log_var: NDArray[np.float32],
    kl: NDArray[np.float64],
    captures: Sequence[Sequence[tuple[str, float]]],
) -> list[LatentSummary]:
    """Compute the sliders, sorted by KL. A slider spans 99 % of the aggregate posterior q(z), and at least -2 to 2.

    The aggregate posterior is the mixture of the posteriors of all images. Its quantiles are estimated from samples.

    Args:
        mean: posterior means (N, D).
        log_var: posterior log variances (N, D).
        kl: KL of each latent (D,), in nats.
        captures: for each latent, the factors that it captures, with their strengths.

    Returns:
        One summary per latent, the largest KL first.

    Raises:
        ValueError: the shapes of the tables do not match.

    Example:
        >>> latent, = describe_latents(np.zeros((9, 1), np.float32), np.zeros((9, 1), np.float32), np.zeros(1), [[]])
        >>> latent.low <= -2, latent.high >= 2, len(latent.counts) == BINS
        (True, True, True)
    """
    if mean.shape != log_var.shape or kl.shape != mean.shape[1:] or len(captures) != len(kl):
        raise ValueError(
            f"mean {mean.shape}, log_var {log_var.shape}, kl {kl.shape} and {len(captures)} lists of factors do not "
            "fit together: pass (N, D), (N, D), (D,) and D lists"
        )
    rng = np.random.default_rng(0)
    rows = rng.integers(len(mean), size=_SAMPLES)
    samples = mean[rows] + np.exp(0.5 * log_var[rows]) * rng.standard_normal((_SAMPLES, mean.shape[1]))
    low, high = np.quantile(samples, [0.005, 0.995], axis=0)
    low, high = np.minimum(np.floor(10 * low) / 10, -2), np.maximum(np.ceil(10 * high) / 10, 2)
    latents = []
    for d in np.argsort(-kl, kind="stable"):
        counts, _ = np.histogram(samples[:, d], BINS, (low[d], high[d]))
        latents.append(
            LatentSummary(
                int(d),
                float(kl[d]),
                float(low[d]),
                float(high[d]),
                tuple((counts / counts.max()).tolist()),
                tuple(captures[d]),
            )
        )
    return latents
