"""Training state: model, optimisers and step."""

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.model import VAE
from betavae.networks.building import check_networks
from betavae.objectives.needs import needs_of
from betavae.objectives.registry import objective_of
from betavae.training.devices import choose_device, choose_precision
from betavae.training.optimisers import Adam, optimisers
from betavae.training.rotation import linear_ends
from betavae.training.seeding import derive_seed, seeded_global_generator

_MUCH_MEMORY = 2 << 30


@dataclass
class State:
    """Everything that changes during training. A run resumes from a saved state."""

    model: VAE
    optimisers: tuple[torch.optim.Optimizer, ...]
    """Adam, or Muon and Adam."""
    step: int = 0
    wall_seconds: float = 0.0
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors that the objective passes to the next step; see `Loss.memory`."""
    network: nn.Module | None = None
    """The objective's own network, if it has one."""
    network_optimiser: Adam | None = None
    """Optimiser of the objective's own network."""


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
    """Build an untrained model and its optimisers.

    The objective's own network, if it has one, is trained by a separate Adam with betas 0.5 and 0.9. On CUDA, this
    function makes cuDNN deterministic for the whole process.

    Raises:
        ValueError: The architecture does not accept the images or cannot be rotated, the device is not available, or a
            batch does not fit into its memory.
    """
    device, needs = choose_device(config.device), needs_of(config.objective)
    _check_memory(config, data, device)
    _check_weights(config, data, device)
    network = None
    with seeded_global_generator(derive_seed(config, "weights")), torch.device("cpu"):
        model = build_model(config, data.image_shape)
        check_networks(model.encoder, model.decoder, model.image_shape, model.latent_dim, f"model {config.model}")
        if build := objective_of(config.objective).network:
            network = build(config.objective, config.latent_dim)
    if config.rotate_at:
        linear_ends(model)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.cuda.manual_seed_all(derive_seed(config, "layers"))  # for layers such as dropout; for the whole process
    dtype = torch.bfloat16 if choose_precision(config.precision, device) == "bf16" else torch.float32
    muon_decay = None if config.muon_after is None else needs.weight_decay + config.muon_weight_decay
    model_optimisers = optimisers(model, config.learning_rate, needs.weight_decay, muon_decay, dtype)
    if network is None:
        return State(model, model_optimisers)
    network = network.to(device)
    network_optimiser = Adam(network.parameters(), needs.network_learning_rate, (0.5, 0.9), dtype)
    return State(model, model_optimisers, network=network, network_optimiser=network_optimiser)


def _check_memory(config: Config, data: FactorData, device: torch.device) -> None:
    """Reject batches that do not fit into the device's memory; they cause swapping for hours, or a killed process.

    The size is a lower bound: the value, logit and gradient of each pixel, four bytes each.
    """
    memory, size = memory_of(device), 12 * config.batch_size * math.prod(data.image_shape)
    if memory is not None and size > memory:
        raise ValueError(
            f"batch_size is {config.batch_size}; such a batch needs at least {size / 1e9:,.1f} GB, but {device} has "
            f"{memory / 1e9:,.1f} GB: reduce batch_size"
        )


def _check_weights(config: Config, data: FactorData, device: torch.device) -> None:
    """Reject an architecture whose weights do not fit into the device's memory, and say if they take much of it.

    Each parameter needs 16 bytes: its value, its gradient, and two averages of Adam. Architectures that cannot be built
    without memory are not checked.
    """
    try:
        with torch.device("meta"):
            model = build_model(config, data.image_shape)
    except Exception:  # what is wrong with an architecture is reported when it is built
        return
    memory, count = memory_of(device), sum(parameter.numel() for parameter in model.parameters())
    channels, height, width = data.image_shape
    needs = (
        f"model {config.model} has {count:,} parameters for {width}x{height} pixels with {channels} channels, "
        f"which take at least {16 * count / 1e9:,.1f} GB"
    )
    if memory is not None and 16 * count > memory:
        raise ValueError(f"{needs}, and {device} has {memory / 1e9:,.1f} GB: use --image-size 64 or another model")
    if 16 * count > _MUCH_MEMORY:
        warnings.warn(f"{needs} of memory; --image-size 64 or another model takes less", stacklevel=2)


def memory_of(device: torch.device) -> int | None:
    """Return the memory of a device in bytes; `None` if it is unknown."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None
