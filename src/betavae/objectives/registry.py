"""Objectives by name. Imports no torch until one is used."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

from betavae.files.validation import short
from betavae.objectives import settings as of
from betavae.objectives.settings import Needs, needs_of
from betavae.registry import Registry, check_callable, load_entry


@dataclass(frozen=True)
class Objective:
    """An objective under a name.

    Attributes:
        name: name, as in recipes and on the command line.
        settings: frozen dataclass of its settings; the docstring and those of the fields are the help of the command
            line. A property ``needs`` says what it takes beside images and noise; see `Needs`.
        loss_function: function of ``(settings, model, batch)`` that returns a `betavae.objectives.api.Loss`; or where
            to import it from, as ``"module:function"``.
        network_function: function of ``(settings, latent_dim)`` that builds a network of the objective's own, such as a
            discriminator; likewise.
        transform_function: function of ``(settings, latent_dim)`` that builds the model's latent transform; likewise.
    """

    name: str
    settings: type[Any]
    loss_function: Callable[..., Any] | str
    network_function: Callable[..., Any] | str | None = None
    transform_function: Callable[..., Any] | str | None = None

    @cached_property
    def loss(self) -> Callable[..., Any]:
        """The function of ``(settings, model, batch)``."""
        return load_entry(self.loss_function) if isinstance(self.loss_function, str) else self.loss_function

    @cached_property
    def network(self) -> Callable[..., Any] | None:
        """The function of ``(settings, latent_dim)``, if the objective has a network of its own."""
        return load_entry(self.network_function) if isinstance(self.network_function, str) else self.network_function

    @cached_property
    def transform(self) -> Callable[..., Any] | None:
        """The function of ``(settings, latent_dim)`` that builds the latent transform, if the objective has one."""
        path = self.transform_function
        return load_entry(path) if isinstance(path, str) else path


OBJECTIVES: Registry[Objective] = Registry("objective")
"""All objectives; `register` adds one."""
RESERVED: set[str] = set()
"""Settings of every run, which no objective may have; `betavae.config` fills it."""


def register(
    name: str,
    settings: type[Any],
    loss: Callable[..., Any] | str,
    network: Callable[..., Any] | str | None = None,
    transform: Callable[..., Any] | str | None = None,
) -> None:
    """Register an objective; see `Objective`.

    Raises:
        TypeError: ``settings`` is no dataclass, a function cannot be called as `Objective` says, or ``needs`` is no
            `Needs`.
        ValueError: the name cannot be a flag or is one of the package; a setting has the name of one of every run.
    """
    OBJECTIVES.check_new(name)
    _check_settings(name, settings)
    if not isinstance(loss, str):
        check_callable(f"objective {name!r}", loss, "settings", "model", "batch")
    for part, build in (("network", network), ("transform", transform)):
        if build is not None and not isinstance(build, str):
            check_callable(f"the {part} of objective {name!r}", build, "settings", "latent_dim")
    OBJECTIVES.add(name, Objective(name, settings, loss, network, transform))


def _check_settings(name: str, settings: object) -> None:
    if not (isinstance(settings, type) and dataclasses.is_dataclass(settings)):
        raise TypeError(f"the settings of objective {name!r} are {short(settings)}; they must be a dataclass")
    if taken := {field.name for field in dataclasses.fields(settings)} & RESERVED:
        raise ValueError(f"objective {name!r} has a setting {min(taken)}, as every run has; give it another name")
    try:
        get_type_hints(settings)
    except Exception as error:
        raise TypeError(f"the settings of objective {name!r} have a type that is not known ({error})") from None
    try:
        needs = needs_of(settings())
    except TypeError:  # a setting without a default
        return
    if not isinstance(needs, Needs):
        raise TypeError(
            f"the needs of objective {name!r} are {short(needs)}; they must be betavae.objectives.settings.Needs"
        )


def objective_of(settings: object) -> Objective:
    """The objective that settings belong to.

    Raises:
        ValueError: it is not registered.

    Example:
        >>> objective_of(of.Beta(beta=2.0)).name
        'beta'
    """
    for objective in OBJECTIVES.values():
        if objective.settings is type(settings):
            return objective
    raise ValueError(
        f"{type(settings).__name__} is not the settings of a registered objective; "
        "call betavae.objectives.registry.register first"
    )


def objective_name(settings: object) -> str:
    """Name of the objective that settings belong to; of one that is not registered, its class in lower case.

    Example:
        >>> objective_name(of.TC())
        'tc'
    """
    names = {objective.settings: name for name, objective in OBJECTIVES.items()}
    return names.get(type(settings), type(settings).__name__.lower())


_PACKAGE = "betavae.objectives"
register("vae", of.Vae, f"{_PACKAGE}.elbo:vae")
register("beta", of.Beta, f"{_PACKAGE}.elbo:beta")
register("annealed", of.Annealed, f"{_PACKAGE}.elbo:annealed")
register("tc", of.TC, f"{_PACKAGE}.tc:tc")
register("factor", of.Factor, f"{_PACKAGE}.factor:factor", f"{_PACKAGE}.factor:discriminator")
register("dip1", of.Dip1, f"{_PACKAGE}.aggregate:dip1")
register("dip2", of.Dip2, f"{_PACKAGE}.aggregate:dip2")
register("info", of.Info, f"{_PACKAGE}.aggregate:info")
register("control", of.Control, f"{_PACKAGE}.controlled:control")
register("dynamic", of.Dynamic, f"{_PACKAGE}.controlled:dynamic")
register("ada-gvae", of.AdaGvae, f"{_PACKAGE}.supervised:ada_gvae")
register("ada-mlvae", of.AdaMlvae, f"{_PACKAGE}.supervised:ada_mlvae")
register("group", of.Group, f"{_PACKAGE}.supervised:group")
register("semi", of.Semi, f"{_PACKAGE}.supervised:semi")
register("hfs", of.Hfs, f"{_PACKAGE}.aggregate:hfs")
register("qlae", of.Qlae, f"{_PACKAGE}.quantised:qlae", transform=f"{_PACKAGE}.quantised:codebook")
OBJECTIVES.seal()
