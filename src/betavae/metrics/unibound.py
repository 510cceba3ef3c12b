"""UniBound: does one latent have information about a factor that all other latents together do not have?"""

import numpy as np

from betavae.metrics.dci import fit_trees, tree_information
from betavae.metrics.information import entropy
from betavae.metrics.inputs import varying_factors
from betavae.metrics.protocol import Protocol, choose, draw_sample
from betavae.metrics.record import Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined


def unibound(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_test: int | None = None,
    with_replacement: bool | None = None,
) -> dict[str, float]:
    """Compute a lower bound of the information about a factor that is unique to one latent.

    UniBound = mean over factors k of max over latents d of max(0, I(y_k; z_d) - I(y_k; z_-d)) / H(y_k), where z_-d are
    all latents except d. `mig` compares a latent only with the second-best single latent, so it ignores information
    that other latents have jointly: for latents together with a rotated copy of them, MIG stays large and UniBound
    is 0.

    The paper integrates over the posteriors of the model, which two tables do not contain. Here, each mutual
    information is estimated by boosted trees, as the entropy of the factor minus their cross-entropy on test rows. This
    is a lower bound. Trees are fitted twice for each latent and factor, so the metric takes about 2 D times as long as
    `dci`. `evaluate` computes it only if it is named.

    Source:
        Disentanglement Analysis with Partial Information Decomposition (Tokui & Sato, 2022), section 3.
        https://arxiv.org/abs/2108.13753

    Args:
        latents: (N, D) latents.
        factors: (N, K) labels.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of training rows; see `sample_sizes`.
        num_test: number of test rows; see `sample_sizes`.
        with_replacement: draw rows with replacement; defaults to the preset's value.

    Returns:
        ``unibound`` in 0..1, larger is better; ``nan`` with a warning when no factor varies.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(3, size=(900, 2))
        >>> alone, twice = factors * 1.0, np.hstack([factors, factors @ [[1.0, 1.0], [1.0, -1.0]]])
        >>> unibound(alone, factors, seed=0)["unibound"] > 0.9, unibound(twice, factors, seed=0)["unibound"] < 0.05
        (True, True)
    """
    protocol = choose(preset, with_replacement=with_replacement)
    sample = draw_sample(latents, factors, protocol, seed=seed, num_train=num_train, num_test=num_test)
    latents, factors, _, train, test = sample[:5]
    factors = factors[:, varying_factors(factors[train])]
    latent_dim, num_factors = latents.shape[1], factors.shape[1]
    if not num_factors:
        warn_undefined("UniBound", "no factor varies")
        return {"unibound": float("nan")}

    def joint_information(columns: list[int]) -> np.ndarray:
        if not columns:
            return np.zeros(num_factors)
        table = latents[:, columns]
        fits = fit_trees(table[train], factors[train], table[test], seed=seed)
        return np.array([tree_information(fits, factors[test], k) for k in range(num_factors)])

    alone = np.stack([joint_information([d]) for d in range(latent_dim)])
    rest = np.stack([joint_information([e for e in range(latent_dim) if e != d]) for d in range(latent_dim)])
    entropies = np.array([entropy(np.unique(column, return_counts=True)[1]) for column in factors[test].T])
    unique = (alone - rest).clip(min=0).max(axis=0)
    return {"unibound": float(np.divide(unique, entropies, out=np.zeros_like(unique), where=entropies > 0).mean())}


METRIC = Metric(
    "unibound",
    unibound,
    {"unibound": ScoreInfo(0, 1, True, "does one latent have information that all others together lack?")},
    "lower bound of the information that is unique to one latent",
    counts_classes=True,
    on_request=True,
)
