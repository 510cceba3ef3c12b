"""Convolutions on a CPU: what `convolution.c` computes, as layers with their ReLUs and gradients.

`convolve` takes the layers that can be had in this form: in float32, or under bf16 autocast, where `native` has a
library. Where it cannot, PyTorch's own form runs; either way numbers of that type are multiplied, and summed in fp32.
"""

import ctypes
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain as joined
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from betavae import native

_FORMS = {(1, 1, 0, 0), (2, 2, 0, 0), (3, 1, 1, 0), (3, 2, 1, 0), (3, 2, 1, 1), (4, 2, 1, 0)}
"""Kernel, stride, padding and output padding that there is code for."""
_PLAIN = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""Layers that are taken, in float32, and what a class that computes the same names as its attribute `plain`."""
_LANES = 32
"""Channels come in multiples of these, but for those of pixels."""
_MOST_LAYERS = 16
"""Layers at once: MAX_LAYERS in the C code."""
_SIDES = (4, 8)
"""Height and width of the images that vectors pass for."""


class _Shape(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("big_height", "big_width", "big", "height", "width", "small"),
            *("kernel", "stride", "padding", "thin"),
        )
    ]


class _Layer(ctypes.Structure):
    _fields_ = [
        ("shape", _Shape),
        *((name, ctypes.c_int64) for name in ("up", "relu")),
        *((name, ctypes.c_void_p) for name in ("in", "out", "weight", "bias", "weight_gradient", "bias_gradient")),
    ]


_Shapes = tuple[tuple[int, ...], ...]
"""Of the input and of the result of each layer."""


class _Form(NamedTuple):
    """What a layer is: its kernel, whether it goes from small images to big ones, whether through ReLU."""

    kernel: int
    stride: int
    padding: int
    up: bool
    relu: bool = False


class _Fit(NamedTuple):
    """A layer that there is code for, and the shape of what it gives."""

    form: _Form
    shape: tuple[int, ...]


def convolve(layers: Sequence[nn.Module], features: Tensor) -> tuple[Tensor, int]:
    """What the first of some layers give one after another, as many as can be taken at once.

    Args:
        layers: of any kind; `nn.Conv2d`, `nn.ConvTranspose2d` and `nn.Linear` are taken, each with or without an
            `nn.ReLU` after it, where there is code for them.
        features: input, (B, C, H, W) or (B, C).

    Returns:
        Values of the type that layers multiply in, images in channels-last layout, and pixels, of fewer than 32
        channels, float32; and the number of layers that gave them, ReLUs included. The features and 0 where there is no
        code for the first.
    """
    dtype = native.chosen(features)
    forms: list[_Form] = []
    shapes, parameters, count = [tuple(features.shape)], [], 0
    while dtype and count < len(layers) and len(forms) < _MOST_LAYERS and (fit := _fit(layers[count], shapes[-1])):
        if shapes[-1][1] < _LANES and (forms or features.requires_grad):
            break  # the gradient of pixels
        parameters += [layers[count]._parameters["weight"], layers[count]._parameters["bias"]]
        count += 1
        follows = fit.shape[1] >= _LANES and count < len(layers) and type(layers[count]) is nn.ReLU
        relu = follows and _silent(layers[count])
        count += relu
        forms.append(fit.form._replace(relu=relu))
        shapes.append(fit.shape)
    if forms:
        features = _Chain.apply(features, dtype, tuple(forms), tuple(shapes), *parameters)  # type: ignore[no-untyped-call]
    return features, count


def _fit(layer: nn.Module, shape: tuple[int, ...]) -> _Fit | None:
    """What a layer comes to on inputs of a shape; None without code for it, or for an error that PyTorch words."""
    what = kind(type(layer))
    if what is None or not _silent(layer):
        return None
    weight, bias = (layer._parameters.get(name) for name in ("weight", "bias"))
    if weight is None or bias is None or not weight.dtype == bias.dtype == torch.float32 or not weight.is_cpu:
        return None
    return _found(what, _geometry(layer), tuple(weight.shape), shape)  # type: ignore[arg-type]


def _silent(layer: nn.Module) -> bool:
    """Whether nobody waits for the layer to be called."""
    return not (layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def kind(layer: type[nn.Module]) -> type[nn.Module] | None:
    """What a class of layers computes, if that is one of `_PLAIN`."""
    what = layer if layer in _PLAIN else vars(layer).get("plain")
    return what if what in _PLAIN else None


def _geometry(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> tuple[Any, ...]:
    if isinstance(layer, nn.Linear):
        return ()
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.output_padding, layer.dilation
    return *(size if isinstance(size, str) else tuple(size) for size in sizes), layer.groups, layer.padding_mode


@lru_cache(maxsize=1024)
def _found(
    kind: type[nn.Module], geometry: tuple[Any, ...], weight: tuple[int, ...], shape: tuple[int, ...]
) -> _Fit | None:
    up, linear = kind is nn.ConvTranspose2d, kind is nn.Linear
    if len(shape) != (2 if linear else 4) or shape[1] != weight[0 if up else 1] or 0 in (*shape, *weight):
        return None
    if linear:
        fits = weight[0] % _LANES == weight[1] % _LANES == shape[0] % math.prod(_SIDES) == 0
        return _Fit(_Form(1, 1, 0, up), (shape[0], weight[0])) if fits else None
    kernel, stride, padding, _ = form = _square(geometry[:4])
    *_, dilation, groups, padding_mode = geometry
    if form not in _FORMS or (up and form == (3, 2, 1, 0)) or (dilation, groups, padding_mode) != ((1, 1), 1, "zeros"):
        return None
    sides = [side if up else side / stride for side in shape[2:]]  # of the small image
    small, big = weight[:2]
    if small % _LANES or any(side not in (4, 8) and (side % 16 or not side) for side in sides):
        return None
    if big < _LANES:  # the four phases of pixels fit a tile
        fits = big <= 4 and kernel > stride == 2 and all(side == 16 or side % 32 == 0 for side in sides)
    else:
        fits = big % _LANES == 0
    result = (shape[0], weight[up], *(int(side) * (stride if up else 1) for side in sides))
    return _Fit(_Form(kernel, stride, padding, up), result) if fits else None


def _square(sizes: Sequence[Any]) -> tuple[int, int, int, int]:
    """Kernel, stride, padding, output padding; zeros where one differs between height and width."""
    if any(isinstance(size, str) or size[0] != size[1] for size in sizes):
        return (0, 0, 0, 0)
    return tuple(int(size[0]) for size in sizes)  # type: ignore[return-value]


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, dtype: torch.dtype, forms: tuple[_Form, ...], shapes: _Shapes, *parameters: Tensor
    ) -> Tensor:
        weights, biases = ([_laid_out(parameter) for parameter in parameters[i::2]] for i in (0, 1))
        thin = weights[0].shape[1] < _LANES and not forms[0].up
        tensors = [_laid_out(features, torch.float32 if thin else dtype)]
        for shape in shapes[1:]:
            here = dtype if shape[1] >= _LANES else torch.float32
            tensors.append(torch.empty(shape, dtype=here, device="cpu", memory_format=_layout(tensors[-1])))
        _call("forward", dtype, tensors, forms, shapes, weight=weights, bias=biases)
        ctx.save_for_backward(*tensors, *weights, features, *parameters)
        ctx.dtype, ctx.forms, ctx.shapes = dtype, forms, shapes
        return tensors[-1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        forms: tuple[_Form, ...] = ctx.forms
        count = len(forms)
        tensors, weights = ctx.saved_tensors[: count + 1], ctx.saved_tensors[count + 1 : 2 * count + 1]
        if torch.is_grad_enabled():  # the gradients will be differentiated
            features, *parameters = ctx.saved_tensors[2 * count + 1 :]
            again, asked = _plain(features, ctx.dtype, forms, parameters), ctx.needs_input_grad
            given = [features, None, None, None, *parameters]
            wanted = [tensor for tensor, needed in zip(given, asked, strict=True) if needed]
            found = iter(torch.autograd.grad(again, wanted, gradient.to(again.dtype), create_graph=True))
            return tuple(next(found) if needed else None for needed in asked)
        gradient = _laid_out(gradient, tensors[-1].dtype)
        towards = torch.empty_like(tensors[0]) if ctx.needs_input_grad[0] else None
        gradients = [torch.empty_like(weight, memory_format=_layout(weight)) for weight in weights]
        biases: list[Tensor | None] = [weights[0].new_empty(tensor.shape[1]) for tensor in tensors[1:]]
        pixels = tensors[-1].shape[1] < _LANES
        summed = [*biases[:-1], None] if pixels else biases
        fields = {"weight": weights, "weight_gradient": gradients, "bias_gradient": summed}
        _call("backward", ctx.dtype, tensors, forms, ctx.shapes, gradient, towards, **fields)
        if pixels:
            biases[-1] = gradient.sum((0, 2, 3))
        return towards, None, None, None, *joined(*zip(gradients, biases, strict=True))


def _plain(features: Tensor, dtype: torch.dtype, forms: Sequence[_Form], parameters: Sequence[Tensor]) -> Tensor:
    """The same layers by PyTorch, whose gradients have gradients."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        for form, weight, bias in zip(forms, parameters[::2], parameters[1::2], strict=True):
            sizes = {"stride": form.stride, "padding": form.padding}
            if features.dim() == 2:
                features = F.linear(features, weight, bias)
            elif form.up:
                output_padding = int((form.kernel, form.stride) == (3, 2))
                features = F.conv_transpose2d(features, weight, bias, **sizes, output_padding=output_padding)
            else:
                features = F.conv2d(features, weight, bias, **sizes)
            features = features.relu() if form.relu else features
    return features


def _layout(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.contiguous_format


def _laid_out(tensor: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return tensor.to(dtype).contiguous(memory_format=_layout(tensor))


# ---------------------------------------------------------------------------------------------------------------------
# The library
# ---------------------------------------------------------------------------------------------------------------------


def _call(
    name: str,
    dtype: torch.dtype,
    tensors: Sequence[Tensor],
    forms: tuple[_Form, ...],
    shapes: _Shapes,
    *rest: Tensor | None,
    **fields: Sequence[Tensor | None],
) -> None:
    """Call a function of the library.

    Args:
        name: `forward`, or `backward`, which takes the gradients of the result and of the input as `rest`.
        dtype: to multiply in.
        tensors: the input and the result of each layer.
        forms: of the layers.
        shapes: of the tensors.
        rest: what the function takes beside layers.
        fields: what else a `_Layer` holds, layer by layer, in channels-last layout.
    """
    library = native.library(dtype)
    assert library
    blank = _layers(forms, shapes)
    layers = type(blank).from_buffer_copy(blank)
    for i, layer in enumerate(layers):
        setattr(layer, "in", tensors[i].data_ptr())
        layer.out = tensors[i + 1].data_ptr()
        for field, values in fields.items():
            setattr(layer, field, native.address(values[i]))
    images = shapes[0][0] if len(shapes[0]) == 4 else shapes[0][0] // math.prod(_SIDES)
    if getattr(library, name)(layers, len(forms), images, torch.get_num_threads(), *map(native.address, rest)):
        raise MemoryError("no memory left for a convolution")


@lru_cache(maxsize=1024)
def _layers(forms: tuple[_Form, ...], shapes: _Shapes) -> ctypes.Array[_Layer]:
    """Layers with the shapes of their tensors, but not yet the tensors."""
    layers = (_Layer * len(forms))()
    for layer, form, ends in zip(layers, forms, pairwise(shapes), strict=True):
        small, big = ends if form.up else ends[::-1]
        big_sides, sides = big[2:] or _SIDES, small[2:] or _SIDES
        layer.shape = _Shape(*big_sides, big[1], *sides, small[1], *form[:3], big[1] < _LANES)
        layer.up, layer.relu = form.up, form.relu
    return layers
