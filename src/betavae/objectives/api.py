"""Interface of objectives: the `Batch` that they receive and the `Loss` that they return.

All objectives use the same conventions: each term is summed over pixels or latents, averaged over the images of a
batch, and given in nats. β multiplies the KL term (rate), which is summed over latents.

An objective is a pure function `(settings, model, batch) -> Loss`. It encodes and decodes images, but draws no random
numbers: the batch contains the noise and the scheduled weights. An objective can therefore change the posterior before
sampling (pairs of images are the two halves of a batch), use half a batch for another purpose, weight its terms by the
step, or pass tensors to the next step, as a controller does. Its settings declare further inputs in `needs.Needs`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

Scalar = float | Float[Tensor, ""]
"""A scheduled number; a tensor without axes if the step is captured in a CUDA graph."""


class Batch(NamedTuple):
    """Inputs of an objective for one step."""

    images: Float[Tensor, "batch channel height width"]
    """Pixels in [0, 1]."""
    noise: Float[Tensor, "batch latents"]
    """Standard normal noise for sampling the posterior."""
    schedule: Mapping[str, Scalar] = MappingProxyType({})
    """Result of ``schedule(step)`` of the settings, such as the weight of the KL term. The values are numbers, or
    tensors without axes if the step is recorded as a CUDA graph."""
    memory: Mapping[str, Tensor] = MappingProxyType({})
    """`Loss.memory` of the previous step; empty at the first step. The names `mean` and `log_var` are reserved for
    posteriors, which are rotated together with the latent space."""
    more_noise: Float[Tensor, "batch latents"] | None = None
    """Further standard normal noise, independent of `noise`, if the objective needs it."""
    labels: Float[Tensor, "batch factors"] | None = None
    """Factors scaled to [0, 1] by their number of values, if the objective needs them. Unknown factors are -1."""
    num_images: int = 0
    """Number of training images."""
    network: nn.Module | None = None
    """The objective's own network, such as a discriminator, if it has one."""


class Loss(NamedTuple):
    """Result of an objective."""

    loss: Float[Tensor, ""]
    """Loss to minimise over the parameters of the model."""
    terms: dict[str, Scalar]
    """Terms for the training curves: at least `reconstruction` and `rate`, in nats."""
    memory: Mapping[str, Tensor] = MappingProxyType({})
    """Detached tensors to pass to the next step; checkpoints include them."""
    network_loss: Float[Tensor, ""] | None = None
    """Loss to minimise over the parameters of the objective's own network only. `loss` does not train this network."""
