"""The networks: encoder/decoder pairs by name, and the variational autoencoder made of a pair.

`ARCHITECTURES` maps a name to a function `(image_shape, num_codes) -> (encoder, decoder)`. The encoder turns images
(B, C, H, W) into (B, 2 * num_codes): the posterior's means, then its log variances. The decoder turns codes
(B, num_codes) into pixel logits (B, C, H, W).
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from betavae import convolution
from betavae.affine import place_pictures
from betavae.checks import check_name
from betavae.likelihood import bernoulli_error
from betavae.rounding import rounded

ImageShape = tuple[int, int, int]
Likelihood = Literal["bernoulli", "gaussian"]


class Posterior(NamedTuple):
    """The diagonal Gaussian q(z|x) of each image."""

    mean: Float[Tensor, "batch codes"]
    log_var: Float[Tensor, "batch codes"]

    def sample(self, noise: Float[Tensor, "batch codes"]) -> Float[Tensor, "batch codes"]:
        """Codes mean + standard deviation * noise, the noise being standard normal (Kingma & Welling 2014, eq. 4)."""
        return self.mean + torch.exp(0.5 * self.log_var) * noise

    def rotated(self, rotation: Float[Tensor, "codes codes"]) -> "Posterior":
        """That of codes R z, with no covariance either: log variances are mixed by the squares of R's entries."""
        return Posterior(self.mean @ rotation.T, self.log_var @ (rotation**2).T)


class VAE(nn.Module):
    """A variational autoencoder: images to posteriors, codes to pixel logits; float32 at both ends.

    Args:
        name: architecture, a key of `ARCHITECTURES`.
        image_shape: (channels, height, width).
        num_codes: dimensions of the latent space.
        likelihood: `bernoulli`, whose pixel means are the sigmoid of the decoder's output, or `gaussian`, whose pixel
            means are that output.
        values_per_code: values that each code is rounded to by `quantise`; 0 for codes of any value.

    Raises:
        ValueError: unknown architecture, an image shape that it cannot take, or more codes than an image has pixels.
    """

    def __init__(
        self,
        name: str,
        image_shape: ImageShape,
        num_codes: int,
        likelihood: Likelihood = "bernoulli",
        values_per_code: int = 0,
    ) -> None:
        super().__init__()
        check_name("model", name, ARCHITECTURES)
        if (dtype := torch.get_default_dtype()) != torch.float32:
            raise ValueError(f"networks are float32 here, and PyTorch's default is {dtype}: torch.set_default_dtype")
        if num_codes > (pixels := math.prod(image_shape)):
            raise ValueError(f"codes is {num_codes}, and an image has {pixels:,} pixels: give at most that many codes")
        self.image_shape, self.num_codes, self.likelihood = image_shape, num_codes, likelihood
        try:
            networks: Any = ARCHITECTURES[name](image_shape, num_codes)
        except (ValueError, RuntimeError, MemoryError):  # these say what is wrong
            raise
        except Exception as error:
            raise ValueError(f"model {name} cannot be made ({type(error).__name__}: {error})") from error
        given = list(networks) if isinstance(networks, tuple | list) else [networks]
        if len(given) != 2 or not all(isinstance(network, nn.Module) for network in given):
            kinds = ", ".join(type(network).__name__ for network in given)
            raise ValueError(f"model {name} gives {kinds}; it must give an encoder and a decoder, two of nn.Module")
        self.encoder, self.decoder = given
        if likelihood == "gaussian":
            for layer in self.decoder.modules():
                if isinstance(layer, AffinePicture):
                    layer.start_with_means()
        self.code_values: nn.Parameter | None = None
        if values_per_code:
            self.code_values = nn.Parameter(torch.linspace(-0.5, 0.5, values_per_code).repeat(num_codes, 1))

    def encode(self, images: Float[Tensor, "batch channel height width"]) -> Posterior:
        """Posterior of each image; pixels in [0, 1].

        Raises:
            TypeError: no tensor of floating-point numbers.
            ValueError: another shape.
        """
        _check_tensor("images", images, self.image_shape)
        mean, log_var = forward(self.encoder, images).float().chunk(2, dim=1)
        return Posterior(mean, log_var)

    def decode(self, codes: Float[Tensor, "batch codes"]) -> Float[Tensor, "batch channel height width"]:
        """What the likelihood is parameterised by: logits (Bernoulli) or means (Gaussian) of the pixels.

        Raises:
            TypeError: no tensor of floating-point numbers.
            ValueError: another shape.
        """
        _check_tensor("codes", codes, (self.num_codes,))
        logits: Tensor = forward(self.decoder, codes).float()
        return logits

    def bernoulli_error(
        self,
        codes: Float[Tensor, "batch codes"],
        images: Float[Tensor, "batch channel height width"],
    ) -> Float[Tensor, " batch"]:
        """That of `likelihood.bernoulli_error` given what `decode` makes of codes; in less time than one by one."""
        return forward(self.decoder, codes, images)

    def quantise(self, codes: Float[Tensor, "batch codes"]) -> Float[Tensor, "batch codes"]:
        """Each code's nearest value; the codes themselves where they may have any. Gradients reach the values only."""
        if self.code_values is None:
            return codes
        distances = (codes.detach()[:, :, None] - self.code_values.detach()).abs()  # [image, code, value]
        return self.code_values.expand(len(codes), -1, -1).gather(2, distances.argmin(2, keepdim=True)).squeeze(2)

    def mean_images(self, codes: Float[Tensor, "batch codes"]) -> Float[Tensor, "batch channel height width"]:
        """Expected pixels given codes, in [0, 1]."""
        output = self.decode(codes)
        return torch.sigmoid(output) if self.likelihood == "bernoulli" else output.clamp(0, 1)


def _check_tensor(name: str, given: Any, shape: tuple[int, ...]) -> None:
    """Refuse what a network cannot take, in a sentence."""
    if not isinstance(given, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(given).__name__}: pass torch.from_numpy(...) of an array")
    if tuple(given.shape[1:]) != shape:
        raise ValueError(f"{name} must have the shape (batch, {', '.join(map(str, shape))}), got {tuple(given.shape)}")
    if not given.is_floating_point():
        cure = "divide pixels by their largest value, such as 255" if name == "images" else "convert them with .float()"
        raise TypeError(f"{name} must be floating-point numbers, got {given.dtype}: {cure}")


# ---------------------------------------------------------------------------------------------------------------------
# Layers
# ---------------------------------------------------------------------------------------------------------------------


def forward(module: nn.Module, features: Tensor, images: Tensor | None = None) -> Tensor:
    """What a module gives; layers of a sequence by compiled code, several at once, where that can be.

    Those of `convolution.exact` run in float32.

    Args:
        module: a network or a part of one.
        features: what it is given.
        images: where its results are logits of pixels and only the Bernoulli errors of these are wanted: the images.

    Returns:
        Its results; or errors, (B,), in nats.
    """
    return _run(_in_order(module) if type(module) is nn.Sequential else [module], features, images)


def _run(layers: list[nn.Module], features: Tensor, images: Tensor | None = None) -> Tensor:
    exact = {layer for place, layer in enumerate(layers) if convolution.exact(layers, place)}
    with rounded([layer for layer in layers if layer not in exact], features):  # one may be used twice
        place = 0
        while place < len(layers):
            if images is not None:
                errors = convolution.bernoulli_error(layers, features, images, place)
                if errors is not None:
                    return errors
            features, count = convolution.convolve(layers, features, place)
            if not count:
                layer = layers[place]
                features = _in_float32(layer, features) if convolution.exact(layers, place) else layer(features)
            place += count or 1
    return features if images is None else bernoulli_error(features.float(), images)


def _in_order(sequence: nn.Sequential) -> list[nn.Module]:
    """Layers of a sequence, and of those in it to which nobody listens."""
    layers: list[nn.Module] = []
    for layer in sequence:
        inner = type(layer) is nn.Sequential and convolution.silent(layer)
        layers += _in_order(layer) if inner else [layer]  # type: ignore[arg-type]
    return layers


def _in_float32(layer: nn.Module, features: Tensor) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        result: Tensor = layer(features.float())
    return result


class Downsample(nn.Conv2d):
    """A 4x4 convolution of stride 2 and padding 1, computed as a 2x2 convolution over 2x2 blocks of pixels.

    The weights and the result are those of `nn.Conv2d(channels_in, channels_out, 4, 2, 1)`. With one to three input
    channels the plain form leaves a CPU's matrix units idle; blocks give four times the channels.
    """

    plain = nn.Conv2d

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, kernel_size=4, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        blocks = F.pixel_unshuffle(F.pad(images, (1, 1, 1, 1)), 2)
        return F.conv2d(blocks, F.pixel_unshuffle(self.weight, 2), self.bias)


class Upsample(nn.ConvTranspose2d):
    """A 4x4 transposed convolution of stride 2 and padding 1, whose gradients are computed as those of a convolution.

    A transposed convolution is the gradient of a convolution, so its own gradients are a convolution (for the input)
    and a convolution's weight gradient. CPU libraries are faster at these than at what autograd calls.
    """

    plain = nn.ConvTranspose2d

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, kernel_size=4, stride=2, padding=1)

    def forward(self, features: Tensor, output_size: list[int] | None = None) -> Tensor:
        weight, bias = self.weight, self.bias
        assert bias is not None
        if torch.is_autocast_enabled(features.device.type):
            dtype = torch.get_autocast_dtype(features.device.type)
            features, weight, bias = features.to(dtype), weight.to(dtype), bias.to(dtype)
        upsampled: Tensor = _Upsample.apply(features, weight, bias)  # type: ignore[no-untyped-call]
        return upsampled


class _Upsample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        return F.conv_transpose2d(features, weight, bias, stride=2, padding=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features, weight = ctx.saved_tensors
        (gradient,) = gradients
        _, weight_gradient, _ = torch.ops.aten.convolution_backward(
            features, gradient, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False]
        )
        return F.conv2d(gradient, weight, stride=2, padding=1), weight_gradient, gradient.sum((0, 2, 3))


class Residual(nn.Sequential):
    """Layers whose result is added to what they take."""

    adds = True

    def forward(self, features: Tensor) -> Tensor:
        return features + _run(list(self), features)


def residual_block(resample: nn.Module, channels: int) -> nn.Sequential:
    """A resampling 3x3 convolution, then x + BatchNorm(ReLU(conv(x)))."""
    residual = Residual(nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU(), nn.BatchNorm2d(channels))
    return nn.Sequential(OrderedDict(resample=resample, residual=residual))


class AffinePicture(nn.Module):
    """Draws a small picture from features and places it in an image by an affine map.

    At a point p of the image, which spans [-1, 1]², the result is

        b + P(A p + t),   A = 2 I + M,

    where P is the picture, interpolated linearly between its pixels and 0 outside of [-1, 1]². The network `picture`
    makes P from the features, one linear layer makes the 2x2 matrix M and the shift t, and b is a learned number for
    each channel. With M = 0 the picture covers half the image's side: pixel on pixel if it has half its pixels.

    P is the sum of what the network draws and a fixed Gaussian blob. Without the blob the picture starts empty, and the
    map has no gradient. At the start the background is black (b = -10) and the blob white in its middle.

    Source:
        Spatial Transformer Networks (Jaderberg et al., 2015), equations 1, 4 and 5. https://arxiv.org/abs/1506.02025
        The blob was found here.

    Args:
        picture: network from features (B, F) to a picture (B, C, h, w).
        num_features: F.
        picture_side: h and w.
        image_shape: (C, H, W) of the image.
    """

    blob: Tensor

    def __init__(self, picture: nn.Module, num_features: int, picture_side: int, image_shape: ImageShape) -> None:
        super().__init__()
        channels, self.height, self.width = image_shape
        self.picture = picture
        self.map = nn.Linear(num_features, 6)
        self.background = nn.Parameter(torch.full((channels,), -10.0))
        squares = ((2 * torch.arange(picture_side) + 1) / picture_side - 1) ** 2
        blob = 16 * torch.exp(-2 * (squares[:, None] + squares))  # standard deviation 0.5
        self.register_buffer("blob", blob, persistent=False)

    @torch.no_grad()
    def start_with_means(self) -> None:
        """Makes the background 0 and the blob 1 in its middle: for means of pixels instead of logits."""
        self.background.zero_()
        self.blob.div_(16)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (or means) of the pixels, (B, C, H, W) float32."""
        numbers = forward(self.map, features).float()
        pictures = forward(self.picture, features).float() + self.blob
        maps = self.pixel_maps(numbers)
        return place_pictures(pictures, maps, self.background, self.height, self.width)

    def pixel_maps(self, numbers: Float[Tensor, "batch 6"]) -> Float[Tensor, "batch 2 3"]:
        """Matrices from an image's (column, row, 1) to the pixel of the picture that is there.

        Args:
            numbers: entries of M, row by row, then t.
        """
        scale = len(self.blob) / 2  # pixels in a unit of length
        matrix, shift = 2 * torch.eye(2, device=numbers.device) + numbers[:, :4].view(-1, 2, 2), numbers[:, 4:]
        per_pixel = numbers.new_tensor([2 / self.width, 2 / self.height])
        first = per_pixel / 2 - 1  # p of the first pixel
        offset = scale * ((matrix * first).sum(2) + shift + 1) - 0.5
        return torch.cat([scale * matrix * per_pixel, offset[:, :, None]], 2)


# ---------------------------------------------------------------------------------------------------------------------
# Architectures
# ---------------------------------------------------------------------------------------------------------------------


def burgess(image_shape: ImageShape, num_codes: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Convolutions 4x4 of stride 2 with 32 channels down to 4x4 pixels, then two layers of 256; the decoder mirrors it.

    Source:
        Understanding disentangling in β-VAE (Burgess et al., 2018), appendix A.1. https://arxiv.org/abs/1804.03599
    """
    channels, halvings = image_shape[0], _halvings("burgess", image_shape)
    encoder = nn.Sequential(
        Downsample(channels, 32),
        nn.ReLU(),
        *_chain(*[(nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU()) for _ in range(halvings - 1)]),
        nn.Flatten(),
        nn.Linear(512, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, 2 * num_codes),
    )
    decoder = nn.Sequential(
        nn.Linear(num_codes, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, 512),
        nn.ReLU(),
        nn.Unflatten(1, (32, 4, 4)),
        *_chain(*[(Upsample(32, 32), nn.ReLU()) for _ in range(halvings - 1)]),
        Upsample(32, channels),
    )
    return encoder, decoder


def affine(image_shape: ImageShape, num_codes: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Burgess's encoder, and a decoder that draws a picture of half the image's side and places it by an affine map.

    The decoder has two linear layers of 256 as Burgess's. From there his next layers draw the picture, and one linear
    layer makes the map: see `AffinePicture`. So what an image shows is kept apart from where it is.
    This builds planar motion into the decoder: do not compare its scores with those of networks that must learn it.

    Source:
        Encoder and layers: Burgess et al. 2018, as `burgess`. Map: Spatial Transformer Networks (Jaderberg et al.,
        2015). https://arxiv.org/abs/1506.02025
    """
    channels, height, _ = image_shape
    halvings = _halvings("affine", image_shape) - 1
    encoder, _ = burgess(image_shape, num_codes)
    picture = nn.Sequential(
        nn.Linear(256, 512),
        nn.ReLU(),
        nn.Unflatten(1, (32, 4, 4)),
        *_chain(*[(Upsample(32, 32), nn.ReLU()) for _ in range(halvings - 1)]),
        Upsample(32, channels),
    )
    decoder = nn.Sequential(
        nn.Linear(num_codes, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        AffinePicture(picture, 256, height // 2, image_shape),
    )
    return encoder, decoder


def locatello(image_shape: ImageShape, num_codes: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The study's convolutions: kernels 4, 4, 2, 2 of stride 2 with 32, 32, 64, 64 channels. 64x64 pixels only.

    Weights start uniform after Glorot and biases at zero, as in the TensorFlow original.

    Source:
        Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        2019), table 1 of the appendix. https://arxiv.org/abs/1811.12359
    """
    channels = image_shape[0]
    if image_shape[1:] != (64, 64):
        raise ValueError(
            f"model locatello takes images of 64x64 pixels, not {_size(image_shape)}; burgess takes 32, 64, 128"
        )
    encoder = nn.Sequential(
        Downsample(channels, 32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 2, 2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 2, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1024, 256),
        nn.ReLU(),
        nn.Linear(256, 2 * num_codes),
    )
    decoder = nn.Sequential(
        nn.Linear(num_codes, 256),
        nn.ReLU(),
        nn.Linear(256, 1024),
        nn.ReLU(),
        nn.Unflatten(1, (64, 4, 4)),
        Upsample(64, 64),
        nn.ReLU(),
        Upsample(64, 32),
        nn.ReLU(),
        Upsample(32, 32),
        nn.ReLU(),
        Upsample(32, channels),
    )
    for layer in [*encoder, *decoder]:
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return encoder, decoder


def higgins(image_shape: ImageShape, num_codes: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Fully connected: two layers of 1200 with ReLU, and three of 1200 with tanh in the decoder.

    Source:
        beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017),
        table 1 of the appendix (2D shapes). https://openreview.net/forum?id=Sy2fzU9gl
    """
    pixels = math.prod(image_shape)
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(pixels, 1200),
        nn.ReLU(),
        nn.Linear(1200, 1200),
        nn.ReLU(),
        nn.Linear(1200, 2 * num_codes),
    )
    decoder = nn.Sequential(
        nn.Linear(num_codes, 1200),
        nn.Tanh(),
        nn.Linear(1200, 1200),
        nn.Tanh(),
        nn.Linear(1200, 1200),
        nn.Tanh(),
        nn.Linear(1200, pixels),
        nn.Unflatten(1, image_shape),
    )
    return encoder, decoder


def residual(image_shape: ImageShape, num_codes: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Residual blocks of 32, 32, 64, 64 channels, one linear layer each side. 64x64 pixels reach 4x4.

    The blocks of a public β-VAE for dSprites, less its dropout, and with the last layer a plain convolution to pixels
    where it had a residual block on one channel. https://github.com/JohanYe/Beta-VAE
    """
    channels, halvings = image_shape[0], _halvings("residual", image_shape)
    widths = [32] * (halvings - 2) + [64, 64]
    features = (widths[-1], 4, 4)
    encoder = nn.Sequential(
        *[
            residual_block(nn.Conv2d(width_in, width_out, 3, 2, 1), width_out)
            for width_in, width_out in pairwise([channels, *widths])
        ],
        nn.Flatten(),
        nn.Linear(math.prod(features), 2 * num_codes),
    )
    backwards = widths[::-1]
    decoder = nn.Sequential(
        nn.Linear(num_codes, math.prod(features)),
        nn.ReLU(),
        nn.Unflatten(1, features),
        *[
            residual_block(nn.ConvTranspose2d(width_in, width_out, 3, 2, 1, output_padding=1), width_out)
            for width_in, width_out in pairwise(backwards)
        ],
        nn.ConvTranspose2d(widths[0], channels, 3, 2, 1, output_padding=1),
    )
    return encoder, decoder


def wide(image_shape: ImageShape, num_codes: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Convolutions 4x4 of stride 2 with 32, 64, 128, 256 channels and one linear layer each side.

    The network of a public β-VAE written from scratch. https://github.com/GMPilankar/Beta-VAE-from-scratch-
    """
    channels, halvings = image_shape[0], _halvings("wide", image_shape)
    widths = [min(32 * 2**i, 256) for i in range(halvings)]
    features = (widths[-1], 4, 4)
    encoder = nn.Sequential(
        Downsample(channels, 32),
        nn.ReLU(),
        *_chain(*[(nn.Conv2d(i, o, 4, 2, 1), nn.ReLU()) for i, o in pairwise(widths)]),
        nn.Flatten(),
        nn.Linear(math.prod(features), 2 * num_codes),
    )
    backwards = widths[::-1]
    decoder = nn.Sequential(
        nn.Linear(num_codes, math.prod(features)),
        nn.Unflatten(1, features),
        *_chain(*[(Upsample(i, o), nn.ReLU()) for i, o in pairwise(backwards)]),
        Upsample(32, channels),
    )
    return encoder, decoder


ARCHITECTURES: dict[str, Callable[[ImageShape, int], tuple[nn.Sequential, nn.Sequential]]] = {
    "burgess": burgess,
    "affine": affine,
    "locatello": locatello,
    "higgins": higgins,
    "residual": residual,
    "wide": wide,
}


def _chain(*groups: tuple[nn.Module, ...]) -> list[nn.Module]:
    return [layer for group in groups for layer in group]


def _halvings(name: str, image_shape: ImageShape) -> int:
    """How often the sides halve on the way to 4x4 pixels."""
    _, height, width = image_shape
    if height != width or height not in (32, 64, 128):
        raise ValueError(
            f"model {name} takes square images of 32, 64 or 128 pixels, not {_size(image_shape)}; "
            "resize them, or use model higgins, which takes any size"
        )
    return int(math.log2(height)) - 2


def _size(image_shape: ImageShape) -> str:
    return f"{image_shape[2]}x{image_shape[1]}"
