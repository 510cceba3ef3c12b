"""betavae: train, score and draw disentangled representations, on dSprites that need no download.

Example:
    >>> from betavae import Beta, Config
    >>> Config(objective=Beta(beta=4.0), seed=3).steps
    300000
"""

import os
from importlib import import_module, metadata
from typing import Any

# Read when PyTorch is loaded: threads that wait for others give their core away after some microseconds, not after
# milliseconds, which is no slower on an idle machine and many times faster on a busy one.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_NAMES = {
    "config": "Config load",
    "objectives.settings": (
        "Vae Beta Annealed TC Factor Dip1 Dip2 Info Control Dynamic AdaGvae AdaMlvae Group Semi Hfs Qlae"
    ),
    "data.factor_data": "FactorData",
    "data.loading": "load_data",
    "data.splits": "split_rows",
    "model": "VAE",
    "runs.folder": "open_run",
    "runs.checkpoints": "load_model",
    "runs.latents": "load_latents",
    "experiment": "resume",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = [*_HOMES, "metrics"]  # noqa: PLE0604, RUF100
__version__ = metadata.version("betavae")


def __getattr__(name: str) -> Any:
    """Public names load their module when first asked for, so that `import betavae` is fast."""
    if name in _HOMES:
        return getattr(import_module(f"betavae.{_HOMES[name]}"), name)
    if name == "metrics":
        return import_module("betavae.metrics")
    raise AttributeError(f"module 'betavae' has no attribute '{name}'")
