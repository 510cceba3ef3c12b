"""What an objective requires besides images, and the numbers it schedules. Imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

PairRule = Literal["locatello", "one", "uniform"]


@dataclass(frozen=True)
class Needs:
    """Requirements of an objective besides images and noise. The settings declare them in a property `needs`."""

    batch_images: int = 1
    """Minimum number of images in a batch."""
    because: str = ""
    """Reason for this minimum, as the beginning of a sentence."""
    latents: int = 1
    """Minimum number of latents. An objective that compares latents needs at least two."""
    halves: bool = False
    """Whether the two halves of a batch have different purposes. The batch size must then be even."""
    pairs: PairRule | None = None
    """Rule for drawing image i of the second half as the partner of image i of the first half."""
    labelled_images: int | float = 0
    """Number or share of training images with labels. Without pairs, the second half of a batch is labelled."""
    more_noise: bool = False
    """Whether the objective needs a second table of standard normal noise."""
    discrete_latents: bool = False
    """Whether the latents are discrete, as those of a quantised latent space."""
    posterior_in_memory: tuple[str, str] | None = None
    """Names of the posterior means and log variances in the objective's memory. Both are rotated with the latent
    space."""
    weight_decay: float = 0.0
    """Decoupled weight decay of the model; biases and codebooks are excluded."""
    network_learning_rate: float = 0.0
    """Learning rate of the objective's own network, if it has one. It follows the model's learning-rate schedule."""


def schedule_of(settings: object, step: int) -> dict[str, float]:
    """Return the scheduled numbers of an objective for a step; empty if its settings have no method ``schedule``.

    Example:
        >>> from betavae.objectives.settings import Beta, Vae
        >>> schedule_of(Beta(beta=4.0, warmup_steps=100), 50), schedule_of(Vae(), 50)
        ({'beta': 2.0}, {})
    """
    schedule: Callable[[int], dict[str, float]] | None = getattr(settings, "schedule", None)
    return schedule(step) if schedule else {}


def needs_of(settings: object) -> Needs:
    """Return the requirements of an objective; the defaults if its settings have no property ``needs``.

    Example:
        >>> from betavae.objectives.settings import AdaGvae, Beta
        >>> needs_of(Beta()).pairs, needs_of(AdaGvae()).pairs
        (None, 'locatello')
    """
    needs: Needs = getattr(settings, "needs", Needs())
    return needs
