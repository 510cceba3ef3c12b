"""Chains of layers computed by one call of the C code, with their gradients.

The C code multiplies in float32, or in bf16 under autocast, and sums in float32. Gradients of gradients are PyTorch's.
"""

import ctypes
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from betavae.kernels import build, likelihood
from betavae.kernels.matching import LINEAR_TILE, SMALL_IN, SMALL_OUT, LayerSpec, Plan, has_few_channels, match_chain
from betavae.kernels.structs import Layer, Shape

_Moments = Sequence[tuple[Tensor, Tensor]]
"""Mean and variance of each norm."""


def run_chain(layers: Sequence[nn.Module], features: Tensor, start: int = 0) -> tuple[Tensor, int]:
    """Run the longest chain of layers that there is code for.

    Args:
        layers: of any kind; see `match_chain`.
        features: input of the layer at `start`, (B, C, H, W) or (B, C).
        start: index of the first layer.

    Returns:
        The output, and how many layers gave it, ReLUs included. Images are in channels-last layout; pixels and outputs
        of a small linear layer are float32, all else has the type that the layers multiply in. The features themselves
        and 0 where there is no code for the layer at `start`.
    """
    if (chain := match_chain(layers, features, start)) is None:
        return features, 0
    result = _RunChain.apply(features, chain.plan, chain.moments, *chain.parameters)  # type: ignore[no-untyped-call]
    chain.track()
    return result, chain.length


def bernoulli_error_of_chain(
    layers: Sequence[nn.Module], features: Tensor, images: Tensor, start: int = 0
) -> Tensor | None:
    """Bernoulli errors of images given the logits that layers make of features, in nats.

    Logits are never written to memory: each image goes forward and backward through the last layers while it is in the
    cache. So gradients are computed together with the errors, for a loss that is their mean. They are scaled for other
    losses that weigh all images alike, and computed again for the rest.

    Args:
        layers: as for `run_chain`.
        features: as for `run_chain`.
        images: pixels, (B, C, H, W).
        start: as for `run_chain`.

    Returns:
        (B,) float32. None where one call cannot compute all these layers, or no gradient is wanted.
    """
    chain = match_chain(layers, features, start) if torch.is_grad_enabled() else None
    if not chain or chain.length < len(layers) - start:
        return None
    shape = chain.plan.shapes[-1][1]
    alike = images.shape == shape and images.is_contiguous(memory_format=torch.channels_last)
    plain = images.dtype == torch.float32 and images.is_cpu and not images.requires_grad
    if not alike or not plain or not has_few_channels(shape):
        return None
    given = features, images, chain.plan, chain.moments, *chain.parameters
    errors: Tensor = _ChainError.apply(*given)  # type: ignore[no-untyped-call]
    chain.track()
    return errors


class _RunChain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, plan: Plan, moments: _Moments, *parameters: Tensor) -> Tensor:
        call = _Call(features, plan, moments, parameters)
        call.allocate_outputs(len(plan.specs))
        call.run("chain_forward")
        ctx.save_for_backward(features, *parameters, *call.tensors)
        ctx.call, result = call, call.tensors[-1]
        call.tensors = []  # autograd keeps them; an output that its own history holds would never be freed
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        plan = call.plan
        features, *parameters = ctx.saved_tensors[: len(ctx.needs_input_grad) - 2]
        if torch.is_grad_enabled():  # the gradients will be differentiated
            again = _by_pytorch(features, plan, parameters)
            return build.derived(again, gradient.to(again.dtype), ctx, [features, None, None, *parameters])
        found = call.allocate_gradients(parameters, ctx.needs_input_grad[0])
        call.run("chain_backward", _laid_out(gradient, _output_dtype(plan)), found[0])
        return found[0], None, None, *found[1:]


class _ChainError(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, images: Tensor, plan: Plan, moments: _Moments, *parameters: Tensor
    ) -> Tensor:
        call = _Call(features, plan, moments, parameters)
        specs = plan.specs
        stages = [i for i, spec in enumerate(specs) if not i or spec.table_rows or specs[i - 1].residual]
        call.allocate_outputs(stages[-1])
        errors = features.new_empty(len(images), dtype=torch.float32)
        ctx.weight = ctypes.c_float(1 / len(images))
        ctx.found = call.allocate_gradients(parameters, ctx.needs_input_grad[0])
        call.run("chain_bernoulli", images, ctx.weight, errors, ctx.found[0])
        ctx.save_for_backward(features, images, *parameters)
        ctx.plan, ctx.moments = plan, moments
        return errors

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        found, ctx.found = ctx.found, None
        alike = not torch.is_grad_enabled() and bool((gradient == gradient[0]).all())
        if found is None or not alike:  # a second backward pass, or errors of different weights
            features, images, *parameters = ctx.saved_tensors
            with torch.enable_grad():
                logits = _RunChain.apply(features, ctx.plan, ctx.moments, *parameters)  # type: ignore[no-untyped-call]
                again = likelihood.bernoulli_error(logits, images)
            return build.derived(again, gradient, ctx, [features, None, None, None, *parameters])
        if (scale := gradient[0].item() / ctx.weight.value) != 1:
            for tensor in found:
                if tensor is not None:
                    tensor.mul_(scale)
        return found[0], None, None, None, *found[1:]


def _by_pytorch(features: Tensor, plan: Plan, parameters: Sequence[Tensor]) -> Tensor:
    """The same chain by PyTorch, whose gradients have gradients."""
    with torch.autocast("cpu", torch.bfloat16, enabled=plan.dtype == torch.bfloat16):
        for spec, (shape, _), own in zip(plan.specs, plan.shapes, _by_layer(plan, parameters), strict=True):
            sizes = {"stride": spec.stride, "padding": spec.padding}
            weight, bias = own[:2]
            features = given = features.reshape(shape)
            if spec.small_linear:
                with torch.autocast("cpu", enabled=False):
                    features = F.linear(features.float(), weight, bias)
            elif features.dim() == 2:
                features = F.linear(features, weight, bias)
            elif spec.transposed:
                output_padding = int((spec.kernel, spec.stride) == (3, 2))
                features = F.conv_transpose2d(features, weight, bias, **sizes, output_padding=output_padding)
            else:
                features = F.conv2d(features, weight, bias, **sizes)
            features = features.relu() if spec.relu else features
            if spec.residual:
                scale, shift = own[2:]
                features = given + F.batch_norm(features, None, None, scale, shift, training=True, eps=spec.epsilon)
    return features


def _by_layer(plan: Plan, parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    left = iter(parameters)
    return [list(islice(left, 4 if spec.residual else 2)) for spec in plan.specs]


class _Call:
    """The structs of a chain, filled with the addresses of its tensors, and the calls that take them.

    Args:
        features: input of the first layer.
        plan: of the chain.
        moments: mean and variance of each norm.
        parameters: of all layers.
    """

    def __init__(self, features: Tensor, plan: Plan, moments: _Moments, parameters: Sequence[Tensor]) -> None:
        self.plan, blank = plan, _layers_of(plan)
        self._layers = type(blank).from_buffer_copy(blank)
        laid_out = [_laid_out(parameter) for parameter in parameters]
        self.tensors = [_laid_out(features, _input_dtype(plan)), *laid_out]
        """All that the structs point to, the last output last. Keep them as long as the structs are used."""
        setattr(self._layers[0], "in", self.tensors[0].data_ptr())
        moments_left = iter(moments)
        for layer, spec, own in zip(self._layers, plan.specs, _by_layer(plan, laid_out), strict=True):
            layer.weight, layer.bias = own[0].data_ptr(), own[1].data_ptr()
            if spec.residual:
                own += next(moments_left)
                layer.scale, layer.shift, layer.mean, layer.variance = (tensor.data_ptr() for tensor in own[2:])
        self.tensors += [tensor for pair in moments for tensor in pair]

    def allocate_outputs(self, count: int) -> None:
        """Have the first layers write their outputs, and have layers with a transposed input keep that as well."""
        specs, shapes = self.plan.specs, self.plan.shapes
        for i, (_, shape) in enumerate(shapes[:count]):
            dtype = self.plan.dtype if i + 1 < len(shapes) else _output_dtype(self.plan)
            output = self._layers[i].out = self._allocate(shape, dtype)
            if specs[i].residual:
                output = self._layers[i].sum = self._allocate(shape, dtype)
            if i + 1 < len(shapes):
                given = self._allocate(shapes[i + 1][0], dtype) if specs[i + 1].table_rows else output
                setattr(self._layers[i + 1], "in", given)

    def allocate_gradients(self, parameters: Sequence[Tensor], of_features: bool) -> list[Tensor | None]:
        """Tensors for the gradients of the features, if wanted, and of all parameters."""
        found = [torch.empty_like(parameter, memory_format=_layout(parameter)) for parameter in parameters]
        for layer, (weight, bias, *norm) in zip(self._layers, _by_layer(self.plan, found), strict=True):
            layer.weight_gradient, layer.bias_gradient = weight.data_ptr(), bias.data_ptr()
            if norm:
                layer.scale_gradient, layer.shift_gradient = (tensor.data_ptr() for tensor in norm)
        return [_empty(self.plan.shapes[0][0], _input_dtype(self.plan)) if of_features else None, *found]

    def run(self, name: str, *rest: Tensor | ctypes.c_float | None) -> None:
        """Call a function of the library with the layers, the number of threads and what else it takes."""
        library = build.library(self.plan.dtype)
        assert library
        arguments = [more if isinstance(more, ctypes.c_float) else build.address(more) for more in rest]
        if getattr(library, name)(self._layers, len(self._layers), torch.get_num_threads(), *arguments):
            raise MemoryError("no memory left for a chain of layers")

    def _allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        self.tensors.append(_empty(shape, dtype))
        return self.tensors[-1].data_ptr()


def _input_dtype(plan: Plan) -> torch.dtype:
    """Of the chain's input: pixels and inputs of a small linear layer are not rounded."""
    exact = has_few_channels(plan.shapes[0][0]) or plan.specs[0].small_linear == SMALL_IN
    return torch.float32 if exact else plan.dtype


def _output_dtype(plan: Plan) -> torch.dtype:
    """Of the chain's output, likewise."""
    exact = has_few_channels(plan.shapes[-1][1]) or plan.specs[-1].small_linear == SMALL_OUT
    return torch.float32 if exact else plan.dtype


def _layout(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.contiguous_format


def _laid_out(tensor: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return tensor.to(dtype).contiguous(memory_format=_layout(tensor))


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device="cpu", memory_format=layout)


@lru_cache(maxsize=1024)
def _layers_of(plan: Plan) -> ctypes.Array[Layer]:
    """The structs of a chain, without addresses."""
    layers = (Layer * len(plan.specs))()
    for layer, spec, shapes in zip(layers, plan.specs, plan.shapes, strict=True):
        _fill(layer, spec, *shapes)
    return layers


def _fill(layer: Layer, spec: LayerSpec, given: tuple[int, ...], output: tuple[int, ...]) -> None:
    small, big = (given, output) if spec.transposed else (output, given)
    (height, width), (out_height, out_width) = big[2:] or LINEAR_TILE, small[2:] or LINEAR_TILE
    few = has_few_channels(big)
    layer.shape = Shape(height, width, big[1], out_height, out_width, small[1], *spec[:3], few)
    layer.transposed, layer.relu, layer.small_linear = spec.transposed, spec.relu, spec.small_linear
    layer.table_rows, layer.table_columns = spec.table_rows, spec.table_columns
    layer.batch_statistics, layer.epsilon = spec.batch_statistics, spec.epsilon
    layer.images = given[0] if len(given) == 4 else given[0] // math.prod(LINEAR_TILE)
