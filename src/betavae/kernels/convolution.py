"""Convolutions on a CPU: what `convolution.c` computes, as layers with their ReLUs and gradients.

`convolve` takes the layers that can be had in this form: in float32, or under bf16 autocast, where `native` has a
library. Where it cannot, PyTorch's own form runs; either way numbers of that type are multiplied, and summed in fp32.
"""

import ctypes
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from betavae.kernels import build, likelihood

_FORMS = {(1, 1, 0, 0), (2, 2, 0, 0), (3, 1, 1, 0), (3, 2, 1, 0), (3, 2, 1, 1), (4, 2, 1, 0)}
"""Kernel, stride, padding and output padding that there is code for."""
_PLAIN = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""Layers that are taken, in float32, and what a class that computes the same names as its attribute `plain`."""
_LANES = 32
"""Channels come in multiples of these, but for those of pixels."""
_MOST_LAYERS = 16
"""Layers at once: MAX_LAYERS in the C code."""
_FEW = 64
"""Numbers that a linear layer takes, or gives, in float32: MOST_FEW in the C code."""
_TAKES_FEW, _GIVES_FEW = 1, 2
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
        *((name, ctypes.c_int64) for name in ("up", "relu", "few", "images", "rows", "columns")),
        *((name, ctypes.c_void_p) for name in ("in", "out", "weight", "bias", "weight_gradient", "bias_gradient")),
        *((name, ctypes.c_void_p) for name in ("sum", "scale", "shift", "mean", "variance")),
        *((name, ctypes.c_void_p) for name in ("scale_gradient", "shift_gradient")),
        *(("batch", ctypes.c_int64), ("epsilon", ctypes.c_double)),
    ]


class _Form(NamedTuple):
    """What a layer is: its kernel, whether it goes from small images to big ones, whether through ReLU.

    Where it is linear and in float32, whether it is few numbers that it takes, or few that it gives.
    Where it takes features as rows of numbers from images, or the other way round, the tables that are transposed.
    Where it is normalised and added to what it takes, whether by moments of the batch, and the least variance.
    """

    kernel: int
    stride: int
    padding: int
    up: bool
    few: int = 0
    relu: bool = False
    rows: int = 0
    columns: int = 0
    adds: bool = False
    batch: bool = False
    epsilon: float = 0.0


_Moments = Sequence[tuple[Tensor, Tensor]]
"""Mean and variance of what is normalised, layer by layer."""
_Ends = tuple[tuple[int, ...], tuple[int, ...]]
"""Shapes of what a layer takes and gives."""


class _Fit(NamedTuple):
    """A layer that there is code for, and the shape of what it gives."""

    form: _Form
    shape: tuple[int, ...]


class _Plan(NamedTuple):
    """Layers that are computed at once."""

    dtype: torch.dtype
    """To multiply in."""
    forms: tuple[_Form, ...]
    ends: tuple[_Ends, ...]


class _Taken(NamedTuple):
    """The first of some layers."""

    plan: _Plan
    parameters: list[Any]
    """A weight and a bias of each form, and where it is normalised scale and shift."""
    norms: list[nn.BatchNorm2d]
    moments: list[tuple[Tensor, Tensor]]
    """Mean and variance that each of these normalises by: of the batch, once it is known, or those seen before."""
    length: int
    """How many layers they are, ReLUs among them."""

    def track(self) -> None:
        """Have the layers that normalise remember the moments of the batch."""
        for norm, (mean, variance), images in zip(self.norms, self.moments, self._pixels(), strict=True):
            if norm.training:
                assert norm.running_mean is not None
                assert norm.running_var is not None
                assert norm.momentum is not None
                norm.running_mean.lerp_(mean, norm.momentum)
                norm.running_var.lerp_(variance * (images / max(1, images - 1)), norm.momentum)
                assert norm.num_batches_tracked is not None
                norm.num_batches_tracked.add_(1)

    def _pixels(self) -> list[int]:
        return [shape[0] * math.prod(shape[2:]) for form, (shape, _) in zip(*self.plan[1:], strict=True) if form.adds]


def convolve(layers: Sequence[nn.Module], features: Tensor, start: int = 0) -> tuple[Tensor, int]:
    """What layers of a network give one after another, as many as can be taken at once.

    Args:
        layers: of any kind; `nn.Conv2d`, `nn.ConvTranspose2d` and `nn.Linear` are taken, each with or without an
            `nn.ReLU` after it, where there is code for them, and `nn.Flatten` and `nn.Unflatten` between them; and
            sequences of a convolution, `nn.ReLU` and `nn.BatchNorm2d` that add what they give to what they take, whose
            class says so by its attribute `adds`.
        features: input, (B, C, H, W) or (B, C).
        start: place of the layer that takes it.

    Returns:
        Values of the type that layers multiply in, images in channels-last layout, and pixels, of fewer than 32
        channels, float32; and the number of layers that gave them, ReLUs included. The features and 0 where there is no
        code for the layer that takes them.
    """
    if (taken := _taken(layers, features, start)) is None:
        return features, 0
    result = _Chain.apply(features, taken.plan, taken.moments, *taken.parameters)  # type: ignore[no-untyped-call]
    taken.track()
    return result, taken.length


def bernoulli_error(layers: Sequence[nn.Module], features: Tensor, images: Tensor, start: int = 0) -> Tensor | None:
    """Bernoulli errors of images given the logits that layers make of features, in nats, and their gradients at once.

    What an image's last layers give never leaves the cache then: the gradient is computed together with the error, as
    what it almost always is, that of the mean over images, and anew where it turns out to be another.

    Args:
        layers: as for `convolve`.
        features: likewise.
        images: pixels, (B, C, H, W).
        start: likewise.

    Returns:
        (B,) float32. None where not all of these layers can be taken at once, or no gradient is wanted.
    """
    taken = _taken(layers, features, start) if torch.is_grad_enabled() else None
    if not taken or taken.length < len(layers) - start:
        return None
    shape = taken.plan.ends[-1][1]
    pixels = images.shape == shape and images.is_contiguous(memory_format=torch.channels_last)
    if not pixels or shape[1] >= _LANES or images.dtype != torch.float32 or not images.is_cpu or images.requires_grad:
        return None
    given = features, images, taken.plan, taken.moments, *taken.parameters
    errors: Tensor = _Likelihood.apply(*given)  # type: ignore[no-untyped-call]
    taken.track()
    return errors


def _taken(layers: Sequence[nn.Module], features: Tensor, start: int) -> _Taken | None:
    dtype = build.chosen(features)
    if not dtype:
        return None
    forms: list[_Form] = []
    ends: list[_Ends] = []
    norms: list[nn.BatchNorm2d] = []
    parameters, count, shape = [], start, tuple(features.shape)
    while count < len(layers) and len(forms) < _MOST_LAYERS:
        if _thin(shape) and (forms or features.requires_grad):
            break  # the gradient of pixels
        turned = _turned(layers[count], shape) if forms and not forms[-1].adds else None
        place, given = (count, shape) if turned is None else (count + 1, turned.shape)
        if place == len(layers):
            break
        layer, norm = _parts(layers[place])
        fit = _fit(layer, given, exact(layers, place))
        if fit is None or (norm is not None and (fit.shape != given or given[1] < _LANES)):
            break
        if fit.form.few == _TAKES_FEW and place == len(layers) - 1:
            break  # the last results are not rounded
        if fit.form.few == _GIVES_FEW and not forms and features.dtype != dtype:
            break  # nor is what is given
        parameters += [layer._parameters["weight"], layer._parameters["bias"]]
        count = place + 1
        form = fit.form
        if norm is not None:
            norms.append(norm)
            parameters += [norm.weight, norm.bias]
            form = form._replace(relu=True, adds=True, batch=norm.training, epsilon=norm.eps)
        elif fit.shape[1] >= _LANES:
            form = form._replace(relu=count < len(layers) and type(layers[count]) is nn.ReLU and silent(layers[count]))
            count += form.relu
        rows, columns = turned[:2] if turned else (0, 0)
        forms.append(form._replace(rows=rows, columns=columns))
        ends.append((given, fit.shape))
        shape = fit.shape
    if not forms or (len(forms) == 1 and forms[0].few == _TAKES_FEW and dtype != torch.float32):
        return None  # a result would be rounded that nothing here takes
    moments: list[Any] = [
        (norm.bias.new_empty(len(norm.bias)), norm.bias.new_empty(len(norm.bias)))
        if norm.training
        else (norm.running_mean, norm.running_var)
        for norm in norms
    ]
    return _Taken(_Plan(dtype, tuple(forms), tuple(ends)), parameters, norms, moments, count - start)


def _parts(layer: nn.Module) -> tuple[nn.Module, nn.BatchNorm2d | None]:
    """Of a residual layer whose norm there is code for, the convolution and the norm; of others the layer alone."""
    if not isinstance(layer, nn.Sequential) or not vars(type(layer)).get("adds") or not silent(layer):
        return layer, None
    if [type(part) for part in layer] != [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]:
        return layer, None
    convolution, relu, norm = layer
    assert isinstance(norm, nn.BatchNorm2d)
    tensors = norm.weight, norm.bias, norm.running_mean, norm.running_var
    known = all(tensor is not None and tensor.dtype == torch.float32 and tensor.is_cpu for tensor in tensors)
    derived = not norm.training and torch.is_grad_enabled()  # by moments that are given
    if derived or not known or norm.momentum is None or not silent(relu) or not silent(norm):
        return layer, None
    return convolution, norm


class _Turned(NamedTuple):
    """Features of an image as a table, which is transposed, and the shape of all."""

    rows: int
    columns: int
    shape: tuple[int, ...]


def _turned(layer: nn.Module, shape: tuple[int, ...]) -> _Turned | None:
    """What flattens images, which have their channels last, or makes images of rows of numbers; None for others."""
    if not silent(layer):
        return None
    if type(layer) is nn.Flatten and len(shape) == 4 and (layer.start_dim, layer.end_dim) in ((1, -1), (1, 3)):
        return _Turned(shape[2] * shape[3], shape[1], (shape[0], math.prod(shape[1:])))
    if type(layer) is nn.Unflatten and len(shape) == 2 and layer.dim in (1, -1):
        sizes = layer.unflattened_size
        whole = isinstance(sizes, tuple | list) and all(isinstance(size, int) and size > 0 for size in sizes)
        if whole and len(sizes) == 3 and math.prod(sizes) == shape[1]:
            return _Turned(sizes[0], sizes[1] * sizes[2], (shape[0], *sizes))
    return None


def _fit(layer: nn.Module, shape: tuple[int, ...], in_float32: bool) -> _Fit | None:
    """What a layer comes to on inputs of a shape; None without code for it, or for an error that PyTorch words."""
    what = kind(type(layer))
    if what is None or not silent(layer):
        return None
    weight, bias = (layer._parameters.get(name) for name in ("weight", "bias"))
    if weight is None or bias is None or not weight.dtype == bias.dtype == torch.float32 or not weight.is_cpu:
        return None
    return _found(what, _geometry(layer), tuple(weight.shape), shape, in_float32)  # type: ignore[arg-type]


def exact(layers: Sequence[nn.Module], place: int) -> bool:
    """Whether a layer of a network runs in float32 always: a linear one that is last, or first and takes few numbers.

    With the 8 bits of bf16, posterior means near 2 would be 1/64 apart; of few numbers, as of latents, it saves
    nothing.
    """
    layer = layers[place]
    return isinstance(layer, nn.Linear) and (place == len(layers) - 1 or (place == 0 and layer.in_features <= _FEW))


def silent(layer: nn.Module) -> bool:
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
    kind: type[nn.Module], geometry: tuple[Any, ...], weight: tuple[int, ...], shape: tuple[int, ...], in_float32: bool
) -> _Fit | None:
    up, linear = kind is nn.ConvTranspose2d, kind is nn.Linear
    if len(shape) != (2 if linear else 4) or shape[1] != weight[0 if up else 1] or 0 in (*shape, *weight):
        return None
    if linear:
        gives, takes = (in_float32 and number <= _FEW for number in weight)
        many = [number for number, few in zip(weight, (gives, takes), strict=True) if not few]
        fits = (gives != takes) == in_float32 and not any(number % _LANES for number in many)
        fits = fits and not shape[0] % math.prod(_SIDES)
        way = _GIVES_FEW if gives else _TAKES_FEW if takes else 0
        return _Fit(_Form(1, 1, 0, up, way), (shape[0], weight[0])) if fits else None
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
    def forward(ctx: Any, features: Tensor, plan: _Plan, moments: _Moments, *parameters: Tensor) -> Tensor:
        passing = _Passing(features, plan, moments, parameters)
        passing.give(len(plan.forms))
        passing.call("forward")
        ctx.save_for_backward(features, *parameters, *passing.tensors)
        ctx.passing, result = passing, passing.tensors[-1]
        passing.tensors = []  # a result that its own history holds would stay
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        passing: _Passing = ctx.passing
        plan = passing.plan
        features, *parameters = ctx.saved_tensors[: len(ctx.needs_input_grad) - 2]
        if torch.is_grad_enabled():  # the gradients will be differentiated
            again = _plain(features, plan, parameters)
            return build.derived(again, gradient.to(again.dtype), ctx, [features, None, None, *parameters])
        found = passing.gradients(parameters, ctx.needs_input_grad[0])
        passing.call("backward", _laid_out(gradient, _given_type(plan)), found[0])
        return found[0], None, None, *found[1:]


class _Likelihood(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, images: Tensor, plan: _Plan, moments: _Moments, *parameters: Tensor
    ) -> Tensor:
        passing = _Passing(features, plan, moments, parameters)
        starts = [i for i, form in enumerate(plan.forms) if not i or form.rows or plan.forms[i - 1].adds]
        passing.give(starts[-1])
        errors = features.new_empty(len(images), dtype=torch.float32)
        ctx.weight = ctypes.c_float(1 / len(images))
        ctx.found = passing.gradients(parameters, ctx.needs_input_grad[0])
        passing.call("likelihood", images, ctx.weight, errors, ctx.found[0])
        ctx.save_for_backward(features, images, *parameters)
        ctx.plan, ctx.moments = plan, moments
        return errors

    @staticmethod
    def backward(ctx: Any, towards: Tensor) -> tuple[Tensor | None, ...]:
        found, ctx.found = ctx.found, None
        alike = not torch.is_grad_enabled() and bool((towards == towards[0]).all())
        if found is None or not alike:  # differentiated once more, or errors weigh differently
            features, images, *parameters = ctx.saved_tensors
            with torch.enable_grad():
                logits = _Chain.apply(features, ctx.plan, ctx.moments, *parameters)  # type: ignore[no-untyped-call]
                again = likelihood.bernoulli_error(logits, images)
            return build.derived(again, towards, ctx, [features, None, None, None, *parameters])
        if (scale := towards[0].item() / ctx.weight.value) != 1:
            for gradient in found:
                if gradient is not None:
                    gradient.mul_(scale)
        return found[0], None, None, None, *found[1:]


def _plain(features: Tensor, plan: _Plan, parameters: Sequence[Tensor]) -> Tensor:
    """The same layers by PyTorch, whose gradients have gradients."""
    with torch.autocast("cpu", torch.bfloat16, enabled=plan.dtype == torch.bfloat16):
        for form, (shape, _), own in zip(plan.forms, plan.ends, _of_each(plan, parameters), strict=True):
            sizes = {"stride": form.stride, "padding": form.padding}
            weight, bias = own[:2]
            features = taken = features.reshape(shape)
            if form.few:
                with torch.autocast("cpu", enabled=False):
                    features = F.linear(features.float(), weight, bias)
            elif features.dim() == 2:
                features = F.linear(features, weight, bias)
            elif form.up:
                output_padding = int((form.kernel, form.stride) == (3, 2))
                features = F.conv_transpose2d(features, weight, bias, **sizes, output_padding=output_padding)
            else:
                features = F.conv2d(features, weight, bias, **sizes)
            features = features.relu() if form.relu else features
            if form.adds:
                scale, shift = own[2:]
                features = taken + F.batch_norm(features, None, None, scale, shift, training=True, eps=form.epsilon)
    return features


def _of_each(plan: _Plan, parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Parameters layer by layer."""
    left = iter(parameters)
    return [list(islice(left, 4 if form.adds else 2)) for form in plan.forms]


def _layout(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.contiguous_format


def _laid_out(tensor: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return tensor.to(dtype).contiguous(memory_format=_layout(tensor))


# ---------------------------------------------------------------------------------------------------------------------
# The library
# ---------------------------------------------------------------------------------------------------------------------


class _Passing:
    """Layers with the tensors that they work on, and the calls of the library that do it.

    Args:
        features: what the first takes.
        plan: of the layers.
        moments: mean and variance of each that normalises.
        parameters: of all layers.
    """

    def __init__(self, features: Tensor, plan: _Plan, moments: _Moments, parameters: Sequence[Tensor]) -> None:
        self.plan, blank = plan, _layers(plan)
        self._layers = type(blank).from_buffer_copy(blank)
        laid_out = [_laid_out(parameter) for parameter in parameters]
        self.tensors = [_laid_out(features, _taken_type(plan)), *laid_out]
        """All that the layers point to, the last result last: to be kept as long as they are used."""
        setattr(self._layers[0], "in", self.tensors[0].data_ptr())
        moments_left = iter(moments)
        for layer, form, own in zip(self._layers, plan.forms, _of_each(plan, laid_out), strict=True):
            layer.weight, layer.bias = own[0].data_ptr(), own[1].data_ptr()
            if form.adds:
                own += next(moments_left)
                layer.scale, layer.shift, layer.mean, layer.variance = (tensor.data_ptr() for tensor in own[2:])
        self.tensors += [tensor for pair in moments for tensor in pair]

    def give(self, count: int) -> None:
        """Have so many layers keep what they give, and those that take it in another order what they take."""
        forms, ends = self.plan.forms, self.plan.ends
        for i, (_, shape) in enumerate(ends[:count]):
            dtype = self.plan.dtype if i + 1 < len(ends) else _given_type(self.plan)
            given = self._layers[i].out = self._empty(shape, dtype)
            if forms[i].adds:
                given = self._layers[i].sum = self._empty(shape, dtype)
            if i + 1 < len(ends):
                taken = self._empty(ends[i + 1][0], dtype) if forms[i + 1].rows else given
                setattr(self._layers[i + 1], "in", taken)

    def gradients(self, parameters: Sequence[Tensor], of_features: bool) -> list[Tensor | None]:
        """Tensors for the gradients of the features, where asked for, and of all parameters."""
        found = [torch.empty_like(parameter, memory_format=_layout(parameter)) for parameter in parameters]
        for layer, (weight, bias, *normal) in zip(self._layers, _of_each(self.plan, found), strict=True):
            layer.weight_gradient, layer.bias_gradient = weight.data_ptr(), bias.data_ptr()
            if normal:
                layer.scale_gradient, layer.shift_gradient = (tensor.data_ptr() for tensor in normal)
        return [_empty(self.plan.ends[0][0], _taken_type(self.plan)) if of_features else None, *found]

    def call(self, name: str, *rest: Tensor | ctypes.c_float | None) -> None:
        """A function of the library, which takes more beside the layers."""
        library = build.library(self.plan.dtype)
        assert library
        given = [more if isinstance(more, ctypes.c_float) else build.address(more) for more in rest]
        if getattr(library, name)(self._layers, len(self._layers), torch.get_num_threads(), *given):
            raise MemoryError("no memory left for a convolution")

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        self.tensors.append(_empty(shape, dtype))
        return self.tensors[-1].data_ptr()


def _taken_type(plan: _Plan) -> torch.dtype:
    """Of what the first layer takes: neither pixels nor few numbers are rounded."""
    exact = _thin(plan.ends[0][0]) or plan.forms[0].few == _TAKES_FEW
    return torch.float32 if exact else plan.dtype


def _given_type(plan: _Plan) -> torch.dtype:
    """Of what the last layer gives, likewise."""
    exact = _thin(plan.ends[-1][1]) or plan.forms[-1].few == _GIVES_FEW
    return torch.float32 if exact else plan.dtype


def _thin(shape: tuple[int, ...]) -> bool:
    """Whether images of a shape are pixels, of few channels."""
    return len(shape) == 4 and shape[1] < _LANES


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device="cpu", memory_format=layout)


@lru_cache(maxsize=1024)
def _layers(plan: _Plan) -> ctypes.Array[_Layer]:
    """Layers with the shapes of their tensors, but not yet the tensors."""
    layers = (_Layer * len(plan.forms))()
    for layer, form, (taken, given) in zip(layers, plan.forms, plan.ends, strict=True):
        small, big = (taken, given) if form.up else (given, taken)
        big_sides, sides = big[2:] or _SIDES, small[2:] or _SIDES
        layer.shape = _Shape(*big_sides, big[1], *sides, small[1], *form[:3], _thin(big))
        layer.up, layer.relu, layer.few = form.up, form.relu, form.few
        layer.rows, layer.columns = form.rows, form.columns
        layer.batch, layer.epsilon = form.batch, form.epsilon
        layer.images = taken[0] if len(taken) == 4 else taken[0] // math.prod(_SIDES)
    return layers
