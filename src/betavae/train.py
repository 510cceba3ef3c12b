"""The training loop: a generator of records. There is one; everything that trains goes through it.

Everything random in a step follows from the seed and the step, so a state needs no generators: continued from a saved
state, the loop yields what it would have yielded, to the bit. On a CPU that holds for layers, too, that draw random
numbers by PyTorch's global generator, such as dropout.
"""

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from betavae import graphs, own_code
from betavae.checks import short
from betavae.config import Config
from betavae.data import FactorData, PackedImages
from betavae.model import VAE, Posterior
from betavae.objective import Batch, Loss
from betavae.objectives import NETWORKS, OBJECTIVES
from betavae.optimiser import Adam, optimisers
from betavae.pairs import Partners
from betavae.rotation import linear_ends, rotate
from betavae.settings import SHIPPED, needs_of, objective_name

RECORD_STEPS = 50
"""Steps that a training record is the mean of."""
ROTATION_IMAGES = 8_192
"""Training images whose codes decide a rotation."""
RECORDED = ["cuda"]
"""Types of devices on which the steps of a training record are recorded and launched together; elsewhere they are done
one by one."""
VALIDATION_POINTS = 50
"""Points of the validation curve over a run."""
VALIDATION_IMAGES = 512
"""Held-out images behind a point of the validation curve; the final held-out terms take them all."""

_SEED_PURPOSES = {
    "weights": 1,
    "order": 2,
    "noise": 3,
    "validation": 4,
    "more noise": 5,
    "more validation": 6,
    "pairs": 7,
    "labelled": 8,
    "validation pairs": 9,
    "rotation": 10,
    "layers": 11,
}


@dataclass
class State:
    """What changes while training: saved and restored, it continues the run."""

    model: VAE
    optimisers: tuple[torch.optim.Optimizer, ...]
    """Adam, or Muon and Adam."""
    step: int = 0
    wall_seconds: float = 0.0
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """What the objective hands from step to step."""
    network: nn.Module | None = None
    """The objective's own network, where it has one."""
    network_optimiser: Adam | None = None


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


# ---------------------------------------------------------------------------------------------------------------------
# Hardware
# ---------------------------------------------------------------------------------------------------------------------


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name; `auto` is CUDA or MPS where there is one, else the CPU.

    Raises:
        ValueError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("no training was tried on such a one")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device '{name}' cannot be used here ({reason}); use auto, cpu, cuda or mps") from None
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """`fp32` or `bf16`; `auto` is bf16 where hardware multiplies it fast: CUDA, a CPU with AMX or AVX-512 bf16."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return "bf16" if able.get("amx_bf16") or able.get("avx512_bf16") else "fp32"
    return "fp32"


def arithmetic(config: Config, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which the networks run: autocast to bf16, or nothing."""
    bf16 = choose_precision(config.precision, device) == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


class DeviceImages:
    """A data set's images on a device, packed as they are, unpacked a batch at a time."""

    def __init__(self, data: FactorData, device: torch.device) -> None:
        self._packed: PackedImages | Tensor = data.packed
        if device.type != "cpu" or isinstance(data.packed, np.ndarray):  # otherwise it is smaller than its array
            self._packed = torch.from_numpy(data.packed[:]).to(device)
        self._shape, self._max_value = data.image_shape, data.max_value
        bits = torch.arange(256, device=device)[:, None] >> torch.arange(7, -1, -1, device=device)
        self._bits = (bits & 1).float()  # of each byte, the first bit first

    def __call__(self, rows: NDArray[np.integer] | Tensor) -> Tensor:
        """Pixels in [0, 1], (B, C, H, W) float32."""
        if isinstance(self._packed, Tensor):
            if not isinstance(rows, Tensor):
                rows = _on_device(np.asarray(rows, np.int64), self._packed.device)
            pixels = self._packed[rows]
        else:
            pixels = torch.from_numpy(self._packed[np.asarray(rows)])
        if self._max_value == 1:
            pixels = F.embedding(pixels.int(), self._bits).flatten(1)[:, : math.prod(self._shape)]
        else:
            pixels = pixels.float() / self._max_value
        images = pixels.reshape(-1, *self._shape)
        return images.contiguous(memory_format=torch.channels_last)


# ---------------------------------------------------------------------------------------------------------------------
# Randomness: functions of seed, purpose and count
# ---------------------------------------------------------------------------------------------------------------------


def seeds(config: Config) -> dict[str, int]:
    """The first seed of each purpose; those of later steps, batches and passes follow by their count."""
    return {purpose: _seed(config, purpose) for purpose in _SEED_PURPOSES}


def _seed(config: Config, purpose: str, count: int = 0) -> int:
    return int(np.random.SeedSequence([config.seed, _SEED_PURPOSES[purpose], count]).generate_state(1, np.uint64)[0])


def _noise(config: Config, purpose: str, count: int, shape: Sequence[int], device: torch.device) -> Tensor:
    generator = torch.Generator(device).manual_seed(_seed(config, purpose, count))
    return torch.randn(shape, generator=generator, device=device)


@contextmanager
def _global_generator(seed: int) -> Iterator[None]:
    """PyTorch's generator on the CPU with a seed meanwhile, then as it was; for other threads as well."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


class _Order:
    """The rows of each batch: one shuffled pass over the training images after another, cut into batches."""

    def __init__(
        self, config: Config, rows: NDArray[np.int64], count: int | None = None, purpose: str = "order"
    ) -> None:
        self._config, self._rows, self._pass, self._shuffled = config, rows, -1, rows
        self._count, self._purpose = count or config.batch_size, purpose

    def __call__(self, step: int) -> NDArray[np.int64]:
        first = step * self._count
        return np.concatenate([self._span(start, stop) for start, stop in self._cuts(first)])

    def _cuts(self, first: int) -> Iterator[tuple[int, int]]:
        last = first + self._count
        while first < last:
            stop = min(last, (first // len(self._rows) + 1) * len(self._rows))
            yield first, stop
            first = stop

    def _span(self, start: int, stop: int) -> NDArray[np.int64]:
        number, offset = divmod(start, len(self._rows))
        if number != self._pass:
            generator = np.random.default_rng(_seed(self._config, self._purpose, number))
            self._pass, self._shuffled = number, generator.permutation(self._rows)
        return self._shuffled[offset : offset + stop - start]


class StepRows:
    """The rows of each step and the labels of their images, as the objective needs them.

    All of a batch is drawn in order; or its first half, and the second half is partners of the first, or labelled.

    Args:
        config: settings.
        data: images and factors.
        rows: those to train on. The first of them are the labelled ones.

    Raises:
        ValueError: the data cannot give what the objective needs, or not so many images as a batch has.
    """

    def __init__(self, config: Config, data: FactorData, rows: NDArray[np.int64]) -> None:
        needs, name = needs_of(config.objective), objective_name(config.objective)
        num_factors = data.factors.shape[1]
        if (needs.pairs or needs.labelled_images) and not num_factors:
            raise ValueError(
                f"objective {name} takes images with known factors, and {data.name} has none; "
                "give data with latents_classes, or take an objective such as beta"
            )
        if needs.labelled_images and config.codes < num_factors:
            raise ValueError(
                f"codes is {config.codes}; objective {name} ties a code to each of the {num_factors} factors "
                f"({', '.join(data.factor_names)}): give at least {num_factors}"
            )
        if config.batch_size > len(rows):
            raise ValueError(
                f"batch_size is {config.batch_size}, and there are {len(rows):,} images to train on: give that many or "
                "fewer"
            )
        self._config, self._data, self._rows = config, data, rows
        self._partners = Partners(data, needs.pairs, rows) if needs.pairs else None
        self._known: NDArray[np.bool_] | None = None
        self._labelled: _Order | None = None
        if needs.labelled_images:
            labelled = rows[: self._labelled_count(needs.labelled_images)]
            self._known = np.zeros(len(data), bool)
            self._known[labelled] = True
            if not needs.pairs:
                self._labelled = _Order(config, labelled, config.batch_size // 2, "labelled")
        halved = self._partners or self._labelled
        self._order = _Order(config, rows, config.batch_size // 2 if halved else None)

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Rows of a step's images, `config.batch_size` of them."""
        rows = self._order(step)
        if self._partners:
            generator = np.random.default_rng(_seed(self._config, "pairs", step))
            return np.concatenate([rows, self._partners(rows, generator)])
        return np.concatenate([rows, self._labelled(step)]) if self._labelled else rows

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Factors of images scaled to [0, 1], -1 where not known; None where the objective needs no labels."""
        if self._known is None:
            return None
        return np.where(self._known[rows, None], scaled_factors(self._data, rows), np.float32(-1))

    def _labelled_count(self, wanted: int | float) -> int:
        count = math.floor(wanted * len(self._rows) + 1e-9) if isinstance(wanted, float) else wanted
        if not 1 <= count <= len(self._rows):
            raise ValueError(
                f"labelled_images is {wanted}, which is {count} images; there are {len(self._rows)} to train on: "
                "label at least 1 and no more than these"
            )
        return count


def scaled_factors(data: FactorData, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Factors of images, the first value of each as 0 and the last as 1, (len(rows), K)."""
    last = np.maximum(np.array(data.factor_sizes, np.float32) - 1, 1)
    return (data.factors[rows] / last).astype(np.float32)


def rate_share(config: Config, step: int) -> float:
    """Share of the learning rate that a step takes: 1, or that of one-cycle (a linear rise, over the first tenth if not
    given otherwise, then half a cosine down to 0).

    Source:
        Super-Convergence (Smith & Topin, 2018), with a cosine for the fall. https://arxiv.org/abs/1708.07120

    Example:
        >>> config = Config(schedule="one-cycle", steps=100)
        >>> [round(rate_share(config, step), 2) for step in (0, 9, 54, 99)]
        [0.1, 1.0, 0.52, 0.0]
    """
    if config.schedule == "constant":
        return 1.0
    rise = config.schedule_rise_steps or max(1, config.steps // 10)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, config.steps - rise)))


# ---------------------------------------------------------------------------------------------------------------------
# The loop
# ---------------------------------------------------------------------------------------------------------------------


def new_state(config: Config, data: FactorData) -> State:
    """An untrained model and its optimisers.

    Where the objective has a network of its own, it gets an Adam of its own, with betas 0.5 and 0.9. On CUDA, cuDNN is
    told for the whole process to take algorithms that give the same numbers again.

    Raises:
        ValueError: the architecture cannot take the data's images or be rotated, the device is not there, or its memory
            cannot hold a batch.
    """
    device, needs = choose_device(config.device), needs_of(config.objective)
    _check_memory(config, data, device)
    network = None
    with _global_generator(_seed(config, "weights")), torch.device("cpu"):
        model = VAE(config.model, data.image_shape, config.codes, config.likelihood, needs.values_per_code)
        _check_networks(model, config)
        if type(config.objective) in NETWORKS:
            network = NETWORKS[type(config.objective)](config.objective, config.codes)
    if config.rotate_at:
        linear_ends(model)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.cuda.manual_seed_all(_seed(config, "layers"))  # of layers that draw random numbers, for the whole process
    dtype = torch.bfloat16 if choose_precision(config.precision, device) == "bf16" else torch.float32
    muon_decay = None if config.muon_after is None else needs.weight_decay + config.muon_weight_decay
    own = optimisers(model, config.learning_rate, needs.weight_decay, muon_decay, dtype)
    if network is None:
        return State(model, own)
    network = network.to(device)
    rival = Adam(network.parameters(), needs.network_learning_rate, (0.5, 0.9), dtype)
    return State(model, own, network=network, network_optimiser=rival)


def _check_memory(config: Config, data: FactorData, device: torch.device) -> None:
    """Refuse batches that the device's memory cannot hold: they would end in hours of swapping, or a killed process.

    What is counted is the least: of each pixel its value, its logit and its gradient, four bytes each.
    """
    memory, size = memory_of(device), 12 * config.batch_size * math.prod(data.image_shape)
    if memory is not None and size > memory:
        raise ValueError(
            f"batch_size is {config.batch_size}; such a batch takes {size / 1e9:,.1f} GB and more, and {device} has "
            f"{memory / 1e9:,.1f} GB: ask for fewer images"
        )


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory of a device; None where that cannot be known."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has none
        return None


def _check_networks(model: VAE, config: Config) -> None:
    """Refuse an architecture whose networks do not give what they must."""
    images, codes = torch.zeros(2, *model.image_shape), torch.zeros(2, config.codes)
    given = {"encoder": (images, (2, 2 * config.codes)), "decoder": (codes, tuple(images.shape))}
    with torch.no_grad(), _evaluating(model):
        for name, (batch, wanted) in given.items():
            shape = tuple(batch.shape)
            try:
                found = tuple(getattr(model, name)(batch).shape)
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise ValueError(f"model {config.model}: its {name} fails for a batch {shape}: {reason}") from error
            if found != wanted:
                raise ValueError(f"model {config.model}: its {name} gives {found} for a batch {shape}, not {wanted}")


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
    stream = graphs.stream(next(state.model.parameters()).device)
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
        self._repeated = graphs.Repeated(graphs.cuda_graph) if self._device.type in RECORDED else None
        self._ahead: dict[range, dict[str, Any]] = {}

    def __call__(self) -> list[Loss]:
        """What the steps return, detached; of recorded ones it holds to the end of the training record."""
        state, after, steps = self._state, self._config.muon_after, self._steps(self._state.step)
        by_muon = tuple(after is not None and step >= after for step in steps)
        way = steps.start % RECORD_STEPS, by_muon  # spans of one record share no recording, whose results must last
        memory = {f"memory.{name}": value for name, value in state.memory.items()}
        given = (self._ahead.pop(steps, None) or self._given(steps)) | memory
        with _global_generator(_seed(self._config, "layers", state.step)):
            seen, state.memory = self._repeated(self._walk, way, given) if self._repeated else self._walk(way, given)
        state.step = steps.stop
        if self._repeated and (following := self._steps(state.step)):  # while the device is at work
            self._ahead = {following: self._given(following)}
        return seen

    def _steps(self, first: int) -> range:
        """Those of a call: they end where a training record does, and before the axes of the codes turn."""
        count = RECORD_STEPS - first % RECORD_STEPS if self._repeated else 1
        turns = (step for step in self._config.rotate_at if step > first)
        return range(first, min(first + count, self._config.steps, *turns))

    def rotate(self) -> None:
        """Turn the axes of the codes to where those of the first training images depend on one another least.

        What the objective remembers as `mean` and `log_var` turns with them; the optimisers' moments, which a few steps
        renew, do not.
        """
        config, state, rows = self._config, self._state, self._train_rows[:ROTATION_IMAGES]
        mean, log_var = map(torch.from_numpy, encode(config, self._data, rows, state.model, images=self.images))
        noise = _noise(config, "rotation", state.step, mean.shape, mean.device)
        rotation = rotate(state.model, Posterior(mean, log_var), noise)
        if "mean" in state.memory:
            past = Posterior(state.memory["mean"], state.memory["log_var"])
            state.memory = {**state.memory, **past.rotated(rotation)._asdict()}

    def _given(self, steps: range) -> dict[str, Any]:
        """What steps are given, one after another: tensors where they are recorded, else step and share as numbers."""
        config, device = self._config, self._device
        shape = config.batch_size, config.codes
        rows, shares = [self._rows(step) for step in steps], [rate_share(config, step) for step in steps]
        given: dict[str, Any] = {
            "rows": _on_device(np.stack(rows), device),
            "noise": torch.stack([_noise(config, "noise", step, shape, device) for step in steps]),
            "step": _on_device(np.array(steps), device) if self._repeated else steps,
            "share": _on_device(np.array(shares, np.float32), device) if self._repeated else shares,
        }
        if self._needs.more_noise:
            given["more_noise"] = torch.stack([_noise(config, "more noise", step, shape, device) for step in steps])
        if labels := [table for row in rows if (table := self._rows.labels(row)) is not None]:
            given["labels"] = _on_device(np.stack(labels), device)
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
            noise, share = given["noise"][i], given["share"][i]
            more, labels = (given[name][i] if name in given else None for name in ("more_noise", "labels"))
            images = self.images(given["rows"][i])
            batch = Batch(images, noise, given["step"][i], memory, more, labels, len(self._train_rows), network)
            with arithmetic(config, self._device):
                loss = _loss(config.objective, state.model, batch)
            _descend(state.optimisers if muon else state.optimisers[-1:], loss.loss, rates[muon] * share)
            if state.network_optimiser and loss.network_loss is not None:
                _descend((state.network_optimiser,), loss.network_loss, self._needs.network_learning_rate * share)
            memory = loss.memory
            seen.append(Loss(loss.loss.detach(), {name: _detached(term) for name, term in loss.terms.items()}))
        return seen, memory


def _loss(settings: Any, model: VAE, batch: Batch) -> Loss:
    """What an objective returns; for whatever goes wrong in one of the user's own an error that names it."""
    objective = OBJECTIVES[type(settings)]
    if type(settings) in SHIPPED:
        return objective(settings, model, batch)
    name = objective_name(settings)
    try:
        loss = objective(settings, model, batch)
    except (RuntimeError, MemoryError):  # PyTorch's say what is wrong, or that memory ran out
        raise
    except Exception as error:
        raise ValueError(f"objective {name} failed: {own_code.told(error)}") from error
    if not isinstance(loss, Loss):
        raise ValueError(f"objective {name} returned {short(loss)}; it must return a betavae.objective.Loss")
    if not isinstance(loss.loss, Tensor) or loss.loss.dim() or not {"reconstruction", "rate"} <= loss.terms.keys():
        raise ValueError(
            f"objective {name} returned a loss of {short(loss.loss)} with terms {', '.join(loss.terms)}; it must be a "
            "tensor without axes, with at least the terms reconstruction and rate"
        )
    return loss


def _descend(optimisers: Sequence[torch.optim.Optimizer], loss: Tensor, rate: float | Tensor) -> None:
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
    if needs.halves:
        rows = rows[: max(len(rows) - len(rows) % 2, 2)]
    with torch.no_grad(), _evaluating(state.model):
        for start in range(0, len(rows), count):
            batch = rows[start : start + count]
            if len(batch) < count and start:
                break  # a smaller last batch would weigh more, and within-batch estimates depend on the size
            if partners:
                chosen = partners(batch, np.random.default_rng(_seed(config, "validation pairs", start)))
                batch = np.concatenate([batch, chosen])
            shape = (len(batch), config.codes)
            noise = _noise(config, "validation", start, shape, device)
            more = _noise(config, "more validation", start, shape, device) if needs.more_noise else None
            labels = _on_device(scaled_factors(data, batch), device) if needs.labelled_images else None
            given = Batch(images(batch), noise, state.step, state.memory, more, labels, num_train, state.network)
            with arithmetic(config, device):
                loss = _loss(config.objective, state.model, given)
            means.append(_means([loss], state.step))  # numbers: kept tensors would lie scattered over freed memory
    return {name: math.fsum(terms[name] for terms in means) / len(means) for name in means[0]}


def encode(
    config: Config,
    data: FactorData,
    rows: NDArray[np.int64],
    model: VAE,
    batch_size: int = 256,
    images: DeviceImages | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Posterior means and log variances of images, each (len(rows), codes) float32, in the order of the rows.

    Of a model that rounds its codes: the rounded codes, and the log variance of what has no variance, minus infinity.
    The data's images are put on the device where they are not given.
    """
    device = next(model.parameters()).device
    images = images or DeviceImages(data, device)
    mean = np.empty((len(rows), config.codes), np.float32)
    log_var = np.empty_like(mean)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode(), _evaluating(model), arithmetic(config, device):
        for start in range(0, len(rows), batch_size):
            span = slice(start, start + batch_size)
            posterior = model.encode(images(rows[span]))
            mean[span], log_var[span] = model.quantise(posterior.mean).cpu().numpy(), posterior.log_var.cpu().numpy()
    if model.code_values is not None:
        log_var[:] = -np.inf
    return mean, log_var


@contextmanager
def _evaluating(model: VAE) -> Iterator[None]:
    """What it gives for an image depends on that alone meanwhile; then each layer is as it was, in training or not."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training


def _on_device(table: NDArray[Any], device: torch.device) -> Tensor:
    """A table on a device, which may come to it after what was asked of the device before."""
    tensor = torch.from_numpy(table)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


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
