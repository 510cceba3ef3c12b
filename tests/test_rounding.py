"""Weights rounded all at once: the very numbers of autocast, in fewer operations."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from betavae.kernels import build, fusion
from betavae.kernels.rounding import rounded
from betavae.model import VAE
from betavae.networks.registry import ARCHITECTURES
from tests.conftest import fused


def bf16():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch):
    monkeypatch.setattr(build, "library", lambda dtype: None)


class Names(TorchDispatchMode):
    """What operations are called."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.seen.append(operation._schema.name.removeprefix("aten::"))
        return operation(*args, **(kwargs or {}))


def _results(network, images):
    """What it gives, and the gradient of every weight."""
    network.zero_grad()
    with bf16():
        posterior = network.encode(images)
        logits = network.logits(posterior.mean)
    (logits.square().mean() + posterior.log_var.mean()).backward()
    return [posterior.mean, posterior.log_var, logits, *(weight.grad.clone() for weight in network.parameters())]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_numbers_are_those_of_autocast(name, monkeypatch):
    torch.manual_seed(0)
    network = VAE(name, (1, 64, 64), 10).to(memory_format=torch.channels_last)
    images = torch.rand(4, 1, 64, 64)
    ours = _results(network, images)
    monkeypatch.setattr(fusion, "rounded", lambda given, features: nullcontext())
    for one, other in zip(ours, _results(network, images), strict=True):
        assert torch.equal(one, other)
    assert all(type(weight) is nn.Parameter and weight.dtype == torch.float32 for weight in network.parameters())


def test_weights_are_rounded_in_one_operation_a_network(monkeypatch):
    network, images = VAE("burgess", (1, 64, 64), 10), torch.rand(4, 1, 64, 64)
    with Names() as names:
        _results(network, images)
    with monkeypatch.context() as patch, Names() as plain:
        patch.setattr(fusion, "rounded", lambda given, features: nullcontext())
        _results(network, images)
    assert names.seen.count("_foreach_copy_") == 4  # there and back
    assert plain.seen.count("_to_copy") - names.seen.count("_to_copy") == 4 * 12  # 12 layers of a weight and a bias


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients(context):
    network, images = VAE("burgess", (1, 64, 64), 10), torch.rand(4, 1, 64, 64)
    with context(), bf16():
        mean = network.encode(images).mean
    with bf16():
        assert torch.equal(mean, network.encode(images).mean)


class Own(nn.Module):
    """Multiplies in float32 whatever the context."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, features):
        with torch.autocast("cpu", enabled=False):
            return self.inner(features.float())


class Scaled(nn.Linear):
    """Computes something else than a linear layer."""

    def forward(self, features):
        assert self.weight.dtype == torch.float32
        return super().forward(features)


def test_layers_of_ones_own_are_left_alone():
    frozen = nn.Linear(4, 4).requires_grad_(False)
    layers = nn.Sequential(Own(), Scaled(4, 4), frozen, nn.Linear(4, 4), nn.ReLU())
    with bf16():
        fused(layers)(torch.rand(3, 4)).sum().backward()
    assert frozen.weight.grad is None
    assert layers[0].inner.weight.grad is not None


def test_without_autocast_nothing_is_rounded():
    layer = nn.Linear(4, 4)
    with rounded([layer], torch.rand(3, 4)):
        assert layer.weight.dtype == torch.float32
    with bf16(), rounded([layer, layer], torch.rand(3, 4)):
        assert layer.weight.dtype == torch.bfloat16


def test_weights_come_back_when_a_layer_fails():
    layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 4), nn.ReLU())
    with bf16(), pytest.raises(RuntimeError):
        fused(layers)(torch.rand(3, 4))
    assert all(type(weight) is nn.Parameter for weight in layers.parameters())
    assert len(list(layers.parameters())) == 4


def test_gradients_have_gradients(monkeypatch):
    torch.manual_seed(0)
    layers, features = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4), nn.Tanh()), torch.rand(3, 4)

    def penalty():
        with bf16():
            result = fused(layers)(features)
        found = torch.autograd.grad(result.float().square().sum(), list(layers.parameters()), create_graph=True)
        return torch.autograd.grad(sum(gradient.square().sum() for gradient in found), list(layers.parameters()))

    ours = penalty()
    monkeypatch.setattr(fusion, "rounded", lambda given, features: nullcontext())
    for one, other in zip(ours, penalty(), strict=True):
        torch.testing.assert_close(one, other)


def test_compilers_and_transforms_see_the_weights_themselves():
    layers, features = fused(nn.Sequential(nn.Linear(4, 4), nn.ReLU())), torch.rand(3, 4)
    weights = dict(layers.named_parameters())

    def total(weights):
        with bf16():
            return torch.func.functional_call(
                Whole(layers), {f"layers.{name}": w for name, w in weights.items()}, features
            ).sum()

    expected = torch.func.grad(total)(weights)
    with bf16():
        layers(features).sum().backward()
    for name, weight in weights.items():
        torch.testing.assert_close(weight.grad, expected[name], rtol=1e-2, atol=1e-2)


class Whole(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, features):
        return self.layers(features)
