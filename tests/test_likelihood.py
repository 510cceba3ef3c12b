"""The Bernoulli likelihood in C against its equation in float64, and against PyTorch's where that runs."""

import pytest
import torch
from torch.autograd import gradcheck

from betavae import native
from betavae.likelihood import bernoulli_error

needs_tiles = pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("amx_bf16"), reason="this CPU has no AMX: betavae runs PyTorch's likelihood"
)


def _exact(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    exact = logits.double()
    return (torch.log1p(torch.exp(-exact.abs())) + exact.clamp(min=0) - exact * images).sum((1, 2, 3))


@needs_tiles
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 1, 5, 7), (64, 1, 64, 64), (5, 3, 32, 32)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_values_and_gradients(shape, scale, layout, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "binary_cross_entropy_with_logits", None)  # not to be called
    torch.manual_seed(0)
    logits = (scale * torch.randn(shape)).contiguous(memory_format=layout).requires_grad_()
    images = torch.rand(shape).round(decimals=1).contiguous(memory_format=layout)
    weights = torch.rand(shape[0])
    with torch.autocast("cpu", torch.bfloat16):
        errors = bernoulli_error(logits, images)
    (errors * weights).sum().backward()
    torch.testing.assert_close(errors.double(), _exact(logits, images), rtol=2e-6, atol=1e-6)
    expected = (torch.sigmoid(logits.double()) - images) * weights[:, None, None, None]
    torch.testing.assert_close(logits.grad.double(), expected, rtol=1e-6, atol=1e-7)


@needs_tiles
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_does_not_vanish(value):
    logits, images = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    logits[1, 0, 2, 3] = value
    with torch.autocast("cpu", torch.bfloat16):
        errors = bernoulli_error(logits, images)
    assert torch.isfinite(errors).tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_forms_are_pytorchs(dtype):
    logits = torch.randn(2, 3, 1, 4, 4, dtype=dtype, requires_grad=True)
    images = torch.rand(2, 3, 1, 4, 4, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        errors = bernoulli_error(logits, images)
    assert errors.shape == (2, 3)
    torch.testing.assert_close(
        errors.double(), torch.stack([_exact(*pair) for pair in zip(logits, images, strict=True)])
    )
    assert gradcheck(bernoulli_error, (logits[:, 0].double(), images[:, 0].double()))


def test_without_autocast_nothing_is_compiled():
    assert not native.chosen(torch.zeros(1))
