"""Settings of the objectives as frozen dataclasses. Imports no torch."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from betavae.files.validation import check_above, check_at_least, check_image_share, check_name
from betavae.objectives.needs import Needs, PairRule
from betavae.objectives.schedules import ramp, since

LARGEST_NETWORK = 1_000_000_000
"""Maximum number of weights of an objective's own network; training it takes 16 GB."""
MAX_VALUES = 10_000
"""Maximum number of values of a quantised latent."""


@dataclass(frozen=True)
class Vae:
    """VAE: reconstruction + KL term (rate) (Kingma & Welling 2014). https://arxiv.org/abs/1312.6114
    It has no settings."""


@dataclass(frozen=True)
class Beta:
    """β-VAE: reconstruction + β · KL term (rate) (Higgins et al. 2017). https://openreview.net/forum?id=Sy2fzU9gl
    Main setting: --beta."""

    beta: float = 4.0
    """Weight of the KL term (rate), which is summed over latents and averaged over images, in nats. 1 is the VAE."""
    warmup_steps: int = 0
    """Number of steps over which β increases linearly from 0; 0 for no warm-up."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "beta", "warmup_steps")

    def schedule(self, step: int) -> dict[str, float]:
        """Return β at a step."""
        return {"beta": self.beta * ramp(step, self.warmup_steps)}


@dataclass(frozen=True)
class Annealed:
    """Controlled capacity: reconstruction + γ · |rate - C(step)| (Burgess et al. 2018). https://arxiv.org/abs/1804.03599
    Main setting: --capacity-nats."""

    gamma: float = 1000.0
    """Weight of the absolute difference between the batch's mean KL term (rate) and the capacity."""
    capacity_nats: float = 25.0
    """Final capacity C, in nats."""
    capacity_steps: int = 100_000
    """Number of steps over which C increases linearly from 0."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "gamma", "capacity_nats")
        check_at_least(self, 1, "capacity_steps")

    def schedule(self, step: int) -> dict[str, float]:
        """Return the capacity at a step, in nats."""
        return {"capacity_nats": self.capacity_nats * ramp(step, self.capacity_steps)}


@dataclass(frozen=True)
class TC:
    """β-TCVAE: VAE + (β - 1) · total correlation (Chen et al. 2018). https://arxiv.org/abs/1802.04942
    Main setting: --beta."""

    beta: float = 6.0
    """Weight of the total correlation of the latents; 1 is the VAE."""
    warmup_steps: int = 0
    """Number of steps over which the weight of the KL term (rate) increases linearly from 0 to 1, and the weight of the
    total correlation from 0 to β; 0 for no warm-up."""
    memory_images: int = 0
    """Number of recent images whose posteriors are added to the batch to estimate the total correlation; 0 uses only
    the batch, as in the paper."""
    sampling: Literal["weighted", "stratified"] = "weighted"
    """Estimator of the total correlation: minibatch-weighted sampling, or minibatch-stratified sampling, which also
    uses the number of training images."""
    final_beta: float | None = None
    """Final value of β, which is annealed geometrically. If unset, β is constant."""
    anneal_after: int = 0
    """Step at which the annealing of β starts."""
    anneal_steps: int = 1000
    """Number of steps over which β is annealed."""
    second_warmup_steps: int = 0
    """Number of steps of a second warm-up, which starts at `anneal_after`: the weight of the KL term (rate) increases
    from 0 to 1 again. 0 for none."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "beta", "warmup_steps", "memory_images", "anneal_after", "second_warmup_steps")
        check_at_least(self, 1, "anneal_steps")
        if self.final_beta is not None:
            check_above(self, 0, "beta", "final_beta")
            if self.final_beta > self.beta:
                raise ValueError(f"final_beta is {self.final_beta}; it must be at most beta, which is {self.beta}")
        elif self.anneal_after or self.second_warmup_steps:
            name = "anneal_after" if self.anneal_after else "second_warmup_steps"
            raise ValueError(f"{name} is {getattr(self, name)}, but final_beta is not set; set final_beta as well")
        check_name("sampling", self.sampling, ("weighted", "stratified"))
        if self.sampling == "stratified" and self.memory_images:
            raise ValueError(
                f"memory_images is {self.memory_images}; it must be 0 with stratified sampling, which uses only the "
                "batch: set it to 0, or set sampling to weighted"
            )

    def schedule(self, step: int) -> dict[str, float]:
        """Return the weight of the KL term, and β, which is annealed geometrically from ``beta`` to ``final_beta``.

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
        """At least two images and two latents."""
        return Needs(
            batch_images=2,
            because="total correlation is estimated within a batch",
            latents=2,
            posterior_in_memory=("mean", "log_var"),
        )


@dataclass(frozen=True)
class Factor:
    """FactorVAE: VAE + γ · total correlation, estimated by a discriminator (Kim & Mnih 2018).
    https://arxiv.org/abs/1802.05983
    Main setting: --gamma. The VAE is trained on the first half of a batch. Permuted latents of the second half are
    negative examples for the discriminator."""

    gamma: float = 35.0
    """Weight of the total correlation; 0 is the VAE. On dSprites, the best value in the paper is 35. The grid of
    Locatello et al. (2019) is 10 to 100."""
    discriminator_learning_rate: float = 1e-4
    """Learning rate of the discriminator, which is trained by Adam with betas 0.5 and 0.9. It follows the model's
    learning-rate schedule."""
    discriminator_layers: int = 6
    """Number of hidden layers of the discriminator."""
    discriminator_width: int = 1000
    """Number of units of each hidden layer."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "gamma")
        check_above(self, 0, "discriminator_learning_rate")
        check_at_least(self, 1, "discriminator_layers", "discriminator_width")
        if (weights := self.discriminator_layers * self.discriminator_width**2) > LARGEST_NETWORK:
            raise ValueError(
                f"discriminator_layers is {self.discriminator_layers} and discriminator_width is "
                f"{self.discriminator_width}, which gives {weights:,} weights; at most {LARGEST_NETWORK:,} are "
                "allowed: use fewer layers or units"
            )

    @property
    def needs(self) -> Needs:
        """At least two images in each half of a batch, noise for the permutation, and a discriminator."""
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
    """DIP-VAE-I: VAE + penalty that makes the covariance of posterior means close to the identity (Kumar et al. 2018).
    https://arxiv.org/abs/1711.00848
    Main setting: --off-diagonal."""

    off_diagonal: float = 10.0
    """λ_od: weight of the squared covariances. The grid of Locatello et al. (2019) is 1, 2, 5, 10, 20, 50."""
    diagonal_ratio: float = 10.0
    """λ_d / λ_od: weight of the squared deviations of the variances from 1, relative to λ_od."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "off_diagonal", "diagonal_ratio")

    @property
    def needs(self) -> Needs:
        """At least two images."""
        return Needs(batch_images=2, because="covariance is estimated within a batch")


@dataclass(frozen=True)
class Dip2(Dip1):
    """DIP-VAE-II: VAE + penalty that makes the covariance of sampled latents close to the identity (Kumar et al. 2018).
    https://arxiv.org/abs/1711.00848
    Main setting: --off-diagonal."""

    diagonal_ratio: float = 1.0
    """λ_d / λ_od: weight of the squared deviations of the variances from 1, relative to λ_od."""


@dataclass(frozen=True)
class Info:
    """InfoVAE: reconstruction + (1 - α) · rate + (α + λ - 1) · MMD(q(z), p(z)) (Zhao et al. 2019).
    https://arxiv.org/abs/1706.02262
    Main setting: --divergence. The rate is the KL term. MMD is the squared maximum mean discrepancy of aggregate
    posterior and prior, with a kernel of at most 1."""

    alpha: float = 0.0
    """α, at most 1: the weight of the KL term (rate) is 1 - α. A larger α penalises the mutual information of image and
    latents less."""
    divergence: float = 1000.0
    """λ: weight of the divergence of the aggregate posterior from the prior. α = 0 and λ = 1 is the VAE."""
    kernel: Literal["imq", "rbf"] = "imq"
    """Kernel of the MMD: inverse multiquadratic, averaged over seven widths (imq), or Gaussian (rbf)."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha <= 1):
            raise ValueError(
                f"alpha is {self.alpha}; it must be at most 1, because the weight of the KL term is 1 - alpha"
            )
        check_name("kernel", self.kernel, ("imq", "rbf"))
        if not (math.isfinite(self.divergence) and self.alpha + self.divergence >= 1):
            raise ValueError(
                f"alpha is {self.alpha} and divergence is {self.divergence}; their sum must be at least 1, because the "
                "weight of the MMD is alpha + divergence - 1 and must not be negative"
            )

    @property
    def needs(self) -> Needs:
        """At least two images, and samples of the prior."""
        return Needs(batch_images=2, because="MMD is estimated within a batch", more_noise=True)


@dataclass(frozen=True)
class Control:
    """ControlVAE: β-VAE in which a PI controller sets β so that the KL term (rate) follows a capacity
    (Shao et al. 2020). https://arxiv.org/abs/2004.05988
    Main setting: --capacity-nats."""

    capacity_nats: float = 18.0
    """Final capacity, the target of the KL term (rate), in nats."""
    start_nats: float = 0.5
    """Capacity at the start, in nats."""
    rise_nats: float = 0.15
    """Increase of the capacity every `rise_steps` steps, in nats."""
    rise_steps: int = 5000
    """Number of steps between two increases of the capacity."""
    proportional: float = 0.01
    """Proportional gain K_p of the controller."""
    integral: float = 0.001
    """Integral gain K_i of the controller."""
    min_beta: float = 1.0
    """Minimum of β. If both gains are 0, β has this value."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "capacity_nats", "start_nats", "rise_nats", "proportional", "integral", "min_beta")
        check_at_least(self, 1, "rise_steps")

    def schedule(self, step: int) -> dict[str, float]:
        """Return the capacity at a step, in nats; it increases every `rise_steps` steps."""
        rises = (step + 1) // self.rise_steps
        return {"capacity_nats": min(self.start_nats + self.rise_nats * rises, self.capacity_nats)}


@dataclass(frozen=True)
class Dynamic:
    """DynamicVAE: β starts high, and an incremental PI controller makes the KL term (rate) follow a capacity
    (Shao et al. 2022). https://arxiv.org/abs/2009.06795
    Main setting: --capacity-nats."""

    capacity_nats: float = 20.0
    """Final capacity, the target of the KL term (rate), in nats."""
    start_nats: float = 0.5
    """Capacity at the start, in nats."""
    rise_nats: float = 0.15
    """Increase of the capacity every `rise_steps` steps, in nats. The first one starts after `rise_steps` steps."""
    rise_steps: int = 6000
    """Number of steps between the starts of two increases."""
    ramp_steps: int = 1000
    """Number of steps over which each increase is ramped."""
    average_steps: int = 5
    """Number of recent steps over which the rate is averaged before it is compared with the capacity."""
    proportional: float = 0.01
    """Proportional gain K_p of the controller."""
    integral: float = 0.005
    """Integral gain K_i of the controller."""
    start_beta: float = 50.0
    """β at the start."""
    min_beta: float = 0.1
    """Minimum of β."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "capacity_nats", "start_nats", "rise_nats", "proportional", "integral", "min_beta")
        check_at_least(self, 1, "rise_steps", "ramp_steps", "average_steps")
        check_at_least(self, self.min_beta, "start_beta")
        if self.ramp_steps > self.rise_steps:
            raise ValueError(
                f"ramp_steps is {self.ramp_steps}; it must be at most rise_steps, which is {self.rise_steps}"
            )

    def schedule(self, step: int) -> dict[str, float]:
        """Return the capacity at a step, in nats; it increases in ramps."""
        periods, into = divmod(step + 1, self.rise_steps)
        rises = since(periods, 1) + (ramp(into + 1, self.ramp_steps) if periods else 0.0)
        return {"capacity_nats": min(self.start_nats + self.rise_nats * rises, self.capacity_nats)}


@dataclass(frozen=True)
class AdaGvae:
    """Ada-GVAE: β-VAE on image pairs that averages the posteriors of latents that seem shared (Locatello et al. 2020).
    https://arxiv.org/abs/2002.02886
    Main setting: --beta. Pairs are drawn by the factors of the data, but the objective does not use the factors."""

    beta: float = 1.0
    """Weight of the KL term (rate). The paper's grid is 1, 2, 4, 6, 8, 16."""
    pairs: PairRule = "locatello"
    """How many factors are redrawn for the second image of a pair: one (one), a random number (uniform), or one in half
    of the pairs and a random number in the others (locatello). At least one factor is kept. A redrawn value may equal
    the old one."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "beta")
        check_name("pairs", self.pairs, get_args(PairRule))

    @property
    def needs(self) -> Needs:
        """Image pairs."""
        return Needs(batch_images=2, because="images come in pairs", latents=2, halves=True, pairs=self.pairs)


@dataclass(frozen=True)
class AdaMlvae(AdaGvae):
    """Ada-ML-VAE: Ada-GVAE with the product of the posteriors instead of their average (Locatello et al. 2020).
    https://arxiv.org/abs/2002.02886
    Main setting: --beta. Pairs are drawn by the factors of the data, but the objective does not use the factors."""


@dataclass(frozen=True)
class Group:
    """GVAE and ML-VAE: β-VAE on image pairs with known shared factors (Bouchacourt et al. 2018).
    https://arxiv.org/abs/1705.08841
    Main setting: --beta. Latent k belongs to factor k. Latents without a factor are shared by all pairs."""

    beta: float = 1.0
    """Weight of the KL term (rate). The grid of Locatello et al. (2020) is 1, 2, 4, 6, 8, 16."""
    pairs: PairRule = "one"
    """How many factors are redrawn for the second image of a pair: one (one), a random number (uniform), or one in half
    of the pairs and a random number in the others (locatello). At least one factor is kept. A redrawn value may equal
    the old one."""
    averaging: Literal["gvae", "mlvae"] = "mlvae"
    """Posterior of a shared latent: product of the two posteriors (mlvae), or their average (gvae; Hosoya 2019)."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "beta")
        check_name("pairs", self.pairs, get_args(PairRule))
        check_name("averaging", self.averaging, ("gvae", "mlvae"))

    @property
    def needs(self) -> Needs:
        """Image pairs with their factors."""
        return Needs(batch_images=2, because="images come in pairs", halves=True, pairs=self.pairs, labelled_images=1.0)


@dataclass(frozen=True)
class Semi:
    """Semi-supervised β-VAE: β-VAE + γ · supervised loss on a few labelled images (Locatello et al. 2020).
    https://arxiv.org/abs/1905.01258
    Main setting: --gamma. Latent k predicts factor k. The first half of a batch has any training images, the second
    half labelled ones."""

    gamma: float = 100.0
    """Weight of the supervised loss, which is summed over factors and averaged over labelled images; 0 is the β-VAE."""
    beta: float = 1.0
    """Weight of the KL term (rate)."""
    labelled_images: int | float = 1000
    """Number of labelled training images (1000) or, with a decimal point, their share (0.01)."""
    supervision: Literal["xent", "l2", "covariance"] = "xent"
    """Supervised loss: cross-entropy (xent) or squared error (l2) between sigmoid(latent k) and factor k scaled to
    [0, 1], or squared covariances of latents and factors with different indices (covariance)."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "gamma", "beta")
        check_image_share("labelled_images", self.labelled_images, required=True)
        check_name("supervision", self.supervision, ("xent", "l2", "covariance"))

    @property
    def needs(self) -> Needs:
        """Labels for the second half of a batch."""
        batch_images = 4 if self.supervision == "covariance" else 2
        because = "half of a batch has labels"
        return Needs(batch_images=batch_images, because=because, halves=True, labelled_images=self.labelled_images)


@dataclass(frozen=True)
class Hfs:
    """Hausdorff factorised support (HFS): β-VAE + penalty that makes the latents occur in all combinations
    (Roth et al. 2023). https://arxiv.org/abs/2210.07347
    Main setting: --gamma."""

    gamma: float = 100.0
    """Weight of the squared Hausdorff distances of pairs of latents; 0 is the β-VAE. The paper's grid is 0.1 to 1e4."""
    beta: float = 1.0
    """Weight of the KL term (rate). The paper's grid is 0, 1, 2, 4, 6, 8, 10, 16."""
    latent_pairs: int = 25
    """Number of random pairs of latents per step; all pairs if there are fewer."""
    scale: float = 0.0
    """Weight of the penalty on standard deviations of latents (over the batch) below 1."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "gamma", "beta", "scale")
        check_at_least(self, 1, "latent_pairs")

    @property
    def needs(self) -> Needs:
        """At least two images and two latents, and noise to draw pairs of latents."""
        return Needs(batch_images=2, because="support is estimated within a batch", latents=2, more_noise=True)


@dataclass(frozen=True)
class Qlae:
    """QLAE: autoencoder with weight decay, in which each latent is quantised to a few learned values (Hsu et al. 2023).
    https://arxiv.org/abs/2305.18378
    Main setting: --weight-decay."""

    weight_decay: float = 0.1
    """Decoupled weight decay (AdamW); biases and codebooks are excluded."""
    values_per_latent: int = 10
    """Number of values of each latent. The values are learned; initially they are evenly spaced from -0.5 to 0.5."""
    quantisation: float = 0.41
    """Weight of the quantisation loss, the squared distance that moves values towards latents, summed over latents. The
    original has 0.001 for means over 4,096 pixels and 10 latents, which is 0.41 for sums."""
    commitment: float = 0.41
    """Weight of the commitment loss, the squared distance that moves latents towards values, summed over latents."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "weight_decay", "quantisation", "commitment")
        check_at_least(self, 2, "values_per_latent")
        if self.values_per_latent > MAX_VALUES:
            raise ValueError(
                f"values_per_latent is {self.values_per_latent}; it must be at most {MAX_VALUES:,}, because each value "
                "is compared with all latents of a batch"
            )

    @property
    def needs(self) -> Needs:
        """Quantised latents and weight decay."""
        return Needs(discrete_latents=True, weight_decay=self.weight_decay)
