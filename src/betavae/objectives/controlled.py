"""Objectives in which a controller sets β so that the KL term (rate) follows a capacity: ControlVAE, DynamicVAE."""

import torch
from jaxtyping import Float
from torch import Tensor

from betavae.model import VAE
from betavae.objectives.api import Batch, Loss, Scalar
from betavae.objectives.elbo import evidence
from betavae.objectives.settings import Control, Dynamic


def control(settings: Control, model: VAE, batch: Batch) -> Loss:
    """Compute reconstruction + β · rate with β = max(β_min, K_p / (1 + exp(e)) - K_i Σ e + β_min) and e = C - rate.

    The error e uses the mean rate of the batch, and the sum includes the current step. No gradient flows through β. The
    capacity C increases in steps.

    To avoid integral windup, the sum skips positive errors if β (before clipping) was below β_min at the previous step.
    (The paper skips all errors in this case. If β is then below β_min by more than K_p, it never recovers.)

    Source:
        ControlVAE: Controllable Variational Autoencoder (Shao et al., 2020), algorithm 1, and its published code
        for dSprites. https://arxiv.org/abs/2004.05988
    """
    elbo = evidence(model, batch)
    capacity = batch.schedule["capacity_nats"]
    error = capacity - elbo.rate.detach()
    before = batch.memory.get("integral", torch.zeros_like(error))
    below = batch.memory.get("beta", torch.ones_like(error) * settings.min_beta) < settings.min_beta
    integral = torch.where(below & (error > 0), before, before - settings.integral * error)
    beta = settings.proportional * torch.sigmoid(-error) + integral + settings.min_beta
    return _weighted_loss(elbo.reconstruction, elbo.rate, beta, settings.min_beta, capacity, {"integral": integral})


def dynamic(settings: Dynamic, model: VAE, batch: Batch) -> Loss:
    """Compute reconstruction + β · rate; each step changes β by K_p (σ(-e) - σ(-e')) - K_i e.

    The error is e = C - rate, where the rate is averaged over the last few batches (zeros before the first step), and
    e' is the error of the previous step. No gradient flows through β. The capacity C increases in ramps.

    The weight of the rate is β, clipped to at least `min_beta`. If β before clipping was below `min_beta`, a term
    -K_i e that would decrease it further is skipped. (The published code then skips the term in any case.)

    Source:
        DynamicVAE: Decoupling Reconstruction Error and Disentangled Representation Learning (Shao et al., 2020),
        and its published code for dSprites. https://arxiv.org/abs/2009.06795
    """
    elbo = evidence(model, batch)
    capacity = batch.schedule["capacity_nats"]
    rate = elbo.rate.detach()
    rates = batch.memory.get("rates", rate.new_zeros(settings.average_steps))
    rates = torch.cat([rates[1:], rate[None]])
    error = capacity - rates.mean()
    before = batch.memory.get("beta", torch.ones_like(error) * settings.start_beta)
    error_before = batch.memory.get("error", torch.zeros_like(error))
    proportional = settings.proportional * (torch.sigmoid(-error) - torch.sigmoid(-error_before))
    below = before < settings.min_beta
    integral = torch.where(below & (error > 0), torch.zeros_like(error), -settings.integral * error)
    beta = before + proportional + integral
    memory = {"error": error, "rates": rates}
    return _weighted_loss(elbo.reconstruction, elbo.rate, beta, settings.min_beta, capacity, memory)


def _weighted_loss(
    reconstruction: Float[Tensor, ""],
    rate: Float[Tensor, ""],
    beta: Float[Tensor, ""],
    min_beta: float,
    capacity: Scalar,
    memory: dict[str, Tensor],
) -> Loss:
    weight = beta.clamp(min=min_beta)
    terms = {"reconstruction": reconstruction, "rate": rate, "beta": weight}
    return Loss(reconstruction + weight * rate, {**terms, "capacity_nats": capacity}, {**memory, "beta": beta})
