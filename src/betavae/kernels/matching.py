"""Which layers of a network there is C code for, and how they form a chain that one call computes."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from betavae.kernels import build
from betavae.networks.layers import Downsample, Float32Linear, Residual, Upsample

COMPUTES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: nn.Conv2d,
    Downsample: nn.Conv2d,
    nn.ConvTranspose2d: nn.ConvTranspose2d,
    Upsample: nn.ConvTranspose2d,
    nn.Linear: nn.Linear,
    Float32Linear: nn.Linear,
}
"""For each class that the C code knows, which layer of PyTorch computes the same. Subclasses of users do not count."""
_GEOMETRIES = {(1, 1, 0, 0), (2, 2, 0, 0), (3, 1, 1, 0), (3, 2, 1, 0), (3, 2, 1, 1), (4, 2, 1, 0)}
"""Kernel, stride, padding and output padding that there is code for."""
_CHANNEL_BLOCK = 32
"""Channels come in multiples of this. Images of fewer channels are pixels, in float32."""
_MAX_LAYERS = 16
"""Of a chain: MAX_LAYERS in the C code."""
_SMALL = 64
"""The most inputs, or outputs, of a small linear layer in float32: MAX_SMALL in the C code."""
SMALL_IN, SMALL_OUT = 1, 2
"""Small linear layers: of few inputs, of few outputs."""
LINEAR_TILE = (4, 8)
"""A linear layer runs as a 1x1 convolution on images of this height and width; each pixel is a row of the batch."""

Shapes = tuple[tuple[int, ...], tuple[int, ...]]
"""Shapes of a layer's input and output."""


class LayerSpec(NamedTuple):
    """What the C code needs to know of a layer besides its tensors."""

    kernel: int
    stride: int
    padding: int
    transposed: bool
    small_linear: int = 0
    """0, SMALL_IN or SMALL_OUT."""
    relu: bool = False
    table_rows: int = 0
    """Its input is the output before, transposed as tables of so many rows and columns; 0 if it is not transposed."""
    table_columns: int = 0
    residual: bool = False
    """Whether it is x + BatchNorm(ReLU(conv(x)))."""
    batch_statistics: bool = False
    """Whether it normalises by the batch's mean and variance, not by the running ones."""
    epsilon: float = 0.0


class Plan(NamedTuple):
    """A chain without its tensors."""

    dtype: torch.dtype
    """In which the C code multiplies."""
    specs: tuple[LayerSpec, ...]
    shapes: tuple[Shapes, ...]


class Chain(NamedTuple):
    """Layers that one call computes."""

    plan: Plan
    parameters: list[Any]
    """Weight and bias of each layer, and scale and shift where it normalises."""
    norms: list[nn.BatchNorm2d]
    moments: list[tuple[Tensor, Tensor]]
    """Mean and variance that each norm normalises by: the batch's, once computed, or the running ones."""
    length: int
    """How many modules these are, ReLUs included."""

    def track(self) -> None:
        """Update the running statistics of the norms."""
        for norm, (mean, variance), pixels in zip(self.norms, self.moments, self._pixels(), strict=True):
            if norm.training:
                assert norm.running_mean is not None
                assert norm.running_var is not None
                assert norm.momentum is not None
                norm.running_mean.lerp_(mean, norm.momentum)
                norm.running_var.lerp_(variance * (pixels / max(1, pixels - 1)), norm.momentum)
                assert norm.num_batches_tracked is not None
                norm.num_batches_tracked.add_(1)

    def _pixels(self) -> list[int]:
        shapes = [given for spec, (given, _) in zip(self.plan.specs, self.plan.shapes, strict=True) if spec.residual]
        return [shape[0] * math.prod(shape[2:]) for shape in shapes]


def match_chain(layers: Sequence[nn.Module], features: Tensor, start: int = 0) -> Chain | None:
    """The longest chain of layers from `start` on that there is code for; None where there is none.

    A chain has `nn.Conv2d`, `nn.ConvTranspose2d` and `nn.Linear`, each with or without an `nn.ReLU` after it,
    `nn.Flatten` and `nn.Unflatten` between them, and `Residual` of a convolution, `nn.ReLU` and `nn.BatchNorm2d`.

    Args:
        layers: of any kind.
        features: input of the layer at `start`, (B, C, H, W) or (B, C).
        start: index of the first layer.
    """
    dtype = build.chosen(features)
    if not dtype:
        return None
    specs: list[LayerSpec] = []
    shapes: list[Shapes] = []
    norms: list[nn.BatchNorm2d] = []
    parameters, count, shape = [], start, tuple(features.shape)
    while count < len(layers) and len(specs) < _MAX_LAYERS:
        if has_few_channels(shape) and (specs or features.requires_grad):
            break  # there is no code for the gradient of pixels
        table = _reshaping(layers[count], shape) if specs and not specs[-1].residual else None
        index, given = (count, shape) if table is None else (count + 1, table.shape)
        if index == len(layers):
            break
        layer, norm = _parts(layers[index])
        match = _match(layer, given)
        if match is None or (norm is not None and (match.shape != given or given[1] < _CHANNEL_BLOCK)):
            break
        spec = match.spec
        if spec.small_linear == SMALL_IN and (specs or index == len(layers) - 1):
            break  # its inputs are float32; and a network's outputs are not rounded
        if spec.small_linear == SMALL_OUT and not specs and features.dtype != dtype:
            break  # inputs of a network are not rounded
        parameters += [layer._parameters["weight"], layer._parameters["bias"]]
        count = index + 1
        if norm is not None:
            norms.append(norm)
            parameters += [norm.weight, norm.bias]
            spec = spec._replace(relu=True, residual=True, batch_statistics=norm.training, epsilon=norm.eps)
        elif match.shape[1] >= _CHANNEL_BLOCK and spec.small_linear != SMALL_OUT:
            spec = spec._replace(relu=count < len(layers) and type(layers[count]) is nn.ReLU and silent(layers[count]))
            count += spec.relu
        if table is not None:
            spec = spec._replace(table_rows=table.rows, table_columns=table.columns)
        specs.append(spec)
        shapes.append((given, match.shape))
        shape = match.shape
        if spec.small_linear == SMALL_OUT:
            break  # its outputs are float32
    if not specs or (len(specs) == 1 and specs[0].small_linear == SMALL_IN and dtype != torch.float32):
        return None  # the output would be rounded for a layer that is PyTorch's
    moments: list[Any] = [
        (norm.bias.new_empty(len(norm.bias)), norm.bias.new_empty(len(norm.bias)))
        if norm.training
        else (norm.running_mean, norm.running_var)
        for norm in norms
    ]
    return Chain(Plan(dtype, tuple(specs), tuple(shapes)), parameters, norms, moments, count - start)


def silent(module: nn.Module) -> bool:
    """Whether a module has no hooks."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return not any(hooks)


def has_few_channels(shape: tuple[int, ...]) -> bool:
    """Whether a shape is that of pixels: images of fewer channels than a block."""
    return len(shape) == 4 and shape[1] < _CHANNEL_BLOCK


def _parts(layer: nn.Module) -> tuple[nn.Module, nn.BatchNorm2d | None]:
    """The convolution and the norm of a residual layer that there is code for; of any other layer itself and None."""
    if type(layer) is not Residual or not silent(layer):
        return layer, None
    if [type(part) for part in layer] != [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]:
        return layer, None
    convolution, relu, norm = layer
    assert isinstance(norm, nn.BatchNorm2d)
    tensors = norm.weight, norm.bias, norm.running_mean, norm.running_var
    known = all(tensor is not None and tensor.dtype == torch.float32 and tensor.is_cpu for tensor in tensors)
    fixed = not norm.training and torch.is_grad_enabled()  # gradients by running statistics are left to PyTorch
    if fixed or not known or norm.momentum is None or not silent(relu) or not silent(norm):
        return layer, None
    return convolution, norm


class _Table(NamedTuple):
    """Features of an image as a table (rows, columns) to transpose, and the shape of the result."""

    rows: int
    columns: int
    shape: tuple[int, ...]


def _reshaping(layer: nn.Module, shape: tuple[int, ...]) -> _Table | None:
    """The transposition that a flattening or unflattening is for channels-last images; None for other layers."""
    if not silent(layer):
        return None
    if type(layer) is nn.Flatten and len(shape) == 4 and (layer.start_dim, layer.end_dim) in ((1, -1), (1, 3)):
        return _Table(shape[2] * shape[3], shape[1], (shape[0], math.prod(shape[1:])))
    if type(layer) is nn.Unflatten and len(shape) == 2 and layer.dim in (1, -1):
        sizes = layer.unflattened_size
        whole = isinstance(sizes, tuple | list) and all(isinstance(size, int) and size > 0 for size in sizes)
        if whole and len(sizes) == 3 and math.prod(sizes) == shape[1]:
            return _Table(sizes[0], sizes[1] * sizes[2], (shape[0], *sizes))
    return None


class _Match(NamedTuple):
    """A layer that there is code for, and the shape of its output."""

    spec: LayerSpec
    shape: tuple[int, ...]


def _match(layer: nn.Module, shape: tuple[int, ...]) -> _Match | None:
    """The layer on inputs of a shape; None without code for it, or for an error that PyTorch words."""
    kind = COMPUTES.get(type(layer))
    if kind is None or not silent(layer):
        return None
    weight, bias = (layer._parameters.get(name) for name in ("weight", "bias"))
    if weight is None or bias is None or not weight.dtype == bias.dtype == torch.float32 or not weight.is_cpu:
        return None
    if isinstance(layer, nn.Linear):
        return _match_linear(type(layer) is Float32Linear, tuple(weight.shape), shape)
    return _match_convolution(kind is nn.ConvTranspose2d, _geometry(layer), tuple(weight.shape), shape)  # type: ignore[arg-type]


@lru_cache(maxsize=1024)
def _match_linear(in_float32: bool, weight: tuple[int, ...], shape: tuple[int, ...]) -> _Match | None:
    if len(shape) != 2 or shape[1] != weight[1] or 0 in (*shape, *weight):
        return None
    few_out, few_in = (in_float32 and number <= _SMALL for number in weight)
    many = [number for number, few in zip(weight, (few_out, few_in), strict=True) if not few]
    fits = (few_out != few_in) == in_float32 and not any(number % _CHANNEL_BLOCK for number in many)
    if not fits or shape[0] % math.prod(LINEAR_TILE):
        return None
    small = SMALL_OUT if few_out else SMALL_IN if few_in else 0
    return _Match(LayerSpec(1, 1, 0, False, small), (shape[0], weight[0]))


@lru_cache(maxsize=1024)
def _match_convolution(
    transposed: bool, geometry: tuple[Any, ...], weight: tuple[int, ...], shape: tuple[int, ...]
) -> _Match | None:
    if len(shape) != 4 or shape[1] != weight[0 if transposed else 1] or 0 in (*shape, *weight):
        return None
    kernel, stride, padding, _ = square = _square(geometry[:4])
    *_, dilation, groups, padding_mode = geometry
    known = square in _GEOMETRIES and not (transposed and square == (3, 2, 1, 0))
    if not known or (dilation, groups, padding_mode) != ((1, 1), 1, "zeros"):
        return None
    sides = [side if transposed else side / stride for side in shape[2:]]  # of the smaller image, (P, Q)
    small, big = weight[:2]  # channels K of the smaller image, C of the larger one
    if small % _CHANNEL_BLOCK or any(side not in (4, 8) and (side % 16 or not side) for side in sides):
        return None
    if big < _CHANNEL_BLOCK:  # blocks of 4x4 pixels, times channels, fill the columns of tiles
        fits = big <= 4 and kernel > stride == 2 and all(side == 16 or side % 32 == 0 for side in sides)
    else:
        fits = big % _CHANNEL_BLOCK == 0
    result = (shape[0], weight[transposed], *(int(side) * (stride if transposed else 1) for side in sides))
    return _Match(LayerSpec(kernel, stride, padding, transposed), result) if fits else None


def _geometry(layer: nn.Conv2d | nn.ConvTranspose2d) -> tuple[Any, ...]:
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.output_padding, layer.dilation
    return *(size if isinstance(size, str) else tuple(size) for size in sizes), layer.groups, layer.padding_mode


def _square(sizes: Sequence[Any]) -> tuple[int, int, int, int]:
    """Kernel, stride, padding, output padding; zeros where one differs between height and width."""
    if any(isinstance(size, str) or size[0] != size[1] for size in sizes):
        return (0, 0, 0, 0)
    return tuple(int(size[0]) for size in sizes)  # type: ignore[return-value]
