"""Architectures by name. Imports no torch until one is built."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from betavae.registry import Registry, check_callable, load_entry


@dataclass(frozen=True)
class Architecture:
    """An encoder and a decoder under a name.

    Attributes:
        name: name, as in `Config.model` and ``--model``.
        build: function of ``(image_shape, latent_dim)`` that returns the encoder and the decoder; or where to import
            it from, as ``"module:function"``. The encoder turns images (B, C, H, W) into (B, 2 * latent_dim), the
            posterior means and then the log variances. The decoder turns latents (B, latent_dim) into pixel logits
            (B, C, H, W).
        prior_knowledge: what is built into the decoder that other networks have to learn; reports say so.
    """

    name: str
    build: Callable[..., Any] | str
    prior_knowledge: str = ""

    def __call__(self, image_shape: tuple[int, int, int], latent_dim: int) -> Any:
        """Build the two networks."""
        build = load_entry(self.build) if isinstance(self.build, str) else self.build
        return build(image_shape, latent_dim)


ARCHITECTURES: Registry[Architecture] = Registry("model")
"""All architectures; `register` adds one."""


def register(name: str, build: Callable[..., Any] | str, prior_knowledge: str = "") -> None:
    """Register an architecture; see `Architecture`.

    Raises:
        TypeError: ``build`` cannot be called with an image shape and a number of latents.
        ValueError: the name cannot be a flag, or is one of the package.
    """
    ARCHITECTURES.check_new(name)
    if not isinstance(build, str):
        check_callable(f"model {name!r}", build, "image_shape", "latent_dim")
    ARCHITECTURES.add(name, Architecture(name, build, prior_knowledge))


_FILE = "betavae.networks.architectures"
register("burgess", f"{_FILE}:burgess")
register("affine", f"{_FILE}:affine", prior_knowledge="planar motion")
register("locatello", f"{_FILE}:locatello")
register("higgins", f"{_FILE}:higgins")
register("residual", f"{_FILE}:residual")
register("wide", f"{_FILE}:wide")
ARCHITECTURES.seal()


def prior_note(models: Iterable[str]) -> str:
    """Return a sentence for each architecture with built-in prior knowledge, or "" if there is none.

    Example:
        >>> prior_note(["affine", "burgess"])
        'The affine decoder has planar motion built in: do not compare its scores with those of plain networks.'
    """
    return " ".join(
        f"The {name} decoder has {ARCHITECTURES[name].prior_knowledge} built in: do not compare its scores with those "
        "of plain networks."
        for name in dict.fromkeys(models)
        if name in ARCHITECTURES and ARCHITECTURES[name].prior_knowledge
    )
