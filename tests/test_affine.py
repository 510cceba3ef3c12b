"""Pictures placed by affine maps: the equation in numpy, and the same values and gradients from all three forms."""

import numpy as np
import pytest
import torch

from betavae.kernels import build
from betavae.kernels.affine import place_pictures
from betavae.networks import affine
from tests.conftest import each_type, multiplying, using

FORMS = ("C", "grid_sample", "matrices")


@pytest.fixture
def form(monkeypatch):
    """Has one of the three forms compute, and no other."""

    def choose(name):
        if name != "C":
            monkeypatch.setattr(build, "chosen", lambda tensor: None)
        sample = {"grid_sample": affine.sample_by_grid, "matrices": affine.sample_by_matrices}.get(name)
        monkeypatch.setattr(affine, "sample_by_grid", sample)
        if name == "C":
            monkeypatch.setattr(affine, "place_with", None)

    return choose


def given(images, channels, high, wide, spread=1.0, seed=0):
    """Pictures, maps from an image of 12 x 16 pixels that show about half of them, a background."""
    rng = np.random.default_rng(seed)
    maps = np.zeros((images, 2, 3))
    maps[:, :, :2] = np.diag([wide / 8, high / 8]) + rng.normal(0, 0.3 * spread, (images, 2, 2))
    maps[:, :, 2] = -np.array([wide / 2, high / 2]) + rng.normal(0, spread, (images, 2))
    pictures, background = rng.normal(size=(images, channels, high, wide)), rng.normal(size=channels)
    return [torch.tensor(array, dtype=torch.float32, requires_grad=True) for array in (pictures, maps, background)]


def exact(pictures, maps, background, height, width):
    """The equation, pixel by pixel, in float64."""
    pictures, maps, background = (tensor.detach().double().numpy() for tensor in (pictures, maps, background))
    count, channels, high, wide = pictures.shape
    images = np.empty((count, channels, height, width))
    for n, c, row, column in np.ndindex(images.shape):
        across, down = maps[n] @ [column, row, 1]
        tents = np.maximum(0, 1 - abs(down - np.arange(high)))[:, None] * np.maximum(
            0, 1 - abs(across - np.arange(wide))
        )
        images[n, c, row, column] = background[c] + (tents * pictures[n, c]).sum()
    return images


@each_type
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    ("channels", "high", "wide", "spread"), [(1, 8, 8, 1), (3, 5, 9, 1), (2, 1, 1, 1), (1, 8, 8, 9)]
)
def test_images_are_those_of_the_equation(form, name, channels, high, wide, spread, dtype):
    form(name)
    arguments = given(5, channels, high, wide, spread)
    with multiplying(dtype), using(3):
        images = place_pictures(*arguments, 12, 16)
    assert images.dtype == torch.float32
    np.testing.assert_allclose(images.detach().numpy(), exact(*arguments, 12, 16), atol=2e-4)


@each_type
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_are_those_in_float64(form, name, channels, dtype, monkeypatch):
    arguments, weights = given(4, channels, 6, 7), torch.randn(4, channels, 12, 16)
    double = [tensor.detach().double().requires_grad_() for tensor in arguments]
    expected = affine.place_with(affine.sample_by_matrices, *double, 12, 16)
    expected = torch.autograd.grad((expected**2 * weights).sum(), double)
    form(name)
    with multiplying(dtype), using(2):
        images = place_pictures(*arguments, 12, 16)
    for ours, theirs in zip(torch.autograd.grad((images**2 * weights).sum(), arguments), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@each_type
def test_gradients_have_gradients(dtype):
    arguments = given(2, 1, 6, 7)
    found = []
    for place in (place_pictures, lambda *given: affine.place_with(affine.sample_by_matrices, *given)):
        with multiplying(dtype):
            images = place(*arguments, 12, 16)
        slopes = torch.autograd.grad(images.square().sum(), arguments[1], create_graph=True)[0]
        found.append(torch.autograd.grad(slopes.square().sum(), arguments))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


@each_type
def test_what_is_not_finite_does_not_vanish(dtype):
    pictures, maps, background = given(3, 1, 6, 6)
    with torch.no_grad():
        maps[1, 0, 2], maps[2, 1, 0] = float("nan"), float("inf")
        with multiplying(dtype):
            images = place_pictures(pictures, maps, background, 12, 16)
    assert torch.isfinite(images).all((1, 2, 3)).tolist() == [True, False, False]


@each_type
def test_a_map_that_does_not_move_along_a_row_or_a_column(dtype):
    pictures, _, background = given(1, 1, 4, 4)
    for row in ([0.0, 0.0, 1.5], [0.0, 0.0, -3.0], [1e-8, 0.0, 1.5], [0.0, 1.0, 0.0]):
        maps = torch.tensor([[row, [0.25, 0.0, 0.0]]])
        with multiplying(dtype):
            images = place_pictures(pictures, maps, background, 12, 16)
        np.testing.assert_allclose(images.detach().numpy(), exact(pictures, maps, background, 12, 16), atol=1e-5)
