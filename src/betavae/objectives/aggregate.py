"""Penalties on the latents of a batch as a whole: DIP-VAE, InfoVAE, Hausdorff factorised support."""

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
    """Reconstruction + rate + λ_od Σ_{i≠j} C_ij² + λ_d Σ (C_ii - 1)² with C the covariance of posterior means.

    Source:
        Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar et al., 2018),
        equation 6. https://arxiv.org/abs/1711.00848
    """
    seen = evidence(model, batch)
    return _dip(settings, seen, covariance(seen.posterior.mean))


def dip2(settings: Dip2, model: VAE, batch: Batch) -> Loss:
    """Reconstruction + rate + λ_od Σ_{i≠j} C_ij² + λ_d Σ (C_ii - 1)² with C the covariance of sampled latents.

    That is the covariance of posterior means plus the mean of posterior variances on the diagonal, for posteriors have
    no covariance of their own. (Two public implementations add one scalar to every entry.)

    Source:
        Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar et al., 2018),
        equation 7. https://arxiv.org/abs/1711.00848
    """
    seen = evidence(model, batch)
    return _dip(settings, seen, covariance(seen.posterior.mean) + torch.diag(seen.posterior.log_var.exp().mean(0)))


def covariance(latents: Float[Tensor, "batch latents"]) -> Float[Tensor, "latents latents"]:
    """Covariance of latents over a batch, normalised by its size: mean of z zᵀ less (mean of z) (mean of z)ᵀ.

    Source:
        Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar et al., 2018),
        section 3. https://arxiv.org/abs/1711.00848

    Example:
        >>> covariance(torch.tensor([[1.0, 2.0], [-1.0, -2.0]]))
        tensor([[1., 2.],
                [2., 4.]])
    """
    centred = latents - latents.mean(0)
    return (centred[:, :, None] * centred[:, None]).mean(0)  # no matrix product, which autocast would round


def dip_penalties(matrix: Float[Tensor, "latents latents"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sum of squared off-diagonal entries, and sum of squared deviations of the diagonal from 1.

    Source:
        Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar et al., 2018),
        equation 6. https://arxiv.org/abs/1711.00848

    Example:
        >>> dip_penalties(torch.tensor([[3.0, 1.0], [1.0, 1.0]]))
        (tensor(2.), tensor(4.))
    """
    diagonal = matrix.diagonal()
    return (matrix - torch.diag(diagonal)).square().sum(), (diagonal - 1).square().sum()


def _dip(settings: Dip1, seen: Evidence, matrix: Tensor) -> Loss:
    off_diagonal, diagonal = dip_penalties(matrix)
    penalty = settings.off_diagonal * (off_diagonal + settings.diagonal_ratio * diagonal)
    terms = {"reconstruction": seen.reconstruction, "rate": seen.rate, "penalty": penalty}
    return Loss(seen.reconstruction + seen.rate + penalty, {**terms})


# ---------------------------------------------------------------------------------------------------------------------
# InfoVAE
# ---------------------------------------------------------------------------------------------------------------------


def info(settings: Info, model: VAE, batch: Batch) -> Loss:
    """Reconstruction + (1 - α) · rate + (α + λ - 1) · MMD between sampled latents and samples of the prior.

    Source:
        InfoVAE: Balancing Learning and Inference in Variational Autoencoders (Zhao et al., 2019), section 3.
        https://arxiv.org/abs/1706.02262
    """
    if batch.more_noise is None:
        raise ValueError("info compares latents with samples of the prior; give them as batch.more_noise")
    seen = evidence(model, batch)
    distance = mmd(seen.latents, batch.more_noise, settings.kernel)
    weight = settings.alpha + settings.divergence - 1
    loss = seen.reconstruction + (1 - settings.alpha) * seen.rate + weight * distance
    return Loss(loss, {"reconstruction": seen.reconstruction, "rate": seen.rate, "mmd": distance})


def mmd(
    latents: Float[Tensor, "batch latents"],
    samples: Float[Tensor, "others latents"],
    kernel: Literal["imq", "rbf"] = "imq",
) -> Float[Tensor, ""]:
    """Squared maximum mean discrepancy of two samples, without bias: 0 in the mean for samples of one distribution.

    Mean of k(z, z') over pairs of different latents + the same of the other sample - 2 · mean of k(z, p) over all
    pairs. Both kernels are 1 at distance 0 and know the D latents' usual squared distance 2 D under the prior: rbf
    exp(-|z - z'|² / (2 D)); imq the mean of c / (c + |z - z'|²) with c = 2 D s, s = 0.1, 0.2, 0.5, 1, 2, 5, 10.

    Source:
        A Kernel Two-Sample Test (Gretton et al., 2012), lemma 6. https://jmlr.org/papers/v13/gretton12a.html
        Wasserstein Auto-Encoders (Tolstikhin et al., 2018), section 4, for the inverse multiquadratic kernel, of which
        its code takes the sum over the same seven widths. https://arxiv.org/abs/1711.01558

    Args:
        latents: at least 2.
        samples: of the distribution to compare with, at least 2.
        kernel: `imq` or `rbf`.

    Returns:
        At most 2; an estimate below 0 is possible.

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
    """Reconstruction + β · rate + γ · Σ squared Hausdorff distances of random pairs of latents + a scale term.

    The scale term is Σ_d max(0, 1 - standard deviation of latent d over the batch). (The published code takes the
    deviation over the latents of an image.) Latents are posterior means.

    Source:
        Disentanglement of Correlated Factors via Hausdorff Factorized Support (Roth et al., 2023), section 3.
        https://arxiv.org/abs/2210.07347
    """
    if batch.more_noise is None:
        raise ValueError("hfs draws pairs of latents by batch.more_noise; give it")
    seen = evidence(model, batch)
    means = seen.posterior.mean
    pairs = torch.triu_indices(means.shape[1], means.shape[1], 1, device=means.device).T
    draw = batch.more_noise[:, pairs].prod(2).sum(0)  # every pair has the same chance
    pairs = pairs[draw.argsort()[: settings.latent_pairs]]
    distance = support_distance(means, pairs)
    shortfall = (1 - means.var(0, correction=0).add(1e-6).sqrt()).clamp(min=0).sum()
    loss = seen.reconstruction + settings.beta * seen.rate + settings.gamma * distance + settings.scale * shortfall
    terms = {"reconstruction": seen.reconstruction, "rate": seen.rate, "support_distance": distance}
    return Loss(loss, {**terms})


def support_distance(latents: Float[Tensor, "batch latents"], pairs: Tensor) -> Float[Tensor, ""]:
    """How far the latents of a batch are from occurring in every combination, summed over pairs of latents.

    For a pair (a, b) of latents: the largest over images i, j of the least over images k of
    (z_ia - z_ka)² + (z_jb - z_kb)², the squared Hausdorff distance between the support of the two latents and the
    product of their supports. Gradients go through all three points.

    Source:
        Disentanglement of Correlated Factors via Hausdorff Factorized Support (Roth et al., 2023), section 3.
        https://arxiv.org/abs/2210.07347

    Args:
        latents: of a batch.
        pairs: indices of latents (P, 2).

    Returns:
        At least 0; 0 where all combinations occur.

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
            least, nearest = (across[:, None] + along).min(2)  # [i, j]
            place = least.argmax()
            k = nearest.flatten().index_select(0, place[None])
            i, j = (place // images)[None], (place % images)[None]
        across, along = one.gather(0, i) - one.gather(0, k), other.gather(0, j) - other.gather(0, k)
        total = total + (across.square() + along.square()).squeeze()
    return total
