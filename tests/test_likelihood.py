"""The Bernoulli likelihood in C against its equation in float64, and against PyTorch's where that runs."""

import pytest
import torch

from betavae.kernels.likelihood import bernoulli_error
from tests.conftest import each_type, multiplying, using


def _exact(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    exact = logits.double()
    return (torch.log1p(torch.exp(-exact.abs())) + exact.clamp(min=0) - exact * images).sum((1, 2, 3))


@each_type
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 1, 5, 7), (64, 1, 64, 64), (5, 3, 32, 32)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_values_and_gradients(shape, scale, layout, threads, dtype, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "binary_cross_entropy_with_logits", None)  # not to be called
    torch.manual_seed(0)
    logits = (scale * torch.randn(shape)).contiguous(memory_format=layout).requires_grad_()
    images = torch.rand(shape).round(decimals=1).contiguous(memory_format=layout)
    weights = torch.rand(shape[0])
    with multiplying(dtype), using(threads):
        errors = bernoulli_error(logits, images)
    (errors * weights).sum().backward()
    torch.testing.assert_close(errors.double(), _exact(logits, images), rtol=2e-6, atol=1e-6)
    expected = (torch.sigmoid(logits.double()) - images) * weights[:, None, None, None]
    torch.testing.assert_close(logits.grad.double(), expected, rtol=1e-6, atol=1e-7)


@each_type
@pytest.mark.parametrize("scale", [1.0, 10.0, 20.0])
def test_small_errors_of_pixels_that_are_right(scale, dtype):
    logits = scale * torch.tensor([-1.2, -1.0, 1.0, 1.2]).expand(2, 1, 4, 4).contiguous()
    images = (logits > 0).float()
    with multiplying(dtype):
        errors = bernoulli_error(logits, images)
    torch.testing.assert_close(errors.double(), _exact(logits, images), rtol=2e-6, atol=0)


@each_type
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_does_not_vanish(value, dtype):
    logits, images = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    logits[1, 0, 2, 3] = value
    with multiplying(dtype):
        errors = bernoulli_error(logits, images)
    assert torch.isfinite(errors).tolist() == [True, False]


@pytest.mark.parametrize(
    ("logits", "images"),
    [
        (torch.randn(2, 3, 1, 4, 4), torch.rand(2, 3, 1, 4, 4)),
        (torch.randn(2, 1, 4, 4).double(), torch.rand(2, 1, 4, 4).double()),
        (torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last), torch.rand(2, 3, 4, 4)),
        (torch.randn(2, 1, 8, 4)[:, :, ::2], torch.rand(2, 1, 4, 4)),
        (torch.randn(2, 1, 4, 4), torch.rand(2, 1, 4, 4).requires_grad_()),
        (torch.randn(0, 1, 4, 4), torch.rand(0, 1, 4, 4)),
    ],
    ids=["of more dimensions", "float64", "layouts that differ", "strides", "targets with a gradient", "none"],
)
def test_other_forms_have_the_same_values(logits, images):
    with torch.autocast("cpu", torch.bfloat16):
        errors = bernoulli_error(logits, images)
    softplus = torch.log1p(torch.exp(-logits.abs())) + logits.clamp(min=0)
    torch.testing.assert_close(errors, (softplus - logits * images).sum((-3, -2, -1)))


def test_gradients_of_gradients():
    logits, images = torch.randn(2, 1, 4, 4, requires_grad=True), torch.rand(2, 1, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        (gradient,) = torch.autograd.grad(bernoulli_error(logits, images).sum(), logits, create_graph=True)
    gradient.square().sum().backward()
    sigmoid = torch.sigmoid(logits.detach())
    torch.testing.assert_close(logits.grad, 2 * (sigmoid - images) * sigmoid * (1 - sigmoid))
