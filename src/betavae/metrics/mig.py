"""Scores computed from the mutual information matrix: gaps between latents, and gaps between factors."""

from typing import TYPE_CHECKING

import numpy as np

from betavae.metrics.information import Information, count_information, discretise, information_of_kept
from betavae.metrics.inputs import check_tables
from betavae.metrics.protocol import Protocol, choose
from betavae.metrics.record import Measured, Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined

if TYPE_CHECKING:
    from betavae.metrics.evaluation import Evaluation


def mig(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_bins: int = 20,
    with_replacement: bool | None = None,
    bias_correction: bool | None = None,
) -> dict[str, float]:
    """Compute the mutual information gap (MIG) of binned latents.

    MIG = mean over factors k of (I(z_1; y_k) - I(z_2; y_k)) / H(y_k), where z_1 and z_2 are the two latents with the
    most information about y_k. If there is only one latent, I(z_2; y_k) is 0.

    disentanglement_lib computes the same quantity without bias correction and draws with replacement. Both change the
    score little, because the bias cancels in the gap. Chen et al. integrate over sampled latents; see `mig_chen`.

    Source:
        Isolating Sources of Disentanglement in VAEs (Chen, Li, Grosse & Duvenaud, 2018), equation 6.
        https://arxiv.org/abs/1802.04942

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of rows drawn; see `sample_sizes`.
        num_bins: number of equal-width bins for each latent.
        with_replacement: draw rows with replacement; defaults to the preset's value.
        bias_correction: apply the Miller-Madow correction to entropies; defaults to the preset's value.

    Returns:
        ``mig`` in 0..1, larger is better; ``nan`` with a warning when no factor varies. Constant factors are left out.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(4, size=(1000, 2))
        >>> mig(factors.astype(float), factors, seed=0, num_train=1000)["mig"] > 0.95
        True
    """
    protocol = choose(preset, with_replacement=with_replacement, bias_correction=bias_correction)
    information = information_of_kept(latents, factors, protocol, seed=seed, num_train=num_train, num_bins=num_bins)
    return mig_of(information)


def mig_of(information: Information) -> dict[str, float]:
    """Compute the mutual information gap from an information matrix; see `mig`.

    Example:
        >>> shared, ones = np.array([[0.6, 0.0], [0.1, 0.0]]), np.ones(2)
        >>> mig_of(Information(shared, shared, ones, np.array([1.0, 0.0]), 20))
        {'mig': 0.5}
    """
    kept = information.varying
    if not kept.any():
        warn_undefined("MIG", "no factor varies")
        return {"mig": float("nan")}
    first, second = top_two(information.shared[:, kept])
    return {"mig": float(((first - second) / information.factor_entropy[kept]).mean())}


def mig_chen(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_bins: int = 256,
    bias_correction: bool | None = None,
) -> dict[str, float]:
    """Compute the mutual information gap as defined by Chen et al., from one posterior sample of each image.

    The paper integrates I(z; y_k) over the aggregate posterior. Here, the integral is estimated by a fine histogram of
    all N sampled latents, with the Miller-Madow correction. All rows and all latents are used: samples of an inactive
    latent follow the prior and have no information about any factor.

    To compare with the paper, pass sampled latents (mean + std * noise) with one row for each image of a full grid, and
    omit the shape from the factors, as the paper's code does.

    Source:
        Isolating Sources of Disentanglement in VAEs (Chen, Li, Grosse & Duvenaud, 2018), equations 5 and 6.
        https://arxiv.org/abs/1802.04942

    Args:
        latents: (N, D) sampled latents.
        factors: (N, K) integer factors.
        seed: not used, because all rows are used. The argument exists because all metrics have it.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_bins: number of equal-width bins for each latent. The width of a bin should be smaller than the standard
            deviation of the posterior.
        bias_correction: apply the Miller-Madow correction to entropies; defaults to the preset's value.

    Returns:
        ``mig_chen`` in 0..1, larger is better; ``nan`` with a warning when no factor varies.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid, or has fewer rows than half the cells of the largest histogram.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> factors = rng.integers(4, size=(50_000, 2))
        >>> round(mig_chen(factors + rng.normal(0, 0.01, factors.shape), factors, seed=0)["mig_chen"], 2)
        1.0
    """
    latents, factors = check_tables(latents, factors)
    num_values = max(len(np.unique(column)) for column in factors.T)
    if 2 * len(latents) < num_bins * num_values:
        raise ValueError(
            f"mig_chen uses a histogram of {num_bins} bins by up to {num_values} factor values and needs at least half "
            f"as many rows as cells, got {len(latents):,} rows; use more rows, or fewer bins (num_bins)"
        )
    correct = choose(preset, bias_correction=bias_correction).bias_correction
    information = count_information(discretise(latents, num_bins), factors, num_bins, correct)
    return {"mig_chen": mig_of(information)["mig"]}


def mig_sup(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_bins: int = 20,
    with_replacement: bool | None = None,
    bias_correction: bool | None = None,
) -> dict[str, float]:
    """Compute MIG-sup, the information gap between factors: does each latent have information about only one factor?

    MIG-sup = mean over latents d of (I_1 - I_2), where I_1 and I_2 are the two largest values of I(z_d; y_k) / H(y_k)
    over factors. The mean is over all latents that the preset keeps. A latent without information about any factor
    counts as 0.

    Source:
        Progressive Learning and Disentanglement of Hierarchical Representations (Li, Murkute, Gyawali & Wang, 2020).
        https://arxiv.org/abs/2002.10549

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of rows drawn; see `sample_sizes`.
        num_bins: number of equal-width bins for each latent.
        with_replacement: draw rows with replacement; defaults to the preset's value.
        bias_correction: apply the Miller-Madow correction to entropies; defaults to the preset's value.

    Returns:
        ``mig_sup`` in 0..1, larger is better; ``nan`` with a warning when fewer than two factors vary.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(4, size=(1000, 2))
        >>> mig_sup(factors.astype(float), factors, seed=0, num_train=1000)["mig_sup"] > 0.95
        True
    """
    protocol = choose(preset, with_replacement=with_replacement, bias_correction=bias_correction)
    information = information_of_kept(latents, factors, protocol, seed=seed, num_train=num_train, num_bins=num_bins)
    return mig_sup_of(information)


def mig_sup_of(information: Information) -> dict[str, float]:
    """Compute MIG-sup from an information matrix; see `mig_sup`.

    Example:
        >>> mig_sup_of(Information(np.array([[0.6, 0.1]]), np.ones((1, 2)), np.ones(1), np.ones(2), 20))
        {'mig_sup': 0.5}
    """
    kept = information.varying
    if kept.sum() < 2:
        warn_undefined("MIG-sup", f"it needs two factors that vary, got {kept.sum()}")
        return {"mig_sup": float("nan")}
    first, second = top_two((information.shared[:, kept] / information.factor_entropy[kept]).T)
    return {"mig_sup": float((first - second).mean())}


def dcimig(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_bins: int = 20,
    with_replacement: bool | None = None,
    bias_correction: bool | None = None,
) -> dict[str, float]:
    """Compute DCIMIG: the information gap of each latent is credited to its best-captured factor.

    The gap of a latent is I(z_d; y_1) - I(z_d; y_2), where y_1 and y_2 are the two factors about which it has the most
    information; the gap is credited to y_1. Let m_k be the largest gap credited to factor k (0 if there is none). Then
    DCIMIG = sum_k m_k / sum_k H(y_k).

    Source:
        How to Not Measure Disentanglement (Sepliarskaia, Kiseleva & de Rijke, 2019).
        https://arxiv.org/abs/1910.05587

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of rows drawn; see `sample_sizes`.
        num_bins: number of equal-width bins for each latent.
        with_replacement: draw rows with replacement; defaults to the preset's value.
        bias_correction: apply the Miller-Madow correction to entropies; defaults to the preset's value.

    Returns:
        ``dcimig`` in 0..1, larger is better; ``nan`` with a warning when fewer than two factors vary.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(4, size=(1000, 2))
        >>> dcimig(factors.astype(float), factors, seed=0, num_train=1000)["dcimig"] > 0.95
        True
    """
    protocol = choose(preset, with_replacement=with_replacement, bias_correction=bias_correction)
    information = information_of_kept(latents, factors, protocol, seed=seed, num_train=num_train, num_bins=num_bins)
    return dcimig_of(information)


def dcimig_of(information: Information) -> dict[str, float]:
    """Compute DCIMIG from an information matrix; see `dcimig`.

    Example:
        >>> shared = np.array([[0.6, 0.1], [0.3, 0.1], [0.0, 0.7]])  # gaps 0.5, 0.2 and 0.7
        >>> dcimig_of(Information(shared, np.ones((3, 2)), np.ones(3), np.ones(2), 20))
        {'dcimig': 0.6}
    """
    kept = information.varying
    if kept.sum() < 2:
        warn_undefined("DCIMIG", f"it needs two factors that vary, got {kept.sum()}")
        return {"dcimig": float("nan")}
    shared = information.shared[:, kept]
    first, second = top_two(shared.T)
    credit = np.zeros(shared.shape[1])
    np.maximum.at(credit, shared.argmax(axis=1), first - second)
    return {"dcimig": float(credit.sum() / information.factor_entropy[kept].sum())}


def jemmig(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_bins: int = 20,
    with_replacement: bool | None = None,
    bias_correction: bool | None = None,
) -> dict[str, float]:
    """Compute the normalised JEMMIG: like MIG, but the best latent must not have any other information.

    JEMMIG_k = H(z_1, y_k) - I(z_1; y_k) + I(z_2; y_k), where z_1 and z_2 are the two latents with the most information
    about y_k. It is at least 0 and at most H(y_k) + log(bins). The score is 1 - JEMMIG_k / (H(y_k) + log(bins)),
    averaged over factors. It is 1 only if z_1 has exactly one value for each factor value: the joint entropy is then
    H(y_k), its minimum. If several latents have equal information, the one with the smallest joint entropy is z_1.

    Source:
        Theory and Evaluation Metrics for Learning Disentangled Representations (Do & Tran, 2020).
        https://arxiv.org/abs/1908.09961

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of rows drawn; see `sample_sizes`.
        num_bins: number of equal-width bins for each latent.
        with_replacement: draw rows with replacement; defaults to the preset's value.
        bias_correction: apply the Miller-Madow correction to entropies; defaults to the preset's value.

    Returns:
        ``jemmig`` in 0..1, larger is better; ``nan`` with a warning when no factor varies.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(4, size=(1000, 2))
        >>> jemmig(factors.astype(float), factors, seed=0, num_train=1000)["jemmig"] > 0.95
        True
    """
    protocol = choose(preset, with_replacement=with_replacement, bias_correction=bias_correction)
    information = information_of_kept(latents, factors, protocol, seed=seed, num_train=num_train, num_bins=num_bins)
    return jemmig_of(information)


def jemmig_of(information: Information) -> dict[str, float]:
    """Compute JEMMIG from an information matrix; see `jemmig`.

    Example:
        >>> shared, joint = np.array([[0.75], [0.25]]), np.array([[1.25], [2.0]])  # (1.25 - 0.75 + 0.25) / (1 + log 2)
        >>> round(jemmig_of(Information(shared, joint, np.ones(2), np.ones(1), 2))["jemmig"], 3)
        0.557
    """
    kept = information.varying
    if not kept.any():
        warn_undefined("JEMMIG", "no factor varies")
        return {"jemmig": float("nan")}
    shared = information.shared[:, kept]
    first, second = top_two(shared)
    is_best = shared >= first - 1e-12
    joint = np.where(is_best, information.joint[:, kept], np.inf).min(axis=0)
    worst = information.factor_entropy[kept] + np.log(information.num_bins)
    return {"jemmig": float((1 - (joint - first + second) / worst).clip(min=0).mean())}


def top_two(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest and second-largest entry of each column; the second is 0 if there is only one row."""
    ordered = np.sort(np.vstack([matrix, np.zeros((1, matrix.shape[1]))]), axis=0)
    return ordered[-1], ordered[-2]


def _shared_mig(evaluation: "Evaluation") -> Measured:
    information = evaluation.information
    arrays = {"mutual_information": information.shared, "factor_entropy": information.factor_entropy}
    return mig_of(information), arrays


MIG = Metric(
    "mig",
    mig,
    {"mig": ScoreInfo(0, 1, True, "does one latent have most of the information about each factor?", 3, title="MIG")},
    "mutual information gap between the two most informative latents of each factor",
    counts_classes=True,
    shared=_shared_mig,
    per_latent=("mutual_information",),
)
MIG_CHEN = Metric(
    "mig_chen",
    mig_chen,
    {"mig_chen": ScoreInfo(0, 1, True, "MIG of latents sampled from the posteriors, with fine bins")},
    "mutual information gap of sampled latents, as its paper defines it",
    counts_classes=True,
    takes_sampled=True,
)
MIG_SUP = Metric(
    "mig_sup",
    mig_sup,
    {"mig_sup": ScoreInfo(0, 1, True, "does each latent have information about one factor only?")},
    "mutual information gap between the two factors that each latent knows best",
    counts_classes=True,
    shared=lambda evaluation: (mig_sup_of(evaluation.information), {}),
)
DCIMIG = Metric(
    "dcimig",
    dcimig,
    {"dcimig": ScoreInfo(0, 1, True, "how much of all factors do latents capture that capture no other factor?")},
    "gaps of latents, credited to the factors that they know best",
    counts_classes=True,
    shared=lambda evaluation: (dcimig_of(evaluation.information), {}),
)
JEMMIG = Metric(
    "jemmig",
    jemmig,
    {"jemmig": ScoreInfo(0, 1, True, "is each factor captured by one latent without any other information?")},
    "joint entropy minus mutual information gap, normalised",
    counts_classes=True,
    shared=lambda evaluation: (jemmig_of(evaluation.information), {}),
)
