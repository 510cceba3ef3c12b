"""UniBound: does one latent tell what all other latents together do not?"""

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
    """Lower bound of the information about a factor that is unique to one latent.

    UniBound = mean over factors k of max over latents d of max(0, I(y_k; z_d) - I(y_k; z_-d)) / H(y_k), where z_-d are
    all latents but d. `mig` compares a latent with the next best latent alone, and so does not see a factor that other
    latents tell together: for latents and a rotated copy of them, MIG stays large and UniBound is 0.

    The paper integrates over the posteriors of the model. Two tables have none; here each information is what boosted
    trees find, the entropy of the factor less their cross-entropy on held-out rows, which is a lower bound of it. Trees
    are fitted twice a latent and factor, so this takes as long as 2 D times `dci`, and is not part of `evaluate` unless
    named.

    Source:
        Disentanglement Analysis with Partial Information Decomposition (Tokui & Sato, 2022), section 3.
        https://arxiv.org/abs/2108.13753

    Args:
        latents: (N, D) latents.
        factors: (N, K) labels.
        seed: seed of the rows drawn.
        preset: name of a protocol, or a `Protocol`; see `PRESETS`. What is given besides replaces its part.
        num_train: rows that the trees are fitted to; see `sample_sizes`.
        num_test: rows that the cross-entropies are taken on; see `sample_sizes`.
        with_replacement: draw rows with replacement; if unset, as the preset says.

    Returns:
        ``unibound`` in 0..1, larger is better; ``nan`` with a warning when no factor varies.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed, or holds too few rows.

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

    def told(columns: list[int]) -> np.ndarray:
        if not columns:
            return np.zeros(num_factors)
        table = latents[:, columns]
        fits = fit_trees(table[train], factors[train], table[test], seed=seed)
        return np.array([tree_information(fits, factors[test], k) for k in range(num_factors)])

    alone = np.stack([told([d]) for d in range(latent_dim)])
    rest = np.stack([told([e for e in range(latent_dim) if e != d]) for d in range(latent_dim)])
    entropies = np.array([entropy(np.unique(column, return_counts=True)[1]) for column in factors[test].T])
    unique = (alone - rest).clip(min=0).max(axis=0)
    return {"unibound": float(np.divide(unique, entropies, out=np.zeros_like(unique), where=entropies > 0).mean())}


METRIC = Metric(
    "unibound",
    unibound,
    {"unibound": ScoreInfo(0, 1, True, "does one latent know what all others together do not?")},
    "lower bound of the information that is unique to one latent",
    counts_classes=True,
    on_request=True,
)
