"""Mean correlation coefficient (MCC) between factors and the latents assigned to them."""

import numpy as np

from betavae.metrics.inputs import draw_rows, varying_factors
from betavae.metrics.protocol import Protocol, choose, prepare, sample_sizes
from betavae.metrics.record import Metric, ScoreInfo
from betavae.metrics.sap import squared_correlation
from betavae.metrics.undefined import warn_undefined


def mcc(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    with_replacement: bool | None = None,
) -> dict[str, float]:
    """Compute the mean absolute correlation of each factor and the latent that is assigned to it.

    Each factor is assigned a different latent, so that the sum of absolute correlations is maximal (Hungarian
    algorithm). ``pearson`` measures linear relations, ``spearman`` monotonic relations. If there are fewer latents than
    factors, a factor without a latent counts as 0.

    Labels are used as numbers, so the order of their values matters. A periodic factor, such as an angle, has no
    monotonic relation to a continuous latent.

    Source:
        Unsupervised Feature Extraction by Time-Contrastive Learning and Nonlinear ICA (Hyvarinen & Morioka, 2016),
        section 6. https://arxiv.org/abs/1605.06336
        Variational Autoencoders and Nonlinear ICA: A Unifying Framework (Khemakhem, Kingma, Monti & Hyvarinen, 2020),
        section 5. https://arxiv.org/abs/1907.04809

    Args:
        latents: (N, D) latents.
        factors: (N, K) numbers, continuous or labels.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of rows drawn; see `sample_sizes`.
        with_replacement: draw rows with replacement; defaults to the preset's value.

    Returns:
        ``pearson`` and ``spearman``, 0..1, larger is better; ``nan`` with a warning when no factor varies. The chance
        level is above 0, because the assignment selects large absolute correlations.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> z = np.random.default_rng(0).normal(size=(900, 2))
        >>> scores = mcc(z, np.stack([-z[:, 1], z[:, 0] ** 3], axis=1), seed=0)
        >>> round(scores["pearson"], 1), round(scores["spearman"], 3)
        (0.9, 1.0)
    """
    from scipy.stats import rankdata

    protocol = choose(preset, with_replacement=with_replacement)
    latents, factors = prepare(latents, factors, protocol, integer_factors=False)
    size, _ = sample_sizes(len(latents), protocol, num_train)
    (rows,) = draw_rows(len(latents), (size,), np.random.default_rng(seed), with_replacement=protocol.with_replacement)
    z, y = latents[rows].astype(np.float64), factors[rows]
    y = y[:, varying_factors(y)]
    if not y.shape[1]:
        warn_undefined("MCC", "no factor varies")
        return {"pearson": float("nan"), "spearman": float("nan")}
    return {"pearson": _assigned(z, y), "spearman": _assigned(rankdata(z, axis=0), rankdata(y, axis=0))}


def _assigned(latents: np.ndarray, factors: np.ndarray) -> float:
    from scipy.optimize import linear_sum_assignment

    correlation = np.sqrt(squared_correlation(latents, factors))
    return float(correlation[linear_sum_assignment(correlation, maximize=True)].sum() / factors.shape[1])


METRIC = Metric(
    "mcc",
    mcc,
    {
        "pearson": ScoreInfo(0, 1, True, "is each factor linearly related to a latent of its own?"),
        "spearman": ScoreInfo(0, 1, True, "is each factor monotonically related to a latent of its own?"),
    },
    "mean correlation of factors with the latents assigned to them",
    takes_continuous=True,
)
