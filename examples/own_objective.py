"""An objective from outside the package: a β-VAE whose β rises from latent to latent.

python examples/own_objective.py runs/own [steps]
"""

import sys
from dataclasses import dataclass

import torch

from betavae.config import Config
from betavae.experiment import experiment
from betavae.objectives.api import Batch, Loss
from betavae.objectives.elbo import evidence
from betavae.objectives.registry import register
from betavae.objectives.terms import gaussian_kl


@dataclass(frozen=True)
class Graded:
    """Reconstruction + Σ β_d · KL of latent d, with β_d rising evenly from 1 to `last`. Main setting: --last."""

    last: float = 8.0


def graded(settings, model, batch: Batch) -> Loss:
    """What is minimised: a scalar, and the terms to show. Noise and step come with the batch."""
    seen = evidence(model, batch)
    weights = torch.linspace(1.0, settings.last, model.latent_dim, device=batch.noise.device)
    weighed = (gaussian_kl(*seen.posterior) * weights).sum(1).mean()
    return Loss(seen.reconstruction + weighed, {"reconstruction": seen.reconstruction, "rate": seen.rate})


register("graded", Graded, graded)

if __name__ == "__main__":
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 5_000
    config = Config(objective=Graded(), steps=steps, learning_rate=1e-3, schedule="one-cycle", validation_images=0.02)
    print(experiment(config, sys.argv[1]).path("report.html"))
