"""Networks as plain data, which the page runs without a server."""

import base64
import copy
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from betavae.model import VAE
from betavae.networks.layers import AffinePicture, ImageShape, Residual

_SINGLE_WEIGHTS = 300_000  # decoders up to this size are kept in single precision
_SHAPE = tuple[int, int, int]


def pack_network(network: nn.Module, input_shape: ImageShape, single_weights: int = 0) -> dict[str, Any]:
    """A network as JSON: its operations in order, and all their weights in one base64 string.

    Operations: `conv` (also transposed, also fully connected), `relu`, `tanh`, `affine` (batch normalisation as it
    runs in evaluation mode), `residual` (x + f(x)) and `place` (`AffinePicture`). The weights stand in the order in
    which the operations use them: a convolution's kernel as (y, x, out, in), then its bias; an affine operation's
    scale, then its shift; of `place` the weights of both networks, then the blob and the background.

    Args:
        network: layers in evaluation mode.
        input_shape: what it takes, (C, H, W); latents are (D, 1, 1).
        single_weights: up to how many weights they are stored as float32; beyond as float16.

    Returns:
        `layers`, `type` ("float16" or "float32") and `weights`. A convolution straight after a fully connected layer is
        multiplied into it where that takes fewer weights.

    Raises:
        ValueError: a layer that the page cannot run.

    Example:
        >>> packed = pack_network(nn.Sequential(nn.Linear(2, 3), nn.Tanh()), (2, 1, 1))
        >>> [layer["op"] for layer in packed["layers"]], packed["type"]
        (['conv', 'tanh'], 'float16')
        >>> pack_network(nn.Sequential(nn.Sigmoid()), (2, 1, 1))
        Traceback (most recent call last):
        ValueError: the page cannot run a layer of type Sigmoid; it runs AffinePicture, BatchNorm2d, Conv2d, \
ConvTranspose2d, Flatten, Linear, ReLU, Residual, Sequential, Tanh, Unflatten
    """
    packer = _Packer(input_shape)
    with torch.no_grad():
        layers = packer.pack([network])
        weights = torch.cat([tensor.float().flatten() for tensor in packer.weights])
    single = len(weights) <= single_weights
    stored = weights.numpy().astype("<f4" if single else "<f2")
    return {
        "layers": layers,
        "type": "float32" if single else "float16",
        "weights": base64.b64encode(stored.tobytes()).decode(),
    }


def pack_decoder(model: VAE) -> dict[str, Any]:
    """The decoder as `pack_network` does, from latents to what the likelihood is parameterised by."""
    return pack_network(model.decoder, (model.latent_dim, 1, 1), _SINGLE_WEIGHTS)


def pack_encoder(model: VAE) -> dict[str, Any]:
    """The encoder as `pack_network` does, from pixels in [0, 1] to means, then log variances."""
    return pack_network(model.encoder, model.image_shape)


_LAYERS = (
    *(AffinePicture, nn.BatchNorm2d, nn.Conv2d, nn.ConvTranspose2d, nn.Flatten, nn.Linear, nn.ReLU, Residual),
    *(nn.Sequential, nn.Tanh, nn.Unflatten),
)
"""What the page computes."""


def _known(layer: nn.Module) -> bool:
    """Whether it computes what its kind does: subclasses, hooks and methods put in place may change that."""
    base = next((kind for kind in _LAYERS if isinstance(layer, kind)), None)
    ours = type(layer).__module__.startswith(("betavae.networks.", "betavae.kernels."))  # faster forms of the same
    same = base is not None and (ours or type(layer).forward is base.forward)
    return same and not (layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))


class _Packer:
    """Walks through layers; knows the shape of what flows and collects the weights."""

    def __init__(self, shape: _SHAPE) -> None:
        self.shape = shape
        self.weights: list[Tensor] = []
        self.flattened: _SHAPE | None = None  # what the vector was before it was flattened
        self.linear: dict[str, Any] | None = None  # the fully connected operation before, if nothing came between

    def pack(self, layers: Iterable[nn.Module]) -> list[dict[str, Any]]:
        return [operation for layer in layers for operation in self._operations(layer)]

    def _operations(self, layer: nn.Module) -> Iterator[dict[str, Any]]:
        if not _known(layer):
            known = ", ".join(kind.__name__ for kind in _LAYERS)
            raise ValueError(f"the page cannot run a layer of type {type(layer).__name__}; it runs {known}")
        match layer:
            case Residual():
                self.linear = None
                yield {"op": "residual", "layers": self.pack(layer)}
            case AffinePicture():
                yield self._placed(layer)
            case nn.Sequential():
                yield from self.pack(layer)
            case nn.Flatten(start_dim=1, end_dim=-1):
                self.flattened, self.shape = self.shape, (int(np.prod(self.shape)), 1, 1)
            case nn.Unflatten():
                self._unflatten(layer)
            case nn.Linear():
                self.linear = self._linear(layer)
                yield self.linear
            case nn.Conv2d() | nn.ConvTranspose2d():
                if not self._folded(layer):
                    self.linear = None
                    yield self._convolution(layer)
            case nn.BatchNorm2d():
                self.linear = None
                self._normalisation(layer)
                yield {"op": "affine", "channels": self.shape[0]}
            case nn.ReLU() | nn.Tanh():
                self.linear = None
                yield {"op": type(layer).__name__.lower()}
            case _:
                raise ValueError(f"the page cannot run {layer}, which flattens only a part")

    def _linear(self, layer: nn.Linear) -> dict[str, Any]:
        weight = layer.weight if self.flattened is None else layer.weight[:, _channel_last(self.flattened)]
        self.flattened = None
        self._keep(weight, layer.bias, layer.out_features)
        return self._conv((layer.out_features, 1, 1), kernel=1, stride=1, padding=0, transposed=False)

    def _folded(self, layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
        """Multiplies a convolution into the fully connected layer before it, if that saves weights."""
        if self.linear is None:
            return False
        weight, bias = (tensor.double() for tensor in self.weights[-2:])
        channels, height, width = self.shape
        rows = torch.cat([weight.T, bias[None], torch.zeros_like(bias[None])])
        images = copy.deepcopy(layer).double()(rows.view(-1, height, width, channels).permute(0, 3, 1, 2))
        *columns, bias, shift = images.permute(0, 2, 3, 1).flatten(1)
        weight = torch.stack(columns, 1) - shift[:, None]
        if weight.numel() > self.weights[-2].numel() + layer.weight.numel():
            return False
        self.weights[-2:] = [weight, bias]
        self.shape = (images.shape[1], images.shape[2], images.shape[3])
        self.linear["output"] = [1, 1, len(bias)]
        return True

    def _convolution(self, layer: nn.Conv2d | nn.ConvTranspose2d) -> dict[str, Any]:
        (kernel, *_), (stride, *_) = layer.kernel_size, layer.stride
        padding, extra = layer.padding, layer.output_padding
        square = all(len(set(values)) == 1 for values in (layer.kernel_size, layer.stride, extra))
        if isinstance(padding, str) or len(set(padding)) > 1 or not square or set(layer.dilation) != {1}:
            raise ValueError(f"the page runs square convolutions without dilation or named padding only, not {layer}")
        if layer.groups != 1 or layer.padding_mode != "zeros":
            raise ValueError(f"the page runs convolutions of one group, padded with zeros, only, not {layer}")
        transposed = isinstance(layer, nn.ConvTranspose2d)
        weight = layer.weight.permute(2, 3, 1, 0) if transposed else layer.weight.permute(2, 3, 0, 1)
        self._keep(weight, layer.bias, layer.out_channels)

        def size(side: int) -> int:
            if transposed:
                return (side - 1) * stride - 2 * padding[0] + kernel + extra[0]
            return (side + 2 * padding[0] - kernel) // stride + 1

        shape = (layer.out_channels, size(self.shape[1]), size(self.shape[2]))
        return self._conv(shape, kernel=kernel, stride=stride, padding=padding[0], transposed=transposed)

    def _conv(self, shape: _SHAPE, **options: int | bool) -> dict[str, Any]:
        before, self.shape = self.shape, shape
        return {
            "op": "conv",
            "input": _height_width_channels(before),
            "output": _height_width_channels(shape),
        } | options

    def _placed(self, layer: AffinePicture) -> dict[str, Any]:
        self.linear, features = None, self.shape
        drawn = self.pack([layer.picture])
        channels, height, width = self.shape
        self.linear, self.shape = None, features
        mapped = self.pack([layer.map])
        self.linear, self.shape = None, (channels, layer.height, layer.width)
        self.weights += [layer.blob, layer.background]
        picture, image = _height_width_channels((channels, height, width)), _height_width_channels(self.shape)
        return {"op": "place", "picture": picture, "output": image, "draw": drawn, "map": mapped}

    def _normalisation(self, layer: nn.BatchNorm2d) -> None:
        if layer.running_mean is None or layer.running_var is None:
            raise ValueError("the page runs batch normalisation with running statistics only")
        scale = torch.rsqrt(layer.running_var + layer.eps)
        shift = -layer.running_mean * scale
        if layer.affine:
            scale, shift = scale * layer.weight, shift * layer.weight + layer.bias
        self.weights += [scale, shift]

    def _unflatten(self, layer: nn.Unflatten) -> None:
        """Reorders the rows of the fully connected layer before it, so that its output is channel-last already."""
        sides = [int(side) for side in layer.unflattened_size]
        of_linear = self.flattened is None and self.shape[1:] == (1, 1) and self.weights
        if layer.dim not in (1, -1) or len(sides) != 3 or not of_linear or len(self.weights[-1]) != math.prod(sides):
            raise ValueError(f"the page runs Unflatten to images after Linear only, not {layer}")
        channels, height, width = sides
        order = _channel_last((channels, height, width))
        self.weights[-2:] = [tensor[order] for tensor in self.weights[-2:]]
        self.shape = (channels, height, width)

    def _keep(self, weight: Tensor, bias: Tensor | None, size: int) -> None:
        self.weights += [weight, torch.zeros(size) if bias is None else bias]


def _channel_last(shape: _SHAPE) -> Tensor:
    """For each entry of a channel-last vector its place in the channel-first one."""
    return torch.arange(int(np.prod(shape))).reshape(shape).permute(1, 2, 0).flatten()


def _height_width_channels(shape: _SHAPE) -> list[int]:
    return [shape[1], shape[2], shape[0]]
