"""The evidence lower bound, and objectives that weigh its two terms: `vae`, `beta`, `annealed`."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from betavae.model import VAE, Posterior
from betavae.objectives.api import Batch, Loss
from betavae.objectives.settings import Annealed, Beta, Vae
from betavae.objectives.terms import decoded_error, gaussian_kl


class Evidence(NamedTuple):
    """The two halves of the evidence lower bound of a batch, and what they came from."""

    reconstruction: Float[Tensor, ""]
    rate: Float[Tensor, ""]
    latents: Float[Tensor, "batch latents"]
    posterior: Posterior


def evidence(model: VAE, batch: Batch) -> Evidence:
    """Encode, sample, decode: reconstruction error and rate in nats, averaged over the batch. Their sum is -ELBO.

    Source:
        Auto-Encoding Variational Bayes (Kingma & Welling, 2014), equations 7 and 10. https://arxiv.org/abs/1312.6114
    """
    posterior = model.encode(batch.images)
    latents = posterior.sample(batch.noise)
    error = decoded_error(model, latents, batch.images)
    return Evidence(error.mean(), gaussian_kl(*posterior).sum(1).mean(), latents, posterior)


def vae(settings: Vae, model: VAE, batch: Batch) -> Loss:
    """Reconstruction + rate.

    Source:
        Auto-Encoding Variational Bayes (Kingma & Welling, 2014), equation 10. https://arxiv.org/abs/1312.6114
    """
    seen = evidence(model, batch)
    return Loss(seen.reconstruction + seen.rate, {"reconstruction": seen.reconstruction, "rate": seen.rate})


def beta(settings: Beta, model: VAE, batch: Batch) -> Loss:
    """Reconstruction + β · rate, β rising linearly over the first `warmup_steps`.

    Source:
        beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017),
        equation 4. https://openreview.net/forum?id=Sy2fzU9gl
    """
    seen = evidence(model, batch)
    weight = batch.schedule["beta"]
    loss = seen.reconstruction + weight * seen.rate
    return Loss(loss, {"reconstruction": seen.reconstruction, "rate": seen.rate, "beta": weight})


def annealed(settings: Annealed, model: VAE, batch: Batch) -> Loss:
    """Reconstruction + γ · |rate - C|, the capacity C rising linearly from 0; the distance is the batch mean's.

    Source:
        Understanding disentangling in β-VAE (Burgess et al., 2018), equation 8. https://arxiv.org/abs/1804.03599
    """
    seen = evidence(model, batch)
    capacity = batch.schedule["capacity_nats"]
    loss = seen.reconstruction + settings.gamma * (seen.rate - capacity).abs()
    return Loss(loss, {"reconstruction": seen.reconstruction, "rate": seen.rate, "capacity_nats": capacity})
