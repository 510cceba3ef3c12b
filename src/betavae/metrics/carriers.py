"""Which code carries which factor, by one rule, in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

FOUND = 0.1
SHARED = 0.5


@dataclass(frozen=True)
class Carrier:
    """Where one factor is found.

    Attributes:
        factor: name of the factor.
        kind: ``"carried"`` by one code, ``"spread"`` over several, ``"not found"``, or ``"does not vary"``.
        codes: indices of the codes that carry it, the most informative first; empty where it is not found.
        strength: share of the factor's entropy that the most informative code tells, 0..1; ``nan`` for a constant
            factor.
    """

    factor: str
    kind: Literal["carried", "spread", "not found", "does not vary"]
    codes: tuple[int, ...]
    strength: float


def find_carriers(
    information: np.ndarray,
    entropies: np.ndarray,
    factor_names: Sequence[str],
    active: np.ndarray | None = None,
) -> tuple[Carrier, ...]:
    """Say which codes carry which factor.

    The rule: a factor is *found* when some active code tells at least a tenth of its entropy. Then every active code
    that tells at least half as much as that best code carries it; one such code *carries* the factor alone, over
    several it is *spread*. A factor with one value only *does not vary*.

    Args:
        information: (D, K) mutual information in nats.
        entropies: (K,) entropies of the factors in nats.
        factor_names: K names.
        active: (D,) mask of the codes to consider; all by default.

    Returns:
        One `Carrier` for each factor, in the factors' order.

    Example:
        >>> information = np.array([[0.9, 0.0, 0.0], [0.0, 0.5, 0.05], [0.1, 0.4, 0.0]])
        >>> describe_carriers(find_carriers(information, np.ones(3), ["posX", "scale", "shape"]))
        'posX: z0 (90 %) · scale: spread over z1 and z2 (50 %) · shape: not found'
    """
    considered = information if active is None else np.where(active[:, None], information, 0.0)
    found = []
    for name, column, total in zip(factor_names, considered.T, entropies, strict=True):
        if not total > 0:
            found.append(Carrier(name, "does not vary", (), math.nan))
            continue
        strength = float(column.max() / total)
        if not strength >= FOUND:
            found.append(Carrier(name, "not found", (), strength))
            continue
        ranked = np.argsort(-column, kind="stable")
        codes = tuple(int(d) for d in ranked if column[d] >= SHARED * column.max())
        found.append(Carrier(name, "carried" if len(codes) == 1 else "spread", codes, strength))
    return tuple(found)


def describe_carriers(carriers: Sequence[Carrier]) -> str:
    """Put carriers into one line of words; codes are named z0, z1, ...

    In per cent, the strength: two codes that share posX and posY at an angle each tell but a third of one.

    Example:
        >>> describe_carriers([Carrier("posX", "carried", (6,), 0.9), Carrier("shape", "not found", (), 0.02)])
        'posX: z6 (90 %) · shape: not found'
        >>> describe_carriers([Carrier("hat", "does not vary", (), math.nan)])
        'hat: does not vary'
    """
    return " · ".join(f"{carrier.factor}: {_where(carrier)}" for carrier in carriers)


def _where(carrier: Carrier) -> str:
    if not carrier.codes:
        return carrier.kind
    names, share = [f"z{code}" for code in carrier.codes], f"({100 * carrier.strength:.0f} %)"
    if carrier.kind == "carried":
        return f"{names[0]} {share}"
    return f"spread over {', '.join(names[:-1])} and {names[-1]} {share}"
