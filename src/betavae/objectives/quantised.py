"""QLAE: autoencoder with quantised latents, each rounded to one of a few learned values."""

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
    """Compute the reconstruction loss of quantised latents + λ_q Σ (sg(z) - v)² + λ_c Σ (z - sg(v))².

    v is the codebook value nearest to latent z, and sg is the stop-gradient operator. There is no noise and no KL term:
    the latents are the means of the encoder. Gradients pass the quantisation unchanged (straight-through estimator).
    The optimiser applies the weight decay, which is essential for the method. `rate` is the entropy of the values of
    each latent in the batch, summed over latents, in nats; it has no gradient.

    The original averages over pixels and latents, where this function sums, and clips each entry of the gradient of
    these means at 1. Adam does not depend on the scale of the loss; the clipping is left out.

    Source:
        Disentanglement via Latent Quantization (Hsu et al., 2023). https://arxiv.org/abs/2305.18378
    """
    if not isinstance(model.transform, Codebook):
        raise ValueError("objective qlae needs a codebook; build the model with a Codebook as its transform")
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
