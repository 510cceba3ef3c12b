"""Known answers, laws and bad input of DCI, MIG, carriers and the suite."""

import json
import warnings

import numpy as np
import pytest

from betavae import metrics
from betavae.metrics.mig import discretise, factor_entropies

SIZES = (3, 4, 5)
SMALL = {"num_train": 1_500, "num_test": 500}


@pytest.fixture(scope="module")
def factors() -> np.ndarray:
    return np.random.default_rng(0).integers(SIZES, size=(3_000, len(SIZES)))


def test_codes_that_are_the_factors_score_one(factors):
    scores = metrics.evaluate(factors[:, ::-1] * -2.0, factors, preset="dlib", **SMALL).scores
    assert scores["dci.disentanglement"] == pytest.approx(1, abs=0.02)
    assert scores["dci.completeness"] == pytest.approx(1, abs=0.02)
    assert scores["dci.informativeness"] == 1
    assert scores["mig"] == pytest.approx(1, abs=0.02)  # 0.99: chance gives the runner-up a little information


def test_one_factor_over_two_codes_is_incomplete_and_two_factors_in_one_code_are_entangled(factors):
    both = factors[:, 0] * 4.0 + factors[:, 1]
    fit = metrics.fit_dci(np.stack([both, factors[:, 2]], axis=1), factors, seed=0, **SMALL)
    # Code 0 serves two of three factors alike: 1 - log 2 / log 3; code 1 serves one.
    np.testing.assert_allclose(fit.per_code, [1 - np.log(2) / np.log(3), 1], atol=0.02)
    np.testing.assert_allclose(fit.per_factor, [1, 1, 1], atol=0.02)


def test_shuffled_codes_score_chance(factors):
    scores = metrics.evaluate(factors.astype(float), factors, chance=True, **SMALL)
    assert scores.chance["mig"] < 0.01
    assert scores.chance["dci.informativeness"] == pytest.approx(np.mean([1 / 3, 1 / 4, 1 / 5]), abs=0.05)


def test_importances_of_scikit_learn_are_reproduced(factors):
    rng = np.random.default_rng(1)
    mixed = factors @ rng.normal(size=(3, 4)) + rng.normal(size=(len(factors), 4))
    fast, slow = (metrics.fit_dci(mixed, factors, seed=0, estimator=name, **SMALL) for name in ("fast", "sklearn"))
    np.testing.assert_allclose(fast.importance, slow.importance, atol=0.01)
    np.testing.assert_allclose(fast.accuracy, slow.accuracy, atol=0.04)


def test_same_seed_same_numbers(factors):
    codes = factors + np.random.default_rng(2).normal(size=factors.shape)
    first, again, other = (metrics.dci(codes, factors, seed=seed, **SMALL) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_mutual_information_by_hand():
    codes = np.array([0, 0, 1, 1])[:, None]
    factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    np.testing.assert_allclose(metrics.mutual_information(codes, factors), [[np.log(2), 0]], atol=1e-12)
    np.testing.assert_allclose(factor_entropies(factors), np.log(2))


def test_bins_are_those_of_a_histogram():
    values = np.random.default_rng(0).normal(size=(1_000, 1))
    expected = np.digitize(values, np.histogram(values, 20)[1][:-1]) - 1
    np.testing.assert_array_equal(discretise(values), expected)


def test_constant_factor_is_left_out_with_nan_in_its_place(factors):
    factors = np.column_stack([factors, np.zeros(len(factors), int)])
    fit = metrics.fit_dci(factors.astype(float), factors, seed=0, **SMALL)
    assert np.isnan(fit.importance[:, 3]).all()
    assert fit.scores()["disentanglement"] == pytest.approx(1, abs=0.02)


def test_undefined_scores_are_nan_with_one_warning(factors):
    with pytest.warns(UserWarning, match=r"disentanglement needs two factors that vary, got 1; completeness") as caught:
        scores = metrics.dci(factors[:, :1].astype(float), factors[:, :1], seed=0, **SMALL)
    assert len(caught) == 1
    assert np.isnan(scores["disentanglement"])
    assert scores["informativeness"] == 1
    with pytest.warns(UserWarning, match="MIG is undefined"):
        assert np.isnan(metrics.mig(factors[:, :1], factors[:, :1] * 0, seed=0)["mig"])


def test_dead_codes_are_masked_by_the_default_preset_only(factors):
    codes = np.column_stack([factors, np.random.default_rng(0).normal(0, 1e-3, len(factors))])
    default, dlib = (metrics.evaluate(codes, factors, preset=name, **SMALL) for name in ("default", "dlib"))
    assert default.arrays["active"].tolist() == [True, True, True, False]
    assert default.arrays["dci.importance"].shape == (4, 3)
    assert (default.arrays["dci.importance"][3] == 0).all()
    assert dlib.arrays["mig.mutual_information"][3].max() > 0
    np.testing.assert_array_equal(metrics.active_codes(codes, np.array([1, 0.01, 1, 1])), [True, False, True, False])


def test_carriers_by_the_rule():
    information = np.array([[0.9, 0.3, 0.05, 0.0], [0.2, 0.2, 0.05, 0.0]])
    found = metrics.find_carriers(information, np.array([1, 1, 1, 0.0]), ["posX", "scale", "shape", "colour"])
    assert [carrier.kind for carrier in found] == ["carried", "spread", "not found", "not found"]
    assert [carrier.codes for carrier in found] == [(0,), (0, 1), (), ()]
    assert metrics.describe_carriers(found) == (
        "posX: z0 · scale: spread over z0 and z1 · shape: not found · colour: not found"
    )
    only_second = metrics.find_carriers(information, np.ones(4), list("abcd"), active=np.array([False, True]))
    assert only_second[0].codes == (1,)


def test_scores_become_json_with_null_for_nan(factors):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = metrics.evaluate(factors[:, :1].astype(float), factors[:, :1], repeats=2, **SMALL)
    plain = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert plain["scores"]["dci.disentanglement"] is None
    assert plain["carriers"] == [{"factor": "factor 0", "kind": "carried", "codes": [0], "strength": pytest.approx(1)}]


def test_intervals_hold_the_score(factors):
    codes = factors + np.random.default_rng(2).normal(size=factors.shape)
    scores = metrics.evaluate(codes, factors, names=["mig"], repeats=4, num_train=1_000)
    low, high = scores.intervals["mig"]
    assert low < scores.scores["mig"] < high
    assert high - low < 0.1


@pytest.mark.parametrize(
    ("codes", "factors", "error", "message"),
    [
        (np.array([["a"]]), np.ones((1, 1)), TypeError, "codes must hold numbers, got an array of <U1"),
        (np.ones(3), np.ones((3, 1)), ValueError, r"codes must have the shape \(samples, codes\), got \(3,\)"),
        (np.ones((0, 2)), np.ones((0, 1)), ValueError, "codes is empty"),
        (np.ones((3, 2)), np.ones((4, 1)), ValueError, "got 3 rows of codes and 4 rows of factors"),
        (
            np.array([[0, np.nan], [np.inf, 0]]),
            np.ones((2, 1)),
            ValueError,
            r"1 NaN and 1 infinite values in columns \[0, 1\]; the first is in row 0, column 1",
        ),
        (np.ones((2, 1)), np.array([[0.5], [1]]), ValueError, "whole numbers to serve as classes, got 0.5 in row 0"),
        (np.ones((9, 1)), np.ones((9, 1)), ValueError, r"10,000 \+ 5,000 different rows are needed, got 9"),
    ],
)
def test_bad_tables(codes, factors, error, message):
    with pytest.raises(error, match=message):
        metrics.dci(codes, factors, seed=0)


def test_bad_names(factors):
    with pytest.raises(ValueError, match=r"unknown metric 'dcl'; choose from .*did you mean 'dci'"):
        metrics.evaluate(factors, factors, names=["dcl"])
    with pytest.raises(ValueError, match="unknown preset 'dliib'; choose from dlib, default; did you mean 'dlib'"):
        metrics.evaluate(factors, factors, preset="dliib")
    with pytest.raises(ValueError, match=r"unknown estimator 'sklern'.*did you mean 'sklearn'"):
        metrics.dci(factors, factors, seed=0, estimator="sklern")
    with pytest.raises(ValueError, match="factor_names must name 3 factors, got 1"):
        metrics.evaluate(factors, factors, factor_names=["shape"])


def test_too_many_classes(factors):
    numbers = np.arange(len(factors))[:, None]
    with pytest.raises(ValueError, match="factor 0 has 1,500 classes in 1,500 training rows"):
        metrics.dci(factors, numbers, seed=0, **SMALL)
