"""Convolutions by a CPU's AMX tiles: what `convolution.c` computes, as a layer with its ReLU and their gradients.

Libraries leave most of these units idle where images are small and channels few. `fits` says whether a layer can be
had in this form: under bf16 autocast, on Linux, on a CPU with AMX, with a C compiler, which is called once. Where it
cannot, PyTorch's own form runs; the numbers are those of bf16 multiplications summed in fp32 either way.
"""

import ctypes
import hashlib
import os
import subprocess
import sys
import tempfile
import warnings
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
_LANES = 32
"""Channels come in multiples of these, but for those of pixels."""
_IMAGE = 64
"""Vectors that pass for an image."""


class _Shape(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("images", "big_height", "big_width", "big", "height", "width", "small"),
            *("kernel", "stride", "padding", "thin", "threads"),
        )
    ]


class _Form(NamedTuple):
    """What a layer is: its kernel, and whether it goes from small images to big ones."""

    kernel: int
    stride: int
    padding: int
    up: bool
    relu: bool


def fits(layer: nn.Module, features: Tensor) -> bool:
    """Whether `convolve` can take a layer and its input."""
    if features.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return False
    if torch.get_autocast_dtype("cpu") != torch.bfloat16 or _library() is None:
        return False
    if isinstance(layer, nn.Linear):
        wide = layer.in_features % _LANES == layer.out_features % _LANES == 0
        return wide and layer.bias is not None and features.dim() == 2 and len(features) % _IMAGE == 0
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) or layer.bias is None or layer.groups != 1:
        return False
    up = isinstance(layer, nn.ConvTranspose2d)
    kernel, stride, padding, more = _square(layer)
    small, big = layer.weight.shape[:2]
    if (kernel, stride, padding, more) not in _FORMS or layer.padding_mode != "zeros" or set(layer.dilation) != {1}:
        return False
    sides = [side if up else side / stride for side in features.shape[2:]]  # of the small image
    if small % _LANES or any(side not in (4, 8) and side % 16 for side in sides):
        return False
    if big < _LANES:  # pixels: no gradient for them, and their 2 x 2 phases fit a tile
        return big <= 4 and kernel > stride == 2 and (up or not features.requires_grad)
    return big % _LANES == 0


def convolve(layer: nn.Module, features: Tensor, relu: bool = False) -> Tensor:
    """What a layer that `fits` gives, through ReLU where asked.

    Args:
        layer: `nn.Conv2d`, `nn.ConvTranspose2d` or `nn.Linear`.
        features: input, (B, C, H, W) or (B, C).
        relu: apply it to the result; not to pixels.

    Returns:
        bf16, images in channels-last layout; pixels, of fewer than 32 channels, float32.
    """
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    kernel, stride, padding = (1, 1, 0) if isinstance(layer, nn.Linear) else _square(layer)[:3]
    form = _Form(kernel, stride, padding, isinstance(layer, nn.ConvTranspose2d), relu)
    result: Tensor = _Convolution.apply(features, layer.weight, layer.bias, form)  # type: ignore[no-untyped-call]
    return result


def _square(layer: nn.Conv2d | nn.ConvTranspose2d) -> tuple[int, int, int, int]:
    """Kernel, stride, padding, output padding; zeros where one differs between height and width."""
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.output_padding
    if any(isinstance(size, str) or size[0] != size[1] for size in sizes):
        return (0, 0, 0, 0)
    return tuple(int(size[0]) for size in sizes)  # type: ignore[return-value]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, form: _Form) -> Tensor:
        thin = weight.shape[1] < _LANES
        features = _laid_out(features, torch.float32 if thin and not form.up else torch.bfloat16)
        sides = [side * form.stride if form.up else side // form.stride for side in features.shape[2:]]
        result = torch.empty(
            (len(features), weight.shape[form.up], *sides),
            dtype=torch.float32 if thin and form.up else torch.bfloat16,
            memory_format=_layout(features),
        )
        shape = _shape(features, result, weight, form)
        _call("up" if form.up else "down", shape, features, _laid_out(weight), bias, form.relu, result)
        ctx.save_for_backward(features, weight, result if form.relu else None)
        ctx.form = form
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        features, weight, mask = ctx.saved_tensors
        form: _Form = ctx.form
        pixels = form.up and weight.shape[1] < _LANES
        gradient = _laid_out(gradient, torch.float32 if pixels else torch.bfloat16)
        shape = _shape(features, gradient, weight, form)
        big, small = (gradient, features) if form.up else (features, gradient)
        towards = torch.empty_like(features) if ctx.needs_input_grad[0] else None
        kernel = torch.empty_like(weight, memory_format=_layout(weight))
        bias = gradient.sum((0, 2, 3)) if pixels else torch.empty(gradient.shape[1])
        into = None if pixels else bias
        _call("backward", shape, not form.up, big, small, mask, _laid_out(weight), towards, kernel, into)
        return towards, kernel, bias, None


def _layout(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.contiguous_format


def _laid_out(tensor: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return tensor.to(dtype).contiguous(memory_format=_layout(tensor))


def _shape(features: Tensor, result: Tensor, weight: Tensor, form: _Form) -> _Shape:
    small, channels = weight.shape[:2]
    if features.dim() == 2:  # a batch of vectors passes for images of 4 x 16 pixels
        images, big_sides, sides = len(features) // _IMAGE, (4, 16), (4, 16)
    else:
        images, big, little = len(features), *((result, features) if form.up else (features, result))
        big_sides, sides = (big.shape[2], big.shape[3]), (little.shape[2], little.shape[3])
    return _Shape(
        *(images, *big_sides, channels, *sides, small),
        *(form.kernel, form.stride, form.padding, channels < _LANES, min(torch.get_num_threads(), images)),
    )


# ---------------------------------------------------------------------------------------------------------------------
# The library
# ---------------------------------------------------------------------------------------------------------------------


def _call(name: str, shape: _Shape, *arguments: Tensor | int | None) -> None:
    given = [argument.data_ptr() if isinstance(argument, Tensor) else argument for argument in arguments]
    library = _library()
    assert library is not None
    if getattr(library, name)(ctypes.byref(shape), *given):
        raise MemoryError("no memory left for a convolution")


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
    pointer, number, shape = ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(_Shape)
    library.down.argtypes = library.up.argtypes = [shape, pointer, pointer, pointer, number, pointer]
    library.backward.argtypes = [shape, number, *[pointer] * 7]
    return library


def _compiled() -> Path:
    """The shared object of `convolution.c`, compiled unless an earlier process has done so."""
    name = f"convolution-{hashlib.sha256(_SOURCE.read_bytes() + repr(_FLAGS).encode()).hexdigest()[:16]}.so"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folders = _SOURCE.parent / "__pycache__", home / "betavae"
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    compiler = os.environ.get("CC", "cc")
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                compiled = Path(scratch) / name
                subprocess.run(
                    [compiler, *_FLAGS, str(_SOURCE), "-o", str(compiled)], check=True, capture_output=True, text=True
                )
                return compiled.replace(folder / name)
        except PermissionError:
            continue
    raise PermissionError(f"neither {folders[0]} nor {folders[1]} can be written")
