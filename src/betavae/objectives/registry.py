"""Registry of objectives. Imports no torch until an objective is used."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

from betavae.files.validation import short
from betavae.objectives import settings as of
from betavae.objectives.needs import Needs, needs_of
from betavae.registry import Registry, check_callable, load_entry


@dataclass(frozen=True)
class Objective:
    """A named objective.

    Attributes:
        name: name of the objective in recipes and on the command line.
        settings: frozen dataclass of the settings. The docstrings of the class and its fields are the command-line
            help. An optional property ``needs`` declares inputs besides images and noise; see `Needs`.
        loss_function: function of ``(settings, model, batch)`` that returns a `betavae.objectives.api.Loss`, or its
            import path ``"module:function"``.
        network_function: function of ``(settings, latent_dim)`` that builds the objective's own network, such as a
            discriminator, or its import path; `None` if the objective has no network.
        transform_function: function of ``(settings, latent_dim)`` that builds the latent transform of the model, or its
            import path; `None` if the latents are not transformed.
        title: name of the method in the literature, such as "β-TCVAE", for pages; the name if empty.
    """

    name: str
    settings: type[Any]
    loss_function: Callable[..., Any] | str
    network_function: Callable[..., Any] | str | None = None
    transform_function: Callable[..., Any] | str | None = None
    title: str = ""

    @cached_property
    def loss(self) -> Callable[..., Any]:
        """Function of ``(settings, model, batch)`` that computes the loss."""
        return load_entry(self.loss_function) if isinstance(self.loss_function, str) else self.loss_function

    @cached_property
    def network(self) -> Callable[..., Any] | None:
        """Function of ``(settings, latent_dim)`` that builds the objective's own network, if it has one."""
        return load_entry(self.network_function) if isinstance(self.network_function, str) else self.network_function

    @cached_property
    def transform(self) -> Callable[..., Any] | None:
        """The function of ``(settings, latent_dim)`` that builds the latent transform, if the objective has one."""
        path = self.transform_function
        return load_entry(path) if isinstance(path, str) else path


OBJECTIVES: Registry[Objective] = Registry("objective")
"""All objectives by name. Add one with `register`."""
RESERVED: set[str] = set()
"""Names of the run settings, which an objective may not use. `betavae.config` fills this set."""


def register(
    name: str,
    settings: type[Any],
    loss: Callable[..., Any] | str,
    network: Callable[..., Any] | str | None = None,
    transform: Callable[..., Any] | str | None = None,
    title: str = "",
) -> None:
    """Register an objective; see `Objective`.

    Raises:
        TypeError: ``settings`` is not a dataclass, a function does not accept the arguments described in `Objective`,
            or ``needs`` is not a `Needs`.
        ValueError: The name is not a valid flag or belongs to a built-in objective, or a setting has the name of a run
            setting.
    """
    OBJECTIVES.check_new(name)
    _check_settings(name, settings)
    if not isinstance(loss, str):
        check_callable(f"objective {name!r}", loss, "settings", "model", "batch")
    for part, build in (("network", network), ("transform", transform)):
        if build is not None and not isinstance(build, str):
            check_callable(f"the {part} of objective {name!r}", build, "settings", "latent_dim")
    OBJECTIVES.add(name, Objective(name, settings, loss, network, transform, title))


def _check_settings(name: str, settings: object) -> None:
    if not (isinstance(settings, type) and dataclasses.is_dataclass(settings)):
        raise TypeError(f"the settings of objective {name!r} are {short(settings)}; they must be a dataclass")
    if taken := {field.name for field in dataclasses.fields(settings)} & RESERVED:
        raise ValueError(
            f"objective {name!r} has a setting {min(taken)}, which is the name of a run setting; choose another name"
        )
    try:
        get_type_hints(settings)
    except Exception as error:
        raise TypeError(f"the settings of objective {name!r} have an unknown type ({error})") from None
    try:
        needs = needs_of(settings())
    except TypeError:  # a setting without a default
        return
    if not isinstance(needs, Needs):
        raise TypeError(
            f"the needs of objective {name!r} are {short(needs)}; they must be betavae.objectives.needs.Needs"
        )


def objective_of(settings: object) -> Objective:
    """Return the objective to which the settings belong.

    Raises:
        ValueError: No registered objective has settings of this class.

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
    """Return the name of the objective of these settings; if it is not registered, the class name in lower case.

    Example:
        >>> objective_name(of.TC())
        'tc'
    """
    names = {objective.settings: name for name, objective in OBJECTIVES.items()}
    return names.get(type(settings), type(settings).__name__.lower())


def objective_title(settings: object) -> str:
    """Return the name of the method in the literature; for an objective without one, its registered name.

    Example:
        >>> objective_title(of.TC())
        'β-TCVAE'
    """
    titles = {objective.settings: objective.title for objective in OBJECTIVES.values()}
    return titles.get(type(settings)) or objective_name(settings)


_PACKAGE = "betavae.objectives"
register("vae", of.Vae, f"{_PACKAGE}.elbo:vae", title="VAE")
register("beta", of.Beta, f"{_PACKAGE}.elbo:beta", title="β-VAE")
register("annealed", of.Annealed, f"{_PACKAGE}.elbo:annealed", title="AnnealedVAE")
register("tc", of.TC, f"{_PACKAGE}.tc:tc", title="β-TCVAE")
register("factor", of.Factor, f"{_PACKAGE}.factor:factor", f"{_PACKAGE}.factor:discriminator", title="FactorVAE")
register("dip1", of.Dip1, f"{_PACKAGE}.aggregate:dip1", title="DIP-VAE-I")
register("dip2", of.Dip2, f"{_PACKAGE}.aggregate:dip2", title="DIP-VAE-II")
register("info", of.Info, f"{_PACKAGE}.aggregate:info", title="InfoVAE")
register("control", of.Control, f"{_PACKAGE}.controlled:control", title="ControlVAE")
register("dynamic", of.Dynamic, f"{_PACKAGE}.controlled:dynamic", title="DynamicVAE")
register("ada-gvae", of.AdaGvae, f"{_PACKAGE}.supervised:ada_gvae", title="Ada-GVAE")
register("ada-mlvae", of.AdaMlvae, f"{_PACKAGE}.supervised:ada_mlvae", title="Ada-ML-VAE")
register("group", of.Group, f"{_PACKAGE}.supervised:group", title="GVAE / ML-VAE")
register("semi", of.Semi, f"{_PACKAGE}.supervised:semi", title="semi-supervised β-VAE")
register("hfs", of.Hfs, f"{_PACKAGE}.aggregate:hfs", title="HFS")
register("qlae", of.Qlae, f"{_PACKAGE}.quantised:qlae", transform=f"{_PACKAGE}.quantised:codebook", title="QLAE")
OBJECTIVES.seal()
