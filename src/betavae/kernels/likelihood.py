"""The Bernoulli likelihood of images, where `native` has a library in a quarter of the time."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from betavae.kernels import build


def bernoulli_error(
    logits: Float[Tensor, "*batch channel height width"], images: Float[Tensor, "*batch channel height width"]
) -> Float[Tensor, "*batch"]:
    """-Σ x log σ(l) + (1 - x) log(1 - σ(l)) over the pixels of each image, in nats; see `reconstruction_error`."""
    dtype = build.chosen(logits)
    if dtype and _fits(logits, images):
        errors: Tensor = _Bernoulli.apply(logits, images, dtype)  # type: ignore[no-untyped-call]
        return errors
    return F.binary_cross_entropy_with_logits(logits, images, reduction="none").sum((-3, -2, -1))


def _fits(logits: Tensor, images: Tensor) -> bool:
    alike = build.alike(logits, images) and logits.shape == images.shape
    return alike and logits.dim() == 4 and not images.requires_grad


class _Bernoulli(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, images: Tensor, dtype: torch.dtype) -> Tensor:
        library = build.library(dtype)
        assert library
        errors = logits.new_empty(len(logits))
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        sizes = len(logits), logits[:1].numel(), torch.get_num_threads()
        library.bernoulli(*map(build.address, (logits, images)), *sizes, *map(build.address, (errors, gradient)))
        ctx.save_for_backward(logits, images, gradient)
        return errors

    @staticmethod
    def backward(ctx: Any, towards: Tensor) -> tuple[Tensor, None, None]:
        logits, images, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient will be differentiated
            gradient = logits.sigmoid() - images
        return gradient * towards[:, None, None, None], None, None
