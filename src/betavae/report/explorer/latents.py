"""Prepares the explorer of the report: range, histogram and meaning of each latent, and the start images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from betavae.model import VAE
from betavae.report.explorer.gallery import Gallery
from betavae.report.latent_meaning import WEAK, Motion, Predictions, latent_name

BINS = 32
"""Number of bars in the histogram behind a slider."""
_SAMPLES = 20_000
_NOTHING = 0.05  # a latent that gains less predicts nothing


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
        quality: for each of these factors, how well the latent alone predicts it, such as "R² 0.97"; empty if unknown.
        note: what a latent that captures no factor is: "mixed", "no factor", or "" if unknown.
        sign: -1 if the page shows the negative of the latent, so that its factor grows to the right; otherwise 1.
        across: 1 if the object moves right as the latent grows, -1 if left, 0 if neither.
        up: 1 if the object moves up as the latent grows, -1 if down, 0 if neither.
    """

    index: int
    kl: float
    low: float
    high: float
    counts: tuple[float, ...]
    captures: tuple[tuple[str, float], ...]
    quality: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    sign: int = 1
    across: int = 0
    up: int = 0

    @property
    def name(self) -> str:
        """The name with the sign that the page shows: z3, or −z3."""
        return latent_name(self.index, self.sign)

    @property
    def title(self) -> str:
        """The captured factors, or the name of a latent that captures none."""
        return " + ".join(factor for factor, _ in self.captures) or self.name

    @property
    def shown_range(self) -> tuple[float, float]:
        """The ends of the slider with the shown sign, left and right."""
        return (self.low, self.high) if self.sign > 0 else (-self.high, -self.low)

    @property
    def shown_counts(self) -> tuple[float, ...]:
        """The histogram from left to right."""
        return self.counts[:: self.sign]


@dataclass(frozen=True)
class Explorer:
    """A model to explore in a page.

    Attributes:
        model: the model, on the CPU and in evaluation mode.
        latents: one summary per latent, in the order of the sliders.
        seed_images: start images (S, C, H, W) uint8, 0 to 255.
        seed_latents: posterior means of the start images (S, D).
        gallery: true images with their factors and latents, for the panel of factors and the map.
    """

    model: VAE
    latents: Sequence[LatentSummary]
    seed_images: NDArray[np.uint8]
    seed_latents: NDArray[np.float32]
    gallery: Gallery | None = None


def describe_latents(
    mean: NDArray[np.float32],
    log_var: NDArray[np.float32],
    kl: NDArray[np.float64],
    captures: Sequence[Sequence[tuple[str, float]]],
    signs: NDArray[np.int64] | None = None,
    moves: Motion | None = None,
    predictions: Predictions | None = None,
    factor_names: Sequence[str] = (),
) -> list[LatentSummary]:
    """Compute the sliders, sorted by KL. A slider spans 99 % of the aggregate posterior q(z), and at least -2 to 2.

    The aggregate posterior is the mixture of the posteriors of all images. Its quantiles are estimated from samples.

    Args:
        mean: posterior means (N, D).
        log_var: posterior log variances (N, D).
        kl: KL of each latent (D,), in nats.
        captures: for each latent, the factors that it captures, with their strengths.
        signs: the shown sign of each latent (D,); 1 if None.
        moves: how each latent moves the object.
        predictions: how well each latent predicts each factor.
        factor_names: names of the factors of the predictions.

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
                _quality(int(d), captures[d], predictions, factor_names),
                "" if captures[d] or predictions is None else _note(predictions.gain()[d]),
                1 if signs is None else int(signs[d]),
                0 if moves is None else int(moves.across[d]),
                0 if moves is None else int(moves.up[d]),
            )
        )
    return latents


def _quality(
    latent: int, captures: Sequence[tuple[str, float]], predictions: Predictions | None, names: Sequence[str]
) -> dict[str, str]:
    """For each captured factor, how well the latent alone predicts it, as text."""
    if predictions is None:
        return {}
    texts = {}
    for factor in (factor for factor, _ in captures if factor in names):
        k = names.index(factor)
        value, is_class = predictions.values[latent, k], predictions.kinds[k] == "class"
        texts[factor] = f"{100 * value:.0f} % correct" if is_class else f"R² {value:.2f}"
        if predictions.gain()[latent, k] < WEAK:
            texts[factor] += " (weak)"
    return texts


def _note(gain: NDArray[np.float64]) -> str:
    """What to call a latent with these gains (K,) that captures no factor."""
    return "mixed" if gain.max(initial=0) >= _NOTHING else "no factor"
