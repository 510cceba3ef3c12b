"""The loss of an objective on one batch, and means of several losses."""

import math
from typing import Any

import torch
from torch import Tensor

from betavae import plugins
from betavae.files.validation import short
from betavae.model import VAE
from betavae.objectives.api import Batch, Loss
from betavae.objectives.registry import OBJECTIVES, objective_of


class Diverged(RuntimeError):
    """The loss or a weight is not finite."""


def compute_loss(settings: Any, model: VAE, batch: Batch) -> Loss:
    """Compute the loss of an objective. Errors in a user's own objective name the objective."""
    objective = objective_of(settings)
    if OBJECTIVES.is_shipped(name := objective.name):
        built_in: Loss = objective.loss(settings, model, batch)
        return built_in
    try:
        loss = objective.loss(settings, model, batch)
    except (RuntimeError, MemoryError):  # errors of PyTorch, which have clear messages, and lack of memory
        raise
    except Exception as error:
        raise ValueError(f"objective {name} failed: {plugins.describe_error(error)}") from error
    if not isinstance(loss, Loss):
        raise ValueError(f"objective {name} returned {short(loss)}; it must return a betavae.objectives.api.Loss")
    if not isinstance(loss.loss, Tensor) or loss.loss.dim() or not {"reconstruction", "rate"} <= loss.terms.keys():
        raise ValueError(
            f"objective {name} returned a loss of {short(loss.loss)} with terms {', '.join(loss.terms)}; it must be a "
            "tensor without axes, with at least the terms reconstruction and rate"
        )
    return loss


def mean_terms(losses: list[Loss], step: int) -> dict[str, float]:
    """Return the mean loss and terms of the last steps, with one transfer from the device for each term."""
    totals = torch.stack([loss.loss for loss in losses]).tolist()
    for back, value in zip(range(len(losses), 0, -1), totals, strict=True):
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value} at step {step - back + 1}")
    terms = {"loss": math.fsum(totals) / len(totals)}
    for name in losses[0].terms:
        values = [loss.terms[name] for loss in losses]
        tensors = [value for value in values if isinstance(value, Tensor)]
        numbers = torch.stack(tensors).tolist() if tensors else values
        terms[name] = math.fsum(numbers) / len(numbers)
    return terms
