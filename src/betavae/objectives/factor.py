"""FactorVAE: total correlation as a discriminator sees it that tells latents from latents permuted among images."""

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
    """Reconstruction + rate + γ · total correlation on the first half of the batch.

    Total correlation is the mean of log D(z) / (1 - D(z)) with D the discriminator's probability that z is not
    permuted. `network_loss` is the discriminator's cross-entropy between latents of the first half and permuted latents
    of the second, neither of which it can change. The two losses have no parameter in common: the encoder is not
    trained to help the discriminator, as it is where both are accumulated before one step. In the paper the second half
    is encoded after the model's step; here before it, so that one call gives both losses. The discriminator is float32.

    Source:
        Disentangling by Factorising (Kim & Mnih, 2018), equations 2 and 3, algorithm 2.
        https://arxiv.org/abs/1802.05983
    """
    if batch.network is None or batch.more_noise is None:
        raise ValueError("factor takes a discriminator as batch.network and permutes by batch.more_noise; give both")
    half = len(batch.images) // 2
    seen = evidence(model, batch._replace(images=batch.images[:half], noise=batch.noise[:half]))
    with torch.no_grad():
        second = model.encode(batch.images[half:]).sample(batch.noise[half:])
        permuted = permute_latents(second, batch.more_noise[half:])
    with torch.autocast(seen.latents.device.type, enabled=False):
        logits = batch.network(seen.latents)
        correlation = (logits[:, 0] - logits[:, 1]).mean()
        answers = batch.network(torch.cat([seen.latents.detach(), permuted]))
    truth = (torch.arange(len(answers), device=answers.device) >= half).long()
    error = F.cross_entropy(answers, truth, reduction="none")
    network_loss = 0.5 * (error[:half].mean() + error[half:].mean())
    terms = {
        "reconstruction": seen.reconstruction,
        "rate": seen.rate,
        "total_correlation": correlation,
        "discriminator_loss": network_loss,
        "discriminator_accuracy": (answers.argmax(1) == truth).float().mean(),
    }
    loss = seen.reconstruction + seen.rate + settings.gamma * correlation
    return Loss(loss, terms, network_loss=network_loss)


def permute_latents(
    latents: Float[Tensor, "batch latents"], noise: Float[Tensor, "batch latents"]
) -> Float[Tensor, "batch latents"]:
    """Permute each latent among the images, independently: marginals stay, dependence between latents goes.

    Source:
        Disentangling by Factorising (Kim & Mnih, 2018), algorithm 1. https://arxiv.org/abs/1802.05983

    Args:
        latents: of a batch.
        noise: continuous and independent; the order of a column is the permutation of that latent.

    Example:
        >>> latents = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
        >>> permute_latents(latents, torch.tensor([[0.3, 0.1], [0.1, 0.2], [0.2, 0.3]])).tolist()
        [[2.0, 10.0], [3.0, 20.0], [1.0, 30.0]]
    """
    return latents.gather(0, noise.argsort(0))


def discriminator(settings: Factor, latent_dim: int) -> nn.Sequential:
    """Six hidden layers of 1000 units with leaky ReLU of slope 0.2; two logits: not permuted, permuted.

    Source:
        Disentangling by Factorising (Kim & Mnih, 2018), appendix A. https://arxiv.org/abs/1802.05983
    """
    widths = [latent_dim] + settings.discriminator_layers * [settings.discriminator_width]
    hidden = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.LeakyReLU(0.2))]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], 2))
