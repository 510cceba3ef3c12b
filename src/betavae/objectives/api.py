"""What is minimised: pure functions of tensors, and the first objectives composed of them.

Conventions, the same everywhere: a term is summed over pixels or latents and averaged over the images of a batch; it is
in nats; β multiplies the summed KL.

An objective is a function `(settings, model, batch) -> Loss`. It encodes and decodes, and draws nothing at random by
itself: the noise and the step are in the batch. So an objective may change the posterior before sampling (pairs of
images are the two halves of a batch), use half a batch for a second purpose, weigh its terms by the step, or hand
something to the next step, as a controller does. What else it takes, its settings say (`settings.Needs`).

The other objectives are in `objectives/`, and so is the table of all.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

Scalar = float | Float[Tensor, ""]
"""What depends on a step, and is a tensor where that is one."""


class Batch(NamedTuple):
    """What an objective sees of one step."""

    images: Float[Tensor, "batch channel height width"]
    """Pixels in [0, 1]."""
    noise: Float[Tensor, "batch latents"]
    """Standard normal, for sampling the posterior."""
    schedule: Mapping[str, Scalar] = MappingProxyType({})
    """What ``schedule(step)`` of the settings returns for this step, such as the weight of the KL term: numbers, or
    tensors without axes if the step is recorded as a CUDA graph."""
    memory: Mapping[str, Tensor] = MappingProxyType({})
    """What the objective returned as `Loss.memory` at the step before; empty at the first. `mean` and `log_var` in it
    are posteriors, which turn when the latents' axes do."""
    more_noise: Float[Tensor, "batch latents"] | None = None
    """Standard normal, independent of `noise`, for objectives that need more of it."""
    labels: Float[Tensor, "batch factors"] | None = None
    """Factors scaled to [0, 1] by their number of values, -1 where not known, for objectives that need them."""
    num_images: int = 0
    """Images that are trained on."""
    network: nn.Module | None = None
    """The objective's own network, such as a discriminator, for objectives that need one."""


class Loss(NamedTuple):
    """What an objective returns."""

    loss: Float[Tensor, ""]
    """To be minimised over the model's parameters."""
    terms: dict[str, Scalar]
    """What the curves show: at least `reconstruction` and `rate`, in nats."""
    memory: Mapping[str, Tensor] = MappingProxyType({})
    """What the next step is to be given, detached; it is part of a checkpoint."""
    network_loss: Float[Tensor, ""] | None = None
    """To be minimised over the objective's own network, and over nothing else; `loss` does not move that network."""
