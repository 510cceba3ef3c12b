"""β set by a controller, so that the rate follows a capacity: ControlVAE and DynamicVAE."""

import torch
from jaxtyping import Float
from torch import Tensor

from betavae.model import VAE
from betavae.objectives.api import Batch, Loss, Scalar
from betavae.objectives.elbo import evidence
from betavae.objectives.settings import Control, Dynamic


def control(settings: Control, model: VAE, batch: Batch) -> Loss:
    """Reconstruction + β · rate with β = K_p / (1 + exp(e)) - K_i Σ e + β_min, never below β_min, e = C - rate.

    The error e is that of the batch's mean rate, at this step included; no gradient passes through β. The sum leaves
    out errors above 0 that follow a step at which β was below β_min, so that it does not wind up. (The paper's leaves
    out all errors there, and β, once below by more than K_p, never comes back.) The capacity C rises in jumps.

    Source:
        ControlVAE: Controllable Variational Autoencoder (Shao et al., 2020), algorithm 1, and its published code
        for dSprites. https://arxiv.org/abs/2004.05988
    """
    seen = evidence(model, batch)
    capacity = batch.schedule["capacity_nats"]
    error = capacity - seen.rate.detach()
    before = batch.memory.get("integral", torch.zeros_like(error))
    below = batch.memory.get("beta", torch.ones_like(error) * settings.min_beta) < settings.min_beta
    integral = torch.where(below & (error > 0), before, before - settings.integral * error)
    beta = settings.proportional * torch.sigmoid(-error) + integral + settings.min_beta
    return _weighed(seen.reconstruction, seen.rate, beta, settings.min_beta, capacity, {"integral": integral})


def dynamic(settings: Dynamic, model: VAE, batch: Batch) -> Loss:
    """Reconstruction + β · rate, β changing by K_p (σ(-e) - σ(-e')) - K_i e from its value at the step before.

    The error e = C - rate takes the mean of the last few batches' rates (zeros before the first), e' is that of the
    step before; no gradient passes through β. What weighs the rate is never below `min_beta`; while β is below, the
    second part is left out where it would lower β further (in the published code wherever it is). The capacity C rises
    in ramps.

    Source:
        DynamicVAE: Decoupling Reconstruction Error and Disentangled Representation Learning (Shao et al., 2020),
        and its published code for dSprites. https://arxiv.org/abs/2009.06795
    """
    seen = evidence(model, batch)
    capacity = batch.schedule["capacity_nats"]
    rate = seen.rate.detach()
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
    return _weighed(seen.reconstruction, seen.rate, beta, settings.min_beta, capacity, memory)


def _weighed(
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
