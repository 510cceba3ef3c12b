"""Discrete latents: each is rounded to one of a few learned values."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Codebook(nn.Module):
    """Round each latent to the nearest of its learned values. Gradients reach the values, not the latents.

    Source:
        Disentanglement via Latent Quantization (Hsu et al., 2023), section 3. https://arxiv.org/abs/2305.18378

    Args:
        latent_dim: number of latents.
        values_per_latent: number of values of each; they start evenly spaced from -0.5 to 0.5.

    Example:
        >>> Codebook(1, 3)(torch.tensor([[0.1], [0.4]])).tolist()
        [[0.0], [0.5]]
    """

    def __init__(self, latent_dim: int, values_per_latent: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.linspace(-0.5, 0.5, values_per_latent).repeat(latent_dim, 1))

    def forward(self, latents: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch latents"]:
        """Return the nearest value of each latent."""
        distances = (latents.detach()[:, :, None] - self.values.detach()).abs()  # [image, latent, value]
        return self.values.expand(latents.shape[0], -1, -1).gather(2, distances.argmin(2, keepdim=True)).squeeze(2)
