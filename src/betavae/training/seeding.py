"""Derivation of random numbers from the seed, a purpose and a count, without generators that keep a state."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from betavae.config import Config

_SEED_PURPOSES = {
    "weights": 1,
    "order": 2,
    "noise": 3,
    "validation": 4,
    "more noise": 5,
    "more validation": 6,
    "pairs": 7,
    "labelled": 8,
    "validation pairs": 9,
    "rotation": 10,
    "layers": 11,
    "correlated": 12,
    "correlated labels": 13,
    "correlated sample": 14,
}


def seeds(config: Config) -> dict[str, int]:
    """Return the first seed of each purpose. Later steps, batches and epochs use a larger count."""
    return {purpose: derive_seed(config, purpose) for purpose in _SEED_PURPOSES}


def derive_seed(config: Config, purpose: str, count: int = 0) -> int:
    """Return the seed for a purpose and a count, such as the step."""
    return int(np.random.SeedSequence([config.seed, _SEED_PURPOSES[purpose], count]).generate_state(1, np.uint64)[0])


def draw_noise(config: Config, purpose: str, count: int, shape: Sequence[int], device: torch.device) -> Tensor:
    """Draw standard normal noise for a purpose and a count."""
    generator = torch.Generator(device).manual_seed(derive_seed(config, purpose, count))
    return torch.randn(shape, generator=generator, device=device)


@contextmanager
def seeded_global_generator(seed: int) -> Iterator[None]:
    """Seed PyTorch's global CPU generator inside the context, and restore its state afterwards.

    The generator is global: other threads that use it are affected as well.
    """
    previous = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(previous)
