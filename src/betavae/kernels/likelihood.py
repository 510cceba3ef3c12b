"""The Bernoulli likelihood of images with its gradient, in a quarter of PyTorch's time."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from betavae.kernels import build
from betavae.networks import likelihood as plain


def bernoulli_error(
    logits: Float[Tensor, "*batch channel height width"], images: Float[Tensor, "*batch channel height width"]
) -> Float[Tensor, "*batch"]:
    """`networks.likelihood.bernoulli_error`, in C where there is code for the tensors."""
    dtype = build.chosen(logits)
    if dtype and _fits(logits, images):
        errors: Tensor = _Bernoulli.apply(logits, images, dtype)  # type: ignore[no-untyped-call]
        return errors
    return plain.bernoulli_error(logits, images)


def _fits(logits: Tensor, images: Tensor) -> bool:
    alike = build.alike(logits, images) and logits.shape == images.shape
    return alike and logits.dim() == 4 and not images.requires_grad


class _Bernoulli(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, images: Tensor, dtype: torch.dtype) -> Tensor:
        library = build.library(dtype)
        assert library
        errors = logits.new_empty(len(logits))
        derivative = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        sizes = len(logits), logits[:1].numel(), torch.get_num_threads()
        library.bernoulli(*map(build.address, (logits, images)), *sizes, *map(build.address, (errors, derivative)))
        ctx.save_for_backward(logits, images, derivative)
        return errors

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        logits, images, derivative = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient will be differentiated
            derivative = logits.sigmoid() - images
        return derivative * gradient[:, None, None, None], None, None
