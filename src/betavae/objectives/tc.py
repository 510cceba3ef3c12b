"""β-TCVAE: β weights only the total correlation, a part of the KL term (rate)."""

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
    """Compute reconstruction + w · (rate + (β - 1) · total correlation), with w a linear warm-up over `warmup_steps`.

    The paper splits the rate into mutual information + total correlation + dimension-wise KL, and weights the total
    correlation with β. If the other two weights are 1, this is the sum above. Stratified sampling is the paper's second
    estimator of the total correlation. Three options are not in the paper:

    - `memory_images`: the total correlation is estimated over the batch and the most recent images, with the posteriors
      of their training steps. A small batch can then show dependence that otherwise needs a large batch.
    - `final_beta`: β is annealed. A large β first disentangles the factors; a smaller β then lets the latents capture
      more information.
    - `second_warmup_steps`: w restarts from 0 (cyclical annealing). Inactive latents can become active while the KL
      term has a small weight.

    Without gradients, as in validation, the terms include `calibrated_total_correlation`, an estimate in nats that is 0
    for independent latents.

    Source:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), equation 4.
        https://arxiv.org/abs/1802.04942
        Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing (Fu et al., 2019), figure 2.
        https://arxiv.org/abs/1903.10145
    """
    elbo = evidence(model, batch)
    past = Posterior(batch.memory["mean"], batch.memory["log_var"]) if batch.memory else None
    if settings.sampling == "stratified":
        correlation = stratified_total_correlation(elbo.latents, elbo.posterior, batch.num_images)
    else:
        correlation = total_correlation(elbo.latents, elbo.posterior, past)
    weight, beta = batch.schedule["kl_weight"], batch.schedule["beta"]
    loss = elbo.reconstruction + weight * (elbo.rate + (beta - 1) * correlation)
    terms = {"reconstruction": elbo.reconstruction, "rate": elbo.rate, "total_correlation": correlation}
    if not torch.is_grad_enabled():
        terms["calibrated_total_correlation"] = calibrated_total_correlation(elbo.latents, elbo.posterior, past)
    return Loss(loss, {**terms}, _recent_posteriors(elbo.posterior, past, settings.memory_images))


def _recent_posteriors(posterior: Posterior, past: Posterior | None, count: int) -> dict[str, Tensor]:
    """Return the last `count` posteriors, newest first."""
    if not count:
        return {}
    recent = {"mean": posterior.mean.detach(), "log_var": posterior.log_var.detach()}
    if past is not None:
        recent = {
            "mean": torch.cat([recent["mean"], past.mean]),
            "log_var": torch.cat([recent["log_var"], past.log_var]),
        }
    return {name: values[:count] for name, values in recent.items()}
