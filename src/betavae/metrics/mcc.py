"""Mean correlation coefficient: how well do single latents follow single factors, one latent each?"""

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
    """Mean absolute correlation of each factor and the latent that is assigned to it.

    Every factor gets a latent of its own, by the assignment whose sum of absolute correlations is largest (Hungarian
    algorithm). ``pearson`` asks for straight relations, ``spearman`` for monotonous ones. Where latents are fewer than
    factors, a factor without a latent counts 0.

    A label counts as the number that it is, so the order of its values matters. A periodic factor, such as an angle,
    has no monotonous relation to any continuous latent.

    Source:
        Unsupervised Feature Extraction by Time-Contrastive Learning and Nonlinear ICA (Hyvarinen & Morioka, 2016),
        section 6. https://arxiv.org/abs/1605.06336
        Variational Autoencoders and Nonlinear ICA: A Unifying Framework (Khemakhem, Kingma, Monti & Hyvarinen, 2020),
        section 5. https://arxiv.org/abs/1907.04809

    Args:
        latents: (N, D) latents.
        factors: (N, K) numbers, continuous or labels.
        seed: seed of the rows drawn.
        preset: name of a protocol, or a `Protocol`; see `PRESETS`. What is given besides replaces its part.
        num_train: rows drawn; see `sample_sizes`.
        with_replacement: draw rows with replacement; if unset, as the preset says.

    Returns:
        ``pearson`` and ``spearman``, 0..1, larger is better; ``nan`` with a warning when no factor varies. Chance is
        above 0: the assignment picks the largest of D absolute correlations.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed, or holds too few rows.

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
        "pearson": ScoreInfo(0, 1, True, "does one latent each follow the factors linearly?"),
        "spearman": ScoreInfo(0, 1, True, "does one latent each follow the factors monotonically?"),
    },
    "mean correlation of factors with the latents assigned to them",
    takes_continuous=True,
)
