"""What a run is: one frozen dataclass, read from TOML or JSON, written as JSON. Imports no torch.

A configuration is flat, but for the table `[objective]` whose `name` says which objective the other keys belong to:

    seed = 3
    steps = 300_000
    [objective]
    name = "annealed"
    capacity_nats = 25.0
"""

import dataclasses
import difflib
import hashlib
import json
import math
import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Vae:
    """Reconstruction + rate (Kingma & Welling 2014). https://arxiv.org/abs/1312.6114"""


@dataclass(frozen=True)
class Beta:
    """β-VAE: reconstruction + β · rate (Higgins et al. 2017). https://openreview.net/forum?id=Sy2fzU9gl"""

    beta: float = 4.0
    """Weight of the rate: KL summed over codes, averaged over images, in nats. 1 is the VAE."""
    warmup_steps: int = 0
    """Steps over which β rises linearly from 0; 0 for none."""

    def __post_init__(self) -> None:
        _at_least("beta", self.beta, 0)
        _at_least("warmup_steps", self.warmup_steps, 0)


@dataclass(frozen=True)
class Annealed:
    """Controlled capacity: reconstruction + γ · |rate - C(step)| (Burgess et al. 2018). https://arxiv.org/abs/1804.03599"""

    gamma: float = 1000.0
    """Weight of the distance between the batch's mean rate and the capacity."""
    capacity_nats: float = 25.0
    """Capacity C at the end of its rise, in nats."""
    capacity_steps: int = 100_000
    """Steps over which C rises linearly from 0."""

    def __post_init__(self) -> None:
        _at_least("gamma", self.gamma, 0)
        _at_least("capacity_nats", self.capacity_nats, 0)
        _at_least("capacity_steps", self.capacity_steps, 1)


@dataclass(frozen=True)
class TC:
    """β-TCVAE: the VAE with (β - 1) · total correlation added (Chen et al. 2018). https://arxiv.org/abs/1802.04942"""

    beta: float = 6.0
    """Weight of the total correlation of the codes; 1 is the VAE."""
    warmup_steps: int = 0
    """Steps over which the weight of the whole rate rises linearly from 0 to 1 (and of TC from 0 to β); 0 for none."""
    memory_images: int = 0
    """Posteriors of past images that help to estimate total correlation; 0 is the paper, the batch alone."""

    def __post_init__(self) -> None:
        _at_least("beta", self.beta, 0)
        _at_least("warmup_steps", self.warmup_steps, 0)
        _at_least("memory_images", self.memory_images, 0)


ObjectiveSettings = Vae | Beta | Annealed | TC

OBJECTIVE_SETTINGS: dict[str, type[ObjectiveSettings]] = {
    "vae": Vae,
    "beta": Beta,
    "annealed": Annealed,
    "tc": TC,
}

ModelName = Literal["burgess", "locatello", "higgins", "residual", "wide"]


@dataclass(frozen=True)
class Config:
    """Everything that decides the numbers of a run."""

    objective: ObjectiveSettings = field(default_factory=Beta)
    """What is minimised."""
    data: str = "dsprites"
    """`dsprites` (drawn, no download) or the path of an .npz file with `imgs` and `latents_classes`."""
    train_images: int | float = 1.0
    """Images to train on: a number (150000) or, with a decimal point, a share (0.8). 1.0 is all that are left."""
    validation_images: int | float = 15_000
    """Held-out images for the validation curve and the final held-out terms: a number or a share; 0 for none."""
    test_images: int | float = 0
    """Further images kept out of training and validation: a number or a share."""
    model: ModelName = "burgess"
    """Architecture of encoder and decoder."""
    codes: int = 10
    """Number of codes (latent dimensions)."""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """Of pixels given codes: Bernoulli from logits, or Gaussian with unit variance."""
    steps: int = 300_000
    """Parameter updates."""
    batch_size: int = 64
    """Images a step."""
    learning_rate: float = 1e-4
    """Of Adam; the peak where the schedule is one-cycle."""
    schedule: Literal["constant", "one-cycle"] = "constant"
    """Learning rate over the run: constant, or one-cycle (linear rise over the first tenth, cosine fall to 0)."""
    scored_images: int | float = 1.0
    """Images to encode for scores and figures after training: a number or a share of all."""
    seed: int = 0
    """Of the split, the initial weights, the order of images and the noise."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the networks' arithmetic: auto is bf16 where the hardware multiplies it fast, else fp32."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`; auto takes the first accelerator there is."""

    def __post_init__(self) -> None:
        for name in ("train_images", "validation_images", "test_images", "scored_images"):
            _image_share(name, getattr(self, name), required=name in ("train_images", "scored_images"))
        _one_of("model", self.model, get_args(ModelName))
        _one_of("likelihood", self.likelihood, ("bernoulli", "gaussian"))
        _one_of("schedule", self.schedule, ("constant", "one-cycle"))
        _one_of("precision", self.precision, ("auto", "fp32", "bf16"))
        _at_least("codes", self.codes, 1)
        _at_least("steps", self.steps, 1)
        _at_least("batch_size", self.batch_size, 1)
        _at_least("seed", self.seed, 0)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be a positive number such as 1e-4")
        if isinstance(self.objective, TC) and self.batch_size < 2:
            raise ValueError(
                "batch_size is 1; total correlation is estimated within a batch and needs at least 2 images"
            )


# ---------------------------------------------------------------------------------------------------------------------
# Reading and writing
# ---------------------------------------------------------------------------------------------------------------------


def objective_name(settings: object) -> str:
    """Name of an objective's settings: its key in `OBJECTIVE_SETTINGS`, or the class name of one defined elsewhere."""
    names: dict[type, str] = {cls: name for name, cls in OBJECTIVE_SETTINGS.items()}
    return names.get(type(settings), type(settings).__name__.lower())


def to_dict(config: Config) -> dict[str, Any]:
    """A configuration as JSON-ready values; `from_dict` turns it back into an equal one.

    Example:
        >>> to_dict(Config())["objective"]
        {'name': 'beta', 'beta': 4.0, 'warmup_steps': 0}
    """
    values = dataclasses.asdict(config)
    values["objective"] = {"name": objective_name(config.objective), **values["objective"]}
    return values


def from_dict(values: Mapping[str, Any], where: str = "configuration") -> Config:
    """The configuration that a mapping describes; what it leaves out keeps its default.

    Args:
        values: keys of `Config`; `objective` is a table with a `name` and the keys of that objective.
        where: what to call the mapping in error messages, e.g. its file name.

    Raises:
        ValueError: unknown key, unknown name, wrong type, or value out of range.

    Example:
        >>> from_dict({"steps": 10, "objective": {"name": "tc", "beta": 8}}).objective
        TC(beta=8.0, warmup_steps=0, memory_images=0)
    """
    values = dict(values)
    if "objective" in values:
        table = values["objective"]
        if not isinstance(table, Mapping) or "name" not in table:
            raise ValueError(f"{where}: objective must be a table with a name, one of {', '.join(OBJECTIVE_SETTINGS)}")
        settings = dict(table)
        name = settings.pop("name")
        if name not in OBJECTIVE_SETTINGS:
            raise ValueError(f"{where}: {unknown('objective', str(name), OBJECTIVE_SETTINGS)}")
        values["objective"] = _build(OBJECTIVE_SETTINGS[name], settings, f"{where}: objective {name}")
    config: Config = _build(Config, values, where)
    return config


def load(path: str | Path) -> Config:
    """Read a configuration from a `.toml` recipe or a run's `config.json`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not TOML or JSON, or holds what `from_dict` refuses.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such recipe; give a .toml recipe or a run's config.json")
    text = path.read_text(encoding="utf-8")
    try:
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: not valid {'JSON' if path.suffix == '.json' else 'TOML'}: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: holds no table of settings")
    return from_dict(values, str(path))


def run_id(config: Config) -> str:
    """Name of a run's folder: what a reader asks first, then eight hexadecimal digits of all settings.

    Example:
        >>> run_id(Config(seed=3))
        'beta-burgess-seed3-...'
    """
    digest = hashlib.sha256(json.dumps(to_dict(config), sort_keys=True).encode()).hexdigest()[:8]
    return f"{objective_name(config.objective)}-{config.model}-seed{config.seed}-{digest}"


def unknown(kind: str, given: str, known: Iterable[str]) -> str:
    """The sentence for a name that is not known: the nearest one suggested, all listed.

    Example:
        >>> unknown("model", "burges", ["burgess", "wide"])
        "unknown model 'burges'; did you mean 'burgess'? Known: burgess, wide"
    """
    known = list(known)
    nearest = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ";"
    return f"unknown {kind} '{given}'{hint} Known: {', '.join(known)}"


def _build(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """An instance of a dataclass from a mapping, each key known and each value of the declared type."""
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise ValueError(f"{where}: {unknown('key', str(key), hints)}")
    try:
        return cls(**{key: _typed(key, value, hints[key]) for key, value in values.items()})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _typed(key: str, value: Any, kind: Any) -> Any:
    """The value if it is of the declared kind; an integer serves as a float."""
    if get_origin(kind) is Literal:
        _one_of(key, value, get_args(kind))
        return value
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if isinstance(value, bool) and bool not in kinds:
        raise ValueError(f"{key} is {value}; it must be a number")
    if isinstance(value, kinds):
        return value
    if float in kinds and isinstance(value, int):
        return float(value)
    raise ValueError(f"{key} is {value!r}; it must be of type {' or '.join(kind.__name__ for kind in kinds)}")


# ---------------------------------------------------------------------------------------------------------------------
# Ranges
# ---------------------------------------------------------------------------------------------------------------------


def _at_least(name: str, value: float, least: float) -> None:
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{name} is {value}; it must be a number of at least {least}")


def _one_of(name: str, value: Any, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(unknown(name, str(value), known))


def _image_share(name: str, value: int | float, required: bool) -> None:
    allowed = "a number of images (150000) or, with a decimal point, a share between 0 and 1 (0.8)"
    if not math.isfinite(value) or value < 0 or (isinstance(value, float) and value > 1) or (required and value == 0):
        raise ValueError(f"{name} is {value}; it must be {allowed}")
