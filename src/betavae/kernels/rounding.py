"""Weights rounded to bf16 all at once, where autocast rounds them one by one.

On a GPU each of these roundings is a kernel, and so is that of its gradient back to float32; most take less time than
their launch. In a step of `burgess` 48 kernels become 4.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from betavae.kernels import build
from betavae.kernels.matching import COMPUTES
from betavae.networks.layers import Float32Linear


@contextmanager
def rounded(layers: Sequence[nn.Module], features: Tensor) -> Iterator[None]:
    """Give layers weights of autocast's type for a while; outputs and gradients are the same as by autocast.

    Only layers that the C code knows, and only where it does not run: their types alone are sure to follow autocast.

    Args:
        layers: of any kind.
        features: their input.
    """
    device = features.device.type
    slots: list[tuple[dict[str, Any], str]] = []
    if torch.is_autocast_enabled(device) and not build.traced() and build.chosen(features) is None:
        known = [layer for layer in dict.fromkeys(layers) if type(layer) in COMPUTES]  # one may occur twice
        tables = [layer._parameters for layer in known if type(layer) is not Float32Linear]
        slots = [(table, name) for table in tables for name, weight in table.items() if _fits(weight)]
    weights = [table[name] for table, name in slots]
    results = _Rounded.apply(torch.get_autocast_dtype(device), *weights) if weights else ()  # type: ignore[no-untyped-call]
    for (table, name), result in zip(slots, results, strict=True):
        table[name] = result
    try:
        yield
    finally:
        for (table, name), weight in zip(slots, weights, strict=True):
            table[name] = weight


def _fits(weight: Tensor | None) -> bool:
    return type(weight) is nn.Parameter and weight.dtype == torch.float32 and weight.requires_grad


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        return _copies(weights, dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # the gradients will be differentiated
            return None, *(gradient.float() for gradient in gradients)
        return None, *_copies(gradients, torch.float32)


def _copies(tensors: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    copies = tuple(torch.empty_like(tensor, dtype=dtype) for tensor in tensors)
    torch._foreach_copy_(copies, tuple(tensors))
    return copies
