"""Training steps: inputs, forward pass, backward pass, optimiser step.

All random numbers of a step are derived from the seed and the step, so the state contains no random generators.
Resuming from a saved state is bit-identical. On a CPU, this includes layers that use PyTorch's global generator, such
as dropout.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.model import Posterior
from betavae.objectives.api import Batch, Loss
from betavae.objectives.needs import needs_of, schedule_of
from betavae.training import cuda_graphs
from betavae.training.batches import DeviceImages, StepRows
from betavae.training.devices import autocast, to_device
from betavae.training.encoding import encode
from betavae.training.losses import compute_loss
from betavae.training.rotation import rotate
from betavae.training.schedule import learning_rate_factor
from betavae.training.seeding import derive_seed, draw_noise, seeded_global_generator
from betavae.training.state import State

RECORD_STEPS = 50
"""Number of steps over which a training record is averaged."""
ROTATION_IMAGES = 8_192
"""Number of training images used to compute a rotation."""
CAPTURED = ["cuda"]
"""Types of devices on which the steps between two records are captured as a CUDA graph and launched together. On other
devices, steps run one by one."""


class StepRunner:
    """Runner of the next training steps: one step or, if captured in a CUDA graph, all steps up to the next record.

    The first call with given shapes runs step by step, the second is captured, and all later ones are one launch, for
    which the host does not wait.

    Args:
        config, data, images: see `train`.
        rows: training rows.
        state: training state; each call advances it.
    """

    def __init__(
        self, config: Config, data: FactorData, rows: NDArray[np.int64], state: State, images: DeviceImages | None
    ) -> None:
        self._config, self._data, self._train_rows, self._state = config, data, rows, state
        self._needs = needs_of(config.objective)
        self._device = next(state.model.parameters()).device
        self.images = images or DeviceImages(data, self._device)
        self._rows = StepRows(config, data, rows)
        self._capture = cuda_graphs.Repeated(cuda_graphs.cuda_graph) if self._device.type in CAPTURED else None
        self._prefetched: dict[range, dict[str, Any]] = {}

    def __call__(self) -> list[Loss]:
        """Run the next steps and return their detached losses, which are valid until the next record."""
        state, after, steps = self._state, self._config.muon_after, self._next_steps(self._state.step)
        by_muon = tuple(after is not None and step >= after for step in steps)
        # The start is part of the key: calls between two records must not overwrite each other's results.
        key = steps.start % RECORD_STEPS, by_muon
        memory = {f"memory.{name}": value for name, value in state.memory.items()}
        inputs = (self._prefetched.pop(steps, None) or self._step_inputs(steps)) | memory
        with seeded_global_generator(derive_seed(self._config, "layers", state.step)):
            losses, state.memory = (
                self._capture(self._run_steps, key, inputs) if self._capture else self._run_steps(key, inputs)
            )
        state.step = steps.stop
        if self._capture and (following := self._next_steps(state.step)):  # while the device is busy
            self._prefetched = {following: self._step_inputs(following)}
        return losses

    def _next_steps(self, first: int) -> range:
        """Return the steps of one call, which ends at the next record or rotation."""
        count = RECORD_STEPS - first % RECORD_STEPS if self._capture else 1
        rotations = (step for step in self._config.rotate_at if step > first)
        return range(first, min(first + count, self._config.steps, *rotations))

    def rotate(self) -> None:
        """Rotate the latent space to minimise the dependence between the latents of the first training images.

        `mean` and `log_var` in the memory of the objective are rotated as well. The moments of the optimisers are not,
        because they adapt within a few steps.
        """
        config, state, rows = self._config, self._state, self._rows.first(ROTATION_IMAGES)
        mean, log_var = map(torch.from_numpy, encode(config, self._data, rows, state.model, images=self.images))
        noise = draw_noise(config, "rotation", state.step, mean.shape, mean.device)
        rotation = rotate(state.model, Posterior(mean, log_var), noise)
        names = self._needs.posterior_in_memory
        if names and names[0] in state.memory:
            past = Posterior(*(state.memory[name] for name in names))
            state.memory = {**state.memory, **dict(zip(names, past.rotated(rotation), strict=True))}

    def _step_inputs(self, steps: range) -> dict[str, Any]:
        """Prepare the inputs of the steps: tensors, and scheduled numbers, which are tensors if steps are captured."""
        config, device = self._config, self._device
        shape = config.batch_size, config.latent_dim
        rows = [self._rows(step) for step in steps]
        scheduled = [
            {"learning_rate_factor": learning_rate_factor(config, step)}
            | {f"schedule.{name}": value for name, value in schedule_of(config.objective, step).items()}
            for step in steps
        ]
        inputs: dict[str, Any] = {
            "rows": to_device(np.stack(rows), device),
            "noise": torch.stack([draw_noise(config, "noise", step, shape, device) for step in steps]),
        }
        for name in scheduled[0]:
            values = [numbers[name] for numbers in scheduled]
            inputs[name] = to_device(np.array(values, np.float32), device) if self._capture else values
        if self._needs.more_noise:
            more_noise = [draw_noise(config, "more noise", step, shape, device) for step in steps]
            inputs["more_noise"] = torch.stack(more_noise)
        if labels := [table for row in rows if (table := self._rows.labels(row)) is not None]:
            inputs["labels"] = to_device(np.stack(labels), device)
        return inputs

    def _run_steps(
        self, key: tuple[int, tuple[bool, ...]], inputs: dict[str, Any]
    ) -> tuple[list[Loss], Mapping[str, Tensor]]:
        """Run one step for each entry of the inputs; return the losses, and the memory of the objective."""
        _, by_muon = key
        config, state = self._config, self._state
        rates = config.learning_rate, config.muon_learning_rate or config.learning_rate
        network = state.network
        memory: Mapping[str, Tensor] = {
            name.removeprefix("memory."): inputs[name] for name in inputs if name.startswith("memory.")
        }
        losses = []
        for i, muon in enumerate(by_muon):
            noise, factor = inputs["noise"][i], inputs["learning_rate_factor"][i]
            schedule = {
                name.removeprefix("schedule."): values[i]
                for name, values in inputs.items()
                if name.startswith("schedule.")
            }
            more_noise, labels = (inputs[name][i] if name in inputs else None for name in ("more_noise", "labels"))
            images = self.images(inputs["rows"][i])
            batch = Batch(images, noise, schedule, memory, more_noise, labels, len(self._train_rows), network)
            with autocast(config, self._device):
                loss = compute_loss(config.objective, state.model, batch)
            update_parameters(state.optimisers if muon else state.optimisers[-1:], loss.loss, rates[muon] * factor)
            if state.network_optimiser and loss.network_loss is not None:
                update_parameters(
                    (state.network_optimiser,), loss.network_loss, self._needs.network_learning_rate * factor
                )
            memory = loss.memory
            losses.append(Loss(loss.loss.detach(), {name: _detached(term) for name, term in loss.terms.items()}))
        return losses, memory


def update_parameters(optimisers: Sequence[torch.optim.Optimizer], loss: Tensor, rate: float | Tensor) -> None:
    """Perform one optimiser step. The last optimiser has all parameters, and only these get gradients of the loss."""
    for group in (group for optimiser in optimisers for group in optimiser.param_groups):
        group["lr"] = rate
    parameters = [parameter for group in optimisers[-1].param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = None
    loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
    for optimiser in optimisers:
        optimiser.step()


def _detached(term: Tensor | float) -> Tensor | float:
    return term.detach() if isinstance(term, Tensor) else term
