"""The networks of a model in the form in which they are exported: plain PyTorch, images in [0, 1] at both ends."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from betavae.model import VAE, kernels

TOLERANCE = 1e-4
"""Largest difference between the outputs of an exported network and those of the model."""
_BATCHES = (1, 5)


class Encoder(nn.Module):
    """Images (B, C, H, W) in [0, 1] to posterior means and log variances (B, D)."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means and the log variances."""
        posterior = self.model.represent(self.model.encode(images))
        return posterior.mean, posterior.log_var


class Decoder(nn.Module):
    """Latents (B, D) to expected pixels (B, C, H, W) in [0, 1]."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: Tensor) -> tuple[Tensor]:
        """Return the images."""
        images: Tensor = self.model.decode(latents)
        return (images,)


@dataclass(frozen=True, eq=False)
class Network:
    """A network to export.

    Attributes:
        name: "encoder" or "decoder".
        module: the network.
        example: an input of two samples.
        input_name: name of the input.
        output_names: names of the outputs.
    """

    name: str
    module: nn.Module
    example: Tensor
    input_name: str
    output_names: tuple[str, ...]

    def check(self, run: Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]], what: str) -> None:
        """Compare an exported form with this network, for several batch sizes.

        Args:
            run: computes the outputs of the exported form.
            what: name of the exported form, for the error message.

        Raises:
            RuntimeError: the outputs differ by more than `TOLERANCE`.
        """
        rng = np.random.default_rng(0)
        for count in _BATCHES:
            sample = rng.random((count, *self.example.shape[1:]), np.float32)
            with torch.inference_mode():
                expected = [output.numpy() for output in self.module(torch.from_numpy(sample))]
            for name, found, right in zip(self.output_names, run(sample), expected, strict=True):
                if found.shape != right.shape or not np.allclose(found, right, rtol=TOLERANCE, atol=TOLERANCE):
                    raise RuntimeError(
                        f"the {what} {self.name} differs from the model in {name}, so it is not written; use another "
                        "version of PyTorch, or report it"
                    )


def networks_to_export(model: VAE) -> list[Network]:
    """Return the encoder and the decoder of a model, copied to the CPU, in evaluation mode and in plain PyTorch."""
    plain = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    if kernels is not None:
        kernels.unfuse(plain)
    images, latents = torch.rand(2, *model.image_shape), torch.zeros(2, model.latent_dim)
    return [
        Network("encoder", Encoder(plain), images, "images", ("mean", "log_var")),
        Network("decoder", Decoder(plain), latents, "latents", ("images",)),
    ]
