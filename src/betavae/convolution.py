"""Convolutions by a CPU's AMX tiles: what `convolution.c` computes, as layers with their ReLUs and gradients.

Libraries leave most of these units idle where images are small and channels few. `chain` says which layers can be
had in this form: under bf16 autocast, on Linux, on a CPU with AMX, with a C compiler, which is called once. Where it
cannot, PyTorch's own form runs; the numbers are those of bf16 multiplications summed in fp32 either way.
"""

import ctypes
import hashlib
import itertools
import os
import shlex
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_SOURCE = Path(__file__).with_name("convolution.c")
_FLAGS = (
    *("-O3", "-std=gnu11", "-shared", "-fPIC", "-fopenmp"),
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
)
_FORMS = {(1, 1, 0, 0), (2, 2, 0, 0), (3, 1, 1, 0), (3, 2, 1, 0), (3, 2, 1, 1), (4, 2, 1, 0)}
"""Kernel, stride, padding and output padding that there is code for."""
_PLAIN = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""Layers that are taken, in float32, and what a class that computes the same names as its attribute `plain`."""
_LANES = 32
"""Channels come in multiples of these, but for those of pixels."""
_MOST_LAYERS = 16
"""Layers at once: MAX_LAYERS in the C code."""
_IMAGE = 64
"""Vectors that pass for an image."""


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


class _Form(NamedTuple):
    """What a layer is: its kernel, whether it goes from small images to big ones, whether through ReLU."""

    kernel: int
    stride: int
    padding: int
    up: bool
    relu: bool


def available() -> bool:
    """Whether this machine has what it takes: the tiles, and a compiler or what one has left."""
    return _library() is not None


def chain(layers: Sequence[nn.Module], features: Tensor) -> int:
    """How many of the first of some layers `convolve` can take at once, ReLUs included."""
    if features.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return 0
    if torch.get_autocast_dtype("cpu") != torch.bfloat16 or _library() is None:
        return 0
    shape, count, taken = tuple(features.shape), 0, 0
    while count < len(layers) and taken < _MOST_LAYERS and _fits(layers[count], shape):
        layer = layers[count]
        assert isinstance(layer, _PLAIN)
        if isinstance(layer, nn.Conv2d) and layer.weight.shape[1] < _LANES and (taken or features.requires_grad):
            break  # the gradient of pixels
        shape = _result_shape(_form(layer), layer.weight, shape)
        count, taken = count + 1, taken + 1
        if count < len(layers) and isinstance(layers[count], nn.ReLU) and shape[1] >= _LANES:
            count += 1
    return count


def convolve(layers: Sequence[nn.Module], features: Tensor) -> Tensor:
    """What layers give one after another, of which `chain` counts all.

    Args:
        layers: `nn.Conv2d`, `nn.ConvTranspose2d` or `nn.Linear`, each with or without an `nn.ReLU` after it.
        features: input, (B, C, H, W) or (B, C).

    Returns:
        bf16, images in channels-last layout; pixels, of fewer than 32 channels, float32.
    """
    forms: list[_Form] = []
    parameters: list[Tensor] = []
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, nn.ReLU):
            continue
        assert isinstance(layer, _PLAIN)
        assert layer.bias is not None
        forms.append(_form(layer, isinstance(after, nn.ReLU)))
        parameters += [layer.weight, layer.bias]
    result: Tensor = _Chain.apply(features, tuple(forms), *parameters)  # type: ignore[no-untyped-call]
    return result


def _fits(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    if type(layer) not in _PLAIN and vars(type(layer)).get("plain") not in _PLAIN:
        return False  # a class that may compute something else
    assert isinstance(layer, _PLAIN)
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        return False  # somebody waits for the layer to be called
    if layer.bias is None or {layer.weight.dtype, layer.bias.dtype, layer.weight.device.type} != {torch.float32, "cpu"}:
        return False
    up = isinstance(layer, nn.ConvTranspose2d)
    channels_in = layer.weight.shape[0 if up else 1]
    dimensions = 2 if isinstance(layer, nn.Linear) else 4
    if len(shape) != dimensions or not shape[0] or shape[1] != channels_in:
        return False  # nothing to do, or an error that PyTorch puts into words
    if isinstance(layer, nn.Linear):
        return layer.in_features % _LANES == layer.out_features % _LANES == shape[0] % _IMAGE == 0
    kernel, stride, *_ = form = _square(layer)
    small, big = layer.weight.shape[:2]
    if (
        layer.groups != 1
        or form not in _FORMS
        or (up and form == (3, 2, 1, 0))
        or layer.padding_mode != "zeros"
        or set(layer.dilation) != {1}
    ):
        return False
    sides = [side if up else side / stride for side in shape[2:]]  # of the small image
    if small % _LANES or any(side not in (4, 8) and (side % 16 or not side) for side in sides):
        return False
    if big < _LANES:  # the four phases of pixels fit a tile
        return big <= 4 and kernel > stride == 2 and all(side % 16 == 0 for side in sides)
    return big % _LANES == 0


def _form(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, relu: bool = False) -> _Form:
    sizes = (1, 1, 0) if isinstance(layer, nn.Linear) else _square(layer)[:3]
    return _Form(*sizes, isinstance(layer, nn.ConvTranspose2d), relu)


def _square(layer: nn.Conv2d | nn.ConvTranspose2d) -> tuple[int, int, int, int]:
    """Kernel, stride, padding, output padding; zeros where one differs between height and width."""
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.output_padding
    if any(isinstance(size, str) or size[0] != size[1] for size in sizes):
        return (0, 0, 0, 0)
    return tuple(int(size[0]) for size in sizes)  # type: ignore[return-value]


def _result_shape(form: _Form, weight: Tensor, shape: Sequence[int]) -> tuple[int, ...]:
    sides = (side * form.stride if form.up else side // form.stride for side in shape[2:])
    return shape[0], weight.shape[form.up], *sides


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, forms: tuple[_Form, ...], *parameters: Tensor) -> Tensor:
        weights, biases = ([_laid_out(parameter) for parameter in parameters[i::2]] for i in (0, 1))
        thin = weights[0].shape[1] < _LANES and not forms[0].up
        tensors = [_laid_out(features, torch.float32 if thin else torch.bfloat16)]
        for form, weight in zip(forms, weights, strict=True):
            shape = _result_shape(form, weight, tensors[-1].shape)
            dtype = torch.bfloat16 if shape[1] >= _LANES else torch.float32
            tensors.append(torch.empty(shape, dtype=dtype, memory_format=_layout(tensors[-1])))
        _call("forward", tensors, forms, weight=weights, bias=biases)
        ctx.save_for_backward(*tensors, *weights)
        ctx.forms = forms
        return tensors[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        forms: tuple[_Form, ...] = ctx.forms
        tensors, weights = ctx.saved_tensors[: len(forms) + 1], ctx.saved_tensors[len(forms) + 1 :]
        gradient = _laid_out(gradient, tensors[-1].dtype)
        towards = torch.empty_like(tensors[0]) if ctx.needs_input_grad[0] else None
        gradients = [torch.empty_like(weight, memory_format=_layout(weight)) for weight in weights]
        biases: list[Tensor | None] = [torch.empty(tensor.shape[1]) for tensor in tensors[1:]]
        pixels = tensors[-1].dtype == torch.float32
        summed = [*biases[:-1], None] if pixels else biases
        fields = {"weight": weights, "weight_gradient": gradients, "bias_gradient": summed}
        _call("backward", tensors, forms, gradient, towards, **fields)
        if pixels:
            biases[-1] = gradient.sum((0, 2, 3))
        return towards, None, *itertools.chain(*zip(gradients, biases, strict=True))


def _layout(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.contiguous_format


def _laid_out(tensor: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return tensor.to(dtype).contiguous(memory_format=_layout(tensor))


# ---------------------------------------------------------------------------------------------------------------------
# The library
# ---------------------------------------------------------------------------------------------------------------------


def _call(
    name: str,
    tensors: Sequence[Tensor],
    forms: Sequence[_Form],
    *rest: Tensor | None,
    **fields: Sequence[Tensor | None],
) -> None:
    """Call a function of the library.

    Args:
        name: `forward`, or `backward`, which takes the gradients of the result and of the input as `rest`.
        tensors: the input and the result of each layer.
        forms: of the layers.
        rest: what the function takes beside layers.
        fields: what else a `_Layer` holds, layer by layer, in channels-last layout; among them `weight`.
    """
    library = _library()
    assert library is not None
    images = len(tensors[0]) if tensors[0].dim() == 4 else len(tensors[0]) // _IMAGE
    layers = (_Layer * len(forms))()
    for i, (layer, form) in enumerate(zip(layers, forms, strict=True)):
        small, big = (tensors[i], tensors[i + 1]) if form.up else (tensors[i + 1], tensors[i])
        # A batch of vectors passes for images of 4 x 16 pixels.
        big_sides, sides = (big.shape[2:], small.shape[2:]) if big.dim() == 4 else ((4, 16), (4, 16))
        channels = (big.shape[1], small.shape[1])
        layer.shape = _Shape(*big_sides, channels[0], *sides, channels[1], *form[:3], channels[0] < _LANES)
        layer.up, layer.relu = form.up, form.relu
        values = {field: tensors_of[i] for field, tensors_of in fields.items()}
        for field, tensor in (values | {"in": tensors[i], "out": tensors[i + 1]}).items():
            setattr(layer, field, _address(tensor))
    threads = min(torch.get_num_threads(), images)
    if getattr(library, name)(layers, len(forms), images, threads, *map(_address, rest)):
        raise MemoryError("no memory left for a convolution")


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """The compiled code; None where it cannot run."""
    if sys.platform != "linux" or not torch.cpu.get_capabilities().get("amx_bf16"):
        return None
    try:
        library = ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        warnings.warn(
            f"training is several times slower than it could be: convolution.c cannot be compiled ({reason.strip()}); "
            "install a C compiler such as gcc 12",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    if library.allow_tiles():
        return None
    library.forward.argtypes = [ctypes.POINTER(_Layer), *[ctypes.c_int64] * 3]
    library.backward.argtypes = [*library.forward.argtypes, *[ctypes.c_void_p] * 2]
    return library


def _folders() -> list[Path]:
    """Where compiled code may be kept: beside the source, or the user's cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [_SOURCE.parent / "__pycache__", home / "betavae"]


def _compiled() -> Path:
    """The shared object of `convolution.c`, compiled unless an earlier process has done so."""
    name = f"convolution-{hashlib.sha256(_SOURCE.read_bytes() + repr(_FLAGS).encode()).hexdigest()[:16]}.so"
    for folder in _folders():
        if (folder / name).is_file():
            return folder / name
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            scratch = tempfile.TemporaryDirectory(dir=folder)
        except OSError:
            continue
        with scratch:
            compiled = Path(scratch.name) / name
            command = [*shlex.split(os.environ.get("CC", "cc")), *_FLAGS, str(_SOURCE), "-o", str(compiled)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            return compiled.replace(folder / name)
    raise PermissionError(f"none of {', '.join(map(str, _folders()))} can be written")
