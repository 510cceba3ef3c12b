"""All objectives by their settings: the four of `objective.py`, and those of the files here."""

from collections.abc import Callable
from typing import Any

from torch import nn

from betavae import config
from betavae.model import VAE
from betavae.objective import Batch, Loss, annealed, beta, tc, vae
from betavae.objectives.aggregate import dip1, dip2, hfs, info
from betavae.objectives.controlled import control, dynamic
from betavae.objectives.factor import discriminator, factor
from betavae.objectives.quantised import qlae
from betavae.objectives.supervised import ada_gvae, ada_mlvae, group, semi

Objective = Callable[[Any, VAE, Batch], Loss]

OBJECTIVES: dict[type, Objective] = {
    config.Vae: vae,
    config.Beta: beta,
    config.Annealed: annealed,
    config.TC: tc,
    config.Factor: factor,
    config.Dip1: dip1,
    config.Dip2: dip2,
    config.Info: info,
    config.Control: control,
    config.Dynamic: dynamic,
    config.AdaGvae: ada_gvae,
    config.AdaMlvae: ada_mlvae,
    config.Group: group,
    config.Semi: semi,
    config.Hfs: hfs,
    config.Qlae: qlae,
}
"""The function of each settings class; an own one is added here, and to `OBJECTIVE_SETTINGS` by name."""

NETWORKS: dict[type, Callable[[Any, int], nn.Module]] = {config.Factor: discriminator}
"""Makers `(settings, num_codes) -> network` of the networks that an objective trains beside the model."""
