"""Steps of Adam and Muon in C, over all weights at once."""

import ctypes
from collections.abc import Mapping, Sequence
from itertools import starmap
from typing import Any

import torch
from torch import Tensor

from betavae.kernels import build
from betavae.kernels.structs import AdamWeight, MuonMatrix


def adam_step(groups: Sequence[dict[str, Any]], states: Mapping[Any, dict[str, Any]]) -> bool:
    """Make a step of `torch.optim.Adam` with decoupled weight decay.

    Args:
        groups: parameter groups with `params`, `lr`, `betas`, `eps`, `weight_decay`, and `dtype`, that of the library
            to use; the step itself is in float32.
        states: the state of each parameter, as in `torch.optim.Adam`; filled where it is empty.

    Returns:
        Whether the step was made; without code for one of the tensors no weight changes.
    """
    tables = [_adam_weights(group, states) for group in groups]
    if None in tables:
        return False
    for group, table in zip(groups, tables, strict=True):
        library = build.library(group["dtype"])
        assert library
        assert table is not None
        weights, numbers = (
            (AdamWeight * len(table))(*starmap(AdamWeight, table)),
            (group["lr"], *group["betas"], group["eps"]),
        )
        decay = 1 - group["lr"] * group["weight_decay"]
        library.adam(weights, len(table), torch.get_num_threads(), *numbers, decay)
    return True


def _adam_weights(group: dict[str, Any], states: Mapping[Any, dict[str, Any]]) -> list[tuple[int, ...]] | None:
    """Fields of `AdamWeight` of a group's weights; None where there is no code for one of them."""
    if isinstance(group["lr"], Tensor) or build.library(group["dtype"]) is None:
        return None
    table: list[tuple[int, ...]] = []
    for parameter in group["params"]:
        if (gradient := parameter.grad) is None:
            continue
        if not parameter.is_cpu or parameter.dtype != torch.float32:
            return None
        state = states[parameter]
        if not state:
            state["step"] = parameter.new_zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        steps, mean, square = state["step"], state["exp_avg"], state["exp_avg_sq"]
        layout = torch.contiguous_format if parameter.is_contiguous() else torch.channels_last
        if not all(tensor.is_contiguous(memory_format=layout) for tensor in (parameter, mean, square)):
            return None
        parameter.grad = gradient = gradient.contiguous(memory_format=layout)
        addresses = [tensor.data_ptr() for tensor in (parameter, mean, square, steps, gradient)]
        table.append((*addresses, parameter.numel()))
    return table


def muon_step(
    group: dict[str, Any],
    weights: Sequence[tuple[Tensor, Tensor, Tensor]],
    coefficients: Sequence[float],
    iterations: int,
) -> bool:
    """Make a step of Muon.

    Args:
        group: with `lr`, `momentum`, `weight_decay`, and `dtype`, in which to multiply.
        weights: parameter, gradient and momentum of each matrix.
        coefficients: a, b, c of a Newton-Schulz iteration.
        iterations: how many of them.

    Returns:
        Whether the step was made; without code for one of the tensors no weight changes.

    Raises:
        MemoryError: no memory is left; no weight has changed.
    """
    library = build.library(group["dtype"]) if all(build.alike(*tensors) for tensors in weights) else None
    if library is None or not weights:
        return False
    matrices = (MuonMatrix * len(weights))()
    largest_first = sorted(weights, key=lambda tensors: tensors[0].numel(), reverse=True)  # threads end together
    for matrix, (parameter, gradient, momentum) in zip(matrices, largest_first, strict=True):
        matrix.weight, matrix.gradient, matrix.momentum = map(build.address, (parameter, gradient, momentum))
        matrix.height, matrix.width = len(parameter), parameter[0].numel()
    decay, numbers = 1 - group["lr"] * group["weight_decay"], (ctypes.c_float * 3)(*coefficients)
    settings = group["lr"], group["momentum"], decay, numbers, iterations, torch.get_num_threads()
    if library.muon(matrices, len(matrices), *settings):
        raise MemoryError("no memory left for a step of Muon")
    return True
