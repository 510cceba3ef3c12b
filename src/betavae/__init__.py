"""betavae: train, score and draw disentangled representations, on dSprites that need no download.

Example:
    >>> from betavae import Beta, Config
    >>> Config(objective=Beta(beta=4.0), seed=3).steps
    300000
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see; at run time, names load when they are first used
    from betavae import metrics as metrics
    from betavae import zoo as zoo
    from betavae.config import Config as Config
    from betavae.data.factor_data import FactorData as FactorData
    from betavae.data.loading import load_data as load_data
    from betavae.data.splits import split_rows as split_rows
    from betavae.experiment import experiment as experiment
    from betavae.experiment import resume as resume
    from betavae.metrics.suite import evaluate as evaluate
    from betavae.model import VAE as VAE
    from betavae.objectives.settings import TC as TC
    from betavae.objectives.settings import AdaGvae as AdaGvae
    from betavae.objectives.settings import AdaMlvae as AdaMlvae
    from betavae.objectives.settings import Annealed as Annealed
    from betavae.objectives.settings import Beta as Beta
    from betavae.objectives.settings import Control as Control
    from betavae.objectives.settings import Dip1 as Dip1
    from betavae.objectives.settings import Dip2 as Dip2
    from betavae.objectives.settings import Dynamic as Dynamic
    from betavae.objectives.settings import Factor as Factor
    from betavae.objectives.settings import Group as Group
    from betavae.objectives.settings import Hfs as Hfs
    from betavae.objectives.settings import Info as Info
    from betavae.objectives.settings import Qlae as Qlae
    from betavae.objectives.settings import Semi as Semi
    from betavae.objectives.settings import Vae as Vae
    from betavae.pretrained import load as load
    from betavae.runs.folder import Run as Run
    from betavae.runs.folder import open_run as open_run
    from betavae.runs.latents import load_latents as load_latents

    __version__: str

_NAMES = {
    "pretrained": "load",
    "config": "Config",
    "objectives.settings": (
        "Vae Beta Annealed TC Factor Dip1 Dip2 Info Control Dynamic AdaGvae AdaMlvae Group Semi Hfs Qlae"
    ),
    "data.factor_data": "FactorData",
    "data.loading": "load_data",
    "data.splits": "split_rows",
    "model": "VAE",
    "runs.folder": "Run open_run",
    "runs.latents": "load_latents",
    "experiment": "resume",
    "metrics.suite": "evaluate",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = [*_HOMES, "experiment", "metrics", "zoo"]  # noqa: PLE0604, RUF100


def __getattr__(name: str) -> Any:
    """Public names load their module when first asked for, so that `import betavae` is fast."""
    if name in _HOMES:
        return getattr(import_module(f"betavae.{_HOMES[name]}"), name)
    if name in ("experiment", "metrics", "zoo"):
        return import_module(f"betavae.{name}")
    if name == "__version__":
        return import_module("importlib.metadata").version("betavae")
    raise AttributeError(f"module 'betavae' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
