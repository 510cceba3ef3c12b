"""Estimates of the total correlation of latents, in nats."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from betavae.model import Posterior
from betavae.objectives.terms import gaussian_log_density

_CACHED_VALUES = 100_000
"""Densities of latents among images that a CPU works on at once: 0.4 MB."""


def total_correlation(
    latents: Float[Tensor, "batch latents"], mixture: Posterior, others: Posterior | None = None
) -> Float[Tensor, ""]:
    """Total correlation of the latents, KL(q(z) || Π q(z_d)), by minibatch-weighted sampling, in nats.

    Mean over i of  log Σ_j Π_d q(z_id | x_j)  -  Σ_d log Σ_j q(z_id | x_j)  +  (D - 1) log M,  j over M images.

    The constant is that of M images taken for the whole data set. The paper's has N · M in place of M, which adds
    (D - 1) log N: it changes no gradient, but no value could be read (41.7 nats for five independent latents, against
    about 2 here). The estimate is biased: compare it between runs of one M only. It sees no dependence between latents
    that carry more than log M nats together, for then hardly two of M images are neighbours; more images help.

    Source:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), equation S3 of the
        appendix. https://arxiv.org/abs/1802.04942

    Args:
        latents: one sample of each image's posterior.
        mixture: posteriors of the same images.
        others: posteriors of further images.

    Returns:
        Nats; an estimate below 0 is possible.

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

    A Gaussian's log density is the inner product of (z², z, 1) with its natural parameters. Autograd would keep several
    arrays of D x B x M; but the gradient with respect to l_dij is the difference of two softmaxes over j, and so a few
    latents at a time fit a CPU's cache.
    """

    @staticmethod
    def forward(ctx: Any, statistics: Tensor, natural: Tensor) -> Tensor:
        with torch.autocast(statistics.device.type, enabled=False):
            joint = statistics.new_zeros(statistics.shape[1], natural.shape[2])
            at_once = max(1, _CACHED_VALUES // joint.numel()) if joint.is_cpu else len(statistics)
            spans = [slice(start, start + at_once) for start in range(0, len(statistics), at_once)]
            parts = [(statistics[span], natural[span]) for span in spans]
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
        log_densities = statistics @ natural  # the gradients will be differentiated
        again = (log_densities.sum(0).logsumexp(1) - log_densities.logsumexp(2).sum(0)).mean()
        wanted = [x for x, needed in zip((statistics, natural), ctx.needs_input_grad, strict=True) if needed]
        found = iter(torch.autograd.grad(again, wanted, gradient, create_graph=True))
        return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)


def _log_sum_exp(values: Tensor) -> Tensor:
    """Over the last dimension, which stays, with length 1."""
    highest = values.amax(-1, keepdim=True)
    return highest + _exp(values - highest).sum(-1, keepdim=True).log()


def _exp(values: Tensor) -> Tensor:
    """exp(max(v, -40)) of values up to about 0: 4e-18 beside 1 is nothing, and CPUs are slow where exp underflows."""
    return values.clamp(min=-40).exp()


def stratified_total_correlation(
    latents: Float[Tensor, "batch latents"], mixture: Posterior, num_images: int
) -> Float[Tensor, ""]:
    """Total correlation of the latents, KL(q(z) || Π q(z_d)), by minibatch-stratified sampling, in nats.

    Mean over i of  log Σ_j W_ij Π_d q(z_id | x_j)  -  Σ_d log Σ_j W_ij q(z_id | x_j)  with weights W that make the sums
    unbiased estimates of the aggregate posterior over all N images. With M = batch - 1: W_ii = 1/N; (N - M)/(N M) for
    one other j, here the next; 1/M for the rest. Each row sums to 1. (Public implementations put 1/N into the first
    column instead of the diagonal.) The logarithm of an unbiased estimate still is biased, mostly downwards.

    Source:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), appendix C.2.
        https://arxiv.org/abs/1802.04942

    Args:
        latents: one sample of each image's posterior; at least 2.
        mixture: posteriors of the same images.
        num_images: N, images that the batch was drawn from; taken as the batch's size where it is less.

    Returns:
        Nats; an estimate below 0 is possible.

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
    """Weights W of minibatch-stratified sampling: how much of N images each of a batch stands for, seen from image i.

    Source:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), appendix C.2.
        https://arxiv.org/abs/1802.04942

    Example:
        >>> stratified_weights(3, 10).tolist()
        [[0.1, 0.4, 0.5], [0.5, 0.1, 0.4], [0.4, 0.5, 0.1]]
    """
    all_images, others = max(num_images, batch), batch - 1
    dtype = torch.float32 if device and device.type == "mps" else torch.float64  # which Apple's GPUs have not
    own = torch.eye(batch, dtype=dtype, device=device)
    after = own.roll(1, 1)
    rest = (1 - own - after) / others
    return own / all_images + after * (all_images - others) / (all_images * others) + rest


def calibrated_total_correlation(
    latents: Float[Tensor, "batch latents"], mixture: Posterior, others: Posterior | None = None
) -> Float[Tensor, ""]:
    """Total correlation of the latents in nats that can be read: 0 for independent latents, whatever the batch.

    The estimate of `total_correlation`, less the estimate for the same latents with every dimension shifted to other
    images, which have the same marginals and no dependence. In the difference both the constant and the marginal
    densities cancel, and with them nearly all of the bias:

        mean over i of  log Σ_j Π_d q(z_id | x_j)  -  log Σ_j Π_d q(z_(i+s_d)d | x_(j+s_d))

    Dependent latents have too little: at most log M for M images, and nothing where latents carry so much that hardly
    two of M images are neighbours. It is for reading, not for training.

    Args:
        latents: one sample of each image's posterior, images in random order and at least as many as latents.
        mixture: posteriors of the same images.
        others: posteriors of further images.

    Returns:
        Nats; an estimate below 0 is possible.

    Example:
        >>> latents, mixture = torch.zeros(4, 2), Posterior(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> calibrated_total_correlation(latents, mixture)
        tensor(0.)
    """

    def joint(latents: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
        return gaussian_log_density(latents[:, None], mean[None], log_var[None]).sum(2).logsumexp(1).mean()

    def shifted(table: Tensor) -> Tensor:
        """The columns moved down, each by another number of rows."""
        count, columns = table.shape
        places = torch.arange(count, device=table.device)[:, None]
        shifts = torch.arange(columns, device=table.device) * count // columns
        return table.gather(0, (places + shifts) % count)

    own, moved = list(mixture), [shifted(table) for table in mixture]
    if others is not None:
        own = [torch.cat(pair) for pair in zip(own, others, strict=True)]
        moved = [torch.cat([table, shifted(more)]) for table, more in zip(moved, others, strict=True)]
    return joint(latents, *own) - joint(shifted(latents), *moved)
