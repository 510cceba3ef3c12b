"""All objectives by their settings: the four of `objective.py`, and those of the files here."""

from collections.abc import Callable
from typing import Any

from torch import nn

from betavae.config import (
    TC,
    AdaGvae,
    AdaMlvae,
    Annealed,
    Beta,
    Control,
    Dip1,
    Dip2,
    Dynamic,
    Factor,
    Group,
    Hfs,
    Info,
    Qlae,
    Semi,
    Vae,
)
from betavae.model import VAE
from betavae.objective import Batch, Loss, annealed, beta, tc, vae
from betavae.objectives.aggregate import dip1, dip2, hfs, info
from betavae.objectives.controlled import control, dynamic
from betavae.objectives.factor import discriminator, factor
from betavae.objectives.quantised import qlae
from betavae.objectives.supervised import ada_gvae, ada_mlvae, group, semi

Objective = Callable[[Any, VAE, Batch], Loss]

OBJECTIVES: dict[type, Objective] = {
    Vae: vae,
    Beta: beta,
    Annealed: annealed,
    TC: tc,
    Factor: factor,
    Dip1: dip1,
    Dip2: dip2,
    Info: info,
    Control: control,
    Dynamic: dynamic,
    AdaGvae: ada_gvae,
    AdaMlvae: ada_mlvae,
    Group: group,
    Semi: semi,
    Hfs: hfs,
    Qlae: qlae,
}
"""The function of each settings class; an own one is added here, and to `OBJECTIVE_SETTINGS` by name."""

NETWORKS: dict[type, Callable[[Any, int], nn.Module]] = {Factor: discriminator}
"""Makers `(settings, num_codes) -> network` of the networks that an objective trains beside the model."""
