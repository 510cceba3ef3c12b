"""The training loop, a generator of records. All training in this package uses it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.objectives.api import Loss
from betavae.training import cuda_graphs, steps
from betavae.training.batches import DeviceImages
from betavae.training.losses import mean_terms
from betavae.training.state import State
from betavae.training.validation import held_out_terms

VALIDATION_POINTS = 50
"""Number of points of the validation curve."""
VALIDATION_IMAGES = 512
"""Number of validation images for a point of the validation curve. The final terms use all of them."""


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
    runner = steps.StepRunner(config, data, train_rows, state, images)
    stream = cuda_graphs.stream(next(state.model.parameters()).device)
    validation_steps = steps.RECORD_STEPS * max(1, config.steps // VALIDATION_POINTS // steps.RECORD_STEPS)
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
            if state.step % steps.RECORD_STEPS and state.step < config.steps:
                continue
            terms = mean_terms(losses, state.step)
        losses.clear()
        if len(validation_rows) and (state.step % validation_steps == 0 or state.step == config.steps):
            yield validation()
        yield record("train", terms)
