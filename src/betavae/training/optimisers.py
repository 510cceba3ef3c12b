"""How weights move: Adam for all of them, or Muon for matrices and kernels and Adam for the rest.

On a CPU both make their steps in C where the compiled code is there: see `kernels/README.md`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from betavae.model import kernels

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def optimisers(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.0,
    muon_weight_decay: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.optim.Optimizer, ...]:
    """What moves a model's weights: Adam with PyTorch's settings, and before it, where asked for, Muon.

    Adam moves all weights that have a gradient. Muon moves those of two and more dimensions and takes their gradients.

    Args:
        model: whose weights to move.
        learning_rate: of all.
        weight_decay: of weights of two and more dimensions by Adam, decoupled; not of biases and codebooks.
        muon_weight_decay: of the same by Muon; no Muon if not given.
        dtype: in which networks multiply, and Muon.

    Returns:
        Adam alone, or Muon and Adam, to step in this order.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for key, parameter in model.named_parameters():
        (matrices if key.endswith(".weight") and parameter.dim() > 1 else others).append(parameter)
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if weight_decay:
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others}]
    all_weights = Adam(groups, learning_rate, dtype=dtype)
    if muon_weight_decay is None:
        return (all_weights,)
    return Muon(matrices, learning_rate, weight_decay=muon_weight_decay, dtype=dtype), all_weights


class Adam(torch.optim.Adam):
    """Adam in one pass over all weights, whose steps can be recorded where the weights are on CUDA.

    m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g²;  w ← (1 - η λ) w - η m̂ / (√v̂ + ε), where m̂ = m / (1 - β₁ᵗ) and
    v̂ = v / (1 - β₂ᵗ) after t steps. Its state is that of `torch.optim.Adam`.

    Source:
        Adam: A Method for Stochastic Optimization (Kingma & Ba, 2015), algorithm 1. https://arxiv.org/abs/1412.6980
        Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2019), algorithm 2, for λ.
        https://arxiv.org/abs/1711.05101

    Args:
        weights: parameters, or groups of them with a `weight_decay` λ each.
        lr: η of all.
        betas: β₁ and β₂, decay of both moments.
        dtype: in which networks multiply; the library of that type is asked for the step, which is made in float32.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter] | list[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(weights, lr=lr, betas=betas, fused=True, decoupled_weight_decay=True)
        for group in self.param_groups:
            group["capturable"] = all(parameter.is_cuda for parameter in group["params"])
            group["dtype"] = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move the weights by their gradients; those without one stay."""
        if kernels is None or not kernels.adam_step(self.param_groups, self.state):
            super().step()


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonal matrices: all directions of a layer move alike, not the loudest alone.

    M ← μ M + (1 - μ) G;  W ← W (1 - η λ) - η √max(m, n) O,  where O is near to U Vᵀ of (1 - μ) G + μ M = U S Vᵀ.
    The factor makes the root mean square step of a matrix (m, n) that of Adam's first, η, so that both share a learning
    rate. A kernel is the matrix of its first dimension and all others. Gradients are taken: what steps next has none.

    Source:
        Muon: An optimizer for hidden layers in neural networks (Jordan et al. 2024).
        https://kellerjordan.github.io/posts/muon/
        The factor, there with 0.2 before it: Muon is Scalable for LLM Training (Liu et al. 2025), equation 4.
        https://arxiv.org/abs/2502.16982

    Args:
        parameters: of two and more dimensions.
        lr: η, also as a tensor.
        momentum: μ.
        weight_decay: λ.
        dtype: of the multiplications that make O.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "dtype": dtype}
        super().__init__(parameters, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move the weights by their gradients, and take these."""
        for group in self.param_groups:
            moving = [_Moving(p, p.grad, self._momentum(p)) for p in group["params"] if p.grad is not None]
            if kernels is None or not kernels.muon_step(group, moving, _COEFFICIENTS, _ITERATIONS):
                _step(group, moving)
            for parameter, _, _ in moving:
                parameter.grad = None

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]


class _Moving(NamedTuple):
    parameter: nn.Parameter
    gradient: Tensor
    momentum: Tensor


def _step(group: dict[str, Any], moving: Sequence[_Moving]) -> None:
    alike: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
    for parameter, gradient, momentum in moving:
        step = gradient.lerp(momentum.lerp_(gradient, 1 - group["momentum"]), group["momentum"]).flatten(1)
        height, width = step.shape
        alike[min(height, width), max(height, width)].append((parameter, step))
    for pairs in alike.values():
        wide = torch.stack([step if len(step) <= step[0].numel() else step.T for _, step in pairs])
        for (parameter, step), moved in zip(pairs, orthogonal(wide.to(group["dtype"])), strict=True):
            direction = (moved if moved.shape == step.shape else moved.T).reshape(parameter.shape)
            if group["weight_decay"]:
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.sub_(direction.to(parameter.dtype) * (math.sqrt(max(step.shape)) * group["lr"]))


def orthogonal(matrices: Float[Tensor, "batch m n"]) -> Float[Tensor, "batch m n"]:
    """About U Vᵀ of each matrix U S Vᵀ, m ≤ n, by five Newton-Schulz iterations: singular values end in 0.7 to 1.2.

    X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X, from X of norm 1.

    Source:
        Jordan et al. 2024, as `Muon`.

    Example:
        >>> found = torch.linalg.svdvals(orthogonal(torch.randn(1, 4, 9, generator=torch.Generator().manual_seed(0))))
        >>> bool((found > 0.6).all() and (found < 1.3).all())
        True
    """
    a, b, c = _COEFFICIENTS
    norm = matrices.flatten(1).norm(dim=1)[:, None, None]
    found: Tensor = matrices / (norm + 1e-7)
    for _ in range(_ITERATIONS):
        square = found @ found.mT
        found = torch.baddbmm(found, torch.baddbmm(square, square, square, beta=b, alpha=c), found, beta=a)
    return found
