"""Adam and Muon against PyTorch's, and what Muon adds: kernels, stacks of like matrices, Adam for the rest."""

import copy

import pytest
import torch
from torch import nn

from betavae.kernels import build
from betavae.model import VAE
from betavae.training.optimisers import Adam, Muon, optimisers, orthogonal
from tests.conftest import each_type, using


def moved(make, shape, steps=3):
    generator = torch.Generator().manual_seed(0)
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    weight = nn.Parameter(torch.randn(shape, generator=generator).to(memory_format=layout))
    optimiser = make([weight])
    for _ in range(steps):
        weight.grad = torch.randn(shape, generator=generator).to(memory_format=layout)
        optimiser.step()
    return weight.detach()


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_as_in_pytorch(shape, monkeypatch):
    """PyTorch's multiplies in bf16, so ours does here; what is compiled is compared below."""
    monkeypatch.setattr(build, "library", lambda dtype: None)
    options = {"lr": 0.1, "weight_decay": 0.02, "nesterov": True, "adjust_lr_fn": "match_rms_adamw"}  # 0.2 of our step
    theirs = moved(lambda p: torch.optim.Muon(p, **options), shape)
    ours = moved(lambda p: Muon(p, lr=0.02, weight_decay=0.1, dtype=torch.bfloat16), shape)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)
    assert (ours - moved(lambda p: Muon(p, lr=0.0), shape)).abs().max() > 0.02


@each_type
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize(
    "shape", [(64, 64), (256, 512), (512, 256), (20, 256), (70, 10), (1, 40), (5, 1), (32, 32, 4, 4), (32, 1, 4, 4)]
)
def test_compiled_steps_are_pytorchs(shape, weight_decay, dtype, monkeypatch):
    """About as near to exact iterations as PyTorch's, whatever the number of threads; momentum to its last digits."""

    def steps(dtype):
        made: list[Muon] = []

        def make(parameters):
            made.append(Muon(parameters, lr=0.02, weight_decay=weight_decay, dtype=dtype))
            return made[0]

        weight = moved(make, shape)
        (momentum,) = made[0].state.values()
        return weight, momentum["momentum"]

    with using(1):
        ours = steps(dtype)
    with using(3):
        assert torch.equal(steps(dtype)[0], ours[0])
    monkeypatch.setattr(build, "library", lambda dtype: None)
    theirs, exact = steps(dtype), steps(torch.float64)
    assert not torch.equal(ours[0], theirs[0])
    assert (ours[0] - exact[0]).norm() <= 2 * (theirs[0] - exact[0]).norm() + 1e-5
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-5, atol=1e-6)


def test_a_kernel_moves_as_the_matrix_of_its_first_dimension(monkeypatch):
    """To the last digit in PyTorch; compiled code sums the values of a kernel in their order in memory."""
    shapes = (4, 3, 2, 2), (4, 12)
    kernel, matrix = (moved(lambda p: Muon(p, lr=0.02), shape) for shape in shapes)
    torch.testing.assert_close(kernel.flatten(1), matrix)
    monkeypatch.setattr(build, "library", lambda dtype: None)
    kernel, matrix = (moved(lambda p: Muon(p, lr=0.02), shape) for shape in shapes)
    assert torch.equal(kernel.flatten(1), matrix)


def test_a_copy_multiplies_in_the_same_type():
    def make(parameters):
        return Muon(parameters, lr=0.02, dtype=torch.bfloat16)

    weight = nn.Parameter(torch.zeros(4, 9))
    copied, its = copy.deepcopy((make([weight]), weight))
    its.grad = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    weight.grad = its.grad.clone()
    copied.step()
    make([weight]).step()
    assert torch.equal(its, weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_like_matrices_do_not_mix(dtype):
    weights = [nn.Parameter(torch.zeros(shape)) for shape in ((3, 5), (5, 3), (3, 5), (70, 40))]
    alone = [nn.Parameter(torch.zeros(weight.shape)) for weight in weights]
    for index, (weight, other) in enumerate(zip(weights, alone, strict=True)):
        weight.grad = other.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(index))
        Muon([other], lr=0.02, dtype=dtype).step()
    Muon(weights, lr=0.02, dtype=dtype).step()
    for weight, other in zip(weights, alone, strict=True):
        torch.testing.assert_close(weight, other)


def test_orthogonal_keeps_directions():
    """U Vᵀ up to singular values between 0.6 and 1.3, whatever the size of the matrix given."""
    matrix = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(0))
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.mT @ orthogonal(1e3 * matrix) @ vt.mT
    values = torch.diagonal(inner, dim1=1, dim2=2)
    assert ((values > 0.6) & (values < 1.3)).all()
    torch.testing.assert_close(inner, torch.diag_embed(values), rtol=0, atol=1e-3)
    assert torch.equal(orthogonal(torch.zeros(1, 2, 3)), torch.zeros(1, 2, 3))


@each_type
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(1,), (17,), (64, 40), (32, 32, 4, 4), (32, 1, 4, 4), (5, 3, 3, 3)])
@pytest.mark.parametrize("rate", [1e-3, 1.0])
def test_compiled_steps_of_adam_are_pytorchs(shape, threads, rate, dtype, monkeypatch):
    """Weights, moments and count, with decay and without; each of three weights, of which one has no gradient."""

    def steps(make):
        generator = torch.Generator().manual_seed(0)
        layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
        weights = [nn.Parameter(torch.randn(shape, generator=generator).to(memory_format=layout)) for _ in range(4)]
        optimiser = make([{"params": weights[:2], "weight_decay": 0.1}, {"params": weights[2:]}])
        for _ in range(3):
            for weight in weights[:3]:
                weight.grad = torch.randn(shape, generator=generator).to(memory_format=layout)
            optimiser.step()
        tensors = [weight.detach() for weight in weights] + [
            x for state in optimiser.state.values() for x in state.values()
        ]
        return tensors, [list(state) for state in optimiser.state.values()]

    options = {"lr": rate, "betas": (0.8, 0.99)}
    theirs = steps(lambda groups: torch.optim.Adam(groups, decoupled_weight_decay=True, **options))
    monkeypatch.setattr(torch.optim.Adam, "step", None)  # not to be called
    with using(threads):
        ours = steps(lambda groups: Adam(groups, dtype=dtype, **options))
    assert list(map(list, ours[1])) == list(map(list, theirs[1]))
    for one, other in zip(ours[0], theirs[0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)  # 3e-7


@pytest.mark.parametrize("what", ["rate", "gradient", "float64", "hardware"])
def test_adam_is_pytorchs_where_there_is_no_code(what, monkeypatch):
    """A rate that is a tensor, another type, other hardware; and where a gradient is laid out unlike its weight."""
    weight = torch.ones(32, 3, 4, 4, dtype=torch.float64 if what == "float64" else torch.float32)
    if what == "hardware":
        monkeypatch.setattr(build, "library", lambda dtype: None)
    weights = [nn.Parameter(weight.clone(memory_format=torch.channels_last)) for _ in range(2)]
    made = Adam(weights[:1], 0.1), torch.optim.Adam(weights[1:], 0.1)
    for optimiser, weight in zip(made, weights, strict=True):
        for _ in range(2):
            gradient = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)).to(weight.dtype)
            weight.grad = gradient if what == "gradient" else gradient.contiguous(memory_format=torch.channels_last)
            if what == "rate" and optimiser is made[0]:
                optimiser.param_groups[0]["lr"] = torch.tensor(0.1)
            optimiser.step()
    torch.testing.assert_close(*weights, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_moves_what_muon_has_left(weight_decay):
    """Adam has every parameter once; after Muon's step only those are left that are no matrices."""
    model = VAE("residual", (1, 64, 64), 3)
    muon, adam = optimisers(model, 1e-3, weight_decay, 0.2)
    assert [group["weight_decay"] for group in muon.param_groups] == [0.2]
    assert adam.param_groups[0]["weight_decay"] == weight_decay
    given = [parameter for group in adam.param_groups for parameter in group["params"]]
    assert sorted(map(id, given)) == sorted(map(id, model.parameters()))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    muon.step()
    assert all((parameter.grad is None) == (parameter.dim() > 1) for parameter in model.parameters())


def test_a_weight_without_gradient_stays():
    weight = nn.Parameter(torch.ones(2, 3))
    Muon([weight], lr=0.1).step()
    assert torch.equal(weight, torch.ones(2, 3))
