"""The command `list`: recipes, objectives, metrics, models and data sets, a line each."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from tyro.conf import Positional

from betavae.cli.console import say
from betavae.cli.recipes import shipped_recipes

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class ListCommand:
    """List the recipes, objectives, metrics, models (architectures) or data sets, with a line about each."""

    what: Positional[Literal["recipes", "objectives", "metrics", "models", "data"]]
    """What to list. `betavae data list` says more about data sets."""

    def __call__(self, console: "Console") -> dict[str, Any]:
        sentences = _KINDS[self.what]()
        width = max(map(len, sentences), default=0)
        for name, sentence in sentences.items():
            say(console, f"{name:<{width}}  {sentence}".rstrip())
        return {self.what: sentences}


def _recipes() -> dict[str, str]:
    """The first line of each recipe, with the words that choose it."""
    flags = {"": "train --from {}", "studies": "study {}"}
    return {flags[kind].format(file.stem): _header(file) for kind in flags for file in shipped_recipes(kind)}


def _header(recipe: Path) -> str:
    first = recipe.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("#") else ""


def _objectives() -> dict[str, str]:
    from betavae.objectives.registry import OBJECTIVES

    return {name: _sentence(objective.settings) for name, objective in OBJECTIVES.items()}


def _metrics() -> dict[str, str]:
    from betavae.metrics import METRICS

    return {name: metric.summary for name, metric in METRICS.items()}


def _models() -> dict[str, str]:
    from betavae.networks.registry import ARCHITECTURES
    from betavae.registry import load_entry

    return {
        name: _sentence(load_entry(model.build) if isinstance(model.build, str) else model.build)
        for name, model in ARCHITECTURES.items()
    }


def _data() -> dict[str, str]:
    from betavae.data.catalogue import CATALOGUE
    from betavae.data.loading import DATASETS

    generated = {name: _sentence(load).removeprefix("Return ") for name, load in DATASETS.items()}
    return generated | {
        name: f"{known.title}: {known.images}" for name, known in CATALOGUE.items() if name not in DATASETS
    }


def _sentence(described: Any) -> str:
    """The first paragraph of a docstring, without its address and what follows.

    Example:
        >>> from betavae.objectives.settings import Beta
        >>> _sentence(Beta)
        'β-VAE: reconstruction + β · KL term (rate) (Higgins et al. 2017).'
    """
    function = described.func if isinstance(described, partial) else described
    paragraph = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
    return paragraph.partition(" https://")[0].partition(" Main setting:")[0]


_KINDS: Final[dict[str, Callable[[], dict[str, str]]]] = {
    "recipes": _recipes,
    "objectives": _objectives,
    "metrics": _metrics,
    "models": _models,
    "data": _data,
}
