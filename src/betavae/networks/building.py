"""Builds the networks of an architecture, and checks the shapes that networks return."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from betavae.networks.layers import ImageShape
from betavae.networks.registry import ARCHITECTURES


def build_networks(name: str, image_shape: ImageShape, latent_dim: int) -> tuple[nn.Module, nn.Module]:
    """Build the encoder and the decoder of an architecture.

    Raises:
        ValueError: the architecture does not take the image shape, fails, or does not return two modules.
    """
    try:
        networks: Any = ARCHITECTURES[name](image_shape, latent_dim)
    except (ValueError, RuntimeError, MemoryError):  # these say what is wrong
        raise
    except Exception as error:
        raise ValueError(f"model {name} cannot be made ({type(error).__name__}: {error})") from error
    given = list(networks) if isinstance(networks, tuple | list) else [networks]
    if len(given) != 2 or not all(isinstance(network, nn.Module) for network in given):
        kinds = ", ".join(type(network).__name__ for network in given)
        raise ValueError(f"model {name} gives {kinds}; it must give an encoder and a decoder, two of nn.Module")
    return given[0], given[1]


def check_networks(encoder: nn.Module, decoder: nn.Module, image_shape: ImageShape, latent_dim: int, name: str) -> None:
    """Reject networks that fail or return a wrong shape.

    Args:
        encoder: images (B, C, H, W) to (B, 2 * latent_dim).
        decoder: latents (B, latent_dim) to (B, C, H, W).
        image_shape: (C, H, W).
        latent_dim: number of latents.
        name: what the networks are, for the error message.

    Raises:
        ValueError: with the network, the shapes and the reason.
    """
    images, latents = torch.zeros(2, *image_shape), torch.zeros(2, latent_dim)
    checks = {"encoder": (encoder, images, (2, 2 * latent_dim)), "decoder": (decoder, latents, tuple(images.shape))}
    with torch.no_grad(), ExitStack() as modes:
        for part, (network, batch, expected) in checks.items():
            modes.enter_context(evaluation_mode(network))
            shape = tuple(batch.shape)
            try:
                output_shape = tuple(network(batch).shape)
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise ValueError(f"{name}: its {part} fails for a batch of shape {shape}: {reason}") from error
            if output_shape != expected:
                raise ValueError(
                    f"{name}: its {part} returns the shape {output_shape} for a batch of shape {shape}; it must be "
                    f"{expected}"
                )


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Set a model to evaluation mode inside the context, and restore the mode of each module afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training
