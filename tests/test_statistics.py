"""Statistics over runs against values worked out by hand, scipy, and laws."""

import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, spearmanr

from betavae.metrics.statistics import probability_better, rank_correlation, summarise, variance_explained

NAN = float("nan")


def test_a_summary_by_hand():
    summary = summarise([1.0, 2.0, 3.0, 10.0, NAN, None])
    assert (summary.n, summary.mean, summary.median) == (4, 4.0, 2.5)
    assert (summary.quarter, summary.three_quarters) == (1.75, 4.75)
    reach = 3.1824 * math.sqrt((9 + 4 + 1 + 36) / 3) / 2  # 97.5 % quantile of t with three degrees of freedom
    assert (summary.low, summary.high) == (pytest.approx(4 - reach, abs=1e-3), pytest.approx(4 + reach, abs=1e-3))
    assert summarise([1.0, 2.0, 3.0, 10.0], (0, 9)).high == 9


def test_summaries_of_few_values():
    assert summarise([]).n == 0
    assert math.isnan(summarise([NAN]).mean)
    assert math.isnan(summarise([1.0, 2.0]).low)
    assert (summarise([2.0] * 3).low, summarise([2.0] * 3).high) == (2.0, 2.0)


@pytest.mark.parametrize("runs", [3, 5, 10])
def test_intervals_of_few_runs_cover_what_they_say(runs):
    drawn = np.random.default_rng(runs).normal(size=(1_000, 2, runs))
    means = [summarise(one) for one, _ in drawn]
    assert np.mean([mean.low <= 0 <= mean.high for mean in means]) == pytest.approx(0.95, abs=0.02)
    better = [probability_better(one, other) for one, other in drawn]
    assert np.mean([low <= 0.5 <= high for _, low, high in better]) > 0.93  # 1.0, 0.94 and 0.95


@pytest.mark.parametrize(("runs", "covered"), [(3, 0.68), (5, 0.82), (10, 0.93)])
def test_the_mean_of_two_heaps_is_covered_less_as_the_docs_say(runs, covered):
    generator = np.random.default_rng(runs)
    high = generator.random((1_000, runs)) < 0.3
    drawn = np.where(high, generator.normal(0.30, 0.03, high.shape), generator.normal(0.05, 0.02, high.shape))
    means = [summarise(values) for values in drawn]
    assert np.mean([mean.low <= 0.125 <= mean.high for mean in means]) == pytest.approx(covered, abs=0.03)


@pytest.mark.parametrize("spread", [1, 5])
@pytest.mark.parametrize("runs", [4, 5, 10])
def test_settings_of_unequal_spread_are_told_apart_by_chance_in_at_most_one_of_ten(runs, spread):
    drawn = np.random.default_rng(runs).normal(size=(1_000, 2, runs))
    better = [probability_better(spread * one, other) for one, other in drawn]
    assert np.mean([low <= 0.5 <= high for _, low, high in better]) > 0.88


def test_the_probability_is_the_mann_whitney_statistic():
    generator = np.random.default_rng(1)
    a, b = generator.integers(0, 9, 20), generator.integers(2, 9, 30)
    value, low, high = probability_better(a, b)
    assert value == pytest.approx(mannwhitneyu(a, b).statistic / 600)
    assert low < value < high
    assert probability_better(b, a)[0] == pytest.approx(1 - value)


def test_probabilities_at_the_ends():
    value, low, high = probability_better([3, 4, 5], [0, 1, 2])
    assert (value, high) == (1.0, 1.0)
    assert low == 0.5  # one of ten pairs of three runs is as clear by chance
    assert probability_better([0, 1, 2], [3, 4, 5]) == (0.0, 0.0, 0.5)
    assert probability_better([4, 5, 6, 7], [0, 1, 2, 3])[1] == pytest.approx(0.582, abs=1e-3)
    assert probability_better([1, 1], [1])[0] == 0.5
    assert math.isnan(probability_better([1, 1], [1])[1])
    assert math.isnan(probability_better([], [1])[0])


def test_rank_correlation_is_scipys_over_the_rows_that_are_there():
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(2, 30))
    y = (x + y).round(1)
    holes = np.where(np.arange(30) < 4, np.nan, y)
    found = rank_correlation({"x": x, "y": y, "holes": holes, "constant": np.ones(30)})
    assert found[0, 1] == pytest.approx(spearmanr(x, y).statistic)
    assert found[0, 2] == pytest.approx(spearmanr(x[4:], y[4:]).statistic)
    assert np.isnan(found[3]).all()
    np.testing.assert_array_equal(found, found.T)


def test_variance_explained_by_hand():
    # all: mean 3, squares 4+0+0+4 = 8; objectives: means 2 and 4, squares 1+1+1+1 = 4; settings: 1 3 | 3, 5 -> 2
    shares = variance_explained([1, 3, 3, 5], ["a", "a", "b", "b"], ["a1", "a2", "b1", "b1"])
    assert shares == {"objective": 0.5, "setting": 0.25, "seed": 0.25}


def test_variance_that_is_none_or_all_of_seeds():
    assert math.isnan(variance_explained([2.0, 2.0], ["a", "b"], ["a", "b"])["seed"])
    assert math.isnan(variance_explained([NAN], ["a"], ["a"])["seed"])
    assert math.isnan(variance_explained([0.1] * 6, ["a"] * 6, ["a", "b"] * 3)["seed"])  # differences are rounding
    assert math.isnan(variance_explained([1.0, 2.0], ["a", "b"], ["a", "b"])["setting"])  # a seed each
    assert variance_explained([0, 1, 0, 1], ["a", "a", "b", "b"], ["a", "a", "b", "b"])["seed"] == 1


def test_shares_without_any_effect_are_what_the_docstring_says():
    generator = np.random.default_rng(3)
    settings = np.repeat([f"s{i}" for i in range(6)], 10)
    shares = [variance_explained(generator.normal(size=60), settings, settings)["objective"] for _ in range(300)]
    assert np.mean(shares) == pytest.approx(5 / 59, rel=0.1)  # measured: within 4 %
