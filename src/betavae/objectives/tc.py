"""β-TCVAE: the weight β is of total correlation alone."""

import torch
from torch import Tensor

from betavae.model import VAE, Posterior
from betavae.objectives.api import Batch, Loss
from betavae.objectives.elbo import evidence
from betavae.objectives.settings import TC
from betavae.objectives.total_correlation import (
    calibrated_total_correlation,
    stratified_total_correlation,
    total_correlation,
)


def tc(settings: TC, model: VAE, batch: Batch) -> Loss:
    """Reconstruction + w · (rate + (β - 1) · total correlation), w rising linearly to 1 over the first `warmup_steps`.

    The paper splits the rate into mutual information + total correlation + dimension-wise KL and weighs the second with
    β; with the other two weights at 1 that is this sum. With `memory_images` total correlation is estimated among the
    batch and that many images seen last, with the posteriors that they had then (not in the paper): a small batch then
    sees dependence that only a large one could. With `final_beta` β falls (not in the paper): a large β has parted the
    factors by then, and a small one lets the latents capture more. With `second_warmup_steps` w then rises from 0
    again, a cyclical schedule: latents that had fallen silent wake while they cost nothing. Stratified sampling is the
    paper's other estimate. Without gradients, as for held-out images, the terms also have
    `calibrated_total_correlation`, which can be read in nats.

    Source:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), equation 4.
        https://arxiv.org/abs/1802.04942
        Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing (Fu et al., 2019), figure 2.
        https://arxiv.org/abs/1903.10145
    """
    seen = evidence(model, batch)
    past = Posterior(batch.memory["mean"], batch.memory["log_var"]) if batch.memory else None
    if settings.sampling == "stratified":
        correlation = stratified_total_correlation(seen.latents, seen.posterior, batch.num_images)
    else:
        correlation = total_correlation(seen.latents, seen.posterior, past)
    weight, beta = batch.schedule["kl_weight"], batch.schedule["beta"]
    loss = seen.reconstruction + weight * (seen.rate + (beta - 1) * correlation)
    terms = {"reconstruction": seen.reconstruction, "rate": seen.rate, "total_correlation": correlation}
    if not torch.is_grad_enabled():
        terms["calibrated_total_correlation"] = calibrated_total_correlation(seen.latents, seen.posterior, past)
    return Loss(loss, {**terms}, _remembered(seen.posterior, past, settings.memory_images))


def _remembered(posterior: Posterior, past: Posterior | None, count: int) -> dict[str, Tensor]:
    """The last `count` posteriors, newest first."""
    if not count:
        return {}
    own = {"mean": posterior.mean.detach(), "log_var": posterior.log_var.detach()}
    if past is not None:
        own = {"mean": torch.cat([own["mean"], past.mean]), "log_var": torch.cat([own["log_var"], past.log_var])}
    return {name: values[:count] for name, values in own.items()}
