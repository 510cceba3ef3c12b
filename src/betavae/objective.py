"""What is minimised: pure functions of tensors, and the first objectives composed of them.

Conventions, the same everywhere: a term is summed over pixels or codes and averaged over the images of a batch; it is
in nats; β multiplies the summed KL.

An objective is a function `(settings, model, batch) -> Loss`. It encodes and decodes, and draws nothing at random by
itself: the noise and the step are in the batch. So an objective may change the posterior before sampling (pairs of
images are the two halves of a batch), use half a batch for a second purpose, weigh its terms by the step, or hand
something to the next step, as a controller does. What else it takes, its settings say (`settings.Needs`).

The other objectives are in `objectives/`, and so is the table of all.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from betavae.likelihood import bernoulli_error
from betavae.model import VAE, Likelihood, Posterior
from betavae.settings import TC, Annealed, Beta, Vae

Step = int | Int[Tensor, ""]
"""Updates done, or something counted from them."""
Scalar = float | Float[Tensor, ""]
"""What depends on a step, and is a tensor where that is one."""

_CACHED_VALUES = 100_000
"""Densities of codes among images that a CPU works on at once: 0.4 MB."""


class Batch(NamedTuple):
    """What an objective sees of one step."""

    images: Float[Tensor, "batch channel height width"]
    """Pixels in [0, 1]."""
    noise: Float[Tensor, "batch codes"]
    """Standard normal, for sampling the posterior."""
    step: Step
    """Updates done before this one: 0 for the first. On CUDA, where many steps are recorded at once, a tensor: weigh
    terms by `ramp` and the like, which take both."""
    memory: Mapping[str, Tensor] = MappingProxyType({})
    """What the objective returned as `Loss.memory` at the step before; empty at the first. `mean` and `log_var` in it
    are posteriors, which turn when the codes' axes do."""
    more_noise: Float[Tensor, "batch codes"] | None = None
    """Standard normal, independent of `noise`, for objectives that need more of it."""
    labels: Float[Tensor, "batch factors"] | None = None
    """Factors scaled to [0, 1] by their number of values, -1 where not known, for objectives that need them."""
    num_images: int = 0
    """Images that are trained on."""
    network: nn.Module | None = None
    """The objective's own network, such as a discriminator, for objectives that need one."""


class Loss(NamedTuple):
    """What an objective returns."""

    loss: Float[Tensor, ""]
    """To be minimised over the model's parameters."""
    terms: dict[str, Scalar]
    """What the curves show: at least `reconstruction` and `rate`, in nats."""
    memory: Mapping[str, Tensor] = MappingProxyType({})
    """What the next step is to be given, detached; it is part of a checkpoint."""
    network_loss: Float[Tensor, ""] | None = None
    """To be minimised over the objective's own network, and over nothing else; `loss` does not move that network."""


# ---------------------------------------------------------------------------------------------------------------------
# Terms
# ---------------------------------------------------------------------------------------------------------------------


def reconstruction_error(
    output: Float[Tensor, "*batch channel height width"],
    images: Float[Tensor, "*batch channel height width"],
    likelihood: Likelihood = "bernoulli",
) -> Float[Tensor, "*batch"]:
    """Negative log likelihood of images, summed over pixels, in nats.

    Bernoulli: -Σ x log σ(l) + (1 - x) log(1 - σ(l)) with logits l; soft targets are allowed, and the entropy of the
    targets is not subtracted. Gaussian with unit variance: Σ (x - m)² / 2 + log(2π) / 2.

    Source:
        Auto-Encoding Variational Bayes (Kingma & Welling, 2014), appendix C. https://arxiv.org/abs/1312.6114

    Args:
        output: logits (Bernoulli) or means (Gaussian) of the pixels.
        images: pixels in [0, 1].
        likelihood: `bernoulli` or `gaussian`.

    Returns:
        One value an image, in nats; at least 0 for Bernoulli.

    Example:
        >>> reconstruction_error(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)) / math.log(2)
        tensor([4.])
    """
    if likelihood == "bernoulli":
        return bernoulli_error(output, images)
    error = 0.5 * (output - images) ** 2 + 0.5 * math.log(2 * math.pi)
    return error.sum((-3, -2, -1))


def decoded_error(
    model: VAE, codes: Float[Tensor, "batch codes"], images: Float[Tensor, "batch channel height width"]
) -> Float[Tensor, " batch"]:
    """`reconstruction_error` of images by what a model decodes from codes, where that can be in less time than apart.

    Args:
        model: whose decoder and likelihood.
        codes: one row an image.
        images: pixels in [0, 1].

    Returns:
        One value an image, in nats.
    """
    if model.likelihood == "bernoulli":
        return model.bernoulli_error(codes, images)
    return reconstruction_error(model.decode(codes), images, model.likelihood)


def gaussian_kl(
    mean: Float[Tensor, "*batch codes"], log_var: Float[Tensor, "*batch codes"]
) -> Float[Tensor, "*batch codes"]:
    """KL divergence of a diagonal Gaussian from the standard normal, per code, in nats: (μ² + σ² - log σ² - 1) / 2.

    No reduction: sum over codes for the rate of an image, then average over the batch.

    Source:
        Auto-Encoding Variational Bayes (Kingma & Welling, 2014), appendix B. https://arxiv.org/abs/1312.6114

    Args:
        mean: of the Gaussian.
        log_var: natural logarithm of its variance.

    Returns:
        Nats, at least 0, of the shape given.

    Example:
        >>> gaussian_kl(torch.tensor([1.0, 0.0]), torch.zeros(2))
        tensor([0.5000, 0.0000])
    """
    return 0.5 * (mean**2 + log_var.exp() - log_var - 1)


def gaussian_log_density(
    codes: Float[Tensor, "..."], mean: Float[Tensor, "..."], log_var: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """Logarithm of the normal density, elementwise, in nats.

    Source:
        Auto-Encoding Variational Bayes (Kingma & Welling, 2014), appendix C.2. https://arxiv.org/abs/1312.6114

    Example:
        >>> gaussian_log_density(torch.zeros(1), torch.zeros(1), torch.zeros(1))
        tensor([-0.9189])
    """
    return -0.5 * ((codes - mean) ** 2 * torch.exp(-log_var) + log_var + math.log(2 * math.pi))


def total_correlation(
    codes: Float[Tensor, "batch codes"], mixture: Posterior, others: Posterior | None = None
) -> Float[Tensor, ""]:
    """Total correlation of the codes, KL(q(z) || Π q(z_d)), by minibatch-weighted sampling, in nats.

    Mean over i of  log Σ_j Π_d q(z_id | x_j)  -  Σ_d log Σ_j q(z_id | x_j)  +  (D - 1) log M,  j over M images.

    The constant is that of M images taken for the whole data set. The paper's has N · M in place of M, which adds
    (D - 1) log N: it changes no gradient, but no value could be read (41.7 nats for five independent codes, against
    about 2 here). The estimate is biased: compare it between runs of one M only. It sees no dependence between codes
    that carry more than log M nats together, for then hardly two of M images are neighbours; more images help.

    Source:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), equation S3 of the
        appendix. https://arxiv.org/abs/1802.04942

    Args:
        codes: one sample of each image's posterior.
        mixture: posteriors of the same images.
        others: posteriors of further images.

    Returns:
        Nats; an estimate below 0 is possible.

    Example:
        >>> codes, mixture = torch.zeros(4, 1), Posterior(torch.zeros(4, 1), torch.zeros(4, 1))
        >>> total_correlation(codes, mixture)
        tensor(0.)
    """
    if others is not None:
        mixture = Posterior(*(torch.cat(pair) for pair in zip(mixture, others, strict=True)))
    mean, log_var = mixture.mean.T, mixture.log_var.T
    precision = torch.exp(-log_var)
    at_zero = gaussian_log_density(torch.zeros_like(mean), mean, log_var)
    natural = torch.stack([-0.5 * precision, mean * precision, at_zero], 1)
    statistics = torch.stack([codes.T**2, codes.T, torch.ones_like(codes.T)], 2)
    ratio: Tensor = _DensityRatio.apply(statistics, natural)  # type: ignore[no-untyped-call]
    return ratio + (codes.shape[1] - 1) * math.log(len(mixture.mean))


class _DensityRatio(torch.autograd.Function):
    """Mean over i of log Σ_j exp(Σ_d l_dij) - Σ_d log Σ_j exp(l_dij), where l_d = statistics_d @ natural_d, (B, M).

    A Gaussian's log density is the inner product of (z², z, 1) with its natural parameters. Autograd would keep several
    arrays of D x B x M; but the gradient with respect to l_dij is the difference of two softmaxes over j, and so a few
    codes at a time fit a CPU's cache.
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
    codes: Float[Tensor, "batch codes"], mixture: Posterior, num_images: int
) -> Float[Tensor, ""]:
    """Total correlation of the codes, KL(q(z) || Π q(z_d)), by minibatch-stratified sampling, in nats.

    Mean over i of  log Σ_j W_ij Π_d q(z_id | x_j)  -  Σ_d log Σ_j W_ij q(z_id | x_j)  with weights W that make the sums
    unbiased estimates of the aggregate posterior over all N images. With M = batch - 1: W_ii = 1/N; (N - M)/(N M) for
    one other j, here the next; 1/M for the rest. Each row sums to 1. (Public implementations put 1/N into the first
    column instead of the diagonal.) The logarithm of an unbiased estimate still is biased, mostly downwards.

    Source:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), appendix C.2.
        https://arxiv.org/abs/1802.04942

    Args:
        codes: one sample of each image's posterior; at least 2.
        mixture: posteriors of the same images.
        num_images: N, images that the batch was drawn from; taken as the batch's size where it is less.

    Returns:
        Nats; an estimate below 0 is possible.

    Example:
        >>> codes, mixture = torch.zeros(4, 2), Posterior(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> stratified_total_correlation(codes, mixture, 100).abs() < 1e-6
        tensor(True)
    """
    log_q = gaussian_log_density(codes[:, None], mixture.mean[None], mixture.log_var[None])  # [i, j, d]
    log_weights = stratified_weights(len(codes), num_images, codes.device).log().to(codes)
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
    codes: Float[Tensor, "batch codes"], mixture: Posterior, others: Posterior | None = None
) -> Float[Tensor, ""]:
    """Total correlation of the codes in nats that can be read: 0 for independent codes, whatever the batch.

    The estimate of `total_correlation`, less the estimate for the same codes with every dimension shifted to other
    images, which have the same marginals and no dependence. In the difference both the constant and the marginal
    densities cancel, and with them nearly all of the bias:

        mean over i of  log Σ_j Π_d q(z_id | x_j)  -  log Σ_j Π_d q(z_(i+s_d)d | x_(j+s_d))

    Dependent codes have too little: at most log M for M images, and nothing where codes carry so much that hardly two
    of M images are neighbours. It is for reading, not for training.

    Args:
        codes: one sample of each image's posterior, images in random order and at least as many as codes.
        mixture: posteriors of the same images.
        others: posteriors of further images.

    Returns:
        Nats; an estimate below 0 is possible.

    Example:
        >>> codes, mixture = torch.zeros(4, 2), Posterior(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> calibrated_total_correlation(codes, mixture)
        tensor(0.)
    """

    def joint(codes: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
        return gaussian_log_density(codes[:, None], mean[None], log_var[None]).sum(2).logsumexp(1).mean()

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
    return joint(codes, *own) - joint(shifted(codes), *moved)


# ---------------------------------------------------------------------------------------------------------------------
# Schedules: of a step that is a number, or a tensor
# ---------------------------------------------------------------------------------------------------------------------


def ramp(step: Step, steps: int) -> Scalar:
    """Share of a linear rise done before a step: 0 at step 0, 1 from step `steps` on; 1 always if there is no rise.

    Example:
        >>> [ramp(step, 4) for step in (0, 1, 4, 9)], ramp(0, 0), ramp(torch.tensor(1), 4)
        ([0.0, 0.25, 1.0, 1.0], 1.0, tensor(0.2500))
    """
    return at_most(step / steps, 1.0) if steps else 1.0


def since(step: Step, start: int) -> Step:
    """Steps since a start; 0 before it.

    Example:
        >>> since(3, 5), since(7, 5), since(torch.tensor(7), 5)
        (0, 2, tensor(2))
    """
    return (step - start).clamp(min=0) if isinstance(step, Tensor) else max(0, step - start)


def at_most(value: Scalar, most: float) -> Scalar:
    """A value, or the most that it may be.

    Example:
        >>> at_most(0.5, 1.0), at_most(1.5, 1.0), at_most(torch.tensor(1.5), 1.0)
        (0.5, 1.0, tensor(1.))
    """
    return value.clamp(max=most) if isinstance(value, Tensor) else min(value, most)


def either(condition: bool | Tensor, one: Scalar, other: Scalar) -> Scalar:
    """The one value where a condition holds, else the other.

    Example:
        >>> either(False, 1.0, 2.0), either(torch.tensor(True), 1.0, 2.0)
        (2.0, tensor(1.))
    """
    return torch.where(condition, one, other) if isinstance(condition, Tensor) else one if condition else other


# ---------------------------------------------------------------------------------------------------------------------
# Objectives
# ---------------------------------------------------------------------------------------------------------------------


class Evidence(NamedTuple):
    """The two halves of the evidence lower bound of a batch, and what they came from."""

    reconstruction: Float[Tensor, ""]
    rate: Float[Tensor, ""]
    codes: Float[Tensor, "batch codes"]
    posterior: Posterior


def evidence(model: VAE, batch: Batch) -> Evidence:
    """Encode, sample, decode: reconstruction error and rate in nats, averaged over the batch. Their sum is -ELBO.

    Source:
        Auto-Encoding Variational Bayes (Kingma & Welling, 2014), equations 7 and 10. https://arxiv.org/abs/1312.6114
    """
    posterior = model.encode(batch.images)
    codes = posterior.sample(batch.noise)
    error = decoded_error(model, codes, batch.images)
    return Evidence(error.mean(), gaussian_kl(*posterior).sum(1).mean(), codes, posterior)


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
    weight = settings.beta * ramp(batch.step, settings.warmup_steps)
    loss = seen.reconstruction + weight * seen.rate
    return Loss(loss, {"reconstruction": seen.reconstruction, "rate": seen.rate, "beta": weight})


def annealed(settings: Annealed, model: VAE, batch: Batch) -> Loss:
    """Reconstruction + γ · |rate - C|, the capacity C rising linearly from 0; the distance is the batch mean's.

    Source:
        Understanding disentangling in β-VAE (Burgess et al., 2018), equation 8. https://arxiv.org/abs/1804.03599
    """
    seen = evidence(model, batch)
    capacity = settings.capacity_nats * ramp(batch.step, settings.capacity_steps)
    loss = seen.reconstruction + settings.gamma * (seen.rate - capacity).abs()
    return Loss(loss, {"reconstruction": seen.reconstruction, "rate": seen.rate, "capacity_nats": capacity})


def tc(settings: TC, model: VAE, batch: Batch) -> Loss:
    """Reconstruction + w · (rate + (β - 1) · total correlation), w rising linearly to 1 over the first `warmup_steps`.

    The paper splits the rate into mutual information + total correlation + dimension-wise KL and weighs the second with
    β; with the other two weights at 1 that is this sum. With `memory_images` total correlation is estimated among the
    batch and that many images seen last, with the posteriors that they had then (not in the paper): a small batch then
    sees dependence that only a large one could. With `final_beta` β falls (not in the paper): a large β has parted the
    factors by then, and a small one lets the codes carry more. With `second_warmup_steps` w then rises from 0 again, a
    cyclical schedule: codes that had fallen silent wake while they cost nothing. Stratified sampling is the paper's
    other estimate.
    Without gradients, as for held-out images, the terms also have `calibrated_total_correlation`, which can be read in
    nats.

    Source:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), equation 4.
        https://arxiv.org/abs/1802.04942
        Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing (Fu et al., 2019), figure 2.
        https://arxiv.org/abs/1903.10145
    """
    seen = evidence(model, batch)
    past = Posterior(batch.memory["mean"], batch.memory["log_var"]) if batch.memory else None
    if settings.sampling == "stratified":
        correlation = stratified_total_correlation(seen.codes, seen.posterior, batch.num_images)
    else:
        correlation = total_correlation(seen.codes, seen.posterior, past)
    weight = ramp(batch.step, settings.warmup_steps)
    if settings.second_warmup_steps:
        again = ramp(since(batch.step, settings.fall_after), settings.second_warmup_steps)
        weight = either(batch.step >= settings.fall_after, again, weight)
    loss = seen.reconstruction + weight * (seen.rate + (beta_at(settings, batch.step) - 1) * correlation)
    terms = {"reconstruction": seen.reconstruction, "rate": seen.rate, "total_correlation": correlation}
    if not torch.is_grad_enabled():
        terms["calibrated_total_correlation"] = calibrated_total_correlation(seen.codes, seen.posterior, past)
    return Loss(loss, {**terms}, _remembered(seen.posterior, past, settings.memory_images))


def beta_at(settings: TC, step: Step) -> Scalar:
    """β of a step: it falls by equal factors from `beta` to `final_beta`, if there is one.

    Example:
        >>> settings = TC(beta=16.0, final_beta=4.0, fall_after=100, fall_steps=10)
        >>> [round(beta_at(settings, step), 6) for step in (0, 100, 105, 110, 500)]
        [16.0, 16.0, 8.0, 4.0, 4.0]
    """
    if settings.final_beta is None:
        return settings.beta
    fallen = ramp(since(step, settings.fall_after), settings.fall_steps)
    return settings.beta * (settings.final_beta / settings.beta) ** fallen


def _remembered(posterior: Posterior, past: Posterior | None, count: int) -> dict[str, Tensor]:
    """The last `count` posteriors, newest first."""
    if not count:
        return {}
    own = {"mean": posterior.mean.detach(), "log_var": posterior.log_var.detach()}
    if past is not None:
        own = {"mean": torch.cat([own["mean"], past.mean]), "log_var": torch.cat([own["log_var"], past.log_var])}
    return {name: values[:count] for name, values in own.items()}
