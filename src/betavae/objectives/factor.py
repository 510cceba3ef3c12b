"""FactorVAE: total correlation estimated by a discriminator between latents and permuted latents."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from betavae.model import VAE
from betavae.objectives.api import Batch, Loss
from betavae.objectives.elbo import evidence
from betavae.objectives.settings import Factor


def factor(settings: Factor, model: VAE, batch: Batch) -> Loss:
    """Compute reconstruction + rate + γ · total correlation on the first half of the batch.

    The total correlation is estimated as the mean of log D(z) / (1 - D(z)), where D is the discriminator's probability
    that z is not permuted. `network_loss` is the discriminator's cross-entropy between latents of the first half and
    permuted latents of the second half. Both are detached, so each loss trains only its own network; implementations
    that accumulate both gradients also train the encoder to help the discriminator. The discriminator runs in float32.

    In the paper, the second half is encoded after the optimiser step of the model. Here it is encoded before that step,
    so that one call computes both losses.

    Source:
        Disentangling by Factorising (Kim & Mnih, 2018), equations 2 and 3, algorithm 2.
        https://arxiv.org/abs/1802.05983
    """
    if batch.network is None or batch.more_noise is None:
        raise ValueError(
            "batch.network or batch.more_noise is None; objective factor needs a discriminator and noise for the "
            "permutation there"
        )
    half = len(batch.images) // 2
    elbo = evidence(model, batch._replace(images=batch.images[:half], noise=batch.noise[:half]))
    with torch.no_grad():
        second = model.encode(batch.images[half:]).sample(batch.noise[half:])
        permuted = permute_latents(second, batch.more_noise[half:])
    with torch.autocast(elbo.latents.device.type, enabled=False):
        logits = batch.network(elbo.latents)
        correlation = (logits[:, 0] - logits[:, 1]).mean()
        predictions = batch.network(torch.cat([elbo.latents.detach(), permuted]))
    is_permuted = (torch.arange(len(predictions), device=predictions.device) >= half).long()
    error = F.cross_entropy(predictions, is_permuted, reduction="none")
    network_loss = 0.5 * (error[:half].mean() + error[half:].mean())
    terms = {
        "reconstruction": elbo.reconstruction,
        "rate": elbo.rate,
        "total_correlation": correlation,
        "discriminator_loss": network_loss,
        "discriminator_accuracy": (predictions.argmax(1) == is_permuted).float().mean(),
    }
    loss = elbo.reconstruction + elbo.rate + settings.gamma * correlation
    return Loss(loss, terms, network_loss=network_loss)


def permute_latents(
    latents: Float[Tensor, "batch latents"], noise: Float[Tensor, "batch latents"]
) -> Float[Tensor, "batch latents"]:
    """Permute each latent among the images independently; this keeps the marginals and removes dependence.

    Source:
        Disentangling by Factorising (Kim & Mnih, 2018), algorithm 1. https://arxiv.org/abs/1802.05983

    Args:
        latents: latents of a batch.
        noise: independent continuous noise; the order of a column defines the permutation of the latent.

    Example:
        >>> latents = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
        >>> permute_latents(latents, torch.tensor([[0.3, 0.1], [0.1, 0.2], [0.2, 0.3]])).tolist()
        [[2.0, 10.0], [3.0, 20.0], [1.0, 30.0]]
    """
    return latents.gather(0, noise.argsort(0))


def discriminator(settings: Factor, latent_dim: int) -> nn.Sequential:
    """Build the discriminator: by default six hidden layers of 1000 units; leaky ReLU with slope 0.2.

    The two outputs are the logits of "not permuted" and "permuted".

    Source:
        Disentangling by Factorising (Kim & Mnih, 2018), appendix A. https://arxiv.org/abs/1802.05983
    """
    widths = [latent_dim] + settings.discriminator_layers * [settings.discriminator_width]
    hidden = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.LeakyReLU(0.2))]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], 2))
