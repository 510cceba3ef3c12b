"""Images that affine maps make of small pictures, in plain PyTorch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Sample = Callable[[Tensor, Tensor], Tensor]
"""Values of pictures (B, C, h, w) at points (B, H, W, 2) of (column, row): (B, C, H, W)."""


def place_pictures(
    pictures: Float[Tensor, "batch channel picture_height picture_width"],
    maps: Float[Tensor, "batch 2 3"],
    background: Float[Tensor, " channel"],
    height: int,
    width: int,
) -> Float[Tensor, "batch channel {height} {width}"]:
    """Sample each picture at the points to which its map takes an image's pixels, and add a background.

    The pixel in a row and a column has the value b + P(m (column, row, 1)), where P is the picture, interpolated
    linearly between its pixels and 0 outside. The map gives the column of the picture, then the row, counted from 0.

    Gradients are deterministic on every device. `torch.nn.functional.grid_sample` sums gradients in random order on a
    GPU; there the interpolation weights are written out as matrices instead.

    Source:
        Spatial Transformer Networks (Jaderberg et al., 2015), equations 1 and 5. https://arxiv.org/abs/1506.02025

    Args:
        pictures: values of any range.
        maps: 2x3 matrices, in pixels.
        background: b of each channel.
        height: of the images, in pixels.
        width: of the images, in pixels.

    Returns:
        Images in channels-last layout.

    Example:
        >>> shift = torch.tensor([[[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]])
        >>> place_pictures(torch.ones(1, 1, 1, 2), shift, torch.zeros(1), 1, 4)
        tensor([[[[0., 1., 1., 0.]]]])
    """
    sample = sample_by_grid if pictures.is_cpu else sample_by_matrices
    with torch.autocast(pictures.device.type, enabled=False):
        return place_with(sample, pictures, maps, background, height, width)


def place_with(
    sample: Sample, pictures: Tensor, maps: Tensor, background: Tensor, height: int, width: int
) -> Float[Tensor, "batch channel {height} {width}"]:
    """`place_pictures` with one of the two functions below."""
    rows, columns = (torch.arange(size, device=maps.device, dtype=maps.dtype) for size in (height, width))
    from_columns = columns[:, None] * maps[:, None, :, 0]  # (B, W, 2)
    from_rows = rows[:, None] * maps[:, None, :, 1] + maps[:, None, :, 2]  # (B, H, 2)
    points = from_columns[:, None] + from_rows[:, :, None]  # (B, H, W, 2)
    images = sample(pictures, points) + background[:, None, None]
    return images.contiguous(memory_format=torch.channels_last)


def sample_by_grid(pictures: Tensor, points: Tensor) -> Tensor:
    """Sample by PyTorch's own function: fastest on a CPU."""
    sides = torch.tensor([pictures.shape[3], pictures.shape[2]], dtype=points.dtype)
    return F.grid_sample(pictures, (2 * points + 1) / sides - 1, align_corners=False)


def sample_by_matrices(pictures: Tensor, points: Tensor) -> Tensor:
    """Sample by products with interpolation weights: deterministic on a GPU, and twice differentiable."""
    across, down = (
        (1 - (points[..., i, None] - torch.arange(size, device=points.device)).abs()).clamp(min=0).flatten(1, 2)
        for i, size in enumerate((pictures.shape[3], pictures.shape[2]))
    )  # weights of columns and rows, (B, H W, size)
    values = ((down[:, None] @ pictures) * across[:, None]).sum(-1)
    return values.view(*pictures.shape[:2], *points.shape[1:3])
