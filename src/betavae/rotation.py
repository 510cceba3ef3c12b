"""Turning the axes of the code space to the least total correlation, without changing what the model reconstructs."""

import math
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from betavae.model import VAE

ANGLES = 60
"""Angles that are tried for a pair of codes, from -45 degrees on."""
SWEEPS = 3
"""Times that all pairs of codes are gone through."""
LEAST_GAIN = 0.002
"""Nats of total correlation below which a pair is left alone: as much as the estimate errs by."""


def independent_axes(
    codes: Float[NDArray[np.float64], "samples codes"],
) -> Float[NDArray[np.float64], "codes codes"]:
    """The rotation R after which codes R z depend on one another least, found pair by pair.

    TC(z) = Σ H(z_k) - H(z), and no rotation moves the joint entropy: left to minimise is the sum of the marginal ones.
    They are estimated from spacings of sorted samples (Vasicek 1976) at `ANGLES` angles of a pair, whose best is
    taken, for one pair after another. Gaussian codes look alike from all sides, and stay or turn as chance has it.

    Args:
        codes: samples of q(z).

    Source:
        ICA Using Spacings Estimates of Entropy (Learned-Miller & Fisher 2003), without its whitening, which
        would change the rate. https://www.jmlr.org/papers/v4/learned-miller03a.html

    Example:
        >>> square = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
        >>> diamond = square @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
        >>> np.abs(independent_axes(diamond)).round(1)
        array([[0.7, 0.7],
               [0.7, 0.7]])
    """
    codes, rotation = codes.copy(), np.eye(codes.shape[1])
    angles = (np.arange(ANGLES) / ANGLES - 0.5) * math.pi / 2
    turns = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]]).transpose(2, 0, 1)
    for _ in range(SWEEPS):
        for i, j in combinations(range(codes.shape[1]), 2):
            pair = codes[:, [i, j]].T
            entropies = _entropy(turns @ pair).sum(1)
            best = int(entropies.argmin())
            if entropies[ANGLES // 2] - entropies[best] > LEAST_GAIN:
                codes[:, [i, j]] = (turns[best] @ pair).T
                rotation[[i, j]] = turns[best] @ rotation[[i, j]]
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
    layers = [*model.encoder.children()][-1:] + [*model.decoder.children()][:1]
    if len(layers) < 2 or not all(isinstance(layer, nn.Linear) for layer in layers):
        raise ValueError(
            "rotate_at takes an encoder that ends with nn.Linear and a decoder that begins with it, and this "
            "architecture's do not: leave it out"
        )
    last, first = (layer for layer in layers if isinstance(layer, nn.Linear))
    return last, first


@torch.no_grad()
def rotate(model: VAE, codes: Float[Tensor, "samples codes"]) -> None:
    """Turn a model's axes to where codes, sampled from its posteriors, depend on one another least.

    With R the rotation, means become R m and the decoder's first weights W Rᵀ, so that every mean has the image it had.
    A log variance becomes the mean of the old ones, weighed by the squares in its row of R; codes that are as sharp as
    one another stay so. The sums of squared means and of log variances, and with them most of the rate, stay.

    Raises:
        ValueError: the encoder does not end, or the decoder not begin, with a linear layer.
    """
    last, first = linear_ends(model)
    rotation = torch.from_numpy(independent_axes(codes.double().cpu().numpy())).to(first.weight)
    means, log_vars = last.weight.chunk(2)
    last.weight.copy_(torch.cat([rotation @ means, rotation**2 @ log_vars]))
    if last.bias is not None:
        means, log_vars = last.bias.chunk(2)
        last.bias.copy_(torch.cat([rotation @ means, rotation**2 @ log_vars]))
    first.weight.copy_(first.weight @ rotation.T)
