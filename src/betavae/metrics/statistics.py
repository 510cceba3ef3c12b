"""Statistics over many runs: spread over seeds, comparison of two groups of runs, analysis of variance.

All functions are pure functions of numbers. Values that are not finite count as missing. The intervals are designed for
few runs: for three to ten normal values, a 95 % percentile bootstrap covers only 74 to 90 %. SciPy is imported on first
use, because the import takes half a second.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST = 3
"""Minimum number of values for an interval."""


@dataclass(frozen=True)
class Summary:
    """Summary of one score of one setting over its seeds; `nan` where there are too few values.

    Attributes:
        n: Number of finite values.
        mean: Mean.
        median: Median.
        quarter: First quartile.
        three_quarters: Third quartile.
        low: Lower end of the 95 % confidence interval of the mean.
        high: Upper end of the 95 % confidence interval of the mean.
    """

    n: int
    mean: float
    median: float
    quarter: float
    three_quarters: float
    low: float
    high: float


def summarise(values: ArrayLike, within: tuple[float, float] = (-math.inf, math.inf)) -> Summary:
    """Compute the mean, its confidence interval, the median and the quartiles.

    The interval uses Student's t distribution and needs at least three values.

    Args:
        values: values of one score.
        within: smallest and largest possible value; the interval is clipped to them.

    Example:
        >>> summarise([0.2, 0.4, 0.9, float("nan")]).median
        0.4
    """
    from scipy.stats import t as student

    finite = _finite(values)
    if not len(finite):
        return Summary(0, *[float("nan")] * 6)
    quarter, median, three_quarters = np.quantile(finite, [0.25, 0.5, 0.75]).tolist()
    half_width, mean = float("nan"), float(finite.mean())
    if len(finite) >= FEWEST:
        half_width = float(student.ppf(0.975, len(finite) - 1) * finite.std(ddof=1) / np.sqrt(len(finite)))
    low, high = np.clip([mean - half_width, mean + half_width], *within).tolist()
    return Summary(len(finite), mean, median, quarter, three_quarters, low, high)


def probability_better(a: ArrayLike, b: ArrayLike) -> tuple[float, float, float]:
    """Estimate the probability that a random run of A scores above a random run of B. A tie counts half.

    P = (Σ_i Σ_j [a_i > b_j] + ½ [a_i = b_j]) / (n_a n_b), which is the Mann-Whitney U divided by its maximum. The
    interval is the set of θ with |P - θ| ≤ 1.96 √V(θ), where
    V(θ) = θ (1 - θ) (1 + (n - 1) ((1 - θ) / (2 - θ) + θ / (1 + θ))) / (n_a n_b) and n is the mean of n_a and n_b.

    With few runs, complete separation (every run of A beats every run of B) happens by chance in more than 5 % of
    cases; with three runs each, in one of ten. The interval is then extended to include 0.5.

    Source:
        Deep Reinforcement Learning at the Edge of the Statistical Precipice (Agarwal et al. 2021), section 4.3.
        https://arxiv.org/abs/2108.13264
        Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2 (Newcombe 2006),
        method 5. https://doi.org/10.1002/sim.2324

    Args:
        a: Scores of the runs of A.
        b: Scores of the runs of B.

    Returns:
        The probability and the two ends of its 95 % confidence interval. The probability is `nan` if A or B has no
        finite value; the interval is `nan` if A or B has fewer than three.

    Example:
        >>> probability_better([3, 4], [1, 4])[0]
        0.625
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    first, second = _finite(a), _finite(b)
    if not len(first) or not len(second):
        return (float("nan"),) * 3
    probability = float((np.sign(first[:, None] - second[None, :]) + 1).mean() / 2)
    if min(len(first), len(second)) < FEWEST:
        return probability, float("nan"), float("nan")
    n, z_value = (len(first) + len(second)) / 2, float(norm.ppf(0.975))

    def excess(theta: float) -> float:
        skew = (1 - theta) / (2 - theta) + theta / (1 + theta)
        variance = theta * (1 - theta) * (1 + (n - 1) * skew) / (len(first) * len(second))
        return (probability - theta) ** 2 - z_value**2 * variance

    margin = 1e-12  # the variance is 0 at exactly 0 and 1
    low = brentq(excess, 0, min(probability, 1 - margin)) if probability > 0 else 0.0
    high = brentq(excess, max(probability, margin), 1) if probability < 1 else 1.0
    if 2 / math.comb(len(first) + len(second), len(first)) > 0.05:
        low, high = min(low, 0.5), max(high, 0.5)
    return probability, float(low), float(high)


def rank_correlation(table: Mapping[str, Sequence[float]]) -> NDArray[np.float64]:
    """Compute Spearman's rank correlation of each pair of columns, over the rows where both are finite.

    Args:
        table: columns by name, all of the same length; one row per run.

    Returns:
        (columns, columns) correlations in [-1, 1]; `nan` where a column is constant or fewer than three rows are
        finite.

    Example:
        >>> rank_correlation({"mig": [1, 2, 3], "dci": [2, 4, 9]})
        array([[1., 1.],
               [1., 1.]])
    """
    from scipy.stats import rankdata

    columns = [np.asarray(values, float) for values in table.values()]
    correlation = np.full((len(columns), len(columns)), np.nan)
    for i, first in enumerate(columns):
        for j, second in enumerate(columns[: i + 1]):
            finite = np.isfinite(first) & np.isfinite(second)
            if finite.sum() < FEWEST:
                continue
            x, y = rankdata(first[finite]), rankdata(second[finite])
            if np.ptp(x) and np.ptp(y):
                correlation[i, j] = correlation[j, i] = np.corrcoef(x, y)[0, 1].clip(-1, 1)
    return correlation


def variance_explained(values: ArrayLike, objectives: Sequence[str], settings: Sequence[str]) -> dict[str, float]:
    """Split a score's variance into the shares of the objective, of its settings, and of the seed.

    Let S(all), S(objectives) and S(settings) be the sums of squares around the overall mean, around the mean of each
    objective, and around the mean of each setting. Then objective = 1 - S(objectives) / S(all),
    setting = (S(objectives) - S(settings)) / S(all) and seed = S(settings) / S(all). The three shares add up to 1.

    With few seeds, the first two shares are biased upwards: for n settings with k seeds each and no true difference,
    the expectation of their sum is (n - 1) / (n k - 1).

    Source:
        Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.
        2019), section 5.4: regression of a score on the objective alone, and on objective and hyper-parameter.
        https://arxiv.org/abs/1811.12359

    Args:
        values: Score of each run.
        objectives: Objective of each run.
        settings: Setting of each run. Runs with equal settings must have equal objectives.

    Returns:
        `objective`, `setting`, `seed`. All are `nan` if the score is constant, if no value is finite, or if each
        setting has only one run, because the variance of seeds is then unknown.

    Example:
        >>> variance_explained([1, 1, 3, 3], ["beta", "beta", "tc", "tc"], ["b1", "b1", "t1", "t1"])
        {'objective': 1.0, 'setting': 0.0, 'seed': 0.0}
    """
    scores = np.asarray(values, float)
    finite = np.isfinite(scores)
    scores = scores[finite]
    _, counts = np.unique(np.array(settings)[finite], return_counts=True)
    if not len(scores) or np.ptp(scores) <= 1e-12 * np.abs(scores).max() or counts.max() < 2:
        return dict.fromkeys(("objective", "setting", "seed"), float("nan"))
    total = _squares_within(scores, np.zeros(len(scores), int))
    within_objectives = _squares_within(scores, np.unique(np.array(objectives)[finite], return_inverse=True)[1])
    within_settings = _squares_within(scores, np.unique(np.array(settings)[finite], return_inverse=True)[1])
    return {
        "objective": 1 - within_objectives / total,
        "setting": (within_objectives - within_settings) / total,
        "seed": within_settings / total,
    }


def _squares_within(values: NDArray[np.float64], groups: NDArray[np.intp]) -> float:
    """Return the sum of squares around the mean of each group."""
    means = np.bincount(groups, values) / np.bincount(groups)
    return float(((values - means[groups]) ** 2).sum())


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(values, float)
    finite: NDArray[np.float64] = table[np.isfinite(table)]
    return finite
