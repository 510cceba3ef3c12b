"""The Bernoulli likelihood of images in plain PyTorch."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def bernoulli_error(
    logits: Float[Tensor, "*batch channel height width"], images: Float[Tensor, "*batch channel height width"]
) -> Float[Tensor, "*batch"]:
    """Negative log likelihood of each image, -Σ x log σ(l) + (1 - x) log(1 - σ(l)) over its pixels, in nats.

    Args:
        logits: l of each pixel.
        images: pixels x in [0, 1].

    Returns:
        One value an image, at least 0, in nats.
    """
    return F.binary_cross_entropy_with_logits(logits, images, reduction="none").sum((-3, -2, -1))
