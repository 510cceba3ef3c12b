"""Compiled code for CPUs: optional, and used through the names below only. See README.md."""

from betavae.kernels.build import hardware
from betavae.kernels.fusion import FusedSequential, fuse, unfuse
from betavae.kernels.likelihood import bernoulli_error
from betavae.kernels.optimisers import adam_step, muon_step

__all__ = ["FusedSequential", "adam_step", "bernoulli_error", "fuse", "hardware", "muon_step", "unfuse"]
