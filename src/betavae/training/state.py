"""What changes while training: the model, its optimisers, the step; and how it begins."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.model import VAE
from betavae.objectives.registry import objective_of
from betavae.objectives.settings import needs_of
from betavae.training.devices import choose_device, choose_precision
from betavae.training.encoding import evaluation_mode
from betavae.training.optimisers import Adam, optimisers
from betavae.training.rotation import linear_ends
from betavae.training.seeding import derive_seed, seeded_global_generator


@dataclass
class State:
    """What changes while training: saved and restored, it continues the run."""

    model: VAE
    optimisers: tuple[torch.optim.Optimizer, ...]
    """Adam, or Muon and Adam."""
    step: int = 0
    wall_seconds: float = 0.0
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """What the objective hands from step to step."""
    network: nn.Module | None = None
    """The objective's own network, where it has one."""
    network_optimiser: Adam | None = None


def build_model(config: Config, image_shape: tuple[int, int, int]) -> VAE:
    """Build the untrained model of a run, with the latent transform that its objective declares."""
    transform = objective_of(config.objective).transform
    return VAE(
        config.model,
        image_shape,
        config.latent_dim,
        config.likelihood,
        transform(config.objective, config.latent_dim) if transform else None,
    )


def new_state(config: Config, data: FactorData) -> State:
    """An untrained model and its optimisers.

    Where the objective has a network of its own, it gets an Adam of its own, with betas 0.5 and 0.9. On CUDA, cuDNN is
    told for the whole process to take algorithms that give the same numbers again.

    Raises:
        ValueError: the architecture cannot take the data's images or be rotated, the device is not there, or its memory
            cannot hold a batch.
    """
    device, needs = choose_device(config.device), needs_of(config.objective)
    _check_memory(config, data, device)
    network = None
    with seeded_global_generator(derive_seed(config, "weights")), torch.device("cpu"):
        model = build_model(config, data.image_shape)
        _check_networks(model, config)
        if build := objective_of(config.objective).network:
            network = build(config.objective, config.latent_dim)
    if config.rotate_at:
        linear_ends(model)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.cuda.manual_seed_all(
            derive_seed(config, "layers")
        )  # of layers that draw random numbers, for the whole process
    dtype = torch.bfloat16 if choose_precision(config.precision, device) == "bf16" else torch.float32
    muon_decay = None if config.muon_after is None else needs.weight_decay + config.muon_weight_decay
    own = optimisers(model, config.learning_rate, needs.weight_decay, muon_decay, dtype)
    if network is None:
        return State(model, own)
    network = network.to(device)
    rival = Adam(network.parameters(), needs.network_learning_rate, (0.5, 0.9), dtype)
    return State(model, own, network=network, network_optimiser=rival)


def _check_memory(config: Config, data: FactorData, device: torch.device) -> None:
    """Refuse batches that the device's memory cannot hold: they would end in hours of swapping, or a killed process.

    What is counted is the least: of each pixel its value, its logit and its gradient, four bytes each.
    """
    memory, size = memory_of(device), 12 * config.batch_size * math.prod(data.image_shape)
    if memory is not None and size > memory:
        raise ValueError(
            f"batch_size is {config.batch_size}; such a batch takes {size / 1e9:,.1f} GB and more, and {device} has "
            f"{memory / 1e9:,.1f} GB: ask for fewer images"
        )


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory of a device; None where that cannot be known."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has none
        return None


def _check_networks(model: VAE, config: Config) -> None:
    """Refuse an architecture whose networks do not give what they must."""
    images, latents = torch.zeros(2, *model.image_shape), torch.zeros(2, config.latent_dim)
    given = {"encoder": (images, (2, 2 * config.latent_dim)), "decoder": (latents, tuple(images.shape))}
    with torch.no_grad(), evaluation_mode(model):
        for name, (batch, wanted) in given.items():
            shape = tuple(batch.shape)
            try:
                found = tuple(getattr(model, name)(batch).shape)
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise ValueError(f"model {config.model}: its {name} fails for a batch {shape}: {reason}") from error
            if found != wanted:
                raise ValueError(f"model {config.model}: its {name} gives {found} for a batch {shape}, not {wanted}")
