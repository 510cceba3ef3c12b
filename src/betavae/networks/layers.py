"""Layers in plain PyTorch that the architectures are made of."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from betavae.networks.affine import place_pictures

ImageShape = tuple[int, int, int]


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32, also under autocast.

    Use it for the last layer of an encoder. With the 8 bits of bf16, posterior means near 2 would be 1/64 apart. A
    layer that takes few numbers, such as latents, saves no time in bf16. An `nn.Linear` follows autocast.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Results in float32, of features of any type."""
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.float())


class Downsample(nn.Conv2d):
    """A 4x4 convolution of stride 2 and padding 1, computed as a 2x2 convolution over 2x2 blocks of pixels.

    The weights and the result are those of `nn.Conv2d(channels_in, channels_out, 4, 2, 1)`. With one to three input
    channels the plain form leaves a CPU's matrix units idle; blocks give four times the channels.
    """

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
    """Layers whose output is added to their input: x + f(x)."""

    def forward(self, features: Tensor) -> Tensor:
        return features + super().forward(features)  # type: ignore[no-untyped-call, no-any-return]


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
        self.map = Float32Linear(num_features, 6)
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
        maps = self.pixel_maps(self.map(features))
        pictures = self.picture(features).float() + self.blob
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
