"""Everything random follows from the seed, a purpose and a count; nothing keeps a generator."""

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
}


def seeds(config: Config) -> dict[str, int]:
    """The first seed of each purpose; those of later steps, batches and passes follow by their count."""
    return {purpose: derive_seed(config, purpose) for purpose in _SEED_PURPOSES}


def derive_seed(config: Config, purpose: str, count: int = 0) -> int:
    return int(np.random.SeedSequence([config.seed, _SEED_PURPOSES[purpose], count]).generate_state(1, np.uint64)[0])


def draw_noise(config: Config, purpose: str, count: int, shape: Sequence[int], device: torch.device) -> Tensor:
    generator = torch.Generator(device).manual_seed(derive_seed(config, purpose, count))
    return torch.randn(shape, generator=generator, device=device)


@contextmanager
def seeded_global_generator(seed: int) -> Iterator[None]:
    """PyTorch's generator on the CPU with a seed meanwhile, then as it was; for other threads as well."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
