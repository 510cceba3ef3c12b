"""The training loop: a generator of records. There is one; everything that trains goes through it.

Everything random in a step follows from the seed and the step, so a state needs no generators: continued from a saved
state, the loop yields what it would have yielded, to the bit. On a CPU that holds for layers, too, that draw random
numbers by PyTorch's global generator, such as dropout.
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
"""Steps that a training record is the mean of."""
ROTATION_IMAGES = 8_192
"""Training images whose latents decide a rotation."""
RECORDED = ["cuda"]
"""Types of devices on which the steps of a training record are recorded and launched together; elsewhere they are done
one by one."""
VALIDATION_POINTS = 50
"""Points of the validation curve over a run."""
VALIDATION_IMAGES = 512
"""Held-out images behind a point of the validation curve; the final held-out terms take them all."""


class Diverged(RuntimeError):
    """The loss or a weight is not finite any more."""


@dataclass(frozen=True)
class Record:
    """A point of the curves: terms in nats, averaged over the steps since the last record or over held-out images."""

    step: int
    wall_seconds: float
    split: str
    terms: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """One flat row, as a line of `curve.jsonl`."""
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
    """Train from a state to `config.steps`, yielding records; at those of training the state is whole and may be saved.

    Args:
        config: settings; `config.steps` counts from the very first step, not from the state's.
        data: images.
        train_rows: rows to train on, at least one.
        validation_rows: held-out rows; none for no validation records.
        state: changed in place.
        images: those of the data, where they are on the state's device already.

    Yields:
        A `train` record every `RECORD_STEPS` steps and at the end; a `validation` record at the start, at
        `VALIDATION_POINTS` even distances and at the end. Of a step's two records that of training comes last.

    Raises:
        Diverged: the loss is not finite; the message names the step.
        ValueError: the data cannot give what the objective needs.
    """
    span = Span(config, data, train_rows, state, images)
    stream = cuda_graphs.stream(next(state.model.parameters()).device)
    validation_steps = RECORD_STEPS * max(1, config.steps // VALIDATION_POINTS // RECORD_STEPS)
    seen: list[Loss] = []
    started = time.perf_counter() - state.wall_seconds

    def record(split: str, terms: dict[str, float]) -> Record:
        state.wall_seconds = time.perf_counter() - started
        return Record(state.step, state.wall_seconds, split, terms)

    def validation() -> Record:
        rows = validation_rows[:VALIDATION_IMAGES]
        terms = held_out_terms(config, data, rows, len(train_rows), state, span.images)
        return record("validation", terms)

    if state.step == 0 and len(validation_rows):
        yield validation()
    while state.step < config.steps:
        with stream:
            if state.step in config.rotate_at:
                span.rotate()
            seen += span()
            if state.step % RECORD_STEPS and state.step < config.steps:
                continue
            terms = _means(seen, state.step)
        seen.clear()
        if len(validation_rows) and (state.step % validation_steps == 0 or state.step == config.steps):
            yield validation()
        yield record("train", terms)


class Span:
    """The next steps of training: one, or where they are recorded those of a training record.

    From the third call on these are one launch then, and the host waits for none.

    Args:
        config, data, images: as for `train`.
        rows: to train on.
        state: moved on by each call.
    """

    def __init__(
        self, config: Config, data: FactorData, rows: NDArray[np.int64], state: State, images: DeviceImages | None
    ) -> None:
        self._config, self._data, self._train_rows, self._state = config, data, rows, state
        self._needs = needs_of(config.objective)
        self._device = next(state.model.parameters()).device
        self.images = images or DeviceImages(data, self._device)
        self._rows = StepRows(config, data, rows)
        self._repeated = cuda_graphs.Repeated(cuda_graphs.cuda_graph) if self._device.type in RECORDED else None
        self._ahead: dict[range, dict[str, Any]] = {}

    def __call__(self) -> list[Loss]:
        """What the steps return, detached; of recorded ones it holds to the end of the training record."""
        state, after, steps = self._state, self._config.muon_after, self._steps(self._state.step)
        by_muon = tuple(after is not None and step >= after for step in steps)
        way = steps.start % RECORD_STEPS, by_muon  # spans of one record share no recording, whose results must last
        memory = {f"memory.{name}": value for name, value in state.memory.items()}
        given = (self._ahead.pop(steps, None) or self._given(steps)) | memory
        with seeded_global_generator(derive_seed(self._config, "layers", state.step)):
            seen, state.memory = self._repeated(self._walk, way, given) if self._repeated else self._walk(way, given)
        state.step = steps.stop
        if self._repeated and (following := self._steps(state.step)):  # while the device is at work
            self._ahead = {following: self._given(following)}
        return seen

    def _steps(self, first: int) -> range:
        """Those of a call: they end where a training record does, and before the axes of the latents turn."""
        count = RECORD_STEPS - first % RECORD_STEPS if self._repeated else 1
        turns = (step for step in self._config.rotate_at if step > first)
        return range(first, min(first + count, self._config.steps, *turns))

    def rotate(self) -> None:
        """Turn the axes of the latents to where those of the first training images depend on one another least.

        What the objective remembers as `mean` and `log_var` turns with them; the optimisers' moments, which a few steps
        renew, do not.
        """
        config, state, rows = self._config, self._state, self._train_rows[:ROTATION_IMAGES]
        mean, log_var = map(torch.from_numpy, encode(config, self._data, rows, state.model, images=self.images))
        noise = draw_noise(config, "rotation", state.step, mean.shape, mean.device)
        rotation = rotate(state.model, Posterior(mean, log_var), noise)
        names = self._needs.posterior_in_memory
        if names and names[0] in state.memory:
            past = Posterior(*(state.memory[name] for name in names))
            state.memory = {**state.memory, **dict(zip(names, past.rotated(rotation), strict=True))}

    def _given(self, steps: range) -> dict[str, Any]:
        """What each step is given: tensors, and numbers that depend on the step, as tensors if steps are recorded."""
        config, device = self._config, self._device
        shape = config.batch_size, config.latent_dim
        rows = [self._rows(step) for step in steps]
        scheduled = [
            {"learning_rate_factor": learning_rate_factor(config, step)}
            | {f"schedule.{name}": value for name, value in schedule_of(config.objective, step).items()}
            for step in steps
        ]
        given: dict[str, Any] = {
            "rows": to_device(np.stack(rows), device),
            "noise": torch.stack([draw_noise(config, "noise", step, shape, device) for step in steps]),
        }
        for name in scheduled[0]:
            values = [numbers[name] for numbers in scheduled]
            given[name] = to_device(np.array(values, np.float32), device) if self._repeated else values
        if self._needs.more_noise:
            given["more_noise"] = torch.stack([draw_noise(config, "more noise", step, shape, device) for step in steps])
        if labels := [table for row in rows if (table := self._rows.labels(row)) is not None]:
            given["labels"] = to_device(np.stack(labels), device)
        return given

    def _walk(
        self, way: tuple[int, tuple[bool, ...]], given: dict[str, Any]
    ) -> tuple[list[Loss], Mapping[str, Tensor]]:
        _, by_muon = way
        config, state = self._config, self._state
        rates = config.learning_rate, config.muon_learning_rate or config.learning_rate
        network = state.network
        memory: Mapping[str, Tensor] = {
            name.removeprefix("memory."): given[name] for name in given if name.startswith("memory.")
        }
        seen = []
        for i, muon in enumerate(by_muon):
            noise, factor = given["noise"][i], given["learning_rate_factor"][i]
            schedule = {
                name.removeprefix("schedule."): values[i]
                for name, values in given.items()
                if name.startswith("schedule.")
            }
            more, labels = (given[name][i] if name in given else None for name in ("more_noise", "labels"))
            images = self.images(given["rows"][i])
            batch = Batch(images, noise, schedule, memory, more, labels, len(self._train_rows), network)
            with autocast(config, self._device):
                loss = _loss(config.objective, state.model, batch)
            _update_parameters(state.optimisers if muon else state.optimisers[-1:], loss.loss, rates[muon] * factor)
            if state.network_optimiser and loss.network_loss is not None:
                _update_parameters(
                    (state.network_optimiser,), loss.network_loss, self._needs.network_learning_rate * factor
                )
            memory = loss.memory
            seen.append(Loss(loss.loss.detach(), {name: _detached(term) for name, term in loss.terms.items()}))
        return seen, memory


def _loss(settings: Any, model: VAE, batch: Batch) -> Loss:
    """What an objective returns; for whatever goes wrong in one of the user's own an error that names it."""
    objective = objective_of(settings)
    if OBJECTIVES.is_shipped(name := objective.name):
        shipped: Loss = objective.loss(settings, model, batch)
        return shipped
    try:
        loss = objective.loss(settings, model, batch)
    except (RuntimeError, MemoryError):  # PyTorch's say what is wrong, or that memory ran out
        raise
    except Exception as error:
        raise ValueError(f"objective {name} failed: {plugins.told(error)}") from error
    if not isinstance(loss, Loss):
        raise ValueError(f"objective {name} returned {short(loss)}; it must return a betavae.objectives.api.Loss")
    if not isinstance(loss.loss, Tensor) or loss.loss.dim() or not {"reconstruction", "rate"} <= loss.terms.keys():
        raise ValueError(
            f"objective {name} returned a loss of {short(loss.loss)} with terms {', '.join(loss.terms)}; it must be a "
            "tensor without axes, with at least the terms reconstruction and rate"
        )
    return loss


def _update_parameters(optimisers: Sequence[torch.optim.Optimizer], loss: Tensor, rate: float | Tensor) -> None:
    """One update by optimisers of which the last has all parameters; the loss gives gradients to these only."""
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
    """The objective's loss and terms on given rows, in nats, with noise that is the same at every call.

    Where the objective takes pairs, an image's partner is drawn from all of the data; where it takes labels, those of
    all images are known. The data's images are put on the device where they are not given.

    Args:
        config, data, state, images: as for `train`.
        rows: of the images.
        num_train: images that are trained on, which some estimates depend on.
    """
    device, needs = next(state.model.parameters()).device, needs_of(config.objective)
    images, means = images or DeviceImages(data, device), []
    partners = Partners(data, needs.pairs) if needs.pairs else None
    count = config.batch_size // 2 if partners else config.batch_size
    schedule = schedule_of(config.objective, state.step)
    if needs.halves:
        rows = rows[: max(len(rows) - len(rows) % 2, 2)]
    with torch.no_grad(), evaluation_mode(state.model):
        for start in range(0, len(rows), count):
            batch = rows[start : start + count]
            if len(batch) < count and start:
                break  # a smaller last batch would weigh more, and within-batch estimates depend on the size
            if partners:
                chosen = partners(batch, np.random.default_rng(derive_seed(config, "validation pairs", start)))
                batch = np.concatenate([batch, chosen])
            shape = (len(batch), config.latent_dim)
            noise = draw_noise(config, "validation", start, shape, device)
            more = draw_noise(config, "more validation", start, shape, device) if needs.more_noise else None
            labels = to_device(scaled_factors(data, batch), device) if needs.labelled_images else None
            given = Batch(images(batch), noise, schedule, state.memory, more, labels, num_train, state.network)
            with autocast(config, device):
                loss = _loss(config.objective, state.model, given)
            means.append(_means([loss], state.step))  # numbers: kept tensors would lie scattered over freed memory
    return {name: math.fsum(terms[name] for terms in means) / len(means) for name in means[0]}


def _detached(term: Tensor | float) -> Tensor | float:
    return term.detach() if isinstance(term, Tensor) else term


def _means(seen: list[Loss], step: int) -> dict[str, float]:
    """Mean loss and terms of the last steps; a transfer from the device for each."""
    losses = torch.stack([loss.loss for loss in seen]).tolist()
    for back, value in zip(range(len(seen), 0, -1), losses, strict=True):
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value} at step {step - back + 1}")
    terms = {"loss": math.fsum(losses) / len(losses)}
    for name in seen[0].terms:
        values = [loss.terms[name] for loss in seen]
        tensors = [value for value in values if isinstance(value, Tensor)]
        numbers = torch.stack(tensors).tolist() if tensors else values
        terms[name] = math.fsum(numbers) / len(numbers)
    return terms
