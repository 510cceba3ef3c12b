"""What many runs say together: spread over seeds, who beats whom, what explains the variance.

Plain functions of numbers; a value that is not finite counts as missing. Intervals are made for few runs: of three to
ten normal values, a percentile bootstrap of 95 % covers 74 to 90 %. SciPy, half a second to import, waits until asked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST = 3
"""Values below which no interval is given."""


@dataclass(frozen=True)
class Summary:
    """One score of one setting over its seeds; `nan` where there are too few values.

    Attributes:
        n: Values that are there.
        mean: Their mean.
        median: Their median.
        quarter: A quarter of the values lie below.
        three_quarters: Three quarters lie below.
        low: Lower end of the 95 % interval of the mean.
        high: Its upper end.
    """

    n: int
    mean: float
    median: float
    quarter: float
    three_quarters: float
    low: float
    high: float


def summarise(values: ArrayLike, within: tuple[float, float] = (-math.inf, math.inf)) -> Summary:
    """Mean, median and quartiles of values, with the mean's interval by Student's t from three values on.

    Args:
        values: of one score.
        within: smallest and largest value there can be, where the interval ends.

    Example:
        >>> summarise([0.2, 0.4, 0.9, float("nan")]).median
        0.4
    """
    from scipy.stats import t as student

    known = _finite(values)
    if not len(known):
        return Summary(0, *[float("nan")] * 6)
    quarter, median, three_quarters = np.quantile(known, [0.25, 0.5, 0.75]).tolist()
    reach, mean = float("nan"), float(known.mean())
    if len(known) >= FEWEST:
        reach = float(student.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)))
    low, high = np.clip([mean - reach, mean + reach], *within).tolist()
    return Summary(len(known), mean, median, quarter, three_quarters, low, high)


def probability_better(a: ArrayLike, b: ArrayLike) -> tuple[float, float, float]:
    """Probability that a run of A scores above a run of B, drawn at random; a tie counts half.

    P = (Σ_i Σ_j [a_i > b_j] + ½ [a_i = b_j]) / (n_a n_b), the Mann-Whitney U over its maximum. The interval holds the θ
    with |P - θ| ≤ 1.96 √V(θ), V(θ) = θ (1 - θ) (1 + (n - 1) ((1 - θ) / (2 - θ) + θ / (1 + θ))) / (n_a n_b), n the mean
    of n_a and n_b. It reaches to a half where not even runs of which every one of A beats every one of B would be rarer
    than 5 % by chance, as with three of each (one in ten).

    Source:
        Deep Reinforcement Learning at the Edge of the Statistical Precipice (Agarwal et al. 2021), section 4.3.
        https://arxiv.org/abs/2108.13264
        Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2 (Newcombe 2006),
        method 5. https://doi.org/10.1002/sim.2324

    Args:
        a: Scores of A's runs.
        b: Scores of B's runs.

    Returns:
        The probability, and the ends of its 95 % interval when the runs of both are drawn anew; `nan` for the
        probability where one has no value, and for the interval where one has fewer than three.

    Example:
        >>> probability_better([3, 4], [1, 4])[0]
        0.625
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    first, second = _finite(a), _finite(b)
    if not len(first) or not len(second):
        return (float("nan"),) * 3
    found = float((np.sign(first[:, None] - second[None, :]) + 1).mean() / 2)
    if min(len(first), len(second)) < FEWEST:
        return found, float("nan"), float("nan")
    n, reach = (len(first) + len(second)) / 2, float(norm.ppf(0.975))

    def beyond(theta: float) -> float:
        skew = (1 - theta) / (2 - theta) + theta / (1 + theta)
        variance = theta * (1 - theta) * (1 + (n - 1) * skew) / (len(first) * len(second))
        return (found - theta) ** 2 - reach**2 * variance

    nearly = 1e-12  # at 0 and 1 themselves the variance is 0
    low = brentq(beyond, 0, min(found, 1 - nearly)) if found > 0 else 0.0
    high = brentq(beyond, max(found, nearly), 1) if found < 1 else 1.0
    if 2 / math.comb(len(first) + len(second), len(first)) > 0.05:
        low, high = min(low, 0.5), max(high, 0.5)
    return found, float(low), float(high)


def rank_correlation(table: Mapping[str, Sequence[float]]) -> NDArray[np.float64]:
    """Spearman's rank correlation of every pair of columns, over the rows where both are there.

    Args:
        table: columns by name, all of the same length, a row a run.

    Returns:
        (columns, columns) in [-1, 1]; `nan` where a column is constant or fewer than three rows are left.

    Example:
        >>> rank_correlation({"mig": [1, 2, 3], "dci": [2, 4, 9]})
        array([[1., 1.],
               [1., 1.]])
    """
    from scipy.stats import rankdata

    columns = [np.asarray(values, float) for values in table.values()]
    found = np.full((len(columns), len(columns)), np.nan)
    for i, first in enumerate(columns):
        for j, second in enumerate(columns[: i + 1]):
            there = np.isfinite(first) & np.isfinite(second)
            if there.sum() < FEWEST:
                continue
            x, y = rankdata(first[there]), rankdata(second[there])
            if np.ptp(x) and np.ptp(y):
                found[i, j] = found[j, i] = np.corrcoef(x, y)[0, 1].clip(-1, 1)
    return found


def variance_explained(values: ArrayLike, objectives: Sequence[str], settings: Sequence[str]) -> dict[str, float]:
    """Shares of a score's variance that lie between objectives, between settings of one objective, and between seeds.

    With S the sums of squares around the means of all runs, of each objective and of each setting:
    objective = 1 - S(objectives) / S(all), setting = (S(objectives) - S(settings)) / S(all),
    seed = S(settings) / S(all). They add up to 1. With few seeds the first two are too high: of n settings with k seeds
    each and no difference at all, (n - 1) / (n k - 1) is expected for them together.

    Source:
        Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.
        2019), section 5.4, where a score is regressed on the objective alone and on objective and hyper-parameter.
        https://arxiv.org/abs/1811.12359

    Args:
        values: A score, one a run.
        objectives: Of each run.
        settings: Of each run, so that equal settings have equal objectives.

    Returns:
        `objective`, `setting`, `seed`; `nan` where the score never changes, nothing is left, or every
        setting has one run, so that seeds cannot be told from settings.

    Example:
        >>> variance_explained([1, 1, 3, 3], ["beta", "beta", "tc", "tc"], ["b1", "b1", "t1", "t1"])
        {'objective': 1.0, 'setting': 0.0, 'seed': 0.0}
    """
    known = np.asarray(values, float)
    there = np.isfinite(known)
    known = known[there]
    _, counts = np.unique(np.array(settings)[there], return_counts=True)
    if not len(known) or np.ptp(known) <= 1e-12 * np.abs(known).max() or counts.max() < 2:
        return dict.fromkeys(("objective", "setting", "seed"), float("nan"))
    total = _squares_within(known, np.zeros(len(known), int))
    between = _squares_within(known, np.unique(np.array(objectives)[there], return_inverse=True)[1])
    within = _squares_within(known, np.unique(np.array(settings)[there], return_inverse=True)[1])
    return {"objective": 1 - between / total, "setting": (between - within) / total, "seed": within / total}


def _squares_within(values: NDArray[np.float64], groups: NDArray[np.intp]) -> float:
    """Sum of squares around the mean of each group."""
    means = np.bincount(groups, values) / np.bincount(groups)
    return float(((values - means[groups]) ** 2).sum())


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(values, float)
    known: NDArray[np.float64] = table[np.isfinite(table)]
    return known
