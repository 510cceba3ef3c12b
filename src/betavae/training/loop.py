"""The training loop, a generator of records. All training in this package uses it.

All random numbers of a step are derived from the seed and the step, so the state contains no random generators.
Resuming from a saved state is bit-identical. On a CPU, this includes layers that use PyTorch's global generator, such
as dropout.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from betavae import plugins
from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.data.pairs import Partners
from betavae.data.subsets import seen_rows
from betavae.files.validation import short
from betavae.model import VAE, Posterior
from betavae.objectives.api import Batch, Loss
from betavae.objectives.registry import OBJECTIVES, objective_of
from betavae.objectives.settings import needs_of, schedule_of
from betavae.training import cuda_graphs
from betavae.training.batches import DeviceImages, StepRows, scaled_factors
from betavae.training.devices import autocast, to_device
from betavae.training.encoding import encode, evaluation_mode
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
VALIDATION_POINTS = 50
"""Number of points of the validation curve."""
VALIDATION_IMAGES = 512
"""Number of validation images for a point of the validation curve. The final terms use all of them."""


class Diverged(RuntimeError):
    """The loss or a weight is not finite."""


@dataclass(frozen=True)
class Record:
    """A point of the training curves.

    Attributes:
        step: number of finished steps.
        wall_seconds: training time so far.
        split: ``"train"`` or ``"validation"``.
        terms: loss terms in nats, and scheduled weights: means over the steps since the last record, or over validation
            images.
    """

    step: int
    wall_seconds: float
    split: str
    terms: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return a flat dictionary for a line of `curve.jsonl`."""
        row: dict[str, Any] = {"step": self.step, "wall_seconds": round(self.wall_seconds, 3), "split": self.split}
        return row | self.terms


def train(
    config: Config,
    data: FactorData,
    train_rows: NDArray[np.int64],
    validation_rows: NDArray[np.int64],
    state: State,
    images: DeviceImages | None = None,
) -> Iterator[Record]:
    """Train from a state to `config.steps` and yield records. The state can be saved at each training record.

    Args:
        config: settings. `config.steps` is the total number of steps, including those before the given state.
        data: images and factors.
        train_rows: training rows, at least one.
        validation_rows: validation rows; if empty, there are no validation records.
        state: training state; changed in place.
        images: images of the data on the device of the state; copied there if `None`.

    Yields:
        A `train` record every `RECORD_STEPS` steps and at the end. A `validation` record at the start, at about
        `VALIDATION_POINTS` evenly spaced steps, and at the end. If a step has both records, `train` comes last.

    Raises:
        Diverged: The loss is not finite; the message contains the step.
        ValueError: The data does not meet the requirements of the objective.
    """
    runner = StepRunner(config, data, train_rows, state, images)
    stream = cuda_graphs.stream(next(state.model.parameters()).device)
    validation_steps = RECORD_STEPS * max(1, config.steps // VALIDATION_POINTS // RECORD_STEPS)
    losses: list[Loss] = []
    started = time.perf_counter() - state.wall_seconds

    def record(split: str, terms: dict[str, float]) -> Record:
        state.wall_seconds = time.perf_counter() - started
        return Record(state.step, state.wall_seconds, split, terms)

    def validation() -> Record:
        rows = validation_rows[:VALIDATION_IMAGES]
        terms = held_out_terms(config, data, rows, len(train_rows), state, runner.images)
        return record("validation", terms)

    if state.step == 0 and len(validation_rows):
        yield validation()
    while state.step < config.steps:
        with stream:
            if state.step in config.rotate_at:
                runner.rotate()
            losses += runner()
            if state.step % RECORD_STEPS and state.step < config.steps:
                continue
            terms = _means(losses, state.step)
        losses.clear()
        if len(validation_rows) and (state.step % validation_steps == 0 or state.step == config.steps):
            yield validation()
        yield record("train", terms)


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
                loss = _loss(config.objective, state.model, batch)
            _update_parameters(state.optimisers if muon else state.optimisers[-1:], loss.loss, rates[muon] * factor)
            if state.network_optimiser and loss.network_loss is not None:
                _update_parameters(
                    (state.network_optimiser,), loss.network_loss, self._needs.network_learning_rate * factor
                )
            memory = loss.memory
            losses.append(Loss(loss.loss.detach(), {name: _detached(term) for name, term in loss.terms.items()}))
        return losses, memory


def _loss(settings: Any, model: VAE, batch: Batch) -> Loss:
    """Compute the loss of an objective. Errors in a user's own objective name the objective."""
    objective = objective_of(settings)
    if OBJECTIVES.is_shipped(name := objective.name):
        built_in: Loss = objective.loss(settings, model, batch)
        return built_in
    try:
        loss = objective.loss(settings, model, batch)
    except (RuntimeError, MemoryError):  # errors of PyTorch, which have clear messages, and lack of memory
        raise
    except Exception as error:
        raise ValueError(f"objective {name} failed: {plugins.describe_error(error)}") from error
    if not isinstance(loss, Loss):
        raise ValueError(f"objective {name} returned {short(loss)}; it must return a betavae.objectives.api.Loss")
    if not isinstance(loss.loss, Tensor) or loss.loss.dim() or not {"reconstruction", "rate"} <= loss.terms.keys():
        raise ValueError(
            f"objective {name} returned a loss of {short(loss.loss)} with terms {', '.join(loss.terms)}; it must be a "
            "tensor without axes, with at least the terms reconstruction and rate"
        )
    return loss


def _update_parameters(optimisers: Sequence[torch.optim.Optimizer], loss: Tensor, rate: float | Tensor) -> None:
    """Perform one optimiser step. The last optimiser has all parameters, and only these get gradients of the loss."""
    for group in (group for optimiser in optimisers for group in optimiser.param_groups):
        group["lr"] = rate
    parameters = [parameter for group in optimisers[-1].param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = None
    loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
    for optimiser in optimisers:
        optimiser.step()


def held_out_terms(
    config: Config,
    data: FactorData,
    rows: NDArray[np.int64],
    num_train: int,
    state: State,
    images: DeviceImages | None = None,
) -> dict[str, float]:
    """Compute the loss and its terms on validation images, in nats, with the same noise in each call.

    For objectives with pairs, partners are drawn from all data that are not held out. For objectives with labels, the
    labels of all images are known.

    Args:
        config, data, state, images: see `train`.
        rows: rows of the images.
        num_train: number of training images, which some estimates use.
    """
    device, needs = next(state.model.parameters()).device, needs_of(config.objective)
    images, means = images or DeviceImages(data, device), []
    partners = Partners(data, needs.pairs, seen_rows(data, config.hold_out)) if needs.pairs else None
    count = config.batch_size // 2 if partners else config.batch_size
    schedule = schedule_of(config.objective, state.step)
    if needs.halves:
        rows = rows[: max(len(rows) - len(rows) % 2, 2)]
    with torch.no_grad(), evaluation_mode(state.model):
        for start in range(0, len(rows), count):
            batch = rows[start : start + count]
            if len(batch) < count and start:
                break  # images of a smaller batch would have more weight, and some estimates depend on the batch size
            if partners:
                generator = np.random.default_rng(derive_seed(config, "validation pairs", start))
                batch = np.concatenate([batch, partners(batch, generator)])
            shape = (len(batch), config.latent_dim)
            noise = draw_noise(config, "validation", start, shape, device)
            more_noise = draw_noise(config, "more validation", start, shape, device) if needs.more_noise else None
            labels = to_device(scaled_factors(data, batch), device) if needs.labelled_images else None
            inputs = Batch(images(batch), noise, schedule, state.memory, more_noise, labels, num_train, state.network)
            with autocast(config, device):
                loss = _loss(config.objective, state.model, inputs)
            means.append(_means([loss], state.step))  # as numbers: small tensors would fragment the memory
    return {name: math.fsum(terms[name] for terms in means) / len(means) for name in means[0]}


def _detached(term: Tensor | float) -> Tensor | float:
    return term.detach() if isinstance(term, Tensor) else term


def _means(losses: list[Loss], step: int) -> dict[str, float]:
    """Return the mean loss and terms of the last steps, with one transfer from the device for each term."""
    totals = torch.stack([loss.loss for loss in losses]).tolist()
    for back, value in zip(range(len(losses), 0, -1), totals, strict=True):
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value} at step {step - back + 1}")
    terms = {"loss": math.fsum(totals) / len(totals)}
    for name in losses[0].terms:
        values = [loss.terms[name] for loss in losses]
        tensors = [value for value in values if isinstance(value, Tensor)]
        numbers = torch.stack(tensors).tolist() if tensors else values
        terms[name] = math.fsum(numbers) / len(numbers)
    return terms
