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
import os
import tomllib
import types
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

PairRule = Literal["locatello", "one", "uniform"]


@dataclass(frozen=True)
class Needs:
    """What an objective takes beside images and noise: its settings say it in a property `needs`, training gives it."""

    batch_images: int = 1
    """Least number of images in a batch."""
    because: str = ""
    """Why so many, as the beginning of a sentence."""
    codes: int = 1
    """Least number of codes; with one there is nothing to tell apart."""
    halves: bool = False
    """Whether the two halves of a batch have different purposes, so that its size must be even."""
    pairs: PairRule | None = None
    """Rule by which image i of the second half is drawn to go with image i of the first."""
    labelled_images: int | float = 0
    """Training images whose factors are shown: a number or a share. Without pairs, the second half is of these."""
    more_noise: bool = False
    """Whether a second table of standard normal noise is wanted."""
    values_per_code: int = 0
    """Values that each code is rounded to; 0 for codes of any value."""
    weight_decay: float = 0.0
    """Decoupled decay of the model's weights; not of biases and code values."""
    network_learning_rate: float = 0.0
    """Of the objective's own network, where `NETWORKS` has one; it follows the schedule of the model's."""


def needs_of(settings: object) -> Needs:
    """What an objective needs; nothing where its settings do not say.

    Example:
        >>> needs_of(Beta()).pairs, needs_of(AdaGvae()).pairs
        (None, 'locatello')
    """
    needs: Needs = getattr(settings, "needs", Needs())
    return needs


@dataclass(frozen=True)
class Vae:
    """Reconstruction + rate (Kingma & Welling 2014). https://arxiv.org/abs/1312.6114
    It has no dial."""


@dataclass(frozen=True)
class Beta:
    """β-VAE: reconstruction + β · rate (Higgins et al. 2017). https://openreview.net/forum?id=Sy2fzU9gl
    Dial: --beta."""

    beta: float = 4.0
    """Weight of the rate: KL summed over codes, averaged over images, in nats. 1 is the VAE."""
    warmup_steps: int = 0
    """Steps over which β rises linearly from 0; 0 for none."""

    def __post_init__(self) -> None:
        _at_least(self, 0, "beta", "warmup_steps")


@dataclass(frozen=True)
class Annealed:
    """Controlled capacity: reconstruction + γ · |rate - C(step)| (Burgess et al. 2018). https://arxiv.org/abs/1804.03599
    Dial: --capacity-nats."""

    gamma: float = 1000.0
    """Weight of the distance between the batch's mean rate and the capacity."""
    capacity_nats: float = 25.0
    """Capacity C at the end of its rise, in nats."""
    capacity_steps: int = 100_000
    """Steps over which C rises linearly from 0."""

    def __post_init__(self) -> None:
        _at_least(self, 0, "gamma", "capacity_nats")
        _at_least(self, 1, "capacity_steps")


@dataclass(frozen=True)
class TC:
    """β-TCVAE: the VAE with (β - 1) · total correlation added (Chen et al. 2018). https://arxiv.org/abs/1802.04942
    Dial: --beta."""

    beta: float = 6.0
    """Weight of the total correlation of the codes; 1 is the VAE."""
    warmup_steps: int = 0
    """Steps over which the weight of the whole rate rises linearly from 0 to 1 (and of TC from 0 to β); 0 for none."""
    memory_images: int = 0
    """Posteriors of past images that help to estimate total correlation; 0 is the paper, the batch alone."""
    sampling: Literal["weighted", "stratified"] = "weighted"
    """Estimate of total correlation: minibatch-weighted sampling, or stratified, which knows the number of images."""
    final_beta: float | None = None
    """β at the end, where it falls by equal factors; it stays if this is not given."""
    fall_after: int = 0
    """Step from which β falls to `final_beta`."""
    fall_steps: int = 1000
    """Steps that the fall takes."""
    second_warmup_steps: int = 0
    """Steps from `fall_after` on over which the weight of the whole rate rises from 0 to 1 again; 0 for none."""

    def __post_init__(self) -> None:
        _at_least(self, 0, "beta", "warmup_steps", "memory_images", "fall_after", "second_warmup_steps")
        _at_least(self, 1, "fall_steps")
        if self.final_beta is not None:
            _above(self, 0, "beta", "final_beta")
            if self.final_beta > self.beta:
                raise ValueError(f"final_beta is {self.final_beta}, and β falls: give at most beta, {self.beta}")
        elif self.fall_after or self.second_warmup_steps:
            name = "fall_after" if self.fall_after else "second_warmup_steps"
            raise ValueError(f"{name} is {getattr(self, name)}, and β has nothing to fall to: give final_beta as well")
        check_name("sampling", self.sampling, ("weighted", "stratified"))
        if self.sampling == "stratified" and self.memory_images:
            raise ValueError(
                f"memory_images is {self.memory_images}; stratified sampling is of the batch alone: leave it at 0, "
                "or take sampling weighted"
            )

    @property
    def needs(self) -> Needs:
        """Two images at least."""
        return Needs(batch_images=2, because="total correlation is estimated within a batch", codes=2)


@dataclass(frozen=True)
class Factor:
    """FactorVAE: the VAE with γ · total correlation added, as a discriminator sees it (Kim & Mnih 2018).
    https://arxiv.org/abs/1802.05983
    Dial: --gamma. The VAE trains on the first half of a batch, the discriminator is shown codes of the second.
    """

    gamma: float = 35.0
    """Weight of the total correlation; 0 is the VAE. The paper's best on dSprites is 35, the study's grid 10 to 100."""
    discriminator_learning_rate: float = 1e-4
    """Of the discriminator's Adam, whose betas are 0.5 and 0.9; it follows the schedule of the model's."""
    discriminator_layers: int = 6
    """Hidden layers of the discriminator."""
    discriminator_width: int = 1000
    """Units of each."""

    def __post_init__(self) -> None:
        _at_least(self, 0, "gamma")
        _above(self, 0, "discriminator_learning_rate")
        _at_least(self, 1, "discriminator_layers", "discriminator_width")

    @property
    def needs(self) -> Needs:
        """Two halves of two images at least, a permutation, a discriminator."""
        return Needs(
            batch_images=4,
            codes=2,
            because="codes are permuted within half a batch",
            halves=True,
            more_noise=True,
            network_learning_rate=self.discriminator_learning_rate,
        )


@dataclass(frozen=True)
class Dip1:
    """DIP-VAE-I: the VAE with the covariance of posterior means pressed to the identity (Kumar et al. 2018).
    https://arxiv.org/abs/1711.00848
    Dial: --off-diagonal."""

    off_diagonal: float = 10.0
    """λ_od: weight of the squared covariances. The study's grid is 1, 2, 5, 10, 20, 50."""
    diagonal_ratio: float = 10.0
    """λ_d / λ_od: the weight of the squared deviations of variances from 1, in λ_od."""

    def __post_init__(self) -> None:
        _at_least(self, 0, "off_diagonal", "diagonal_ratio")

    @property
    def needs(self) -> Needs:
        """Two images at least."""
        return Needs(batch_images=2, because="covariance is estimated within a batch")


@dataclass(frozen=True)
class Dip2(Dip1):
    """DIP-VAE-II: the VAE with the covariance of sampled codes pressed to the identity (Kumar et al. 2018).
    https://arxiv.org/abs/1711.00848
    Dial: --off-diagonal."""

    diagonal_ratio: float = 1.0
    """λ_d / λ_od: the weight of the squared deviations of variances from 1, in λ_od."""


@dataclass(frozen=True)
class Info:
    """InfoVAE: reconstruction + (1 - α) · rate + (α + λ - 1) · MMD(q(z), p(z)) (Zhao et al. 2019).
    https://arxiv.org/abs/1706.02262
    Dial: --divergence. MMD is the squared maximum mean discrepancy with a kernel of at most 1."""

    alpha: float = 0.0
    """α: nats of information between image and code that cost nothing, as a share of the rate; at most 1."""
    divergence: float = 1000.0
    """λ: weight of the aggregate posterior's distance from the prior. α = 0 and λ = 1 is the VAE."""
    kernel: Literal["imq", "rbf"] = "imq"
    """Kernel of MMD: inverse multiquadratic of seven widths, or Gaussian."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha <= 1):
            raise ValueError(f"alpha is {self.alpha}; it must be at most 1, for 1 - alpha is the weight of the rate")
        check_name("kernel", self.kernel, ("imq", "rbf"))
        if not (math.isfinite(self.divergence) and self.alpha + self.divergence >= 1):
            raise ValueError(
                f"alpha is {self.alpha} and divergence {self.divergence}; their sum must be at least 1, for MMD is "
                "weighed with their sum - 1 and a negative weight would drive codes away from the prior"
            )

    @property
    def needs(self) -> Needs:
        """Two images at least, samples of the prior."""
        return Needs(batch_images=2, because="MMD is estimated within a batch", more_noise=True)


@dataclass(frozen=True)
class Control:
    """ControlVAE: β-VAE whose β a PI controller sets so that the rate follows a capacity (Shao et al. 2020).
    https://arxiv.org/abs/2004.05988
    Dial: --capacity-nats."""

    capacity_nats: float = 18.0
    """Rate to reach in the end."""
    start_nats: float = 0.5
    """Capacity at the start."""
    rise_nats: float = 0.15
    """By which the capacity rises every `rise_steps`."""
    rise_steps: int = 5000
    """Steps between two rises."""
    proportional: float = 0.01
    """Gain K_p of the controller."""
    integral: float = 0.001
    """Gain K_i of the controller."""
    least_beta: float = 1.0
    """β is never below. With both gains 0, β is this."""

    def __post_init__(self) -> None:
        _at_least(self, 0, "capacity_nats", "start_nats", "rise_nats", "proportional", "integral", "least_beta")
        _at_least(self, 1, "rise_steps")


@dataclass(frozen=True)
class Dynamic:
    """DynamicVAE: β starts high and an incremental PI controller lets the rate rise to a capacity (Shao et al. 2022).
    https://arxiv.org/abs/2009.06795
    Dial: --capacity-nats."""

    capacity_nats: float = 20.0
    """Rate to reach in the end."""
    start_nats: float = 0.5
    """Capacity at the start."""
    rise_nats: float = 0.15
    """By which the capacity rises every `rise_steps`, from the second time on."""
    rise_steps: int = 6000
    """Steps between two rises."""
    ramp_steps: int = 1000
    """Steps that a rise takes."""
    average_steps: int = 5
    """Steps whose rates are averaged before they are compared with the capacity."""
    proportional: float = 0.01
    """Gain K_p of the controller."""
    integral: float = 0.005
    """Gain K_i of the controller."""
    start_beta: float = 50.0
    """β at the start."""
    least_beta: float = 0.1
    """β is never below."""

    def __post_init__(self) -> None:
        _at_least(self, 0, "capacity_nats", "start_nats", "rise_nats", "proportional", "integral", "least_beta")
        _at_least(self, 1, "rise_steps", "ramp_steps", "average_steps")
        _at_least(self, self.least_beta, "start_beta")
        if self.ramp_steps > self.rise_steps:
            raise ValueError(
                f"ramp_steps is {self.ramp_steps}; a rise cannot take longer than the {self.rise_steps} of rise_steps"
            )


@dataclass(frozen=True)
class AdaGvae:
    """Ada-GVAE: β-VAE of image pairs, posteriors of what they seem to share averaged (Locatello et al. 2020).
    https://arxiv.org/abs/2002.02886
    Dial: --beta. A batch is of pairs, drawn by the factors of the data; the objective does not see the factors."""

    beta: float = 1.0
    """Weight of the rate. The paper's grid is 1, 2, 4, 6, 8, 16."""
    pairs: PairRule = "locatello"
    """Factors redrawn for a pair's second image: one in half of the pairs, else a random number (locatello); one; a
    random number (uniform). At least one stays; a value drawn anew may be the old one."""

    def __post_init__(self) -> None:
        _at_least(self, 0, "beta")
        check_name("pairs", self.pairs, get_args(PairRule))

    @property
    def needs(self) -> Needs:
        """Pairs."""
        return Needs(batch_images=2, because="images come in pairs", codes=2, halves=True, pairs=self.pairs)


@dataclass(frozen=True)
class AdaMlvae(AdaGvae):
    """Ada-ML-VAE: as Ada-GVAE, with the product of posteriors in place of their average (Locatello et al. 2020).
    https://arxiv.org/abs/2002.02886
    Dial: --beta. A batch is of pairs, drawn by the factors of the data; the objective does not see the factors."""


@dataclass(frozen=True)
class Group:
    """GVAE and ML-VAE: β-VAE of image pairs that are known to share factors, a code to each (Bouchacourt et al. 2018).
    https://arxiv.org/abs/1705.08841
    Dial: --beta. Code k belongs to factor k; codes without a factor are shared by every pair."""

    beta: float = 1.0
    """Weight of the rate. The grid of Locatello et al. 2020 is 1, 2, 4, 6, 8, 16."""
    pairs: PairRule = "one"
    """Factors redrawn for a pair's second image: one; one in half of the pairs, else a random number (locatello); a
    random number (uniform). At least one stays; a value drawn anew may be the old one."""
    averaging: Literal["gvae", "mlvae"] = "mlvae"
    """Posterior of a shared code: the product of the two (mlvae), or their average (gvae; Hosoya 2019)."""

    def __post_init__(self) -> None:
        _at_least(self, 0, "beta")
        check_name("pairs", self.pairs, get_args(PairRule))
        check_name("averaging", self.averaging, ("gvae", "mlvae"))

    @property
    def needs(self) -> Needs:
        """Pairs with their factors."""
        return Needs(batch_images=2, because="images come in pairs", halves=True, pairs=self.pairs, labelled_images=1.0)


@dataclass(frozen=True)
class Semi:
    """β-VAE with γ · a supervised loss on a few labelled images, code k predicting factor k (Locatello et al. 2020).
    https://arxiv.org/abs/1905.01258
    Dial: --gamma. The first half of a batch is of any training images, the second of labelled ones."""

    gamma: float = 100.0
    """Weight of the supervised loss, which is summed over factors and averaged over labelled images; 0 is the β-VAE."""
    beta: float = 1.0
    """Weight of the rate."""
    labelled_images: int | float = 1000
    """Training images with labels: a number (1000) or, with a decimal point, a share (0.01)."""
    supervision: Literal["xent", "l2", "covariance"] = "xent"
    """Cross-entropy or squared error between sigmoid(code k) and factor k scaled to [0, 1], or squared covariances of
    codes with the factors of others."""

    def __post_init__(self) -> None:
        _at_least(self, 0, "gamma", "beta")
        _image_share("labelled_images", self.labelled_images, required=True)
        check_name("supervision", self.supervision, ("xent", "l2", "covariance"))

    @property
    def needs(self) -> Needs:
        """Labels."""
        least = 4 if self.supervision == "covariance" else 2
        because = "half of a batch has labels"
        return Needs(batch_images=least, because=because, halves=True, labelled_images=self.labelled_images)


@dataclass(frozen=True)
class Hfs:
    """Hausdorff factorised support: β-VAE whose codes are to occur in every combination (Roth et al. 2023).
    https://arxiv.org/abs/2210.07347
    Dial: --gamma."""

    gamma: float = 100.0
    """Weight of the squared Hausdorff distances of pairs of codes; 0 is the β-VAE. The paper's grid is 0.1 to 1e4."""
    beta: float = 1.0
    """Weight of the rate. The paper's grid is 0, 1, 2, 4, 6, 8, 10, 16."""
    code_pairs: int = 25
    """Pairs of codes a step, drawn at random; all where there are fewer."""
    scale: float = 0.0
    """Weight of the shortfall of each code's standard deviation over the batch from 1."""

    def __post_init__(self) -> None:
        _at_least(self, 0, "gamma", "beta", "scale")
        _at_least(self, 1, "code_pairs")

    @property
    def needs(self) -> Needs:
        """Two images at least, random pairs of codes."""
        return Needs(batch_images=2, because="support is estimated within a batch", codes=2, more_noise=True)


@dataclass(frozen=True)
class Qlae:
    """QLAE: an autoencoder with each code rounded to one of a few values, and weight decay (Hsu et al. 2023).
    https://arxiv.org/abs/2305.18378
    Dial: --weight-decay."""

    weight_decay: float = 0.1
    """Decoupled decay of the weights (AdamW); not of biases and code values."""
    values_per_code: int = 10
    """Values that a code can take, learned, at first evenly from -0.5 to 0.5."""
    quantisation: float = 0.41
    """Weight of the squared distance by which values follow codes, summed over codes: the original's 0.001 of means
    over 4,096 pixels and 10 codes is 0.41 of sums."""
    commitment: float = 0.41
    """Weight of the same distance by which codes follow values."""

    def __post_init__(self) -> None:
        _at_least(self, 0, "weight_decay", "quantisation", "commitment")
        _at_least(self, 2, "values_per_code")

    @property
    def needs(self) -> Needs:
        """Rounded codes and weight decay."""
        return Needs(values_per_code=self.values_per_code, weight_decay=self.weight_decay)


OBJECTIVE_SETTINGS: dict[str, type[Any]] = {
    "vae": Vae,
    "beta": Beta,
    "annealed": Annealed,
    "tc": TC,
    "factor": Factor,
    "dip1": Dip1,
    "dip2": Dip2,
    "info": Info,
    "control": Control,
    "dynamic": Dynamic,
    "ada-gvae": AdaGvae,
    "ada-mlvae": AdaMlvae,
    "group": Group,
    "semi": Semi,
    "hfs": Hfs,
    "qlae": Qlae,
}
"""Objectives by name; an own one is added here, and to `OBJECTIVES`."""
_SHIPPED = frozenset(OBJECTIVE_SETTINGS.values())
if TYPE_CHECKING:
    ObjectiveSettings = Any
else:
    ObjectiveSettings = Union[tuple(OBJECTIVE_SETTINGS.values())]  # noqa: UP007

ModelName = Literal["burgess", "locatello", "higgins", "residual", "wide"]

MODEL_NAMES: list[str] = list(get_args(ModelName))
"""Architectures by name; an own one is added here, and to `ARCHITECTURES`."""


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
    """Of Adam and of Muon; the peak where the schedule is one-cycle."""
    muon_after: int | None = None
    """Steps after which Muon moves matrices and kernels and Adam only the rest, which learns more from fewer images;
    Adam moves all of them always if not given."""
    muon_learning_rate: float | None = None
    """Learning rate of all weights from `muon_after` on; `learning_rate` if not given."""
    muon_weight_decay: float = 0.0
    """Decoupled decay of what Muon moves: a step shrinks it by this times the learning rate."""
    rotate_at: tuple[int, ...] = ()
    """Steps after which the axes of the codes are turned to where these depend on one another least: it parts what
    training has mixed, such as the two of position, and every mean keeps its image."""
    schedule: Literal["constant", "one-cycle"] = "constant"
    """Learning rate over the run: constant, or one-cycle (linear rise, then half a cosine down to 0)."""
    schedule_rise_steps: int | None = None
    """Steps over which the rate of one-cycle rises; a tenth of all if not given."""
    scored_images: int | float = 1.0
    """Images to encode for scores and figures after training: a number or a share of all."""
    scores: tuple[str, ...] = ()
    """Metrics after training, such as dci mig factor_vae; all that the data allow if empty."""
    evaluations: int = 3
    """Evaluations of each metric with different seeds, from which its interval comes; 1 for no interval."""
    figures: bool = True
    """Draw figures after training; `betavae figures` draws them later."""
    seed: int = 0
    """Of the split, the initial weights, the order of images and the noise."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the networks' arithmetic: auto is bf16 where the hardware multiplies it fast, else fp32."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`; auto takes the first accelerator there is."""

    def __post_init__(self) -> None:
        if not dataclasses.is_dataclass(self.objective) or isinstance(self.objective, type):
            raise ValueError(f"objective is {self.objective!r}; it must be settings of one, such as Beta(beta=4.0)")
        for name, value in _plain_values(self).items():
            object.__setattr__(self, name, value)
        for name in ("train_images", "validation_images", "test_images", "scored_images"):
            _image_share(name, getattr(self, name), required=name in ("train_images", "scored_images"))
        check_name("model", self.model, MODEL_NAMES)
        check_name("likelihood", self.likelihood, ("bernoulli", "gaussian"))
        check_name("schedule", self.schedule, ("constant", "one-cycle"))
        check_name("precision", self.precision, ("auto", "fp32", "bf16"))
        _at_least(self, 1, "codes", "steps", "batch_size", "evaluations", "schedule_rise_steps")
        _at_least(self, 0, "muon_after", "muon_weight_decay", "seed")
        _above(self, 0, "learning_rate", "muon_learning_rate")
        for name in ("muon_learning_rate", "muon_weight_decay"):
            if (given := getattr(self, name)) and self.muon_after is None:
                raise ValueError(f"{name} is {given}, and Adam moves all weights: leave it out, or give muon_after")
        if self.schedule_rise_steps is not None and self.schedule == "constant":
            raise ValueError(
                f"schedule_rise_steps is {self.schedule_rise_steps}, and a constant learning rate does not rise: "
                "leave it out, or take schedule one-cycle"
            )
        if list(self.rotate_at) != sorted({step for step in self.rotate_at if step >= 0}):
            raise ValueError(f"rotate_at is {list(self.rotate_at)}; it must be rising steps, such as 700 1400")
        needs = needs_of(self.objective)
        ties = {
            "values": needs.values_per_code,
            "factors": needs.labelled_images,
            "a network of its own": needs.network_learning_rate,
        }
        if self.rotate_at and (tie := next((name for name, tied in ties.items() if tied), "")):
            raise ValueError(
                f"rotate_at is {list(self.rotate_at)}, and objective {objective_name(self.objective)} ties codes to "
                f"{tie}, which would not turn with them: leave it out"
            )
        if self.codes < needs.codes:
            raise ValueError(
                f"codes is {self.codes}; objective {objective_name(self.objective)} parts codes from one another: "
                f"give at least {needs.codes}"
            )
        if self.batch_size < needs.batch_images:
            raise ValueError(
                f"batch_size is {self.batch_size}; {needs.because} and needs at least {needs.batch_images} images"
            )
        if needs.halves and self.batch_size % 2:
            raise ValueError(
                f"batch_size is {self.batch_size}; objective {objective_name(self.objective)} takes the halves of a "
                f"batch apart: give an even number, such as {self.batch_size + 1}"
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
    given = {own.name: values["objective"][own.name] for own in dataclasses.fields(config.objective) if own.init}
    values["objective"] = {"name": objective_name(config.objective), **given}
    return values


def from_dict(values: Mapping[str, Any], where: str = "configuration") -> Config:
    """The configuration that a mapping describes; what it leaves out keeps its default.

    Args:
        values: keys of `Config`; `objective` is a table with a `name` and the keys of that objective.
        where: what to call the mapping in error messages, e.g. its file name.

    Raises:
        ValueError: unknown key, unknown name, wrong type, or value out of range.

    Example:
        >>> from_dict({"steps": 10, "objective": {"name": "beta", "beta": 8}}).objective
        Beta(beta=8.0, warmup_steps=0)
    """
    values = dict(values)
    if "objective" in values:
        table = values["objective"]
        if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
            raise ValueError(f"{where}: objective must be a table with a name, one of {', '.join(OBJECTIVE_SETTINGS)}")
        settings = dict(table)
        name = settings.pop("name")
        if name not in OBJECTIVE_SETTINGS:
            raise ValueError(f"{where}: {unknown('objective', name, OBJECTIVE_SETTINGS)}")
        values["objective"] = _build(OBJECTIVE_SETTINGS[name], settings, f"{where}: objective {name}")
    config: Config = _build(Config, values, where)
    return config


def load(path: str | Path) -> Config:
    """Read a configuration from a `.toml` recipe or a run's `config.json`; raises as `read` and `from_dict` do."""
    return from_dict(read(path), str(path))


def read(path: str | Path) -> dict[str, Any]:
    """The settings in a `.toml` recipe, of a run or a study, or in a run's `config.json`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not TOML or JSON, or no table.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such recipe; give a .toml file, the name of one shipped, or a config.json")
    try:
        text = path.read_text(encoding="utf-8")
        values: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: not valid {'JSON' if path.suffix == '.json' else 'TOML'}: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: holds no table of settings")
    return values


def equivalent_betas(beta: float, codes: int, pixels: int) -> dict[str, float]:
    """The β by which others would say the same, where reconstruction or KL are averaged and not summed.

    Ours weighs the KL summed over codes against the error summed over pixels. A loss may be multiplied by any number,
    so averaging the error over P pixels divides β by P, and averaging the KL over D codes multiplies it by D.

    Args:
        beta: ours.
        codes: D.
        pixels: P, channels counted.

    Example:
        >>> {name: round(beta, 5) for name, beta in equivalent_betas(4.0, 10, 4096).items()}
        {'pixels averaged': 0.00098, 'pixels and codes averaged': 0.00977, 'codes averaged': 40.0}
    """
    return {
        "pixels averaged": beta / pixels,
        "pixels and codes averaged": beta * codes / pixels,
        "codes averaged": beta * codes,
    }


def defaults(settings: type) -> dict[str, Any]:
    """Defaults of `Config` or of an objective's settings, without what has none of its own, such as the objective.

    Example:
        >>> defaults(Beta)
        {'beta': 4.0, 'warmup_steps': 0}
    """
    fields = dataclasses.fields(settings)
    return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}


def changed(config: Config) -> dict[str, Any]:
    """What of `to_dict` is not as by default, and the objective's name.

    Example:
        >>> changed(Config(Beta(8.0), steps=10))
        {'objective': {'name': 'beta', 'beta': 8.0}, 'steps': 10}
    """

    def told(values: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
        return {
            key: value
            for key, value in values.items()
            if key not in usual or json.dumps(value) != json.dumps(usual[key])  # 1 is one image, 1.0 all of them
        }

    values = told(to_dict(config), defaults(Config))
    return {**values, "objective": told(values["objective"], defaults(type(config.objective)))}


def run_id(config: Config) -> str:
    """Name of a run's folder: what a reader asks first, then twelve hexadecimal digits of all settings.

    Settings at their defaults do not count, so a version that knows more settings gives the same name.

    Example:
        >>> run_id(Config(seed=3))
        'beta-burgess-seed3-...'
    """
    digest = hashlib.sha256(json.dumps(changed(config), sort_keys=True).encode()).hexdigest()[:12]
    return f"{objective_name(config.objective)}-{config.model}-seed{config.seed}-{digest}"


_EXTENDED = ("objective", "model", "metric")
"""Kinds of names that a file of the user's own may add to."""


def unreached(config: Config) -> list[str]:
    """Settings of a `Config` or its objective for steps that training does not reach.

    Example:
        >>> unreached(Config(steps=100, muon_after=200, rotate_at=(50, 300)))
        ['muon_after 200', 'rotate_at 300']
        >>> unreached(Config(steps=100, schedule="one-cycle", schedule_rise_steps=101))
        ['schedule_rise_steps 101']
    """
    begins = {"fall_after": getattr(config.objective, "fall_after", None), "muon_after": config.muon_after}
    late = [f"{name} {step}" for name, step in begins.items() if step is not None and step >= config.steps]
    late += [f"rotate_at {step}" for step in config.rotate_at if step >= config.steps]
    rise = config.schedule_rise_steps or 0
    return [*late, f"schedule_rise_steps {rise}"] if rise > config.steps else late


def unknown(kind: str, given: str, known: Iterable[str]) -> str:
    """The sentence for a name that is not known: the nearest one suggested, all listed, and what makes own ones known.

    Example:
        >>> unknown("recipe", "dem", ["demo", "fast"])
        "unknown recipe 'dem'; did you mean 'demo'? Known: demo, fast"
    """
    known = list(known)
    nearest = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ";"
    own = "; if it is your own, name the file that defines it: betavae --import FILE ..."
    return f"unknown {kind} '{given}'{hint} Known: {', '.join(known)}" + own * (kind in _EXTENDED)


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


def _plain_values(settings: Any) -> dict[str, Any]:
    """The fields of `Config` or of a shipped objective whose values may not be of the declared type, as these.

    Numpy's numbers become Python's, paths text. Of an objective from outside nothing but these numbers is touched.
    """
    values = {}
    for name, kind, plain_types in _kinds(settings.__class__):
        value: Any = getattr(settings, name)
        if type(value) in plain_types:
            continue
        if name != "objective":
            value = os.fspath(value) if isinstance(value, os.PathLike) else value
            values[name] = _typed(name, value.tolist() if hasattr(value, "tolist") else value, kind)
        elif type(value) in _SHIPPED:
            values[name] = dataclasses.replace(value, **plain) if (plain := _plain_values(value)) else value
        else:
            inner = {own.name: getattr(value, own.name) for own in dataclasses.fields(value) if own.init}
            plain = {key: given.tolist() for key, given in inner.items() if hasattr(given, "tolist")}
            values[name] = dataclasses.replace(value, **plain) if plain else value
    return values


@lru_cache
def _kinds(cls: type) -> list[tuple[str, Any, set[Any]]]:
    """Of each field its name, its declared kind, and the types whose values need no second look."""
    return [
        (name, kind, {str, int, float, bool, type(None)}.intersection(_options(kind)))
        for name, kind in get_type_hints(cls).items()
    ]


def _options(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the kind itself."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _typed(key: str, value: Any, kind: Any) -> Any:
    """The value if it is of the declared kind; an integer serves as a float, a list as a tuple."""
    options = _options(kind)
    if type(value) in options or dataclasses.is_dataclass(value):
        return value  # objectives come from a table, which can be added to
    for option in options:
        with suppress(ValueError):
            return _as(key, value, option)
    if isinstance(value, bool):
        raise ValueError(f"{key} is {value}; it must be a number")
    raise ValueError(f"{key} is {value!r}; it must be {' or '.join(map(_in_words, options))}")


def _as(key: str, value: Any, kind: Any) -> Any:
    """The value as one kind, which is no union; what cannot be judged passes."""
    plain = get_origin(kind) or kind
    if plain in (tuple, list):
        if not isinstance(value, list | tuple):
            raise ValueError
        members = get_args(kind) or (Any, ...)
        wanted = members[:1] * len(value) if plain is list or ... in members else members
        return plain(_typed(key, entry, member) for entry, member in zip(value, wanted, strict=True))
    if plain is Any or not isinstance(plain, type):
        return value  # the dataclass itself checks names of a `Literal`, which can be added to
    if isinstance(value, plain) and (plain is bool or not isinstance(value, bool)):
        return value
    if plain is float and type(value) is int:
        return float(value)
    raise ValueError


def _in_words(kind: Any) -> str:
    plain = get_origin(kind) or kind
    if plain not in (tuple, list):
        return f"of type {getattr(plain, '__name__', plain)}"
    names = [getattr(member, "__name__", str(member)) for member in get_args(kind) if member is not ...]
    return f"a list of {', '.join(names) or 'values'}"


# ---------------------------------------------------------------------------------------------------------------------
# Ranges
# ---------------------------------------------------------------------------------------------------------------------


def _at_least(settings: object, least: float, *names: str) -> None:
    """Refuse settings below a number; one that is not given, None, passes."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not (math.isfinite(value) and value >= least):
            raise ValueError(f"{name} is {value}; it must be a number of at least {least}")


def _above(settings: object, bound: float, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not (math.isfinite(value) and value > bound):
            raise ValueError(f"{name} is {value}; it must be a number above {bound}")


def check_name(kind: str, given: Any, known: Iterable[str]) -> None:
    """Refuse a name that is not known, with the sentence of `unknown`."""
    if given not in known:
        raise ValueError(unknown(kind, str(given), known))


def _image_share(name: str, value: int | float, required: bool) -> None:
    allowed = "a number of images (150000) or, with a decimal point, a share between 0 and 1 (0.8)"
    if not math.isfinite(value) or value < 0 or (isinstance(value, float) and value > 1) or (required and value == 0):
        raise ValueError(f"{name} is {value}; it must be {allowed}")
