"""Rotation of the latent space to minimal total correlation (ICA-like). The decoded image of each mean is unchanged."""

import math
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from betavae.model import VAE, Posterior

ANGLES = 30
"""Number of angles evaluated for each pair of latents, from -45 to 45 degrees."""
SWEEPS = 5
"""Maximum number of sweeps over all pairs of latents."""
LEAST_GAIN = 0.005
"""Minimum gain, in nats, to rotate a pair of latents with 8,192 samples. For two independent Gaussian latents, the best
angle exceeds this gain by chance in one of a hundred cases. With fewer samples (at least 64), the threshold is
multiplied by (8192 / samples) ** 0.72."""


def independent_axes(
    latents: Float[NDArray[np.float64], "samples latents"], log_vars: Float[NDArray[np.float64], " latents"]
) -> Float[NDArray[np.float64], "latents latents"]:
    """Find the rotation R that minimises the dependence between the latents R z, pair by pair.

    TC(z) = Σ H(z_k) - H(z). A rotation does not change the joint entropy H(z), so it is enough to minimise the sum of
    the marginal entropies. They are estimated from spacings of sorted samples (Vasicek 1976), for `ANGLES` angles of
    each pair.

    Rotating two latents with different posterior variances makes their posteriors less precise. The cost of a pair
    therefore includes the divergence of the closest diagonal posterior from the rotated one,
    ½ Σ log (Σ R_kj² / σ_j²) + ½ Σ log σ_j².

    Two Gaussian latents with equal variance have the same cost at all angles. They are not rotated, except in one of a
    hundred cases, where the rotation has no effect on the loss.

    Source:
        ICA Using Spacings Estimates of Entropy (Learned-Miller & Fisher 2003), without the whitening, which would
        change the KL term (rate). https://www.jmlr.org/papers/v4/learned-miller03a.html

    Args:
        latents: thousands of samples of q(z).
        log_vars: log σ² of the posteriors, averaged over images.

    Returns:
        The rotation R.

    Example:
        >>> square = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
        >>> diamond = square @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
        >>> np.abs(independent_axes(diamond, np.zeros(2))).round(1)
        array([[0.7, 0.7],
               [0.7, 0.7]])
    """
    latents, log_vars, rotation = latents.copy(), log_vars.copy(), np.eye(latents.shape[1])
    angles = (np.arange(ANGLES) / ANGLES - 0.5) * math.pi / 2
    candidates = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]]).transpose(2, 0, 1)
    least_gain = LEAST_GAIN * (8192 / len(latents)) ** 0.72
    for _ in range(SWEEPS):
        before = rotation.copy()
        for i, j in combinations(range(latents.shape[1]), 2):
            pair, precision = latents[:, [i, j]].T, np.exp(-log_vars[[i, j]])
            costs = (_entropy(candidates @ pair) + 0.5 * np.log(candidates**2 @ precision)).sum(1)
            best = int(costs.argmin())
            if costs[ANGLES // 2] - costs[best] > least_gain:
                latents[:, [i, j]] = (candidates[best] @ pair).T
                log_vars[[i, j]] = candidates[best] ** 2 @ log_vars[[i, j]]
                rotation[[i, j]] = candidates[best] @ rotation[[i, j]]
        if np.array_equal(rotation, before):
            break
    return rotation


def _entropy(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Estimate the differential entropy in nats along the last axis, from m-spacings with m = √(number of samples)."""
    count = samples.shape[-1]
    m = math.isqrt(count)
    samples = np.sort(samples, -1)
    spacings = samples[..., m:] - samples[..., :-m]
    entropy: NDArray[np.float64] = np.log(np.maximum(spacings, 1e-12) * (count + 1) / m).mean(-1)
    return entropy


def linear_ends(model: VAE) -> tuple[nn.Linear, nn.Linear]:
    """Return the last layer of the encoder and the first layer of the decoder, which absorb a rotation.

    Raises:
        ValueError: The layers are not linear.
    """
    encoder, decoder = model.encoder, model.decoder
    if isinstance(encoder, nn.Sequential) and isinstance(decoder, nn.Sequential):
        last, first = encoder[-1], decoder[0]
        if isinstance(last, nn.Linear) and isinstance(first, nn.Linear):
            return last, first
    raise ValueError(
        "rotate_at needs an nn.Sequential encoder whose last layer is nn.Linear, and an nn.Sequential decoder whose "
        "first layer is nn.Linear; this architecture has other layers: remove rotate_at, or use another model"
    )


@torch.no_grad()
def rotate(
    model: VAE, posterior: Posterior, noise: Float[Tensor, "samples latents"]
) -> Float[Tensor, "latents latents"]:
    """Rotate the latent space of a model in place, to minimise the dependence between sampled latents.

    With the rotation R, a mean m becomes R m, and the first weights W of the decoder become W Rᵀ, so the decoded image
    of each mean does not change. Log variances become (R∘R) log σ², which is exact if all latents of an image have
    equal variances.

    Args:
        model: model to rotate.
        posterior: posteriors of many images.
        noise: standard normal noise for sampling the posteriors.

    Returns:
        The rotation R.

    Raises:
        ValueError: The last layer of the encoder or the first layer of the decoder is not linear.
    """
    last, first = linear_ends(model)
    latents, log_vars = (table.cpu().double().numpy() for table in (posterior.sample(noise), posterior.log_var.mean(0)))
    rotation = torch.from_numpy(independent_axes(latents, log_vars)).to(first.weight)
    last.weight.copy_(torch.cat(Posterior(*last.weight.T.chunk(2, 1)).rotated(rotation), 1).T)
    if last.bias is not None:
        last.bias.copy_(torch.cat(Posterior(*last.bias[None].chunk(2, 1)).rotated(rotation), 1)[0])
    first.weight.copy_(first.weight @ rotation.T)
    return rotation
