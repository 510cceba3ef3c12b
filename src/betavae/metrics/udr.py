"""Unsupervised disentanglement ranking (UDR): score models by how well their latents agree with those of others."""

from collections.abc import Sequence

import numpy as np

from betavae.files.validation import check_name
from betavae.metrics.inputs import check_tables, standard_deviation
from betavae.metrics.undefined import warn_undefined

METHODS = ("lasso", "spearman")


def udr(
    latents: Sequence[np.ndarray],
    kl: np.ndarray,
    *,
    seed: int,
    method: str = "lasso",
    num_points: int = 1_000,
    min_kl: float = 0.01,
    alpha: float = 0.1,
) -> np.ndarray:
    """Compute the unsupervised disentanglement ranking (UDR) of M models.

    For two models, R[a, b] measures how well latent a of the first predicts latent b of the second: the absolute
    coefficient of a lasso on standardised latents, or the absolute rank correlation. Latents with a KL divergence of at
    most ``min_kl`` are left out.

    If two models agree up to the order and sign of their latents, each row and column of R has one large entry. The
    score of a pair is the average of two means: the mean of max^2 / sum over columns, and the same over rows. A row or
    column of zeros counts as 0; it belongs to a latent that has no counterpart in the other model. The score of a model
    is the median over its pairs.

    As in the authors' code, rows and columns have equal weight even if one model has more active latents. The formula
    in the paper is one mean over all rows and columns.

    Source:
        Unsupervised Model Selection for Variational Disentangled Representation Learning (Duan et al., 2020), equations
        2 and 3. https://arxiv.org/abs/1905.12614

    Args:
        latents: M tables (N, D_m) of latents of the same N images, from models trained with different seeds.
        kl: M rows (D_m,) of mean KL divergence of each latent in nats.
        seed: seed for drawing images.
        method: ``"lasso"`` or ``"spearman"``.
        num_points: number of images drawn; all images if there are fewer.
        min_kl: a latent is active if its KL divergence is above this, in nats.
        alpha: penalty of the lasso.

    Returns:
        (M,) scores in 0..1, larger is better; 0 for a model without active latents; ``nan`` with a warning when no
        model has an active latent.

    Raises:
        TypeError: A table is not numeric.
        ValueError: Fewer than two models; tables of different length; an invalid table or ``kl``; unknown method.

    Example:
        >>> z = np.random.default_rng(0).normal(size=(500, 2))
        >>> udr([z, -z[:, ::-1]], np.ones((2, 2)), seed=0, method="spearman").round(1)
        array([1., 1.])
    """
    if len(latents) < 2:
        raise ValueError(f"UDR compares models and needs at least two, got {len(latents)}")
    if len(latents) != len(kl):
        raise ValueError(f"kl must have one row for each of the {len(latents)} models, got {len(kl)}")
    check_name("method", method, METHODS)
    lengths = {len(table) for table in latents}
    if len(lengths) > 1:
        raise ValueError(f"all models must encode the same images, got tables of {sorted(lengths)} rows")
    tables = []
    (length,) = lengths
    rows = np.random.default_rng(seed).permutation(length)[:num_points]
    for table, nats in zip(latents, kl, strict=True):
        checked, _ = check_tables(table, np.zeros((length, 1), np.int64))
        if np.shape(nats) != checked.shape[1:]:
            raise ValueError(
                f"kl must have one number for each latent of a model, got the shape {np.shape(nats)} for "
                f"{checked.shape[1]} latents"
            )
        chosen = checked[rows].astype(np.float64)
        if not np.isfinite(nats).all():
            raise ValueError(f"kl must be finite, got {np.asarray(nats).tolist()}")
        std = standard_deviation(chosen)
        active = (np.asarray(nats) > min_kl) & (std > 0)
        tables.append(((chosen - chosen.mean(axis=0)) / np.where(std > 0, std, 1))[:, active])
    if not any(table.shape[1] for table in tables):
        warn_undefined("UDR", "no model has an active latent")
        return np.full(len(latents), np.nan)
    pairs = np.full((len(latents), len(latents)), np.nan)
    for i, first in enumerate(tables):
        for j, second in enumerate(tables):
            if i != j:
                pairs[i, j] = _agreement(first, second, method, alpha)
    return np.asarray(np.nanmedian(pairs, axis=0))


def _agreement(first: np.ndarray, second: np.ndarray, method: str, alpha: float) -> float:
    if not first.shape[1] or not second.shape[1]:
        return 0.0
    if method == "spearman":
        from scipy.stats import rankdata

        ranks = [rankdata(table, axis=0) for table in (first, second)]
        ranks = [(r - r.mean(axis=0)) / r.std(axis=0) for r in ranks]
        weights = np.abs(ranks[0].T @ ranks[1]) / len(first)
    else:
        from sklearn.linear_model import Lasso

        weights = np.abs(np.atleast_2d(Lasso(alpha=alpha).fit(first, second).coef_)).T
    return (_strength(weights) + _strength(weights.T)) / 2


def _strength(weights: np.ndarray) -> float:
    """Return the mean over columns of max^2 / sum; a column of zeros counts as 0."""
    total = weights.sum(axis=0)
    return float((weights.max(axis=0) ** 2 / np.where(total > 0, total, 1)).mean())
