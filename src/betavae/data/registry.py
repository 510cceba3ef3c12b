"""Data sets by name. Imports no torch."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from betavae.registry import Registry, check_callable

if TYPE_CHECKING:
    from betavae.data.factor_data import FactorData

DATASETS: "Registry[Callable[[], FactorData]]" = Registry("data set")
"""All data sets that have a name; `register` adds one. Other data are files."""


def register(name: str, load: "Callable[[], FactorData]") -> None:
    """Register a data set, for `load_data`, `Config.data` and ``--data``.

    Args:
        name: name of the data set.
        load: function without arguments that returns the `FactorData`. It must return the same images each time.

    Raises:
        TypeError: ``load`` cannot be called without arguments.
        ValueError: the name cannot be a flag, or is one of the package.
    """
    DATASETS.check_new(name)
    check_callable(f"data set {name!r}", load)
    DATASETS.add(name, load)
