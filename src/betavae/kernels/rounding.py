"""Weights in bf16, rounded all at once where autocast would round one after another.

On a GPU each of them is an operation otherwise, and so is the rounding of its gradient back; most take less time than
it takes to begin one. Of a step of `burgess`, 48 such operations become 4.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from betavae.kernels import build, convolution


@contextmanager
def rounded(layers: Sequence[nn.Module], features: Tensor) -> Iterator[None]:
    """Layers have weights of the type that autocast multiplies in, meanwhile; results and gradients are autocast's.

    That is for PyTorch's own layers, as compiled code knows them, where none of that code runs.

    Args:
        layers: of any kind.
        features: what they will be given.
    """
    device = features.device.type
    places: list[tuple[dict[str, Any], str]] = []
    if torch.is_autocast_enabled(device) and not build.traced() and build.chosen(features) is None:
        tables = [layer._parameters for layer in dict.fromkeys(layers) if convolution.kind(type(layer))]
        places = [(table, name) for table in tables for name, weight in table.items() if _fits(weight)]
    weights = [table[name] for table, name in places]
    results = _Rounded.apply(torch.get_autocast_dtype(device), *weights) if weights else ()  # type: ignore[no-untyped-call]
    for (table, name), result in zip(places, results, strict=True):
        table[name] = result
    try:
        yield
    finally:
        for (table, name), weight in zip(places, weights, strict=True):
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
