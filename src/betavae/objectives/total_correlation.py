"""Estimators of the total correlation of latents, in nats."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from betavae.model import Posterior
from betavae.objectives.terms import gaussian_log_density

_CACHED_VALUES = 100_000
"""Number of densities that a CPU processes at once, 0.4 MB, so that they fit into its cache."""


def total_correlation(
    latents: Float[Tensor, "batch latents"], mixture: Posterior, others: Posterior | None = None
) -> Float[Tensor, ""]:
    """Estimate the total correlation KL(q(z) || Π q(z_d)) by minibatch-weighted sampling, in nats.

    The estimate is the mean over i of

        log Σ_j Π_d q(z_id | x_j)  -  Σ_d log Σ_j q(z_id | x_j)  +  (D - 1) log M

    with j over M images. The constant treats the M images as the whole data set. The paper has N · M in place of M,
    which adds (D - 1) log N. This has no effect on gradients, but makes the value hard to interpret: for five
    independent latents it is 41.7 nats, and about 2 nats here.

    The estimate is biased, so compare it only between runs with the same M. If the latents jointly carry more than
    log M nats, hardly any two of M images are neighbours, and the estimate cannot detect dependence. More images help.

    Source:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), equation S3 of the
        appendix. https://arxiv.org/abs/1802.04942

    Args:
        latents: one posterior sample of each image.
        mixture: posteriors of the same images.
        others: posteriors of further images.

    Returns:
        The estimate in nats. It can be negative.

    Example:
        >>> latents, mixture = torch.zeros(4, 1), Posterior(torch.zeros(4, 1), torch.zeros(4, 1))
        >>> total_correlation(latents, mixture)
        tensor(0.)
    """
    if others is not None:
        mixture = Posterior(*(torch.cat(pair) for pair in zip(mixture, others, strict=True)))
    mean, log_var = mixture.mean.T, mixture.log_var.T
    precision = torch.exp(-log_var)
    at_zero = gaussian_log_density(torch.zeros_like(mean), mean, log_var)
    natural = torch.stack([-0.5 * precision, mean * precision, at_zero], 1)
    statistics = torch.stack([latents.T**2, latents.T, torch.ones_like(latents.T)], 2)
    ratio: Tensor = _DensityRatio.apply(statistics, natural)  # type: ignore[no-untyped-call]
    return ratio + (latents.shape[1] - 1) * math.log(len(mixture.mean))


class _DensityRatio(torch.autograd.Function):
    """Mean over i of log Σ_j exp(Σ_d l_dij) - Σ_d log Σ_j exp(l_dij), where l_d = statistics_d @ natural_d, (B, M).

    The log density of a Gaussian is the inner product of (z², z, 1) and its natural parameters. The gradient with
    respect to l_dij is the difference of two softmaxes over j. This function computes it in the forward pass for a few
    latents at a time, which fit into the cache of a CPU. Autograd would store several arrays of size D x B x M instead.
    """

    @staticmethod
    def forward(ctx: Any, statistics: Tensor, natural: Tensor) -> Tensor:
        with torch.autocast(statistics.device.type, enabled=False):
            joint = statistics.new_zeros(statistics.shape[1], natural.shape[2])
            at_once = max(1, _CACHED_VALUES // joint.numel()) if joint.is_cpu else len(statistics)
            chunks = [slice(start, start + at_once) for start in range(0, len(statistics), at_once)]
            parts = [(statistics[chunk], natural[chunk]) for chunk in chunks]
            log_marginals = []
            for statistic, parameters in parts:
                log_densities = statistic @ parameters
                log_marginals.append(_log_sum_exp(log_densities))
                joint += log_densities[0] if at_once == 1 else log_densities.sum(0)
            log_joint = _log_sum_exp(joint)
            if any(ctx.needs_input_grad):
                gradients: tuple[list[Tensor], list[Tensor]] = ([], [])
                joint_weights = _exp(joint - log_joint)
                for (statistic, parameters), log_marginal in zip(parts, log_marginals, strict=True):
                    weights = joint_weights - _exp(statistic @ parameters - log_marginal)
                    gradients[0].append(weights @ parameters.mT)
                    gradients[1].append(statistic.mT @ weights)
                whole = (torch.cat(gradient) / len(joint) for gradient in gradients)
                ctx.save_for_backward(*whole, statistics, natural)
            return (log_joint - torch.cat(log_marginals).sum(0)).mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *gradients, statistics, natural = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return tuple(gradient * saved for saved in gradients)
        log_densities = statistics @ natural  # recompute with autograd, for second derivatives
        ratio = (log_densities.sum(0).logsumexp(1) - log_densities.logsumexp(2).sum(0)).mean()
        inputs = [x for x, needed in zip((statistics, natural), ctx.needs_input_grad, strict=True) if needed]
        results = iter(torch.autograd.grad(ratio, inputs, gradient, create_graph=True))
        return tuple(next(results) if needed else None for needed in ctx.needs_input_grad)


def _log_sum_exp(values: Tensor) -> Tensor:
    """Compute log Σ exp over the last dimension and keep this dimension with length 1."""
    highest = values.amax(-1, keepdim=True)
    return highest + _exp(values - highest).sum(-1, keepdim=True).log()


def _exp(values: Tensor) -> Tensor:
    """Compute exp(max(v, -40)) for v of at most about 0; exp(-40) is negligible, and underflow is slow on CPUs."""
    return values.clamp(min=-40).exp()


def stratified_total_correlation(
    latents: Float[Tensor, "batch latents"], mixture: Posterior, num_images: int
) -> Float[Tensor, ""]:
    """Estimate the total correlation KL(q(z) || Π q(z_d)) by minibatch-stratified sampling, in nats.

    The estimate is the mean over i of  log Σ_j W_ij Π_d q(z_id | x_j)  -  Σ_d log Σ_j W_ij q(z_id | x_j). With the
    weights W, both sums are unbiased estimates of the aggregate posterior over all N images. With M = batch - 1, the
    weights are W_ii = 1/N; W_ij = (N - M)/(N M) for one other j, here the next one; and W_ij = 1/M for the rest. Each
    row sums to 1. (Public implementations put 1/N into the first column instead of the diagonal.) The logarithm of an
    unbiased estimate is still biased, mostly downwards.

    Source:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), appendix C.2.
        https://arxiv.org/abs/1802.04942

    Args:
        latents: one posterior sample of each image; at least 2 images.
        mixture: posteriors of the same images.
        num_images: number N of images from which the batch is drawn; at least the size of the batch is used.

    Returns:
        The estimate in nats. It can be negative.

    Example:
        >>> latents, mixture = torch.zeros(4, 2), Posterior(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> stratified_total_correlation(latents, mixture, 100).abs() < 1e-6
        tensor(True)
    """
    log_q = gaussian_log_density(latents[:, None], mixture.mean[None], mixture.log_var[None])  # [i, j, d]
    log_weights = stratified_weights(len(latents), num_images, latents.device).log().to(latents)
    joint = (log_weights + log_q.sum(2)).logsumexp(1)
    product = (log_weights[:, :, None] + log_q).logsumexp(1).sum(1)
    return (joint - product).mean()


def stratified_weights(batch: int, num_images: int, device: torch.device | None = None) -> Float[Tensor, "batch batch"]:
    """Return the weights W of minibatch-stratified sampling: W_ij is the share of the N images that j represents for i.

    Source:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), appendix C.2.
        https://arxiv.org/abs/1802.04942

    Example:
        >>> stratified_weights(3, 10).tolist()
        [[0.1, 0.4, 0.5], [0.5, 0.1, 0.4], [0.4, 0.5, 0.1]]
    """
    all_images, others = max(num_images, batch), batch - 1
    dtype = torch.float32 if device and device.type == "mps" else torch.float64  # MPS does not support float64
    own = torch.eye(batch, dtype=dtype, device=device)
    after = own.roll(1, 1)
    rest = (1 - own - after) / others
    return own / all_images + after * (all_images - others) / (all_images * others) + rest


def calibrated_total_correlation(
    latents: Float[Tensor, "batch latents"], mixture: Posterior, others: Posterior | None = None
) -> Float[Tensor, ""]:
    """Estimate the total correlation in nats with little bias: about 0 for independent latents, for any batch size.

    This is the estimate of `total_correlation`, minus the same estimate after shifting each latent by a different
    number of images. The shift keeps the marginals and removes the dependence. In the difference, the constant, the
    marginal densities and nearly all of the bias cancel:

        mean over i of  log Σ_j Π_d q(z_id | x_j)  -  log Σ_j Π_d q(z_(i+s_d)d | x_(j+s_d))

    For dependent latents, the estimate is too small: it is at most log M for M images, and about 0 if the latents carry
    so much information that hardly any two of M images are neighbours. Use it for monitoring, not for training.

    Args:
        latents: one posterior sample of each image, in random order; at least as many images as latents.
        mixture: posteriors of the same images.
        others: posteriors of further images.

    Returns:
        The estimate in nats. It can be negative.

    Example:
        >>> latents, mixture = torch.zeros(4, 2), Posterior(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> calibrated_total_correlation(latents, mixture)
        tensor(0.)
    """

    def joint(latents: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
        return gaussian_log_density(latents[:, None], mean[None], log_var[None]).sum(2).logsumexp(1).mean()

    def shifted(table: Tensor) -> Tensor:
        """Shift each column by a different number of rows."""
        count, columns = table.shape
        positions = torch.arange(count, device=table.device)[:, None]
        shifts = torch.arange(columns, device=table.device) * count // columns
        return table.gather(0, (positions + shifts) % count)

    original, independent = list(mixture), [shifted(table) for table in mixture]
    if others is not None:
        original = [torch.cat(pair) for pair in zip(original, others, strict=True)]
        independent = [torch.cat([table, shifted(other)]) for table, other in zip(independent, others, strict=True)]
    return joint(latents, *original) - joint(shifted(latents), *independent)
