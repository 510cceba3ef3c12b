"""Images that affine maps make of small pictures: in C where `native` has a library, else by PyTorch."""

import ctypes
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from betavae.kernels import build


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

    The gradients are the same each time on every device. That of `torch.nn.functional.grid_sample` is a sum in random
    order on a GPU, so there the weights of all pixels of a picture are written out and multiplied.

    Source:
        Spatial Transformer Networks (Jaderberg et al., 2015), equations 1 and 5. https://arxiv.org/abs/1506.02025

    Args:
        pictures: values of any range.
        maps: 2x3 matrices, in pixels.
        background: b of each channel.
        height: of the images, in pixels.
        width: likewise.

    Returns:
        Images in channels-last layout.

    Example:
        >>> shift = torch.tensor([[[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]])
        >>> place_pictures(torch.ones(1, 1, 1, 2), shift, torch.zeros(1), 1, 4)
        tensor([[[[0., 1., 1., 0.]]]])
    """
    dtype = build.chosen(pictures) if build.chosen(maps) else None
    with torch.autocast(pictures.device.type, enabled=False):
        if dtype and _fits(pictures, maps, background):
            placed: Tensor = _Placed.apply(pictures, maps, background, height, width, dtype)  # type: ignore[no-untyped-call]
            return placed
        sample = _by_grid_sample if pictures.is_cpu else _by_matrices
        return _plain(pictures, maps, background, height, width, sample)


def _fits(*tensors: Tensor) -> bool:
    return all(tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors)


def _plain(
    pictures: Tensor,
    maps: Tensor,
    background: Tensor,
    height: int,
    width: int,
    sample: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    rows, columns = (torch.arange(size, device=maps.device, dtype=maps.dtype) for size in (height, width))
    from_columns = columns[:, None] * maps[:, None, :, 0]  # (B, W, 2)
    from_rows = rows[:, None] * maps[:, None, :, 1] + maps[:, None, :, 2]  # (B, H, 2)
    points = from_columns[:, None] + from_rows[:, :, None]  # (B, H, W, 2)
    images = sample(pictures, points) + background[:, None, None]
    return images.contiguous(memory_format=torch.channels_last)


def _by_grid_sample(pictures: Tensor, points: Tensor) -> Tensor:
    sides = torch.tensor([pictures.shape[3], pictures.shape[2]], dtype=points.dtype)
    return F.grid_sample(pictures, (2 * points + 1) / sides - 1, align_corners=False)


def _by_matrices(pictures: Tensor, points: Tensor) -> Tensor:
    across, down = (
        (1 - (points[..., i, None] - torch.arange(size, device=points.device)).abs()).clamp(min=0).flatten(1, 2)
        for i, size in enumerate((pictures.shape[3], pictures.shape[2]))
    )  # weights of columns and rows, (B, H W, size)
    values = ((down[:, None] @ pictures) * across[:, None]).sum(-1)
    return values.view(*pictures.shape[:2], *points.shape[1:3])


class _Sizes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("channels", "high", "wide", "height", "width")]


class _Placed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pictures: Tensor, maps: Tensor, background: Tensor, height: int, width: int, dtype: torch.dtype
    ) -> Tensor:
        given = pictures.contiguous(memory_format=torch.channels_last), maps.contiguous(), background.contiguous()
        images = torch.empty((len(pictures), len(background), height, width), memory_format=torch.channels_last)
        ctx.dtype, ctx.sizes = dtype, _Sizes(*given[0].shape[1:], height, width)
        ctx.save_for_backward(*given)
        _call("place_pictures", ctx, *given, images)
        return images

    @staticmethod
    def backward(ctx: Any, towards: Tensor) -> tuple[Tensor | None, ...]:
        pictures, maps, background = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradients will be differentiated
            images = _plain(pictures, maps, background, ctx.sizes.height, ctx.sizes.width, _by_matrices)
            return build.derived(images, towards, ctx, [pictures, maps, background, None, None, None])
        towards = towards.contiguous(memory_format=torch.channels_last)
        gradients = torch.empty_like(pictures), torch.empty_like(maps), background.new_empty(len(maps), len(background))
        _call("place_pictures_backward", ctx, pictures, maps, towards, *gradients)
        return gradients[0], gradients[1], gradients[2].sum(0), None, None, None


def _call(name: str, ctx: Any, pictures: Tensor, *rest: Tensor) -> None:
    library = build.library(ctx.dtype)
    assert library
    counts = len(pictures), torch.get_num_threads()
    if getattr(library, name)(ctypes.byref(ctx.sizes), *counts, *map(build.address, (pictures, *rest))):
        raise MemoryError("no memory left to place pictures")
