"""Images that affine maps make of small pictures, in C."""

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from betavae.kernels import build
from betavae.kernels.structs import PictureSizes
from betavae.networks import affine as plain


def place_pictures(
    pictures: Float[Tensor, "batch channel picture_height picture_width"],
    maps: Float[Tensor, "batch 2 3"],
    background: Float[Tensor, " channel"],
    height: int,
    width: int,
) -> Float[Tensor, "batch channel {height} {width}"]:
    """`networks.affine.place_pictures`, in C where there is code for the tensors."""
    dtype = build.chosen(pictures) if build.chosen(maps) else None
    if not dtype or not _fits(pictures, maps, background):
        return plain.place_pictures(pictures, maps, background, height, width)
    with torch.autocast(pictures.device.type, enabled=False):
        placed: Tensor = _Placed.apply(pictures, maps, background, height, width, dtype)  # type: ignore[no-untyped-call]
        return placed


def _fits(*tensors: Tensor) -> bool:
    return all(tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors)


class _Placed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pictures: Tensor, maps: Tensor, background: Tensor, height: int, width: int, dtype: torch.dtype
    ) -> Tensor:
        given = pictures.contiguous(memory_format=torch.channels_last), maps.contiguous(), background.contiguous()
        images = torch.empty((len(pictures), len(background), height, width), memory_format=torch.channels_last)
        ctx.dtype, ctx.sizes = dtype, PictureSizes(*given[0].shape[1:], height, width)
        ctx.save_for_backward(*given)
        _call("place_pictures", ctx, *given, images)
        return images

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pictures, maps, background = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradients will be differentiated
            sizes = ctx.sizes.height, ctx.sizes.width
            images = plain.place_with(plain.sample_by_matrices, pictures, maps, background, *sizes)
            return build.derived(images, gradient, ctx, [pictures, maps, background, None, None, None])
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        found = torch.empty_like(pictures), torch.empty_like(maps), background.new_empty(len(maps), len(background))
        _call("place_pictures_backward", ctx, pictures, maps, gradient, *found)
        return found[0], found[1], found[2].sum(0), None, None, None


def _call(name: str, ctx: Any, pictures: Tensor, *rest: Tensor) -> None:
    library = build.library(ctx.dtype)
    assert library
    counts = len(pictures), torch.get_num_threads()
    if getattr(library, name)(ctypes.byref(ctx.sizes), *counts, *map(build.address, (pictures, *rest))):
        raise MemoryError("no memory left to place pictures")
