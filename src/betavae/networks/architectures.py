"""Encoders and decoders by name.

Each function maps `(image_shape, latent_dim)` to an encoder and a decoder; `registry` has their names. The encoder
turns images (B, C, H, W) into (B, 2 * latent_dim): the posterior's means, then its log variances. The decoder turns
latents (B, latent_dim) into pixel logits (B, C, H, W).

Under autocast to bf16 an encoder's last layer stays in float32, and so does a decoder's first layer, if there are at
most 64 latents: both are `Float32Linear`. An architecture of your own decides that for itself: its `nn.Linear` layers
follow autocast.
"""

import math
from collections import OrderedDict
from itertools import pairwise

from torch import nn

from betavae.networks.layers import AffinePicture, Downsample, Float32Linear, ImageShape, Residual, Upsample


def residual_block(resample: nn.Module, channels: int) -> nn.Sequential:
    """A resampling 3x3 convolution, then x + BatchNorm(ReLU(conv(x)))."""
    residual = Residual(nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU(), nn.BatchNorm2d(channels))
    return nn.Sequential(OrderedDict(resample=resample, residual=residual))


def burgess(image_shape: ImageShape, latent_dim: int) -> tuple[nn.Sequential, nn.Sequential]:
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
        Float32Linear(256, 2 * latent_dim),
    )
    decoder = nn.Sequential(
        _from_latents(latent_dim, 256),
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


def affine(image_shape: ImageShape, latent_dim: int) -> tuple[nn.Sequential, nn.Sequential]:
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
    encoder, _ = burgess(image_shape, latent_dim)
    picture = nn.Sequential(
        nn.Linear(256, 512),
        nn.ReLU(),
        nn.Unflatten(1, (32, 4, 4)),
        *_chain(*[(Upsample(32, 32), nn.ReLU()) for _ in range(halvings - 1)]),
        Upsample(32, channels),
    )
    decoder = nn.Sequential(
        _from_latents(latent_dim, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        AffinePicture(picture, 256, height // 2, image_shape),
    )
    return encoder, decoder


def locatello(image_shape: ImageShape, latent_dim: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The study's convolutions: kernels 4, 4, 2, 2 of stride 2 with 32, 32, 64, 64 channels. 64x64 pixels only.

    Weights start uniform after Glorot and biases at zero, as in the TensorFlow original.

    Source:
        Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        2019), table 1 of the appendix. https://arxiv.org/abs/1811.12359
    """
    channels = image_shape[0]
    if image_shape[1:] != (64, 64):
        raise ValueError(
            f"model locatello takes images of 64x64 pixels, not {_size(image_shape)}; resize them with --image-size 64"
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
        Float32Linear(256, 2 * latent_dim),
    )
    decoder = nn.Sequential(
        _from_latents(latent_dim, 256),
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


def higgins(image_shape: ImageShape, latent_dim: int) -> tuple[nn.Sequential, nn.Sequential]:
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
        Float32Linear(1200, 2 * latent_dim),
    )
    decoder = nn.Sequential(
        _from_latents(latent_dim, 1200),
        nn.Tanh(),
        nn.Linear(1200, 1200),
        nn.Tanh(),
        nn.Linear(1200, 1200),
        nn.Tanh(),
        nn.Linear(1200, pixels),
        nn.Unflatten(1, image_shape),
    )
    return encoder, decoder


def residual(image_shape: ImageShape, latent_dim: int) -> tuple[nn.Sequential, nn.Sequential]:
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
        Float32Linear(math.prod(features), 2 * latent_dim),
    )
    backwards = widths[::-1]
    decoder = nn.Sequential(
        _from_latents(latent_dim, math.prod(features)),
        nn.ReLU(),
        nn.Unflatten(1, features),
        *[
            residual_block(nn.ConvTranspose2d(width_in, width_out, 3, 2, 1, output_padding=1), width_out)
            for width_in, width_out in pairwise(backwards)
        ],
        nn.ConvTranspose2d(widths[0], channels, 3, 2, 1, output_padding=1),
    )
    return encoder, decoder


def wide(image_shape: ImageShape, latent_dim: int) -> tuple[nn.Sequential, nn.Sequential]:
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
        Float32Linear(math.prod(features), 2 * latent_dim),
    )
    backwards = widths[::-1]
    decoder = nn.Sequential(
        _from_latents(latent_dim, math.prod(features)),
        nn.Unflatten(1, features),
        *_chain(*[(Upsample(i, o), nn.ReLU()) for i, o in pairwise(backwards)]),
        Upsample(32, channels),
    )
    return encoder, decoder


def _from_latents(latent_dim: int, width: int) -> nn.Linear:
    """The first layer of a decoder; in float32 where the latents are too few for bf16 to save time."""
    return (Float32Linear if latent_dim <= 64 else nn.Linear)(latent_dim, width)


def _chain(*groups: tuple[nn.Module, ...]) -> list[nn.Module]:
    return [layer for group in groups for layer in group]


def _halvings(name: str, image_shape: ImageShape) -> int:
    """How often the sides halve on the way to 4x4 pixels."""
    _, height, width = image_shape
    if height != width or height not in (32, 64, 128):
        raise ValueError(
            f"model {name} takes square images of 32, 64 or 128 pixels, not {_size(image_shape)}; "
            f"resize them with --image-size {32 if height < 48 else 64}, or use model higgins, which takes any size"
        )
    return int(math.log2(height)) - 2


def _size(image_shape: ImageShape) -> str:
    return f"{image_shape[2]}x{image_shape[1]}"
