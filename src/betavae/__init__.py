"""betavae: train, score and draw disentangled representations, on dSprites that need no download.

Example:
    >>> from betavae import Beta, Config
    >>> Config(objective=Beta(beta=4.0), seed=3).steps
    300000
"""

from importlib import import_module, metadata
from typing import Any

_HOMES = {
    "Config": "config",
    "Vae": "config",
    "Beta": "config",
    "Annealed": "config",
    "TC": "config",
    "Factor": "config",
    "Dip1": "config",
    "Dip2": "config",
    "Info": "config",
    "Control": "config",
    "Dynamic": "config",
    "AdaGvae": "config",
    "AdaMlvae": "config",
    "Group": "config",
    "Semi": "config",
    "Hfs": "config",
    "Qlae": "config",
    "load": "config",
    "FactorData": "data",
    "load_data": "data",
    "split_rows": "data",
    "VAE": "model",
    "open_run": "run",
    "load_model": "run",
    "load_codes": "run",
    "resume": "experiment",
}

__all__ = [*_HOMES, "metrics"]  # noqa: PLE0604, RUF100
__version__ = metadata.version("betavae")


def __getattr__(name: str) -> Any:
    """Public names load their module when first asked for, so that `import betavae` is fast."""
    if name in _HOMES:
        return getattr(import_module(f"betavae.{_HOMES[name]}"), name)
    if name == "metrics":
        return import_module("betavae.metrics")
    raise AttributeError(f"module 'betavae' has no attribute '{name}'")
