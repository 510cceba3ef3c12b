"""Which latent captures which factor, by one rule, in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

FOUND = 0.1
SHARED = 0.5


@dataclass(frozen=True)
class Capture:
    """Where one factor is found.

    Attributes:
        factor: name of the factor.
        kind: ``"captured"`` by one latent, ``"entangled"`` over several, ``"not captured"``, or ``"does not vary"``.
        latents: indices of the latents that capture it, the most informative first; empty where it is not found.
        strength: share of the factor's entropy that the most informative latent tells, 0..1; ``nan`` for a constant
            factor.
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
    """Say which latents capture which factor.

    The rule: a factor is *found* when some active latent tells at least a tenth of its entropy. Then every active
    latent that tells at least half as much as that best latent captures it; one such latent *captures* the factor
    alone, over several it is *spread*. A factor with one value only *does not vary*.

    Args:
        information: (D, K) mutual information in nats.
        entropies: (K,) entropies of the factors in nats.
        factor_names: K names.
        active: (D,) mask of the latents to consider; all by default.

    Returns:
        One `Capture` for each factor, in the factors' order.

    Example:
        >>> information = np.array([[0.9, 0.0, 0.0], [0.0, 0.5, 0.05], [0.1, 0.4, 0.0]])
        >>> describe_captures(find_captures(information, np.ones(3), ["posX", "scale", "shape"]))
        'posX: z0 (90 %) · scale: entangled in z1 and z2 (50 %) · shape: not captured'
    """
    considered = information if active is None else np.where(active[:, None], information, 0.0)
    found = []
    for name, column, total in zip(factor_names, considered.T, entropies, strict=True):
        if not total > 0:
            found.append(Capture(name, "does not vary", (), math.nan))
            continue
        strength = float(column.max() / total)
        if not strength >= FOUND:
            found.append(Capture(name, "not captured", (), strength))
            continue
        ranked = np.argsort(-column, kind="stable")
        latents = tuple(int(d) for d in ranked if column[d] >= SHARED * column.max())
        found.append(Capture(name, "captured" if len(latents) == 1 else "entangled", latents, strength))
    return tuple(found)


def describe_captures(captures: Sequence[Capture]) -> str:
    """Put captures into one line of words; latents are named z0, z1, ...

    In per cent, the strength: two latents that share posX and posY at an angle each tell but a third of one.

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
