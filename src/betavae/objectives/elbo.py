"""The evidence lower bound (ELBO), and objectives that weight its two terms: `vae`, `beta`, `annealed`."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from betavae.model import VAE, Posterior
from betavae.objectives.api import Batch, Loss
from betavae.objectives.settings import Annealed, Beta, Vae
from betavae.objectives.terms import decoded_error, gaussian_kl


class Evidence(NamedTuple):
    """The two terms of the negative ELBO of a batch, in nats, with the sampled latents and the posterior."""

    reconstruction: Float[Tensor, ""]
    rate: Float[Tensor, ""]
    latents: Float[Tensor, "batch latents"]
    posterior: Posterior


def evidence(model: VAE, batch: Batch) -> Evidence:
    """Compute the reconstruction loss and the KL term (rate) of a batch, in nats; their sum is the negative ELBO.

    Source:
        Auto-Encoding Variational Bayes (Kingma & Welling, 2014), equations 7 and 10. https://arxiv.org/abs/1312.6114
    """
    posterior = model.encode(batch.images)
    latents = posterior.sample(batch.noise)
    error = decoded_error(model, latents, batch.images)
    return Evidence(error.mean(), gaussian_kl(*posterior).sum(1).mean(), latents, posterior)


def vae(settings: Vae, model: VAE, batch: Batch) -> Loss:
    """Compute the VAE loss, reconstruction + rate.

    Source:
        Auto-Encoding Variational Bayes (Kingma & Welling, 2014), equation 10. https://arxiv.org/abs/1312.6114
    """
    elbo = evidence(model, batch)
    return Loss(elbo.reconstruction + elbo.rate, {"reconstruction": elbo.reconstruction, "rate": elbo.rate})


def beta(settings: Beta, model: VAE, batch: Batch) -> Loss:
    """Compute the β-VAE loss, reconstruction + β · rate; β increases linearly over the first `warmup_steps`.

    Source:
        beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017),
        equation 4. https://openreview.net/forum?id=Sy2fzU9gl
    """
    elbo = evidence(model, batch)
    weight = batch.schedule["beta"]
    loss = elbo.reconstruction + weight * elbo.rate
    return Loss(loss, {"reconstruction": elbo.reconstruction, "rate": elbo.rate, "beta": weight})


def annealed(settings: Annealed, model: VAE, batch: Batch) -> Loss:
    """Compute reconstruction + γ · |rate - C|, with the capacity C increasing linearly from 0.

    The rate is averaged over the batch before the absolute value is taken.

    Source:
        Understanding disentangling in β-VAE (Burgess et al., 2018), equation 8. https://arxiv.org/abs/1804.03599
    """
    elbo = evidence(model, batch)
    capacity = batch.schedule["capacity_nats"]
    loss = elbo.reconstruction + settings.gamma * (elbo.rate - capacity).abs()
    return Loss(loss, {"reconstruction": elbo.reconstruction, "rate": elbo.rate, "capacity_nats": capacity})
