"""Settings of a run: one frozen dataclass. `config_files` reads and writes it. Imports no torch."""

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from betavae.files.conditions import parse_condition, parse_correlation
from betavae.files.validation import (
    check_above,
    check_at_least,
    check_evaluations,
    check_image_share,
    check_name,
    check_size,
    members_of,
    typed,
)
from betavae.networks.registry import ARCHITECTURES
from betavae.objectives import registry
from betavae.objectives.needs import needs_of
from betavae.objectives.registry import OBJECTIVES, objective_name
from betavae.objectives.settings import Beta

IN_MEMORY = "in memory"
"""`Config.data` of a run whose images were passed in Python; they cannot be loaded again by name."""


@dataclass(frozen=True)
class Config:
    """All settings that decide the numbers of a run."""

    objective: Any = field(default_factory=Beta)
    """Objective to minimise."""
    data: str = "dsprites"
    """A generated data set (`dsprites`, `rooms`, ...), a folder of images, the file or folder of a known data set, or
    NAME:PATH; `betavae data list` names all. Images passed in Python are recorded as `in memory`."""
    crop: int | None = None
    """Side of the square to cut from the centre of each image, in pixels; before `image_size`."""
    image_size: int | None = None
    """Side in pixels to which images are resized (Lanczos). Most architectures take 32, 64 and 128."""
    channels: Literal[1, 3] | None = None
    """Convert images to grey (1) or colour (3)."""
    bins: int | None = None
    """Merge the values of each factor that has more into this number of intervals of equal width."""
    train_images: int | float = 1.0
    """Training images: a number (150000) or, with a decimal point, a share (0.8). 1.0 takes all remaining images."""
    validation_images: int | float = 15_000
    """Held-out images for the validation curve and the final loss: a number or a share; 0 for none."""
    test_images: int | float = 0
    """Further images kept out of training and validation: a number or a share."""
    hold_out: tuple[str, ...] = ()
    """Combinations of factors to leave out of training and validation, such as "shape = heart & posX > 0.5". Scores
    stay on all images."""
    correlate: tuple[str, ...] = ()
    """Pairs of factors to correlate in the training images, such as shape~posX:0.1; a smaller number is a stronger
    correlation. Scores stay on all images."""
    model: str = "burgess"
    """Architecture of encoder and decoder."""
    latent_dim: int = 10
    """Dimensions of the latent space."""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """Distribution of pixels given latents: Bernoulli from logits, or Gaussian with unit variance."""
    steps: int = 300_000
    """Number of optimiser steps."""
    batch_size: int = 64
    """Images per step."""
    learning_rate: float = 1e-4
    """Learning rate of Adam and Muon; the peak if the schedule is one-cycle."""
    muon_after: int | None = None
    """Step from which Muon trains matrices and convolution kernels, and Adam only the rest. If unset, Adam trains all
    parameters."""
    muon_learning_rate: float | None = None
    """Learning rate of all parameters from `muon_after` on. If unset, `learning_rate`."""
    muon_weight_decay: float = 0.0
    """Decoupled weight decay of the parameters that Muon trains; a step multiplies it by the learning rate."""
    rotate_at: tuple[int, ...] = ()
    """Steps after which the latent space is rotated to minimise the total correlation of the latents. This disentangles
    symmetric factors such as posX and posY. Every posterior mean keeps its decoded image."""
    schedule: Literal["constant", "one-cycle"] = "constant"
    """Schedule of the learning rate: constant, or one-cycle (linear warm-up, then half a cosine down to 0)."""
    schedule_warmup_steps: int | None = None
    """Warm-up steps of the one-cycle schedule. If unset, a tenth of all steps."""
    scored_images: int | float = 1.0
    """Images to encode for scores and figures after training: a number or a share of all."""
    scores: tuple[str, ...] = ()
    """Metrics to compute after training, such as dci mig factor_vae. If empty, all that the data allow."""
    evaluations: int = 3
    """Evaluations of each metric with different seeds, for its interval; 1 for no interval."""
    figures: bool = True
    """Draw figures after training. `betavae figures` draws them later."""
    seed: int = 0
    """Seed of the split, the initial weights, the order of images and the noise."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the networks: auto is bf16 if the hardware is fast at it, else fp32."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`; auto takes the first accelerator found."""

    def __post_init__(self) -> None:
        if not dataclasses.is_dataclass(self.objective) or isinstance(self.objective, type):
            raise ValueError(f"objective is {self.objective!r}; it must be settings of one, such as Beta(beta=4.0)")
        for name, value in _plain_values(self).items():
            object.__setattr__(self, name, value)
        for name in ("train_images", "validation_images", "test_images", "scored_images"):
            check_image_share(name, getattr(self, name), required=name in ("train_images", "scored_images"))
        check_at_least(self, 4, "crop", "image_size")
        check_at_least(self, 2, "bins")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels is {self.channels}; it must be 1 (grey) or 3 (colour)")
        for condition in self.hold_out:
            parse_condition(condition)
        for correlation in self.correlate:
            parse_correlation(correlation)
        check_name("model", self.model, ARCHITECTURES)
        check_name("likelihood", self.likelihood, ("bernoulli", "gaussian"))
        check_name("schedule", self.schedule, ("constant", "one-cycle"))
        check_name("precision", self.precision, ("auto", "fp32", "bf16"))
        check_at_least(self, 1, "latent_dim", "steps", "batch_size", "evaluations", "schedule_warmup_steps")
        check_at_least(self, 0, "muon_after", "muon_weight_decay", "seed")
        check_evaluations("evaluations", self.evaluations)
        check_above(self, 0, "learning_rate", "muon_learning_rate")
        for name in ("muon_learning_rate", "muon_weight_decay"):
            if (given := getattr(self, name)) and self.muon_after is None:
                raise ValueError(f"{name} is {given}, and Adam trains all parameters: leave it out, or give muon_after")
        if self.schedule_warmup_steps is not None and self.schedule == "constant":
            raise ValueError(
                f"schedule_warmup_steps is {self.schedule_warmup_steps}, and a constant learning rate has no warm-up: "
                "leave it out, or take schedule one-cycle"
            )
        if list(self.rotate_at) != sorted({step for step in self.rotate_at if step >= 0}):
            raise ValueError(f"rotate_at is {list(self.rotate_at)}; it must be rising steps, such as 700 1400")
        needs = needs_of(self.objective)
        ties = {
            "values": needs.discrete_latents,
            "factors": needs.labelled_images,
            "a network of its own": needs.network_learning_rate,
        }
        if self.rotate_at and (tie := next((name for name, tied in ties.items() if tied), "")):
            raise ValueError(
                f"rotate_at is {list(self.rotate_at)}, and objective {objective_name(self.objective)} ties latents to "
                f"{tie}, which cannot be rotated: leave it out"
            )
        if self.latent_dim < needs.latents:
            raise ValueError(
                f"latent_dim is {self.latent_dim}; objective {objective_name(self.objective)} compares latents with "
                f"one another: give at least {needs.latents}"
            )
        if self.batch_size < needs.batch_images:
            raise ValueError(
                f"batch_size is {self.batch_size}; {needs.because} and needs at least {needs.batch_images} images"
            )
        if needs.halves and self.batch_size % 2:
            raise ValueError(
                f"batch_size is {self.batch_size}; objective {objective_name(self.objective)} uses the two halves "
                f"of a batch differently: give an even number, such as {self.batch_size + 1}"
            )


registry.RESERVED |= {setting.name for setting in dataclasses.fields(Config)}


def unreached(config: Config) -> list[str]:
    """Return settings that refer to steps which training does not reach.

    Example:
        >>> unreached(Config(steps=100, muon_after=200, rotate_at=(50, 300)))
        ['muon_after 200', 'rotate_at 300']
        >>> unreached(Config(steps=100, schedule="one-cycle", schedule_warmup_steps=101))
        ['schedule_warmup_steps 101']
    """
    begins = {"anneal_after": getattr(config.objective, "anneal_after", None), "muon_after": config.muon_after}
    late = [f"{name} {step}" for name, step in begins.items() if step is not None and step >= config.steps]
    late += [f"rotate_at {step}" for step in config.rotate_at if step >= config.steps]
    rise = config.schedule_warmup_steps or 0
    return [*late, f"schedule_warmup_steps {rise}"] if rise > config.steps else late


def _plain_values(settings: Any) -> dict[str, Any]:
    """Return the fields whose values do not have the declared type, converted to it.

    NumPy numbers become Python numbers, and paths become text. In objectives that users registered, only NumPy numbers
    are converted.
    """
    values = {}
    for name, kind, plain_types in _kinds(settings.__class__):
        value: Any = getattr(settings, name)
        for number in value if isinstance(value, tuple | list) else (value,):
            check_size(name, number)
        if type(value) in plain_types:
            continue
        if name != "objective":
            value = os.fspath(value) if isinstance(value, os.PathLike) else value
            values[name] = typed(name, value.tolist() if hasattr(value, "tolist") else value, kind)
        elif OBJECTIVES.is_shipped(objective_name(value)):
            values[name] = dataclasses.replace(value, **plain) if (plain := _plain_values(value)) else value
        else:
            inner = {own.name: getattr(value, own.name) for own in dataclasses.fields(value) if own.init}
            plain = {key: given.tolist() for key, given in inner.items() if hasattr(given, "tolist")}
            values[name] = dataclasses.replace(value, **plain) if plain else value
    return values


def _kinds(cls: type) -> list[tuple[str, Any, set[Any]]]:
    """Return the name and declared type of each field, and the types of values that need no conversion."""
    return [
        (name, kind, {str, int, float, bool, type(None)}.intersection(members_of(kind)))
        for name, kind in get_type_hints(cls).items()
    ]
