"""All objectives by their settings."""

from collections.abc import Callable
from typing import Any

from torch import nn

from betavae.model import VAE
from betavae.objectives import settings
from betavae.objectives.aggregate import dip1, dip2, hfs, info
from betavae.objectives.api import Batch, Loss
from betavae.objectives.controlled import control, dynamic
from betavae.objectives.elbo import annealed, beta, vae
from betavae.objectives.factor import discriminator, factor
from betavae.objectives.quantised import qlae
from betavae.objectives.supervised import ada_gvae, ada_mlvae, group, semi
from betavae.objectives.tc import tc

Objective = Callable[[Any, VAE, Batch], Loss]

OBJECTIVES: dict[type, Objective] = {
    settings.Vae: vae,
    settings.Beta: beta,
    settings.Annealed: annealed,
    settings.TC: tc,
    settings.Factor: factor,
    settings.Dip1: dip1,
    settings.Dip2: dip2,
    settings.Info: info,
    settings.Control: control,
    settings.Dynamic: dynamic,
    settings.AdaGvae: ada_gvae,
    settings.AdaMlvae: ada_mlvae,
    settings.Group: group,
    settings.Semi: semi,
    settings.Hfs: hfs,
    settings.Qlae: qlae,
}
"""The function of each settings class; an own one is added here, and to `OBJECTIVE_SETTINGS` by name."""

NETWORKS: dict[type, Callable[[Any, int], nn.Module]] = {settings.Factor: discriminator}
"""Makers `(settings, latent_dim) -> network` of the networks that an objective trains beside the model."""
