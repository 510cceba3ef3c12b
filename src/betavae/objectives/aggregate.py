"""Penalties on the joint distribution of the latents of a batch: DIP-VAE, InfoVAE, Hausdorff factorised support."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from betavae.model import VAE
from betavae.objectives.api import Batch, Loss
from betavae.objectives.elbo import Evidence, evidence
from betavae.objectives.settings import Dip1, Dip2, Hfs, Info

# ---------------------------------------------------------------------------------------------------------------------
# DIP-VAE
# ---------------------------------------------------------------------------------------------------------------------


def dip1(settings: Dip1, model: VAE, batch: Batch) -> Loss:
    """Compute reconstruction + rate + λ_od Σ_{i≠j} C_ij² + λ_d Σ (C_ii - 1)², with C the covariance of posterior means.

    Source:
        Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar et al., 2018),
        equation 6. https://arxiv.org/abs/1711.00848
    """
    elbo = evidence(model, batch)
    return _dip(settings, elbo, covariance(elbo.posterior.mean))


def dip2(settings: Dip2, model: VAE, batch: Batch) -> Loss:
    """Compute reconstruction + rate + λ_od Σ_{i≠j} C_ij² + λ_d Σ (C_ii - 1)², with C the covariance of sampled latents.

    C is the covariance of the posterior means plus a diagonal matrix of the mean posterior variances, because each
    posterior is a diagonal Gaussian. (Two public implementations add one scalar to all entries instead.)

    Source:
        Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar et al., 2018),
        equation 7. https://arxiv.org/abs/1711.00848
    """
    elbo = evidence(model, batch)
    return _dip(settings, elbo, covariance(elbo.posterior.mean) + torch.diag(elbo.posterior.log_var.exp().mean(0)))


def covariance(latents: Float[Tensor, "batch latents"]) -> Float[Tensor, "latents latents"]:
    """Compute the covariance of latents over a batch (not unbiased): mean of z zᵀ - (mean of z) (mean of z)ᵀ.

    Source:
        Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar et al., 2018),
        section 3. https://arxiv.org/abs/1711.00848

    Example:
        >>> covariance(torch.tensor([[1.0, 2.0], [-1.0, -2.0]]))
        tensor([[1., 2.],
                [2., 4.]])
    """
    centred = latents - latents.mean(0)
    return (centred[:, :, None] * centred[:, None]).mean(0)  # autocast would compute a matrix product in bfloat16


def dip_penalties(matrix: Float[Tensor, "latents latents"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the sum of squared off-diagonal entries, and the sum of squared deviations of the diagonal from 1.

    Source:
        Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar et al., 2018),
        equation 6. https://arxiv.org/abs/1711.00848

    Example:
        >>> dip_penalties(torch.tensor([[3.0, 1.0], [1.0, 1.0]]))
        (tensor(2.), tensor(4.))
    """
    diagonal = matrix.diagonal()
    return (matrix - torch.diag(diagonal)).square().sum(), (diagonal - 1).square().sum()


def _dip(settings: Dip1, elbo: Evidence, matrix: Tensor) -> Loss:
    off_diagonal, diagonal = dip_penalties(matrix)
    penalty = settings.off_diagonal * (off_diagonal + settings.diagonal_ratio * diagonal)
    terms = {"reconstruction": elbo.reconstruction, "rate": elbo.rate, "penalty": penalty}
    return Loss(elbo.reconstruction + elbo.rate + penalty, {**terms})


# ---------------------------------------------------------------------------------------------------------------------
# InfoVAE
# ---------------------------------------------------------------------------------------------------------------------


def info(settings: Info, model: VAE, batch: Batch) -> Loss:
    """Compute reconstruction + (1 - α) · rate + (α + λ - 1) · MMD between sampled latents and samples of the prior.

    Source:
        InfoVAE: Balancing Learning and Inference in Variational Autoencoders (Zhao et al., 2019), section 3.
        https://arxiv.org/abs/1706.02262
    """
    if batch.more_noise is None:
        raise ValueError("batch.more_noise is None; objective info needs samples of the prior there")
    elbo = evidence(model, batch)
    distance = mmd(elbo.latents, batch.more_noise, settings.kernel)
    weight = settings.alpha + settings.divergence - 1
    loss = elbo.reconstruction + (1 - settings.alpha) * elbo.rate + weight * distance
    return Loss(loss, {"reconstruction": elbo.reconstruction, "rate": elbo.rate, "mmd": distance})


def mmd(
    latents: Float[Tensor, "batch latents"],
    samples: Float[Tensor, "others latents"],
    kernel: Literal["imq", "rbf"] = "imq",
) -> Float[Tensor, ""]:
    """Estimate the squared maximum mean discrepancy (MMD) of two samples, without bias.

    MMD² is the mean of k(z, z') over pairs of different latents, plus the same mean for the other sample, minus twice
    the mean of k(z, p) over all pairs of both samples. Its expectation is 0 if both samples have the same distribution.

    Both kernels are 1 at distance 0 and are scaled by 2 D, the expected squared distance of two D-dimensional latents
    under the prior. `rbf` is exp(-|z - z'|² / (2 D)). `imq` is the mean of c / (c + |z - z'|²) over c = 2 D s with
    s = 0.1, 0.2, 0.5, 1, 2, 5, 10.

    Source:
        A Kernel Two-Sample Test (Gretton et al., 2012), lemma 6. https://jmlr.org/papers/v13/gretton12a.html
        Wasserstein Auto-Encoders (Tolstikhin et al., 2018), section 4: inverse multiquadratic kernel. The authors' code
        uses the sum over the same seven widths. https://arxiv.org/abs/1711.01558

    Args:
        latents: at least two rows.
        samples: samples of the other distribution, at least two rows.
        kernel: `imq` or `rbf`.

    Returns:
        The estimate, at most 2. It can be negative.

    Example:
        >>> mmd(torch.tensor([[0.0], [0.0]]), torch.tensor([[9.0], [9.0]]), "rbf")
        tensor(2.)
    """

    def mean(one: Tensor, other: Tensor) -> Tensor:
        squared = (one[:, None] - other[None]).square().sum(2)
        values = _kernel(squared, latents.shape[1], kernel)
        if one is other:
            return (values.sum() - values.diagonal().sum()) / (len(one) * (len(one) - 1))
        return values.mean()

    return mean(latents, latents) + mean(samples, samples) - 2 * mean(latents, samples)


def _kernel(squared: Tensor, latent_dim: int, kernel: str) -> Tensor:
    if kernel == "rbf":
        return torch.exp(-squared / (2 * latent_dim))
    widths = [2 * latent_dim * share for share in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
    return torch.stack([width / (width + squared) for width in widths]).mean(0)


# ---------------------------------------------------------------------------------------------------------------------
# Hausdorff factorised support
# ---------------------------------------------------------------------------------------------------------------------


def hfs(settings: Hfs, model: VAE, batch: Batch) -> Loss:
    """Compute reconstruction + β · rate + γ · Σ squared Hausdorff distances of random pairs of latents + a scale term.

    The scale term is Σ_d max(0, 1 - standard deviation of latent d over the batch), times its weight. (The published
    code uses the standard deviation over the latents of one image.) The latents are posterior means.

    Source:
        Disentanglement of Correlated Factors via Hausdorff Factorized Support (Roth et al., 2023), section 3.
        https://arxiv.org/abs/2210.07347
    """
    if batch.more_noise is None:
        raise ValueError("batch.more_noise is None; objective hfs needs it to draw pairs of latents")
    elbo = evidence(model, batch)
    means = elbo.posterior.mean
    pairs = torch.triu_indices(means.shape[1], means.shape[1], 1, device=means.device).T
    keys = batch.more_noise[:, pairs].prod(2).sum(0)  # identically distributed, so all pairs are equally likely
    pairs = pairs[keys.argsort()[: settings.latent_pairs]]
    distance = support_distance(means, pairs)
    shortfall = (1 - means.var(0, correction=0).add(1e-6).sqrt()).clamp(min=0).sum()
    loss = elbo.reconstruction + settings.beta * elbo.rate + settings.gamma * distance + settings.scale * shortfall
    terms = {"reconstruction": elbo.reconstruction, "rate": elbo.rate, "support_distance": distance}
    return Loss(loss, {**terms})


def support_distance(latents: Float[Tensor, "batch latents"], pairs: Tensor) -> Float[Tensor, ""]:
    """Compute how far the support of the latents is from a product of supports, summed over pairs of latents.

    For a pair (a, b) of latents, this is the maximum over images i, j of the minimum over images k of
    (z_ia - z_ka)² + (z_jb - z_kb)²: the squared Hausdorff distance between the joint support of the two latents and the
    product of their supports. Gradients flow through all three points.

    Source:
        Disentanglement of Correlated Factors via Hausdorff Factorized Support (Roth et al., 2023), section 3.
        https://arxiv.org/abs/2210.07347

    Args:
        latents: latents of a batch.
        pairs: (P, 2) indices of latents.

    Returns:
        The distance, at least 0; 0 if all combinations occur.

    Example:
        >>> diagonal = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> support_distance(diagonal, torch.tensor([[0, 1]]))
        tensor(1.)
    """
    images = len(latents)
    total = latents.new_zeros(())
    for pair in pairs:
        one, other = latents.index_select(1, pair).unbind(1)
        with torch.no_grad():
            across = (one[:, None] - one).square()  # [i, k]
            along = (other[:, None] - other).square()  # [j, k]
            smallest, nearest = (across[:, None] + along).min(2)  # [i, j]
            index = smallest.argmax()
            k = nearest.flatten().index_select(0, index[None])
            i, j = (index // images)[None], (index % images)[None]
        across, along = one.gather(0, i) - one.gather(0, k), other.gather(0, j) - other.gather(0, k)
        total = total + (across.square() + along.square()).squeeze()
    return total
