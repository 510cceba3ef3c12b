"""Weakly and semi-supervised objectives, which use pairs of images that share factors, or labels of factors."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from betavae.model import VAE, Posterior
from betavae.objectives.api import Batch, Loss
from betavae.objectives.elbo import evidence
from betavae.objectives.settings import AdaGvae, AdaMlvae, Group, Semi
from betavae.objectives.terms import decoded_error, gaussian_kl

_LOG_2 = math.log(2)

# ---------------------------------------------------------------------------------------------------------------------
# Pairs: image i of the first half and image i of the second
# ---------------------------------------------------------------------------------------------------------------------


def ada_gvae(settings: AdaGvae, model: VAE, batch: Batch) -> Loss:
    """Compute reconstruction + β · rate of pairs; latents that seem shared get the average of both posteriors.

    Source:
        Weakly-Supervised Disentanglement Without Compromises (Locatello et al., 2020). https://arxiv.org/abs/2002.02886
    """
    one, other = _halves(model.encode(batch.images))
    return _paired(settings.beta, model, batch, one, other, seem_shared(one, other), average_posterior(one, other))


def ada_mlvae(settings: AdaMlvae, model: VAE, batch: Batch) -> Loss:
    """Compute reconstruction + β · rate of pairs; latents that seem shared get the product of both posteriors.

    Source:
        Weakly-Supervised Disentanglement Without Compromises (Locatello et al., 2020). https://arxiv.org/abs/2002.02886
    """
    one, other = _halves(model.encode(batch.images))
    return _paired(settings.beta, model, batch, one, other, seem_shared(one, other), product_posterior(one, other))


def group(settings: Group, model: VAE, batch: Batch) -> Loss:
    """Compute reconstruction + β · rate of pairs; latents of shared factors get one common posterior.

    Latent k belongs to factor k. Further latents belong to no factor, and all pairs share them.

    Source:
        Multi-Level Variational Autoencoder (Bouchacourt et al., 2018), section 3. https://arxiv.org/abs/1705.08841
        Group-based Learning of Disentangled Representations with Generalizability for Novel Contents (Hosoya, 2019),
        for the average. https://arxiv.org/abs/1809.02383
    """
    if batch.labels is None:
        raise ValueError("batch.labels is None; objective group needs the factors of both images of each pair there")
    one, other = _halves(model.encode(batch.images))
    half, num_factors = len(one.mean), batch.labels.shape[1]
    shared = torch.ones_like(one.mean, dtype=torch.bool)
    shared[:, :num_factors] = batch.labels[:half] == batch.labels[half:]
    merge = average_posterior if settings.averaging == "gvae" else product_posterior
    return _paired(settings.beta, model, batch, one, other, shared, merge(one, other))


def seem_shared(one: Posterior, other: Posterior) -> Bool[Tensor, "pairs latents"]:
    """Return a mask of the latents that seem to encode shared factors, because their posteriors differ little.

    A latent seems shared if KL(one || other) is below the midpoint of the smallest and largest KL over the latents of
    the pair. No gradient flows through this decision.

    Source:
        Weakly-Supervised Disentanglement Without Compromises (Locatello et al., 2020). https://arxiv.org/abs/2002.02886

    Example:
        >>> one = Posterior(torch.zeros(1, 3), torch.zeros(1, 3))
        >>> seem_shared(one, Posterior(torch.tensor([[0.0, 2.0, 0.5]]), torch.zeros(1, 3)))
        tensor([[ True, False,  True]])
    """
    with torch.no_grad():
        distance = one.mean - other.mean
        variances = (one.log_var - other.log_var).exp() + distance**2 * torch.exp(-other.log_var)
        divergence = 0.5 * (variances - 1 + other.log_var - one.log_var)
        smallest, largest = divergence.aminmax(dim=1, keepdim=True)
        return divergence < 0.5 * (smallest + largest)


def average_posterior(one: Posterior, other: Posterior) -> Posterior:
    """Return the average of two posteriors: the means of their means and variances.

    Source:
        Group-based Learning of Disentangled Representations with Generalizability for Novel Contents (Hosoya, 2019).
        https://arxiv.org/abs/1809.02383

    Example:
        >>> one, other = Posterior(torch.zeros(1, 1), torch.zeros(1, 1)), Posterior(torch.ones(1, 1), torch.zeros(1, 1))
        >>> average_posterior(one, other).mean
        tensor([[0.5000]])
    """
    return Posterior(0.5 * (one.mean + other.mean), torch.logaddexp(one.log_var, other.log_var) - _LOG_2)


def product_posterior(one: Posterior, other: Posterior) -> Posterior:
    """Return the product of two posteriors with twice its variance: mean precision, and means weighted by precision.

    As in the code of Locatello et al. (2020), the precision is the mean of both precisions, not their sum. The result
    for two equal posteriors is then the same posterior.

    Source:
        Multi-Level Variational Autoencoder (Bouchacourt et al., 2018), section 3. https://arxiv.org/abs/1705.08841

    Example:
        >>> one = Posterior(torch.zeros(1, 1), torch.zeros(1, 1))
        >>> other = Posterior(torch.ones(1, 1), torch.full((1, 1), 3.0).log())
        >>> [round(value.item(), 3) for value in product_posterior(one, other)]
        [0.25, 0.405]
    """
    log_precision = torch.logaddexp(-one.log_var, -other.log_var)  # of the product, before doubling the variance
    weight = torch.exp(-one.log_var - log_precision)
    return Posterior(weight * one.mean + (1 - weight) * other.mean, _LOG_2 - log_precision)


def _halves(posterior: Posterior) -> tuple[Posterior, Posterior]:
    half = len(posterior.mean) // 2
    return Posterior(*(table[:half] for table in posterior)), Posterior(*(table[half:] for table in posterior))


def _paired(
    beta: float, model: VAE, batch: Batch, one: Posterior, other: Posterior, shared: Tensor, merged: Posterior
) -> Loss:
    """Compute reconstruction + β · rate with the merged posterior for the shared latents of both images."""
    tables = [
        torch.cat([torch.where(shared, m, own) for own in pair]) for *pair, m in zip(one, other, merged, strict=True)
    ]
    posterior = Posterior(*tables)
    reconstruction = decoded_error(model, posterior.sample(batch.noise), batch.images).mean()
    rate = gaussian_kl(*posterior).sum(1).mean()
    terms = {"reconstruction": reconstruction, "rate": rate, "shared_latents": shared.float().sum(1).mean()}
    return Loss(reconstruction + beta * rate, {**terms})


# ---------------------------------------------------------------------------------------------------------------------
# Labels: of the second half of the batch
# ---------------------------------------------------------------------------------------------------------------------


def semi(settings: Semi, model: VAE, batch: Batch) -> Loss:
    """Compute reconstruction + β · rate on the first half of the batch, + γ · supervised loss on the labelled half.

    The posterior mean of latent k predicts factor k. Further latents are not supervised.

    Source:
        Disentangling Factors of Variation Using Few Labels (Locatello et al., 2020).
        https://arxiv.org/abs/1905.01258
    """
    if batch.labels is None:
        raise ValueError("batch.labels is None; objective semi needs the factors of the second half of the batch there")
    half = len(batch.images) // 2
    elbo = evidence(model, batch._replace(images=batch.images[:half], noise=batch.noise[:half]))
    error = supervised_loss(model.encode(batch.images[half:]).mean, batch.labels[half:], settings.supervision)
    terms = {"reconstruction": elbo.reconstruction, "rate": elbo.rate, "supervised_loss": error}
    return Loss(elbo.reconstruction + settings.beta * elbo.rate + settings.gamma * error, {**terms})


def supervised_loss(
    latents: Float[Tensor, "batch latents"], labels: Float[Tensor, "batch factors"], kind: str = "xent"
) -> Float[Tensor, ""]:
    """Compute the error of predicting factor k from latent k, summed over factors and averaged over images.

    - `xent`: cross-entropy between the factor in [0, 1] and sigmoid(latent), in nats
    - `l2`: squared difference of the factor and sigmoid(latent)
    - `covariance`: sum of squared covariances between latents and factors of different indices, including further
      latents. It does not require that latent k predicts factor k, only that no other latent does.

    Source:
        Disentangling Factors of Variation Using Few Labels (Locatello et al., 2020).
        https://arxiv.org/abs/1905.01258

    Args:
        latents: posterior means, with at least as many columns as there are factors.
        labels: factors in [0, 1].
        kind: `xent`, `l2` or `covariance`.

    Example:
        >>> supervised_loss(torch.zeros(2, 3), torch.ones(2, 1), "l2")
        tensor(0.2500)
    """
    predicted = latents[:, : labels.shape[1]]
    if kind == "xent":
        return F.binary_cross_entropy_with_logits(predicted, labels, reduction="none").sum(1).mean()
    if kind == "l2":
        return (torch.sigmoid(predicted) - labels).square().sum(1).mean()
    crossed = ((latents - latents.mean(0))[:, :, None] * (labels - labels.mean(0))[:, None]).mean(0)  # [latent, factor]
    return crossed.square().sum() - crossed.diagonal().square().sum()
