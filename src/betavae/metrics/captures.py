"""Find which latents capture each factor, and describe the result in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

FOUND = 0.1
"""A factor is captured only if some latent has at least this share of its entropy."""
SHARED = 0.5
"""Latents with at least this share of the most informative latent's information capture the factor as well."""


@dataclass(frozen=True)
class Capture:
    """Latents that capture one factor.

    Attributes:
        factor: name of the factor.
        kind: ``"captured"`` by one latent, ``"entangled"`` in several, ``"not captured"``, or ``"does not vary"``.
        latents: indices of the latents that capture the factor, most informative first; empty if there are none.
        strength: mutual information of the factor and its most informative latent, divided by the entropy of the
            factor, 0..1; ``nan`` for a constant factor.
    """

    factor: str
    kind: Literal["captured", "entangled", "not captured", "does not vary"]
    latents: tuple[int, ...]
    strength: float


def find_captures(
    information: np.ndarray,
    entropies: np.ndarray,
    factor_names: Sequence[str],
    active: np.ndarray | None = None,
) -> tuple[Capture, ...]:
    """Find the latents that capture each factor.

    Consider the active latent with the most information about a factor. If its information is below a tenth of the
    factor's entropy, the factor is *not captured*. Otherwise, all active latents with at least half of this information
    capture the factor: it is *captured* by one latent, or *entangled* in several. A factor with a single value *does
    not vary*.

    Args:
        information: (D, K) mutual information in nats.
        entropies: (K,) entropies of the factors in nats.
        factor_names: K names.
        active: (D,) mask of the latents to consider; all by default.

    Returns:
        One `Capture` for each factor, in the order of the factors.

    Example:
        >>> information = np.array([[0.9, 0.0, 0.0], [0.0, 0.5, 0.05], [0.1, 0.4, 0.0]])
        >>> describe_captures(find_captures(information, np.ones(3), ["posX", "scale", "shape"]))
        'posX: z0 (90 %) · scale: entangled in z1 and z2 (50 %) · shape: not captured'
    """
    considered = information if active is None else np.where(active[:, None], information, 0.0)
    captures = []
    for name, column, entropy in zip(factor_names, considered.T, entropies, strict=True):
        if not entropy > 0:
            captures.append(Capture(name, "does not vary", (), math.nan))
            continue
        strength = float(column.max() / entropy)
        if not strength >= FOUND:
            captures.append(Capture(name, "not captured", (), strength))
            continue
        ranked = np.argsort(-column, kind="stable")
        latents = tuple(int(d) for d in ranked if column[d] >= SHARED * column.max())
        captures.append(Capture(name, "captured" if len(latents) == 1 else "entangled", latents, strength))
    return tuple(captures)


def describe_captures(captures: Sequence[Capture]) -> str:
    """Describe captures in one line of text; latents are named z0, z1, ...

    The percentage is the strength. It is low for rotated latents: if two latents encode posX and posY at an angle, each
    has only a third of the information about one of them.

    Example:
        >>> describe_captures([Capture("posX", "captured", (6,), 0.9), Capture("shape", "not captured", (), 0.02)])
        'posX: z6 (90 %) · shape: not captured'
        >>> describe_captures([Capture("hat", "does not vary", (), math.nan)])
        'hat: does not vary'
    """
    return " · ".join(f"{capture.factor}: {_where(capture)}" for capture in captures)


def _where(capture: Capture) -> str:
    if not capture.latents:
        return capture.kind
    names, share = [f"z{latent}" for latent in capture.latents], f"({100 * capture.strength:.0f} %)"
    if capture.kind == "captured":
        return f"{names[0]} {share}"
    return f"entangled in {', '.join(names[:-1])} and {names[-1]} {share}"
