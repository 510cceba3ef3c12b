"""Turning the axes of the latent space to the least total correlation; the image of every mean stays."""

import math
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from betavae.model import VAE, Posterior

ANGLES = 30
"""Angles that are tried for a pair of latents, from -45 degrees on."""
SWEEPS = 5
"""Times that all pairs of latents are gone through at most."""
LEAST_GAIN = 0.005
"""Nats below which a pair of 8,192 samples is left alone: of two Gaussian latents some angle seems that much better by
chance in one case of a hundred. Of fewer, from 64 on, it seems so by (8192 / samples) ** 0.72 times as many nats."""


def independent_axes(
    latents: Float[NDArray[np.float64], "samples latents"], log_vars: Float[NDArray[np.float64], " latents"]
) -> Float[NDArray[np.float64], "latents latents"]:
    """The rotation R after which latents R z depend on one another least, found pair by pair.

    TC(z) = Σ H(z_k) - H(z), and no rotation moves the joint entropy: left to minimise is the sum of the marginal ones.
    They are estimated from spacings of sorted samples (Vasicek 1976) at `ANGLES` angles of a pair. Two latents that are
    unequally sharp would lose sharpness together: to the pair's sum comes the divergence of the nearest diagonal
    posterior from the turned one, ½ Σ log (Σ R_kj² / σ_j²) + ½ Σ log σ_j². A pair of Gaussian latents of one width,
    which looks alike from all sides, stays, but for one in a hundred, whose turning costs nothing.

    Args:
        latents: samples of q(z), thousands.
        log_vars: log σ² of the posteriors, averaged over images.

    Source:
        ICA Using Spacings Estimates of Entropy (Learned-Miller & Fisher 2003), without its whitening, which
        would change the rate. https://www.jmlr.org/papers/v4/learned-miller03a.html

    Example:
        >>> square = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
        >>> diamond = square @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
        >>> np.abs(independent_axes(diamond, np.zeros(2))).round(1)
        array([[0.7, 0.7],
               [0.7, 0.7]])
    """
    latents, log_vars, rotation = latents.copy(), log_vars.copy(), np.eye(latents.shape[1])
    angles = (np.arange(ANGLES) / ANGLES - 0.5) * math.pi / 2
    turns = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]]).transpose(2, 0, 1)
    least_gain = LEAST_GAIN * (8192 / len(latents)) ** 0.72
    for _ in range(SWEEPS):
        before = rotation.copy()
        for i, j in combinations(range(latents.shape[1]), 2):
            pair, sharpness = latents[:, [i, j]].T, np.exp(-log_vars[[i, j]])
            costs = (_entropy(turns @ pair) + 0.5 * np.log(turns**2 @ sharpness)).sum(1)
            best = int(costs.argmin())
            if costs[ANGLES // 2] - costs[best] > least_gain:
                latents[:, [i, j]] = (turns[best] @ pair).T
                log_vars[[i, j]] = turns[best] ** 2 @ log_vars[[i, j]]
                rotation[[i, j]] = turns[best] @ rotation[[i, j]]
        if np.array_equal(rotation, before):
            break
    return rotation


def _entropy(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differential entropy in nats along the last axis, from spacings over about the root of the samples' number."""
    count = samples.shape[-1]
    span = math.isqrt(count)
    samples = np.sort(samples, -1)
    spacings = samples[..., span:] - samples[..., :-span]
    entropy: NDArray[np.float64] = np.log(np.maximum(spacings, 1e-12) * (count + 1) / span).mean(-1)
    return entropy


def linear_ends(model: VAE) -> tuple[nn.Linear, nn.Linear]:
    """The encoder's last and the decoder's first layer, which a rotation goes into.

    Raises:
        ValueError: they are not linear.
    """
    encoder, decoder = model.encoder, model.decoder
    if isinstance(encoder, nn.Sequential) and isinstance(decoder, nn.Sequential):
        last, first = encoder[-1], decoder[0]
        if isinstance(last, nn.Linear) and isinstance(first, nn.Linear):
            return last, first
    raise ValueError(
        "rotate_at takes an encoder and a decoder that are nn.Sequential and end and begin with nn.Linear, and this "
        "architecture's are not: leave it out"
    )


@torch.no_grad()
def rotate(
    model: VAE, posterior: Posterior, noise: Float[Tensor, "samples latents"]
) -> Float[Tensor, "latents latents"]:
    """Turn a model's axes to where latents, sampled from posteriors of many images, depend on one another least.

    With R the rotation, means become R m and the decoder's first weights W Rᵀ: every mean keeps the image it had. Log
    variances become R∘R log σ², which is exact for latents that are equally sharp.

    Returns:
        R.

    Raises:
        ValueError: the encoder does not end, or the decoder not begin, with a linear layer.
    """
    last, first = linear_ends(model)
    latents, log_vars = (table.cpu().double().numpy() for table in (posterior.sample(noise), posterior.log_var.mean(0)))
    rotation = torch.from_numpy(independent_axes(latents, log_vars)).to(first.weight)
    last.weight.copy_(torch.cat(Posterior(*last.weight.T.chunk(2, 1)).rotated(rotation), 1).T)
    if last.bias is not None:
        last.bias.copy_(torch.cat(Posterior(*last.bias[None].chunk(2, 1)).rotated(rotation), 1)[0])
    first.weight.copy_(first.weight @ rotation.T)
    return rotation
