"""What the page's sliders need: the range of each latent, and images to start from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from betavae.model import VAE

BINS = 32
"""Bars of the histogram behind a slider."""
_SAMPLES = 20_000


@dataclass(frozen=True)
class LatentSummary:
    """One slider.

    Attributes:
        index: which latent.
        kl: KL from the prior, in nats.
        low: lower end of the slider.
        high: upper end.
        counts: histogram of the latent over the data between them, the largest bar being 1.
        captures: factors that it captures, each with the share of the factor's entropy that the latent tells.
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
        model: on the CPU, in evaluation mode.
        latents: one for each latent of the model, in the order of the sliders.
        seed_images: images to start from (S, C, H, W) uint8, 0 to 255.
        seed_latents: their posterior means (S, D).
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
    """The sliders, sorted by KL. A slider spans 99 % of the aggregate posterior q(z), and at least -2 to 2.

    The aggregate posterior is the mixture of the images' posteriors; it is sampled.

    Args:
        mean: posterior means (N, D).
        log_var: posterior log variances (N, D).
        kl: KL of each latent from the prior (D,), in nats.
        captures: for each latent the factors that it captures, with strengths.

    Returns:
        D latents, the largest KL first.

    Raises:
        ValueError: the tables do not fit together.

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
