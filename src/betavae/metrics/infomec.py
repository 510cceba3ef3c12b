"""InfoMEC: modularity, explicitness and compactness from normalised mutual information."""

import math
from typing import Final, NamedTuple

import numpy as np

from betavae.files.validation import check_name
from betavae.metrics.estimators.logistic import Logistic
from betavae.metrics.estimators.neighbours import neighbour_information, tell_apart
from betavae.metrics.information import count_information
from betavae.metrics.inputs import standardised, varying_factors
from betavae.metrics.protocol import Protocol, choose, draw_sample
from betavae.metrics.r2 import r_squared
from betavae.metrics.record import Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined


class Rule(NamedTuple):
    """Rule for active latents, and number of neighbours, in one version of the authors' code.

    Attributes:
        quantiles: the spread of a latent is the difference between these two quantiles.
        share: minimum spread of an active continuous latent, as a share of the largest spread.
        discrete_share: the same for discrete latents.
        discrete_spread: the spread of an active discrete latent must exceed this value.
        num_neighbours: number of nearest neighbours in the information estimate for continuous latents.
    """

    quantiles: tuple[float, float]
    share: float
    discrete_share: float
    discrete_spread: float
    num_neighbours: int


RULES: Final[dict[str, Rule]] = {
    "range20": Rule((0, 1), 1 / 20, 0, 0, 10),
    "range8": Rule((0, 1), 1 / 8, 1 / 8, 0, 3),
    "iqr10": Rule((0.25, 0.75), 1 / 10, 0, 0.1, 10),
}
"""``range20``: the code of the paper. ``range8``: an earlier version of it. ``iqr10``: the code of Tripod (2024)."""


def infomec(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    rule: str | None = None,
    discrete: bool = False,
    num_train: int | None = None,
    num_test: int | None = None,
    num_neighbours: int | None = None,
    with_replacement: bool = False,
) -> dict[str, float]:
    """Compute InfoM, InfoE and InfoC for continuous or discrete latents.

    With n[d, k] = I(z_d; y_k) / H(y_k), S factors and A active latents:

    - InfoM, modularity: (mean over latents of max_k n / sum_k n - 1/S) / (1 - 1/S)
    - InfoC, compactness: (mean over factors of max_d n / sum_d n - 1/A) / (1 - 1/A)
    - InfoE, explicitness: mean over factors of 1 - CE / CE_0. CE is the cross-entropy of a logistic regression on all
      latents (no penalty, balanced classes), and CE_0 the cross-entropy of a model without latents.

    The information of a continuous latent is estimated from the distances to the 10th nearest neighbour. Noise of 1e-7
    standard deviations is added first, as in the authors' estimator, so that no two values are equal; otherwise latents
    with few values would seem to have no information. For discrete latents, such as quantised ones, information is the
    plug-in estimate, and the regression uses one-hot latents.

    The authors have published three rules for active latents:

    - ``range20`` (code of the paper, 2023): the range is at least 1/20 of the largest; for discrete latents, above 0
    - ``range8`` (an earlier version, 2023): at least 1/8 of the largest, also for discrete latents; 3 neighbours
    - ``iqr10`` (Tripod, 2024): the interquartile range is at least 1/10 of the largest; for discrete latents, above 0.1

    The authors compute InfoE on the training rows, which is ``infoe_train`` here; ``infoe`` uses test rows.

    Source:
        Disentanglement via Latent Quantization (Hsu, Dorrell, Whittington, Wu & Finn, 2023), section 4.
        https://arxiv.org/abs/2305.18378
        Tripod: Three Complementary Inductive Biases for Disentangled Representation Learning (Hsu, Hamid, Burns, Finn &
        Wu, 2024). https://arxiv.org/abs/2404.10282
        Mutual Information between Discrete and Continuous Data Sets (Ross, 2014), equation 2.
        https://doi.org/10.1371/journal.pone.0087357

    Args:
        latents: (N, D) latents.
        factors: (N, K) labels or continuous factors. For a continuous factor, information is estimated by the method of
            Kraskov et al. (2004), and the regression is linear with 1 - squared error / variance instead of
            1 - CE / CE_0.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`.
        rule: ``"range20"``, ``"range8"`` or ``"iqr10"``; defaults to the preset's value, which is ``"range20"``.
        discrete: whether latents are discrete, as in a quantised latent space.
        num_train: number of training rows; see `sample_sizes`.
        num_test: rows that ``infoe`` is taken on; see `sample_sizes`.
        num_neighbours: number of nearest neighbours in the information estimate; defaults to the value of the rule.
        with_replacement: draw rows with replacement; overrides the preset.

    Returns:
        ``infom``, ``infoc``, ``infoe``, ``infoe_train``; at most 1, chance level 0; ``nan`` with one warning if fewer
        than two factors vary or fewer than two latents are active. ``infoe`` is below 0 if the classifier is worse on
        test rows than a model without latents.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows; unknown rule.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> factors = rng.integers(4, size=(1000, 2))
        >>> scores = infomec(factors + rng.normal(0, 0.1, (1000, 2)), factors, seed=0, num_train=800, num_test=200)
        >>> scores["infom"] > 0.9, scores["infoc"] > 0.9
        (True, True)
    """
    protocol = choose(preset, with_replacement=with_replacement, infomec_rule=rule)
    check_name("rule", protocol.infomec_rule, RULES)
    chosen = RULES[protocol.infomec_rule]
    latents, factors, continuous, train, test, rng, _ = draw_sample(
        latents,
        factors,
        protocol,
        seed=seed,
        num_train=num_train,
        num_test=num_test,
        factors_as="classes or numbers",
    )
    varying = varying_factors(factors[train])
    factors, continuous = factors[:, varying], continuous[varying]
    neighbours = chosen.num_neighbours if num_neighbours is None else num_neighbours
    share = _shares(latents[train], factors[train], continuous, None if discrete else neighbours, rng)
    kept = share[_active(latents[train].astype(np.float64), chosen, discrete)]
    scores = {"infom": _concentration(kept), "infoc": _concentration(kept.T)}
    if missing := [name for name, value in scores.items() if np.isnan(value)]:
        warn_undefined(
            " and ".join(missing),
            f"they need two factors that vary and two active latents, got {factors.shape[1]} and {len(kept)}",
        )
    z, z_test = (_one_hot if discrete else standardised)(latents[train], latents[test])
    explained = [
        (_explained_variance if continuous[k] else _explained)(z, factors[train, k], z_test, factors[test, k])
        for k in range(factors.shape[1])
    ]
    on_test, on_train = np.mean(explained, axis=0) if explained else (np.nan, np.nan)
    return scores | {"infoe": float(on_test), "infoe_train": float(on_train)}


def _active(latents: np.ndarray, rule: Rule, discrete: bool) -> np.ndarray:
    low, high = np.quantile(latents, rule.quantiles, axis=0)
    spread = high - low
    share = rule.discrete_share if discrete else rule.share
    return np.asarray((spread > (rule.discrete_spread if discrete else 0)) & (spread >= share * spread.max()))


def _shares(
    latents: np.ndarray,
    factors: np.ndarray,
    continuous: np.ndarray,
    num_neighbours: int | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return (D, K) mutual information over factor entropy; latents are discrete if ``num_neighbours`` is `None`."""
    share = np.empty((latents.shape[1], factors.shape[1]))
    if num_neighbours is None:
        table = np.stack([np.unique(latent, return_inverse=True)[1] for latent in latents.T], axis=1)
        num_values = int(table.max()) + 1
        if num_values > max(len(table) // 2, 1):
            raise ValueError(
                f"a latent has {num_values:,} values in {len(table):,} rows, so it is not discrete; score it as "
                "continuous (discrete=False)"
            )
        for k, column in enumerate(factors.T):
            labels = (
                column if not continuous[k] else np.digitize(column, np.quantile(column, np.linspace(0, 1, 21)[1:-1]))
            )
            information = count_information(table, labels[:, None].astype(np.int64), num_values)
            share[:, k] = information.shared[:, 0] / information.factor_entropy[0]
        return share
    shared, own = neighbour_information(tell_apart(standardised(latents)[0], rng), factors, continuous, num_neighbours)
    return np.asarray(shared / own)


def _one_hot(latents: np.ndarray, others: np.ndarray) -> list[np.ndarray]:
    values = [np.unique(latent) for latent in latents.T]
    return [
        np.concatenate([table[:, d, None] == values[d] for d in range(table.shape[1])], axis=1).astype(np.float64)
        for table in (latents, others)
    ]


def _concentration(share: np.ndarray) -> float:
    """Return the mean of max / sum over rows that are not all zero, rescaled from 1 / columns .. 1 to 0 .. 1."""
    rows = share[share.sum(axis=1) > 0]
    columns = share.shape[1]
    if columns < 2 or not len(rows):
        return float("nan")
    return float(((rows.max(axis=1) / rows.sum(axis=1)).mean() - 1 / columns) / (1 - 1 / columns))


def _explained(train: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> tuple[float, float]:
    model = Logistic.fit(train, labels, penalty=0.0, balanced=True)
    baseline = np.log(len(model.classes))  # balanced classes without latents: all classes are equally likely
    losses = []
    for table, truth in ((test, test_labels), (train, labels)):
        known = np.isin(truth, model.classes)
        column = np.searchsorted(model.classes, truth[known])
        losses.append(-model.log_probabilities(table[known])[np.arange(known.sum()), column].mean())
    return float(1 - losses[0] / baseline), float(1 - losses[1] / baseline)


def _explained_variance(
    train: np.ndarray, values: np.ndarray, test: np.ndarray, test_values: np.ndarray
) -> tuple[float, float]:
    return r_squared(train, values, test, test_values), r_squared(train, values, train, values)


METRIC = Metric(
    "infomec",
    infomec,
    {
        "infom": ScoreInfo(0, 1, True, "does each latent have information about one factor only?", 3),
        "infoc": ScoreInfo(0, 1, True, "does only one latent have information about each factor?", 2),
        "infoe": ScoreInfo(-math.inf, 1, True, "how much do linear classifiers reduce the uncertainty of factors?", 2),
        "infoe_train": ScoreInfo(-math.inf, 1, True, "InfoE on the training rows", 0),
    },
    "modularity, compactness and explicitness from normalised information",
    takes_continuous=True,
    counts_classes=True,
)
