"""Settings of the objectives, a frozen dataclass each, and what an objective can need. Imports no torch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from betavae.files.validation import check_above, check_at_least, check_image_share, check_name
from betavae.objectives.schedules import ramp, since

LARGEST_NETWORK = 1_000_000_000
"""Weights that an objective's own network may have: 16 GB while it trains."""
MAX_VALUES = 10_000
"""Values that a latent may be rounded to."""

PairRule = Literal["locatello", "one", "uniform"]


@dataclass(frozen=True)
class Needs:
    """What an objective takes beside images and noise: its settings say it in a property `needs`, training gives it."""

    batch_images: int = 1
    """Least number of images in a batch."""
    because: str = ""
    """Why so many, as the beginning of a sentence."""
    latents: int = 1
    """Least number of latents; with one there is nothing to tell apart."""
    halves: bool = False
    """Whether the two halves of a batch have different purposes, so that its size must be even."""
    pairs: PairRule | None = None
    """Rule by which image i of the second half is drawn to go with image i of the first."""
    labelled_images: int | float = 0
    """Training images whose factors are shown: a number or a share. Without pairs, the second half is of these."""
    more_noise: bool = False
    """Whether a second table of standard normal noise is wanted."""
    discrete_latents: bool = False
    """Whether latents take few values each, as those of a quantised latent space."""
    posterior_in_memory: tuple[str, str] | None = None
    """Names under which the objective's memory holds posterior means and log variances; they are rotated with the
    latent space."""
    weight_decay: float = 0.0
    """Decoupled decay of the model's weights; not of biases and codebooks."""
    network_learning_rate: float = 0.0
    """Of the objective's own network, if it has one; it follows the schedule of the model's."""


def schedule_of(settings: object, step: int) -> dict[str, float]:
    """The numbers that an objective's settings schedule for a step; none if they have no method ``schedule``.

    Example:
        >>> schedule_of(Beta(beta=4.0, warmup_steps=100), 50), schedule_of(Vae(), 50)
        ({'beta': 2.0}, {})
    """
    schedule: Callable[[int], dict[str, float]] | None = getattr(settings, "schedule", None)
    return schedule(step) if schedule else {}


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
    """Weight of the rate: KL summed over latents, averaged over images, in nats. 1 is the VAE."""
    warmup_steps: int = 0
    """Steps over which β rises linearly from 0; 0 for none."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "beta", "warmup_steps")

    def schedule(self, step: int) -> dict[str, float]:
        """β of a step."""
        return {"beta": self.beta * ramp(step, self.warmup_steps)}


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
        check_at_least(self, 0, "gamma", "capacity_nats")
        check_at_least(self, 1, "capacity_steps")

    def schedule(self, step: int) -> dict[str, float]:
        """Capacity of a step, in nats."""
        return {"capacity_nats": self.capacity_nats * ramp(step, self.capacity_steps)}


@dataclass(frozen=True)
class TC:
    """β-TCVAE: the VAE with (β - 1) · total correlation added (Chen et al. 2018). https://arxiv.org/abs/1802.04942
    Dial: --beta."""

    beta: float = 6.0
    """Weight of the total correlation of the latents; 1 is the VAE."""
    warmup_steps: int = 0
    """Steps over which the weight of the whole rate rises linearly from 0 to 1 (and of TC from 0 to β); 0 for none."""
    memory_images: int = 0
    """Posteriors of past images that help to estimate total correlation; 0 is the paper, the batch alone."""
    sampling: Literal["weighted", "stratified"] = "weighted"
    """Estimate of total correlation: minibatch-weighted sampling, or stratified, which knows the number of images."""
    final_beta: float | None = None
    """β at the end, where it falls by equal factors; it stays if this is not given."""
    anneal_after: int = 0
    """Step from which β falls to `final_beta`."""
    anneal_steps: int = 1000
    """Steps that the fall takes."""
    second_warmup_steps: int = 0
    """Steps from `anneal_after` on over which the weight of the whole rate rises from 0 to 1 again; 0 for none."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "beta", "warmup_steps", "memory_images", "anneal_after", "second_warmup_steps")
        check_at_least(self, 1, "anneal_steps")
        if self.final_beta is not None:
            check_above(self, 0, "beta", "final_beta")
            if self.final_beta > self.beta:
                raise ValueError(f"final_beta is {self.final_beta}, and β falls: give at most beta, {self.beta}")
        elif self.anneal_after or self.second_warmup_steps:
            name = "anneal_after" if self.anneal_after else "second_warmup_steps"
            raise ValueError(f"{name} is {getattr(self, name)}, and β has nothing to fall to: give final_beta as well")
        check_name("sampling", self.sampling, ("weighted", "stratified"))
        if self.sampling == "stratified" and self.memory_images:
            raise ValueError(
                f"memory_images is {self.memory_images}; stratified sampling is of the batch alone: leave it at 0, "
                "or take sampling weighted"
            )

    def schedule(self, step: int) -> dict[str, float]:
        """Weight of the KL term, and β, which is annealed geometrically from ``beta`` to ``final_beta``.

        Example:
            >>> settings = TC(beta=16.0, final_beta=4.0, anneal_after=100, anneal_steps=10)
            >>> [round(settings.schedule(step)["beta"], 6) for step in (0, 100, 105, 110, 500)]
            [16.0, 16.0, 8.0, 4.0, 4.0]
        """
        weight, beta = ramp(step, self.warmup_steps), self.beta
        if self.second_warmup_steps and step >= self.anneal_after:
            weight = ramp(since(step, self.anneal_after), self.second_warmup_steps)
        if self.final_beta is not None:
            beta *= (self.final_beta / beta) ** ramp(since(step, self.anneal_after), self.anneal_steps)
        return {"kl_weight": weight, "beta": beta}

    @property
    def needs(self) -> Needs:
        """Two images at least."""
        return Needs(
            batch_images=2,
            because="total correlation is estimated within a batch",
            latents=2,
            posterior_in_memory=("mean", "log_var"),
        )


@dataclass(frozen=True)
class Factor:
    """FactorVAE: the VAE with γ · total correlation added, as a discriminator sees it (Kim & Mnih 2018).
    https://arxiv.org/abs/1802.05983
    Dial: --gamma. The VAE trains on the first half of a batch, the discriminator is shown latents of the second.
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
        check_at_least(self, 0, "gamma")
        check_above(self, 0, "discriminator_learning_rate")
        check_at_least(self, 1, "discriminator_layers", "discriminator_width")
        if (weights := self.discriminator_layers * self.discriminator_width**2) > LARGEST_NETWORK:
            raise ValueError(
                f"discriminator_layers is {self.discriminator_layers} and discriminator_width "
                f"{self.discriminator_width}, which is {weights:,} weights: give fewer, for {LARGEST_NETWORK:,} at most"
            )

    @property
    def needs(self) -> Needs:
        """Two halves of two images at least, a permutation, a discriminator."""
        return Needs(
            batch_images=4,
            latents=2,
            because="latents are permuted within half a batch",
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
        check_at_least(self, 0, "off_diagonal", "diagonal_ratio")

    @property
    def needs(self) -> Needs:
        """Two images at least."""
        return Needs(batch_images=2, because="covariance is estimated within a batch")


@dataclass(frozen=True)
class Dip2(Dip1):
    """DIP-VAE-II: the VAE with the covariance of sampled latents pressed to the identity (Kumar et al. 2018).
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
    """α: nats of information between image and latent that cost nothing, as a share of the rate; at most 1."""
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
                "weighed with their sum - 1 and a negative weight would drive latents away from the prior"
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
    min_beta: float = 1.0
    """β is never below. With both gains 0, β is this."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "capacity_nats", "start_nats", "rise_nats", "proportional", "integral", "min_beta")
        check_at_least(self, 1, "rise_steps")

    def schedule(self, step: int) -> dict[str, float]:
        """Capacity of a step, in nats; it rises in jumps."""
        rises = (step + 1) // self.rise_steps
        return {"capacity_nats": min(self.start_nats + self.rise_nats * rises, self.capacity_nats)}


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
    min_beta: float = 0.1
    """β is never below."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "capacity_nats", "start_nats", "rise_nats", "proportional", "integral", "min_beta")
        check_at_least(self, 1, "rise_steps", "ramp_steps", "average_steps")
        check_at_least(self, self.min_beta, "start_beta")
        if self.ramp_steps > self.rise_steps:
            raise ValueError(
                f"ramp_steps is {self.ramp_steps}; a rise cannot take longer than the {self.rise_steps} of rise_steps"
            )

    def schedule(self, step: int) -> dict[str, float]:
        """Capacity of a step, in nats; it rises in ramps."""
        periods, into = divmod(step + 1, self.rise_steps)
        rises = since(periods, 1) + (ramp(into + 1, self.ramp_steps) if periods else 0.0)
        return {"capacity_nats": min(self.start_nats + self.rise_nats * rises, self.capacity_nats)}


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
        check_at_least(self, 0, "beta")
        check_name("pairs", self.pairs, get_args(PairRule))

    @property
    def needs(self) -> Needs:
        """Pairs."""
        return Needs(batch_images=2, because="images come in pairs", latents=2, halves=True, pairs=self.pairs)


@dataclass(frozen=True)
class AdaMlvae(AdaGvae):
    """Ada-ML-VAE: as Ada-GVAE, with the product of posteriors in place of their average (Locatello et al. 2020).
    https://arxiv.org/abs/2002.02886
    Dial: --beta. A batch is of pairs, drawn by the factors of the data; the objective does not see the factors."""


@dataclass(frozen=True)
class Group:
    """GVAE and ML-VAE: β-VAE of image pairs that share known factors, one latent each (Bouchacourt et al. 2018).
    https://arxiv.org/abs/1705.08841
    Dial: --beta. Latent k belongs to factor k; latents without a factor are shared by every pair."""

    beta: float = 1.0
    """Weight of the rate. The grid of Locatello et al. 2020 is 1, 2, 4, 6, 8, 16."""
    pairs: PairRule = "one"
    """Factors redrawn for a pair's second image: one; one in half of the pairs, else a random number (locatello); a
    random number (uniform). At least one stays; a value drawn anew may be the old one."""
    averaging: Literal["gvae", "mlvae"] = "mlvae"
    """Posterior of a shared latent: the product of the two (mlvae), or their average (gvae; Hosoya 2019)."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "beta")
        check_name("pairs", self.pairs, get_args(PairRule))
        check_name("averaging", self.averaging, ("gvae", "mlvae"))

    @property
    def needs(self) -> Needs:
        """Pairs with their factors."""
        return Needs(batch_images=2, because="images come in pairs", halves=True, pairs=self.pairs, labelled_images=1.0)


@dataclass(frozen=True)
class Semi:
    """β-VAE with γ · a supervised loss on a few labelled images, latent k predicting factor k (Locatello et al. 2020).
    https://arxiv.org/abs/1905.01258
    Dial: --gamma. The first half of a batch is of any training images, the second of labelled ones."""

    gamma: float = 100.0
    """Weight of the supervised loss, which is summed over factors and averaged over labelled images; 0 is the β-VAE."""
    beta: float = 1.0
    """Weight of the rate."""
    labelled_images: int | float = 1000
    """Training images with labels: a number (1000) or, with a decimal point, a share (0.01)."""
    supervision: Literal["xent", "l2", "covariance"] = "xent"
    """Cross-entropy or squared error between sigmoid(latent k) and factor k scaled to [0, 1], or squared covariances of
    latents with the factors of others."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "gamma", "beta")
        check_image_share("labelled_images", self.labelled_images, required=True)
        check_name("supervision", self.supervision, ("xent", "l2", "covariance"))

    @property
    def needs(self) -> Needs:
        """Labels."""
        least = 4 if self.supervision == "covariance" else 2
        because = "half of a batch has labels"
        return Needs(batch_images=least, because=because, halves=True, labelled_images=self.labelled_images)


@dataclass(frozen=True)
class Hfs:
    """Hausdorff factorised support: β-VAE whose latents are to occur in every combination (Roth et al. 2023).
    https://arxiv.org/abs/2210.07347
    Dial: --gamma."""

    gamma: float = 100.0
    """Weight of the squared Hausdorff distances of pairs of latents; 0 is the β-VAE. The paper's grid is 0.1 to 1e4."""
    beta: float = 1.0
    """Weight of the rate. The paper's grid is 0, 1, 2, 4, 6, 8, 10, 16."""
    latent_pairs: int = 25
    """Pairs of latents a step, drawn at random; all where there are fewer."""
    scale: float = 0.0
    """Weight of the shortfall of each latent's standard deviation over the batch from 1."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "gamma", "beta", "scale")
        check_at_least(self, 1, "latent_pairs")

    @property
    def needs(self) -> Needs:
        """Two images at least, random pairs of latents."""
        return Needs(batch_images=2, because="support is estimated within a batch", latents=2, more_noise=True)


@dataclass(frozen=True)
class Qlae:
    """QLAE: an autoencoder with each latent rounded to one of a few values, and weight decay (Hsu et al. 2023).
    https://arxiv.org/abs/2305.18378
    Dial: --weight-decay."""

    weight_decay: float = 0.1
    """Decoupled decay of the weights (AdamW); not of biases and codebooks."""
    values_per_latent: int = 10
    """Values that a latent can take, learned, at first evenly from -0.5 to 0.5."""
    quantisation: float = 0.41
    """Weight of the squared distance by which values follow latents, summed over latents: the original's 0.001 of means
    over 4,096 pixels and 10 latents is 0.41 of sums."""
    commitment: float = 0.41
    """Weight of the same distance by which latents follow values."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "weight_decay", "quantisation", "commitment")
        check_at_least(self, 2, "values_per_latent")
        if self.values_per_latent > MAX_VALUES:
            raise ValueError(
                f"values_per_latent is {self.values_per_latent}; give at most {MAX_VALUES:,}, for each is compared "
                "with every latent of a batch"
            )

    @property
    def needs(self) -> Needs:
        """Rounded latents and weight decay."""
        return Needs(discrete_latents=True, weight_decay=self.weight_decay)
