"""Weights that depend on the step, which is a number or, where steps are recorded, a tensor."""

import torch
from torch import Tensor

from betavae.objectives.api import Scalar, Step


def ramp(step: Step, steps: int) -> Scalar:
    """Share of a linear rise done before a step: 0 at step 0, 1 from step `steps` on; 1 always if there is no rise.

    Example:
        >>> [ramp(step, 4) for step in (0, 1, 4, 9)], ramp(0, 0), ramp(torch.tensor(1), 4)
        ([0.0, 0.25, 1.0, 1.0], 1.0, tensor(0.2500))
    """
    return at_most(step / steps, 1.0) if steps else 1.0


def since(step: Step, start: int) -> Step:
    """Steps since a start; 0 before it.

    Example:
        >>> since(3, 5), since(7, 5), since(torch.tensor(7), 5)
        (0, 2, tensor(2))
    """
    return (step - start).clamp(min=0) if isinstance(step, Tensor) else max(0, step - start)


def at_most(value: Scalar, most: float) -> Scalar:
    """A value, or the most that it may be.

    Example:
        >>> at_most(0.5, 1.0), at_most(1.5, 1.0), at_most(torch.tensor(1.5), 1.0)
        (0.5, 1.0, tensor(1.))
    """
    return value.clamp(max=most) if isinstance(value, Tensor) else min(value, most)


def either(condition: bool | Tensor, one: Scalar, other: Scalar) -> Scalar:
    """The one value where a condition holds, else the other.

    Example:
        >>> either(False, 1.0, 2.0), either(torch.tensor(True), 1.0, 2.0)
        (2.0, tensor(1.))
    """
    return torch.where(condition, one, other) if isinstance(condition, Tensor) else one if condition else other
