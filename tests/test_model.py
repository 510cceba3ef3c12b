"""Networks: shapes, sizes that an architecture cannot take, and fast layers equal to the plain ones."""

import inspect
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from betavae.model import VAE, Posterior
from betavae.networks.layers import AffinePicture, Downsample, Upsample
from betavae.networks.registry import ARCHITECTURES, Architecture


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_every_architecture_at_every_size(name, channels, size):
    if name == "locatello" and size != 64:
        with pytest.raises(ValueError, match=f"takes images of 64x64 pixels, not {size}x{size}"):
            VAE(name, (channels, size, size), 3)
        return
    model = VAE(name, (channels, size, size), 3)
    images = torch.rand(2, channels, size, size)
    posterior = model.encode(images)
    assert posterior.mean.shape == posterior.log_var.shape == (2, 3)
    assert model.logits(posterior.mean).shape == images.shape
    means = model.decode(posterior.mean)
    assert 0 <= means.min() <= means.max() <= 1


@pytest.mark.parametrize("name", ["burgess", "affine", "residual", "wide"])
def test_other_sizes_are_refused(name):
    with pytest.raises(ValueError, match=f"model {name} takes square images of 32, 64 or 128 pixels, not 48x64"):
        VAE(name, (1, 64, 48), 3)


@pytest.mark.parametrize(
    ("call", "given", "error", "message"),
    [
        ("encode", np.zeros((2, 1, 28, 28), np.float32), ValueError, r"shape \(2, 1, 28, 28\); it must be \(N, 1, 64"),
        ("encode", torch.zeros(2, 28, 28), ValueError, r"shape \(2, 28, 28\); it must be \(N, 1, 64, 64\) or"),
        ("encode", torch.zeros(2, 1, 64, 64, dtype=torch.int64), TypeError, "images are int64; they must be floats in"),
        ("encode", np.full((64, 64), 255.0), ValueError, "floats must be in"),
        ("encode", "image.png", TypeError, "images must be an array of numbers, got str"),
        ("decode", np.zeros((2, 3)), ValueError, r"latents of shape \(2, 3\): it does not fit; give .* \(N, 10\)"),
        ("decode", np.full(10, np.nan), ValueError, "has numbers that are not finite"),
        ("logits", np.zeros((2, 10)), TypeError, "latents are ndarray; they must be a tensor of floating"),
        ("logits", torch.zeros(10), ValueError, r"latents have the shape \(10,\); it must be \(batch, 10\)"),
        ("logits", torch.zeros(2, 10, dtype=torch.int64), TypeError, "latents are torch.int64; they must be a tensor"),
        ("sample", 0, ValueError, "count is 0; it must be at least 1"),
        ("traverse", np.zeros((2, 64, 64)), ValueError, "got 2 images, 9 steps"),
    ],
)
def test_what_a_model_cannot_take_is_said_in_a_sentence(call, given, error, message):
    model = VAE("burgess", (1, 64, 64), 10)
    method = inspect.unwrap(getattr(VAE, call))  # tests check shapes before it, users do not
    with pytest.raises(error, match=message):
        method(model, given)


def test_an_architecture_that_raises_is_named(monkeypatch):
    monkeypatch.setitem(
        ARCHITECTURES._entries,
        "mine",
        Architecture("mine", lambda image_shape, latent_dim: undefined_name),  # noqa: F821
    )
    with pytest.raises(
        ValueError, match=r"model mine cannot be made \(NameError: name 'undefined_name' is not defined"
    ):
        VAE("mine", (1, 64, 64), 3)


def test_unknown_architecture():
    with pytest.raises(ValueError, match="unknown model 'wyde'; did you mean 'wide'"):
        VAE("wyde", (1, 64, 64), 3)


@pytest.mark.parametrize("latents", [1, 64])
def test_any_number_of_latents(latents):
    assert VAE("burgess", (1, 64, 64), latents).encode(torch.rand(2, 1, 64, 64)).mean.shape == (2, latents)


def test_burgess_has_the_layers_of_the_paper():
    model = VAE("burgess", (1, 64, 64), 10)
    kernels = [layer.weight.shape for layer in model.encoder if isinstance(layer, nn.Conv2d)]
    assert kernels == [(32, 1, 4, 4), (32, 32, 4, 4), (32, 32, 4, 4), (32, 32, 4, 4)]
    widths = [layer.out_features for layer in model.encoder if isinstance(layer, nn.Linear)]
    assert widths == [256, 256, 20]


def test_locatello_has_its_small_kernels():
    kernels = [layer.kernel_size for layer in VAE("locatello", (1, 64, 64), 10).encoder if isinstance(layer, nn.Conv2d)]
    assert kernels == [(4, 4), (4, 4), (2, 2), (2, 2)]


def test_a_placed_picture_is_that_of_the_equation():
    """b + P(A p + t) with linear interpolation between the centres of pixels, pixel by pixel."""
    torch.manual_seed(0)
    layer = AffinePicture(nn.Sequential(nn.Linear(5, 3 * 8 * 8), nn.Unflatten(1, (3, 8, 8))), 5, 8, (3, 16, 12))
    nn.init.normal_(layer.background)
    features = torch.randn(2, 5)
    with torch.no_grad():
        images, numbers = layer(features).numpy(), layer.map(features).numpy()
        pictures = (layer.picture(features) + layer.blob).numpy()
    expected = np.empty_like(images)
    for n, c, row, column in np.ndindex(expected.shape):
        point = np.array([(2 * column + 1) / 12 - 1, (2 * row + 1) / 16 - 1])
        u, v = (2 * np.eye(2) + numbers[n, :4].reshape(2, 2)) @ point + numbers[n, 4:]
        across, down = ((u + 1) * 8 - 1) / 2, ((v + 1) * 8 - 1) / 2
        tents = np.maximum(0, 1 - abs(down - np.arange(8)))[:, None] * np.maximum(0, 1 - abs(across - np.arange(8)))
        expected[n, c, row, column] = layer.background[c].item() + (tents * pictures[n, c]).sum()
    np.testing.assert_allclose(images, expected, atol=1e-5)


def test_an_untrained_affine_decoder_shows_a_blob_in_the_middle_that_its_map_can_move():
    torch.manual_seed(0)
    model, latents = VAE("affine", (1, 64, 64), 10), torch.randn(8, 10)
    images = model.decode(latents)
    assert (images[:, 0, 32, 32] > 0.5).all()
    assert (images[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]] < 0.05).all()
    model.bernoulli_error(latents, torch.roll(images.detach(), 5, 3)).sum().backward()
    assert model.decoder[-1].map.weight.grad.abs().max() > 1


def test_an_affine_decoder_of_means_starts_with_a_blob_too():
    torch.manual_seed(0)
    means = VAE("affine", (3, 32, 32), 10, "gaussian").logits(torch.randn(8, 10))
    assert means[:, :, 16, 16].min() > 0.6
    assert means[:, :, 0, 0].abs().max() < 0.1


def test_an_affine_decoder_runs_on_other_devices(monkeypatch):
    """On a device that has no values."""
    monkeypatch.setattr(torch, "autocast", lambda *given, **more: nullcontext())  # not known for such a device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)
    model = VAE("affine", (3, 64, 64), 10).to("meta")
    assert model.logits(torch.randn(4, 10, device="meta")).shape == (4, 3, 64, 64)


@pytest.mark.parametrize(
    ("fast", "plain", "channels"),
    [
        (Downsample, nn.Conv2d, (1, 32)),
        (Downsample, nn.Conv2d, (3, 5)),
        (Upsample, nn.ConvTranspose2d, (32, 1)),
        (Upsample, nn.ConvTranspose2d, (5, 3)),
    ],
)
def test_fast_layers_are_the_plain_ones(fast, plain, channels):
    ours, theirs = fast(*channels).double(), plain(*channels, 4, 2, 1).double()
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(2, channels[0], 16, 16, dtype=torch.float64)
    results = []
    for layer in (ours, theirs):
        given = images.clone().requires_grad_()
        output = layer(given)
        (output**3).sum().backward()
        results.append([output, given.grad, layer.weight.grad, layer.bias.grad])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_fast_layers_run_in_bf16():
    layer = Upsample(8, 4)
    plain = nn.ConvTranspose2d(8, 4, 4, 2, 1)
    plain.load_state_dict(layer.state_dict())
    images = torch.rand(2, 8, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(images)
        torch.testing.assert_close(output, plain(images), rtol=2e-2, atol=2e-2)
    output.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_posterior_sample():
    posterior = Posterior(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 2.0]]).log())
    sample = posterior.sample(torch.tensor([[3.0, 1.0]]))
    torch.testing.assert_close(sample, torch.tensor([[1.0, 2.0 + 2**0.5]]))
