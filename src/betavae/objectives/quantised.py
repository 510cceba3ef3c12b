"""QLAE: latents rounded to a few learned values each."""

import torch

from betavae.model import VAE
from betavae.networks.codebook import Codebook
from betavae.objectives.api import Batch, Loss
from betavae.objectives.settings import Qlae
from betavae.objectives.terms import decoded_error


def codebook(settings: Qlae, latent_dim: int) -> Codebook:
    """Build the latent transform of the model."""
    return Codebook(latent_dim, settings.values_per_latent)


def qlae(settings: Qlae, model: VAE, batch: Batch) -> Loss:
    """Reconstruction from rounded latents + λ_q Σ (sg(z) - v)² + λ_c Σ (z - sg(v))², v the value nearest to latent z.

    There is no noise and no KL: the encoder's means are the latents. The decoder's gradient passes rounding unchanged
    (straight through). The weight decay, which makes the method, is the optimiser's. `rate` is the entropy of each
    latent's values within the batch, summed over latents: the nats that the latents can carry, without a gradient.

    The original averages over pixels and over latents where this sums, and clips gradients of these means at 1 an
    entry; Adam is insensitive to the first, and the clipping is left out.

    Source:
        Disentanglement via Latent Quantization (Hsu et al., 2023). https://arxiv.org/abs/2305.18378
    """
    if not isinstance(model.transform, Codebook):
        raise ValueError("qlae rounds latents; make the model with a Codebook as its transform")
    latents = model.encode(batch.images).mean
    values = model.transform(latents)
    reconstruction = decoded_error(model, latents + (values - latents).detach(), batch.images).mean()
    quantisation = (latents.detach() - values).square().sum(1).mean()
    commitment = (latents - values.detach()).square().sum(1).mean()
    loss = reconstruction + settings.quantisation * quantisation + settings.commitment * commitment
    with torch.no_grad():
        nearest = (latents[:, :, None] - model.transform.values).abs().argmin(2)
        share = (nearest[:, :, None] == torch.arange(settings.values_per_latent, device=latents.device)).float().mean(0)
        rate = torch.special.entr(share).sum()
    return Loss(loss, {"reconstruction": reconstruction, "rate": rate, "rounding": commitment})
