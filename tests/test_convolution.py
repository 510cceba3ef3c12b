"""Convolutions in C against PyTorch's, in bf16 on operands rounded to it; what they cannot take."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses import FakeTensorMode

from betavae.kernels import chain, fusion, likelihood
from betavae.kernels.chain import run_chain
from betavae.model import VAE
from betavae.networks.layers import Float32Linear, Residual
from tests.conftest import each_type, fused, multiplying, needs_compiled, needs_compiled_fp32, using

ROUNDING = {torch.bfloat16: 4e-3, torch.float32: 1e-5}
"""Of a result; bf16 has 8 bits: the root mean square of its rounding errors is below 2^-9 of it."""
SUMMING = 1e-5
"""Of sums in fp32, whose order differs."""


def _layer(kind: str, channels: tuple[int, int], kernel: int, stride: int, padding: int) -> nn.Module:
    if kind == "linear":
        return nn.Linear(*channels)
    if kind == "down":
        return nn.Conv2d(*channels, kernel, stride, padding)
    return nn.ConvTranspose2d(*channels, kernel, stride, padding, output_padding=int((kernel, stride) == (3, 2)))


def _plain(layer: nn.Module, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(inputs, weight, bias)
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(inputs, weight, bias, layer.stride, layer.padding)
    assert isinstance(layer, nn.ConvTranspose2d)
    return F.conv_transpose2d(inputs, weight, bias, layer.stride, layer.padding, layer.output_padding)


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one.float() - other).norm() / other.norm()).item()


@each_type
@pytest.mark.parametrize(
    ("kind", "channels", "side", "form"),
    [
        ("down", (1, 32), 64, (4, 2, 1)),
        ("down", (3, 32), 64, (4, 2, 1)),
        ("down", (3, 32), 64, (3, 2, 1)),
        ("down", (3, 32), 32, (4, 2, 1)),
        ("down", (1, 32), 64, (3, 2, 1)),
        ("down", (32, 32), 32, (4, 2, 1)),
        ("down", (64, 128), 16, (4, 2, 1)),
        ("down", (32, 64), 8, (4, 2, 1)),
        ("down", (32, 64), 16, (2, 2, 0)),
        ("down", (32, 32), 32, (3, 2, 1)),
        ("down", (64, 64), 8, (3, 1, 1)),
        ("up", (32, 32), 4, (4, 2, 1)),
        ("up", (64, 32), 16, (4, 2, 1)),
        ("up", (32, 64), 8, (3, 2, 1)),
        ("up", (32, 1), 32, (4, 2, 1)),
        ("up", (32, 3), 16, (4, 2, 1)),
        ("up", (32, 1), 16, (3, 2, 1)),
        ("up", (32, 3), 32, (4, 2, 1)),
        ("up", (32, 3), 16, (3, 2, 1)),
        ("linear", (64, 96), 0, (0, 0, 0)),
    ],
)
@pytest.mark.parametrize(("images", "threads"), [(1, 1), (7, 1), (1, 3), (7, 3)])
def test_compiled_layers_give_what_pytorchs_give(kind, channels, side, form, images, threads, dtype):
    torch.manual_seed(0)
    layer, pixels = _layer(kind, channels, *form), kind == "up" and channels[1] < 32
    shape = (32 * images, channels[0]) if kind == "linear" else (images, channels[0], side, side)
    inputs = torch.randn(shape).to(dtype).float().requires_grad_(channels[0] >= 32)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(parameter.to(dtype).float())
    layers = [layer] if pixels else [layer, nn.ReLU()]
    with multiplying(dtype), using(threads):
        result, count = run_chain([nn.Identity(), *layers], inputs, 1)  # in a network, not at its start
    assert count == len(layers)
    given = [inputs, layer.weight, layer.bias]
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    expected = _plain(layer, *exact)
    if not pixels:
        expected = expected.relu()
    gradient = torch.randn(result.shape).to(dtype).float()
    if not pixels:  # where rounding decides which side of 0 a value is on, masks differ
        gradient = gradient * (expected.detach().abs() > 1e-2)
    expected.backward(gradient.double())
    with using(threads):
        result.backward(gradient.to(result.dtype))
    assert _difference(result, expected) < (SUMMING if pixels else ROUNDING[dtype])
    assert _difference(layer.weight.grad, exact[1].grad) < SUMMING
    assert _difference(layer.bias.grad, exact[2].grad) < SUMMING
    if inputs.requires_grad:
        assert _difference(inputs.grad, exact[0].grad) < ROUNDING[dtype]


@each_type
@pytest.mark.parametrize(
    ("name", "channels"),
    [("burgess", 1), ("burgess", 3), ("affine", 1), ("locatello", 3), ("residual", 1), ("wide", 1)],
)
def test_networks_in_c_are_those_of_pytorch(name, channels, dtype, monkeypatch):
    """Also one layer at a time, which is the same to the bit."""
    torch.manual_seed(0)
    model = VAE(name, (channels, 64, 64), 10).to(memory_format=torch.channels_last)
    images = torch.rand(9, channels, 64, 64)
    together = fusion.run_chain
    results = {}
    for way in ("together", "one by one", "plain"):
        allowed = {
            "together": together,
            "one by one": lambda layers, features, place: together(layers[: place + 1], features, place),
            "plain": lambda _, features, place: (features, 0),
        }
        monkeypatch.setattr(fusion, "run_chain", allowed[way])
        model.zero_grad()
        with multiplying(dtype):
            posterior = model.encode(images)
            logits = model.logits(posterior.mean)
        (F.binary_cross_entropy_with_logits(logits, images) + posterior.log_var.square().mean()).backward()
        results[way] = [posterior.mean, logits, *(parameter.grad for parameter in model.parameters())]
    for one, other in zip(results["together"], results["one by one"], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    bound = {torch.bfloat16: 0.05, torch.float32: 1e-4}[dtype]  # 5e-5, of which PyTorch's moments of batches are most
    assert _difference(results["together"][1], results["plain"][1].float()) < bound


@each_type
def test_a_result_does_not_depend_on_the_images_beside_it(dtype):
    torch.manual_seed(0)
    layers = [nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1)]
    images = torch.randn(6, 32, 16, 16)
    with multiplying(dtype):
        (together, _), (alone, _) = run_chain(layers, images), run_chain(layers, images[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=0, atol=0)


@each_type
def test_what_is_not_finite_stays_so(dtype):
    layers = [nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU()]
    images = torch.zeros(1, 32, 16, 16)
    images[0, 3, 5, 5] = float("nan")
    with multiplying(dtype):
        assert run_chain(layers, images)[0].isnan().any()


@each_type
@pytest.mark.parametrize(("images", "threads"), [(32, 1), (96, 3), (64, 4)])
@pytest.mark.parametrize(("channels", "side"), [(32, 4), (64, 8)])
def test_flattened_images_and_unflattened_rows_are_pytorchs(channels, side, images, threads, dtype):
    """To the bit, in one call with the layers before and after; more threads than blocks of rows among them."""
    torch.manual_seed(0)
    width, forms = channels * side**2, [nn.Flatten(), nn.Unflatten(1, (channels, side, side))]
    before = [nn.Conv2d(32, channels, 4, 2, 1), nn.ReLU()]
    rows = [nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, width), nn.ReLU()]
    layers = [*before, forms[0], *rows, forms[1], nn.ConvTranspose2d(channels, 32, 4, 2, 1)]
    inputs = torch.randn(images, 32, 2 * side, 2 * side, requires_grad=True)
    given, gradient = [inputs, *nn.Sequential(*layers).parameters()], torch.randn(inputs.shape)

    def one_by_one(layers, features):
        for layer in layers:
            result, count = run_chain([nn.Identity(), layer, nn.Identity()], features, 1)  # in a network, neither end
            features = result if count else layer(features)
        return features, len(layers)

    found = []
    for way in (run_chain, one_by_one):
        with multiplying(dtype), using(threads):
            result, count = way(layers, inputs)
            found.append([result.detach(), *torch.autograd.grad(result, given, gradient.to(result.dtype))])
        assert count == len(layers)
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@needs_compiled
@pytest.mark.parametrize(
    "flattening",
    [
        nn.Flatten(2),
        nn.Flatten(0),
        nn.Identity(),
        nn.Unflatten(1, (32, 4)),
        nn.Unflatten(1, (2, 4, 4)),
        nn.Flatten(1, 2),
    ],
)
def test_only_whole_images_are_flattened(flattening):
    layers = [nn.Conv2d(32, 32, 4, 2, 1), flattening, nn.Linear(512, 64)]
    with torch.autocast("cpu", torch.bfloat16):
        assert run_chain(layers, torch.zeros(32, 32, 8, 8))[1] == 1
        assert run_chain([flattening, nn.Linear(512, 64)], torch.zeros(32, 512))[1] == 0


def _errors(model, latents, images, dtype, apart=False):
    with multiplying(dtype):
        if apart:
            return likelihood.bernoulli_error(model.logits(latents), images)
        return model.bernoulli_error(latents, images)


@each_type
@pytest.mark.parametrize("name", ["burgess", "locatello", "residual", "wide"])
@pytest.mark.parametrize(("images", "threads"), [(1, 1), (7, 3), (64, 1), (64, 3)])
def test_errors_of_decoded_images_are_those_of_images_decoded_before(name, images, threads, dtype, monkeypatch):
    """To the bit, and so are their gradients."""
    torch.manual_seed(0)
    shape = (3 if name == "burgess" else 1, 64, 64)
    model, found = VAE(name, shape, 10).to(memory_format=torch.channels_last), {}
    images = torch.rand(images, *shape).contiguous(memory_format=torch.channels_last)
    latents = torch.randn(len(images), 10, requires_grad=True)
    given = [latents, *model.decoder.parameters()]
    for apart in (False, True):
        with using(threads):
            errors = _errors(model, latents, images, dtype, apart)
            found[apart] = [errors.detach(), *torch.autograd.grad(errors.mean(), given)]
        monkeypatch.setattr(chain._ChainError, "apply", None)  # not to be called
    for ours, theirs in zip(found[False], found[True], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@each_type
@pytest.mark.parametrize("weigh", [lambda e: e.sum(), lambda e: 3.7 * e.mean(), lambda e: (e * torch.arange(5)).sum()])
def test_errors_may_weigh_anything(weigh, dtype):
    """Also when they are derived twice."""
    torch.manual_seed(0)
    model, images = VAE("burgess", (1, 64, 64), 10), torch.rand(5, 1, 64, 64)
    latents = torch.randn(5, 10, requires_grad=True)
    given = [latents, *model.decoder.parameters()]
    expected = torch.autograd.grad(weigh(_errors(model, latents, images, dtype, apart=True)), given)
    loss = weigh(_errors(model, latents, images, dtype))
    for _ in range(2):
        for ours, theirs in zip(torch.autograd.grad(loss, given, retain_graph=True), expected, strict=True):
            assert _difference(ours, theirs) < 2 * ROUNDING[dtype]


@each_type
def test_gradients_of_errors_have_gradients(dtype):
    torch.manual_seed(0)
    model, images = VAE("burgess", (1, 32, 32), 4), torch.rand(2, 1, 32, 32)
    found = []
    for apart in (False, True):
        latents = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        errors = _errors(model, latents, images, dtype, apart)
        (gradient,) = torch.autograd.grad(errors.mean(), latents, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), [latents, model.decoder[-1].weight]))
    for ours, theirs in zip(*found, strict=True):
        assert _difference(ours, theirs) < 5 * ROUNDING[dtype]


@each_type
def test_errors_without_gradients_and_of_other_images(dtype):
    """Nothing is to be derived; images lie in memory otherwise, or are derived themselves."""
    torch.manual_seed(0)
    model, latents = VAE("burgess", (3, 64, 64), 10), torch.randn(2, 10)
    plain = torch.rand(2, 3, 64, 64)
    expected = _errors(model, latents, plain, dtype, apart=True)
    for images in (plain, plain.contiguous(memory_format=torch.channels_last), plain.clone().requires_grad_()):
        torch.testing.assert_close(_errors(model, latents, images, dtype), expected, rtol=1e-6, atol=1e-3)
        with torch.no_grad():
            torch.testing.assert_close(_errors(model, latents, images, dtype), expected, rtol=1e-6, atol=1e-3)


def _residual(channels: int) -> Residual:
    return Residual(nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU(), nn.BatchNorm2d(channels))


def _residual_chain() -> nn.Sequential:
    """With other scales, shifts and moments than a new network's."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(32, 64, 3, 2, 1),
        _residual(64),
        _residual(64),
        nn.ConvTranspose2d(64, 32, 4, 2, 1),
        _residual(32),
    ]
    for layer in layers:
        if isinstance(layer, Residual):
            for name in ("weight", "bias", "running_mean", "running_var"):
                torch.nn.init.uniform_(getattr(layer[2], name), 0.5, 1.5)
    return nn.Sequential(*layers)


@each_type
@pytest.mark.parametrize(("images", "threads"), [(1, 1), (7, 1), (1, 3), (7, 3)])
def test_residual_layers_are_pytorchs(images, threads, dtype):
    """Results, gradients, and what is remembered of batches: about as near to float64 as PyTorch's."""
    inputs, gradient = torch.randn(images, 32, 16, 16), torch.randn(images, 32, 16, 16)
    found = []
    for way, kind in ((run_chain, dtype), (_one_by_one, dtype), (_one_by_one, torch.float64)):
        exact = kind == torch.float64
        layers = _residual_chain().double() if exact else _residual_chain()
        given = [inputs.to(kind if exact else torch.float32).requires_grad_(), *layers.parameters()]
        with multiplying(kind), using(threads):
            result, count = way(list(layers), given[0])
        assert count == len(layers)
        found.append(
            [result.detach(), *torch.autograd.grad(result, given, gradient.to(result.dtype)), *layers.buffers()]
        )
        assert [int(layer[2].num_batches_tracked) for layer in layers if isinstance(layer, Residual)] == [1, 1, 1]
    for ours, theirs, known in zip(*found, strict=True):
        if known.is_floating_point():
            assert _difference(ours, known) < 2 * _difference(theirs, known) + SUMMING


def _one_by_one(layers: list[nn.Module], features: torch.Tensor) -> tuple[torch.Tensor, int]:
    """By PyTorch."""
    for layer in layers:
        inner = nn.Sequential(*layer)(features) if isinstance(layer, Residual) else None
        features = layer(features) if inner is None else features + inner
    return features, len(layers)


@each_type
def test_residual_layers_that_do_not_train_use_what_they_remember(dtype):
    layers, inputs = _residual_chain().eval(), torch.randn(3, 32, 16, 16)
    before = copy.deepcopy(layers.state_dict())
    with torch.no_grad(), multiplying(dtype):
        result, count = run_chain(list(layers), inputs)
        alone, _ = run_chain(list(layers), inputs[1:2])
    assert count == len(layers)
    assert torch.equal(result[1:2], alone)
    assert all(torch.equal(value, before[name]) for name, value in layers.state_dict().items())
    with multiplying(dtype):  # gradients by moments that are given are PyTorch's
        plain = fused(layers)(inputs)
        assert run_chain([layers[1]], torch.zeros(1, 64, 8, 8))[1] == 0
    assert _difference(result, plain.float()) < 5 * ROUNDING[dtype]


@needs_compiled_fp32
def test_gradients_of_residual_layers_have_gradients(monkeypatch):
    found = []
    for ours in (True, False):
        layers = _residual_chain()
        inputs = torch.randn(2, 32, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
        with monkeypatch.context() as patch:
            if not ours:
                patch.setattr(fusion, "run_chain", lambda _, features, place: (features, 0))
            result = fused(layers)(inputs)
            (gradient,) = torch.autograd.grad(result.square().sum(), inputs, create_graph=True)
            weights = [inputs, layers[0].weight, layers[1][0].weight, layers[4][2].weight]
            found.append(torch.autograd.grad(gradient.square().sum(), weights))
    for one, other in zip(*found, strict=True):
        assert _difference(one, other) < 1e-3  # 1e-5


@needs_compiled
@pytest.mark.parametrize(
    "change",
    [
        lambda layer: setattr(layer[2], "momentum", None),
        lambda layer: layer.__setitem__(2, nn.BatchNorm2d(32, affine=False)),
        lambda layer: layer.__setitem__(2, nn.BatchNorm2d(32, track_running_stats=False)),
        lambda layer: layer.__setitem__(2, nn.InstanceNorm2d(32)),
        lambda layer: layer.__setitem__(1, nn.Tanh()),
        lambda layer: layer.__setitem__(0, nn.Conv2d(32, 32, 5, 1, 2)),
        lambda layer: layer.append(nn.ReLU()),
        lambda layer: layer[2].double(),
        lambda layer: layer[1].register_forward_hook(lambda *_: None),
        lambda layer: layer.register_forward_hook(lambda *_: None),
    ],
)
def test_other_residual_layers_are_left_to_pytorch(change):
    layer = _residual(32)
    with torch.autocast("cpu", torch.bfloat16):
        assert run_chain([layer], torch.zeros(1, 32, 8, 8))[1] == 1
    change(layer)
    with torch.autocast("cpu", torch.bfloat16):
        assert run_chain([layer], torch.zeros(1, 32, 8, 8))[1] == 0


class Leaky(nn.ReLU):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(input, 0.2)


class Doubled(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


@needs_compiled
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(32, 32, 5, 2, 2), (2, 32, 16, 16)),
        (nn.Conv2d(32, 20, 4, 2, 1), (2, 32, 16, 16)),
        (nn.Conv2d(8, 32, 4, 2, 1), (2, 8, 32, 32)),
        (nn.Conv2d(32, 32, 4, 2, 1), (2, 32, 24, 24)),
        (nn.Conv2d(32, 32, 4, 2, 1, bias=False), (2, 32, 16, 16)),
        (nn.Conv2d(32, 32, (4, 2), 2, 1), (2, 32, 16, 16)),
        (nn.Conv2d(64, 64, 4, 2, 1, groups=2), (2, 64, 16, 16)),
        (nn.Conv2d(32, 32, 4, 2, 1, padding_mode="circular"), (2, 32, 16, 16)),
        (nn.ConvTranspose2d(32, 32, 3, 2, 1), (2, 32, 8, 8)),
        (Doubled(32, 32, 4, 2, 1), (2, 32, 16, 16)),
        (nn.Conv2d(32, 32, 4, 2, 1), (32, 16, 16)),
        (nn.Conv2d(32, 32, 4, 2, 1), (0, 32, 16, 16)),
        (nn.Conv2d(32, 32, 4, 2, 1), (2, 64, 16, 16)),
        (nn.Conv2d(32, 32, 4, 2, 1).bfloat16(), (2, 32, 16, 16)),
        (nn.Linear(64, 64), (0, 64)),
        (nn.Linear(64, 64), (64, 96)),
        (nn.Linear(64, 20), (64, 64)),
        (nn.Linear(64, 64), (48, 64)),
        (nn.Tanh(), (2, 32, 16, 16)),
    ],
)
def test_other_layers_are_left_to_pytorch(layer, shape):
    with torch.autocast("cpu", torch.bfloat16):
        assert run_chain([layer], torch.zeros(shape))[1] == 0


@needs_compiled
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_layers_without_inputs_are_left_to_pytorch():
    with torch.autocast("cpu", torch.bfloat16):
        assert run_chain([nn.Linear(0, 32)], torch.zeros(32, 0))[1] == 0


@each_type
def test_gradients_of_pixels_are_left_to_pytorch(dtype):
    layers, images = [nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 4, 2, 1)], torch.zeros(1, 1, 64, 64)
    with multiplying(dtype):
        assert run_chain(layers, images)[1] == 3
        assert run_chain(layers, images.requires_grad_())[1] == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_types_are_left_to_pytorch(dtype):
    """Also under their own autocast, and float32 with an autocast to none."""
    layers = [nn.Conv2d(32, 32, 4, 2, 1)]
    assert run_chain(layers, torch.zeros(1, 32, 16, 16, dtype=dtype))[1] == 0
    with torch.autocast("cpu", torch.float16):
        assert run_chain(layers, torch.zeros(1, 32, 16, 16))[1] == 0


@needs_compiled_fp32
def test_transforms_of_functions_are_left_to_pytorch():
    encoder = nn.Sequential(nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5))
    images = torch.randn(2, 32, 4, 4)
    fused(encoder)
    found = torch.func.jacrev(lambda x: encoder(x).sum(0))(images)
    expected = torch.autograd.functional.jacobian(lambda x: encoder(x).sum(0), images)
    torch.testing.assert_close(found, expected)


@needs_compiled
@pytest.mark.parametrize("which", [0, 1])
def test_a_layer_that_somebody_listens_to_is_called(which):
    layers, heard = nn.Sequential(nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU()), []
    layers[which].register_forward_hook(lambda *_: heard.append(1))
    with torch.autocast("cpu", torch.bfloat16):
        fused(layers)(torch.zeros(1, 32, 16, 16))
    assert heard


@needs_compiled_fp32
@pytest.mark.parametrize("listened", [False, True])
def test_sequences_in_sequences_are_taken_at_once_unless_somebody_listens(listened, monkeypatch):
    inner = nn.Sequential(nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 4, 2, 1))
    layers, heard, calls = nn.Sequential(nn.Sequential(inner, nn.ReLU()), nn.Flatten(), nn.Linear(512, 5)), [], []
    run_chain = fusion.run_chain
    monkeypatch.setattr(fusion, "run_chain", lambda *given: calls.append(run_chain(*given)[1]) or run_chain(*given))
    if listened:
        inner.register_forward_hook(lambda *_: heard.append(1))
    images = torch.randn(2, 32, 16, 16)
    plain = copy.deepcopy(layers)
    torch.testing.assert_close(fused(layers)(images), plain(images))
    assert calls[0] == (0 if listened else 4)
    assert len(heard) == 2 * listened


@needs_compiled
def test_only_what_is_a_relu_goes_for_one():
    layers = [nn.Conv2d(32, 32, 4, 2, 1), Leaky()]
    with torch.autocast("cpu", torch.bfloat16):
        assert run_chain(layers, torch.zeros(1, 32, 16, 16))[1] == 1
        assert fused(nn.Sequential(*layers))(torch.randn(1, 32, 16, 16)).min() < 0


@each_type
def test_gradients_of_gradients_are_pytorchs(dtype, monkeypatch):
    torch.manual_seed(0)
    layers = [nn.ConvTranspose2d(32, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU()]
    linear = [nn.Linear(32, 32), nn.ReLU()]

    def penalty(layers, shape):
        features = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
        with multiplying(dtype):
            result = fused(nn.Sequential(*layers))(features).float()
        (gradient,) = torch.autograd.grad(result.square().sum(), features, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), [layer.weight for layer in layers[::2]])

    for given, shape in ((layers, (1, 32, 8, 8)), (linear, (32, 32))):
        ours = penalty(given, shape)
        with monkeypatch.context() as patch:
            patch.setattr(fusion, "run_chain", lambda _, features, place: (features, 0))
            theirs = penalty(given, shape)
        for one, other in zip(ours, theirs, strict=True):
            assert _difference(one, other) < 5 * ROUNDING[dtype]


@needs_compiled
def test_networks_that_are_no_sequence_of_layers_are_called():
    model = VAE("burgess", (1, 64, 64), 10)

    class Doubling(nn.Sequential):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(images)

    images, plain = torch.rand(3, 1, 64, 64), model.encoder
    model.encoder = Doubling(*plain)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.encode(images).mean, 2 * plain(images)[:, :10].float())


@needs_compiled
@pytest.mark.parametrize(("taken", "given"), [(10, 96), (10, 20), (96, 20), (96, 128)])
def test_what_a_last_linear_layer_gives_is_not_rounded(taken, given):
    with torch.autocast("cpu", torch.bfloat16):
        result = fused(nn.Sequential(Float32Linear(taken, given)))(torch.randn(64, taken))
    assert result.dtype == torch.float32
    assert not torch.equal(result, result.bfloat16().float())


@needs_compiled
@pytest.mark.parametrize("images", [64, 20])
@pytest.mark.parametrize("latents", [10, 16, 32, 64])
def test_latents_leave_the_encoder_and_enter_the_decoder_in_float32(latents, images):
    """Whether there is code for as many or not."""
    model = VAE("burgess", (1, 64, 64), latents)
    with torch.autocast("cpu", torch.bfloat16):
        means = model.encode(torch.rand(images, 1, 64, 64)).mean
        assert means.dtype == torch.float32
        assert not torch.equal(means, means.bfloat16().float())
        assert not torch.equal(model.decoder[:1](means), model.decoder[:1](means.bfloat16()))


@each_type
@pytest.mark.parametrize(("images", "threads"), [(32, 1), (96, 2), (160, 1), (64, 3)])
@pytest.mark.parametrize("few", [1, 10, 17, 64])
@pytest.mark.parametrize("way", ["from", "from, with a ReLU", "to"])
def test_linear_layers_of_few_numbers_are_float32s(way, few, images, threads, dtype):
    """In float32 in all, but for what the many numbers are rounded to; so are their gradients."""
    torch.manual_seed(0)
    many, rounding = 96, 0.0 if dtype == torch.float32 else 2.0**-9
    linear = Float32Linear(few, many) if way != "to" else Float32Linear(many, few)
    behind = [] if way == "to" else [nn.ReLU() if "ReLU" in way else nn.Unflatten(1, (many, 1, 1))]
    layers = [linear, *behind]
    inputs = torch.randn(images, linear.in_features).to(dtype).float().requires_grad_()
    given = [inputs, linear.weight, linear.bias]
    wanted = nn.Sequential(*layers)(inputs)
    gradient = torch.randn(wanted.shape).to(dtype).float()
    expected = [wanted.detach(), *torch.autograd.grad(wanted, given, gradient)]
    with multiplying(dtype), using(threads):
        found, count = run_chain(layers, inputs if way != "to" else inputs.to(dtype))
        if way != "to" and dtype != torch.float32:
            assert count == 0  # what nothing compiled takes would be rounded
            return
        assert count == 1 + ("ReLU" in way)
        found = layers[-1](found) if count < len(layers) else found
        assert found.dtype == (torch.float32 if way == "to" else dtype)
        results = [found.detach(), *torch.autograd.grad(found, given, gradient.to(found.dtype))]
    for i, (ours, theirs) in enumerate(zip(results, expected, strict=True)):
        is_rounded = i == (1 if way == "to" else 0)  # of many numbers
        assert _difference(ours, theirs) <= (rounding if is_rounded else 0) + 2e-6


@each_type
@pytest.mark.parametrize(("channels", "up"), [((32, 1), True), ((32, 3), True), ((1, 32), False)])
def test_pixels_of_other_sizes_are_pytorchs(channels, up, dtype):
    """48 is no multiple of the 32 columns that four phases of pixels take."""
    torch.manual_seed(0)
    kind = nn.ConvTranspose2d if up else nn.Conv2d
    layer, side = kind(*channels, 4, 2, 1), 48 if up else 96
    with multiplying(dtype):
        images = torch.rand(2, channels[0], side, side)
        expected = _plain(layer, images, layer.weight, layer.bias)
        assert _difference(fused(layer)(images), expected) < 2 * ROUNDING[dtype]


@needs_compiled
def test_tensors_without_values_are_left_to_pytorch():
    with FakeTensorMode():
        assert fused(nn.Conv2d(32, 32, 4, 2, 1))(torch.zeros(1, 32, 16, 16)).shape == (1, 32, 8, 8)
