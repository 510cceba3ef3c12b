"""Known answers, laws and bad input of every metric; see test_metrics_formulas.py for the papers' equations."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from betavae import metrics
from betavae.metrics import METRICS
from betavae.metrics.inputs import active_latents, check_classes, check_tables, draw_rows
from betavae.metrics.interventions import Groups

LOG2 = np.log(2)


def grid(*sizes: int, times: int) -> np.ndarray:
    """All combinations of factors, each as often: empirical independence is exact, so values by hand are exact too."""
    return np.tile(np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), axis=1), (times, 1))


FACTORS = grid(3, 4, 5, times=20)
BITS = grid(2, 2, times=300)
SMALL: dict[str, dict[str, object]] = {
    **{name: {"num_train": 800, "num_test": 400} for name in ("dci", "sap", "explicitness", "infomec", "dci_es")},
    **{name: {"num_train": 1_200} for name in ("mig", "mig_sup", "dcimig", "jemmig", "modularity")},
    **{name: {"num_train": 1_200} for name in ("irs", "unsupervised")},
    **{name: {"num_train": 300, "num_test": 200, "batch_size": 16} for name in ("beta_vae", "factor_vae")},
    **{name: {"num_train": 300, "num_test": 200, "batch_size": 32} for name in ("z_min_variance", "z_max_variance")},
    "mig_chen": {},
    **{name: {"num_train": 800, "num_test": 400} for name in ("r2", "edi", "unibound")},
    "mcc": {"num_train": 1_200},
    "downstream": {"num_labels": (10, 100), "num_test": 400},
    "fairness": {"num_train": 300, "num_per_value": 50},
}
TREES = ("dci", "downstream", "fairness", "edi", "unibound")


CONTINUOUS = {name for name, metric in METRICS.items() if metric.takes_continuous}
INFINITE = [
    f"{name}.{part}"
    for name, metric in METRICS.items()
    for part, score in metric.scores.items()
    if math.isinf(score.high)
]


def score(name: str, latents: np.ndarray, factors: np.ndarray, seed: int = 0, **options: object) -> dict[str, float]:
    return METRICS[name](latents, factors, seed=seed, **SMALL[name] | options)


def every_score(latents: np.ndarray, factors: np.ndarray, names=tuple(SMALL)) -> dict[str, float]:
    """All scores under the names that the suite gives them."""
    found = {}
    for name in names:
        for key, value in score(name, latents, factors).items():
            found[key if key == name else f"{name}.{key}"] = value
    return found


def test_every_metric_is_tested_here():
    assert set(SMALL) == set(METRICS)


# ---------------------------------------------------------------------------------------------------------------------
# Known answers
# ---------------------------------------------------------------------------------------------------------------------

PERFECT = {
    "dci.disentanglement": 0.99,
    "dci.completeness": 0.99,
    "dci.informativeness": 1,
    "mig": 1,
    "mig_chen": 1,
    "mig_sup": 1,
    "dcimig": 1,
    "jemmig": 1,
    "sap.regression": 0.99,  # the runner-up correlates by chance: 800 rows
    "beta_vae.accuracy": 0.99,
    "factor_vae.accuracy": 1,
    "z_min_variance": 1,
    "z_max_variance": 1,
    "modularity": 1,
    "explicitness": 1,
    "irs": 1,
    "infomec.infom": 0.97,
    "infomec.infoc": 0.97,
    "infomec.infoe": 0.97,
    "dci_es.explicitness": 0.85,  # measured 0.89: 16 random waves read three factors less well than 512
    "dci_es.size": 1,
    "downstream.accuracy_100": 1,
}


@pytest.mark.parametrize("case", ["identity", "permuted and flipped"])
def test_latents_that_are_the_factors_are_perfect(case):
    latents = FACTORS.astype(float) if case == "identity" else FACTORS[:, [2, 0, 1]] * [1.0, -3.0, 0.5] + 7
    found = every_score(latents, FACTORS)
    assert all(metrics.score_info(name).question for name in found)
    for name, least in PERFECT.items():
        assert least - 1e-9 <= found[name] <= 1 + 1e-9, (name, found[name])
    assert found["unsupervised.gaussian_total_correlation"] == pytest.approx(0, abs=1e-12)
    assert found["unsupervised.gaussian_wasserstein_correlation"] == pytest.approx(0, abs=1e-12)
    assert found["unsupervised.mutual_information"] == pytest.approx(0, abs=1e-12)
    assert found["unsupervised.active_latents"] == 3
    assert found["fairness.unfairness"] < 0.12  # two samples of 50 predictions differ by chance


def test_rotation_by_45_degrees():
    """Latents a + b and a - b of two fair bits: each takes three values and shares log(2) / 2 with either bit."""
    a, b = BITS.T
    latents = np.stack([a + b, a - b], axis=1).astype(float)
    found = every_score(latents, BITS)
    for name in ("mig", "mig_sup", "dcimig", "modularity"):
        assert found[name] == pytest.approx(0, abs=1e-12), name
    # H(z, a) = 2 log 2, and both latents tell the same: the loss is 2 log 2.
    bins = {"bias_correction": False}
    assert score("jemmig", latents, BITS, **bins)["jemmig"] == pytest.approx(1 - 2 * LOG2 / (LOG2 + np.log(20)))
    # Holding a, a + b deviates by 1/2 from its mean; over all rows by at most 1.
    assert found["irs"] == pytest.approx(0.5)
    # Both latents have squared correlation 1/2 with either bit.
    assert found["sap.regression"] < 0.1
    assert found["dci.disentanglement"] < 0.05
    assert found["dci.completeness"] < 0.1  # measured 0.06: of equally good splits the first wins
    assert found["dci.informativeness"] == 1
    assert found["infomec.infom"] == pytest.approx(0, abs=0.1)
    assert found["infomec.infoc"] == pytest.approx(0, abs=0.1)
    # Holding either bit leaves both latents with half their variance: the vote is a coin toss.
    assert found["factor_vae.accuracy"] == pytest.approx(0.5, abs=0.1)
    assert found["z_max_variance"] == pytest.approx(0, abs=0.2)
    assert found["unsupervised.gaussian_total_correlation"] == pytest.approx(0, abs=1e-12)  # it cannot see rotations


def test_every_latent_twice():
    latents = np.hstack([FACTORS, FACTORS]).astype(float)
    found = every_score(latents, FACTORS, [name for name in SMALL if name != "unsupervised"])
    for name in ("mig", "mig_chen", "sap.classification", "sap.regression"):
        assert found[name] == pytest.approx(0, abs=1e-9), name
    for name in ("mig_sup", "dcimig", "modularity", "irs"):
        assert found[name] == pytest.approx(1), name
    assert found["dci.disentanglement"] == pytest.approx(1, abs=0.01)
    assert found["dci.completeness"] == pytest.approx(1 - LOG2 / np.log(6), abs=0.1)  # copies share unevenly
    assert found["infomec.infoc"] == pytest.approx((1 / 2 - 1 / 6) / (1 - 1 / 6), abs=0.02)
    # loss = H - H + H
    total = np.log([3, 4, 5])
    assert score("jemmig", latents, FACTORS, bias_correction=False)["jemmig"] == pytest.approx(
        (1 - total / (total + np.log(20))).mean()
    )
    assert found["dci_es.size"] == 0.5
    assert score("unsupervised", latents, FACTORS)["gaussian_total_correlation"] > 30  # infinite but for rounding


def test_one_latent_for_two_factors():
    factors = grid(3, 3, times=130)
    latents = (factors[:, :1] * 3.0 + factors[:, 1:])[:1_170]
    options = {"num_train": 1_170}
    # A lone latent that tells everything has no rival, so MIG is full; the scores of latents see the two factors.
    assert score("mig", latents, factors, **options)["mig"] == pytest.approx(1)
    for name in ("mig_sup", "dcimig", "modularity"):
        assert score(name, latents, factors, **options)[name] == pytest.approx(0, abs=1e-12)
    with pytest.warns(UserWarning, match="completeness needs two latents, got 1"):
        found = score("dci", latents, factors, num_train=700)
    assert found["disentanglement"] == pytest.approx(0, abs=1e-9)
    assert found["informativeness"] == 1


def test_one_factor_over_two_latents():
    """Factor y of four values is two bits, one a latent; factor w of two values has a latent of its own."""
    bits = grid(2, 2, 2, times=150)
    factors = np.stack([2 * bits[:, 0] + bits[:, 1], bits[:, 2]], axis=1)
    found = every_score(bits.astype(float), factors)
    assert found["mig"] == pytest.approx((0 + 1) / 2, abs=1e-3)
    assert found["mig_sup"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3, abs=1e-3)
    assert found["dcimig"] == pytest.approx((LOG2 + LOG2) / (3 * LOG2), abs=1e-3)
    assert found["modularity"] == pytest.approx(1)
    assert found["irs"] == pytest.approx(1)
    assert found["infomec.infom"] == pytest.approx(1, abs=0.02)
    assert found["infomec.infoc"] == pytest.approx(((1 / 2 + 1) / 2 - 1 / 3) / (1 - 1 / 3), abs=0.02)
    assert found["dci.disentanglement"] == pytest.approx(1, abs=0.01)
    fit = metrics.fit_dci(bits.astype(float), factors, seed=0, num_train=800, num_test=400)
    np.testing.assert_allclose(fit.per_factor, [1 - LOG2 / np.log(3), 1], atol=0.03)


def test_noise_scores_chance():
    factors = grid(3, 4, 5, times=100)
    latents = np.random.default_rng(0).normal(size=(len(factors), 4))
    found = every_score(latents, factors)
    for name in ("mig", "mig_sup", "dcimig", "sap.regression", "irs"):
        assert abs(found[name]) < 0.05, (name, found[name])  # IRS measured 0.032
    assert found["sap.classification"] < 0.05
    guess = np.mean([1 / 3, 1 / 4, 1 / 5])
    for name in ("dci.informativeness", "downstream.accuracy_10", "downstream.accuracy_100"):
        assert found[name] == pytest.approx(guess, abs=0.05), name
    for name in ("beta_vae.accuracy", "factor_vae.accuracy"):
        assert found[name] == pytest.approx(1 / 3, abs=0.1), name
    for name in ("z_min_variance", "z_max_variance"):
        assert found[name] == pytest.approx(0, abs=0.15), name
    assert found["explicitness"] == pytest.approx(0.5, abs=0.03)
    assert found["infomec.infoe"] == pytest.approx(0, abs=0.03)
    assert found["dci.disentanglement"] < 0.05


def test_inactive_latents():
    latents = np.column_stack([FACTORS, np.zeros(len(FACTORS))]).astype(float)
    found = every_score(latents, FACTORS)
    alive = ["mig", "dcimig", "jemmig", "irs", "factor_vae.accuracy", "z_min_variance", "z_max_variance"]
    for name in alive:
        assert found[name] == pytest.approx(1), name
    for name in ("mig_sup", "modularity"):  # means over latents, in which an inactive one counts 0 where it is kept
        assert found[name] == pytest.approx(1), name
        assert score(name, latents, FACTORS, preset="dlib", num_train=1_200)[name] == pytest.approx(3 / 4, abs=0.1), (
            name
        )
    assert found["infomec.infom"] > 0.97
    assert found["factor_vae.num_active"] == found["unsupervised.active_latents"] == 3
    assert found["unsupervised.gaussian_total_correlation"] == pytest.approx(0, abs=1e-12)
    nothing = np.zeros((len(FACTORS), 2))
    with pytest.warns(UserWarning, match="IRS is undefined") as caught:
        assert np.isnan(score("irs", nothing, FACTORS)["irs"])
    assert len(caught) == 1
    assert score("factor_vae", nothing, FACTORS) == {"accuracy": 0, "accuracy_train": 0, "num_active": 0}
    assert score("mig", nothing, FACTORS) == {"mig": 0}
    with pytest.warns(UserWarning, match="no classifier found a latent to split on"):
        assert np.isnan(score("dci", nothing, FACTORS)["disentanglement"])


@pytest.mark.parametrize("value", [0.1, 0.3, 7.7])  # the standard deviation of these is not 0 but rounding
def test_constant_latents_are_inactive_whatever_their_value(value):
    nothing, extended = np.full((len(FACTORS), 2), value), np.column_stack([FACTORS, np.full(len(FACTORS), value)])
    assert not active_latents(nothing).any()
    for name, key in (("irs", "irs"), ("unsupervised", "gaussian_total_correlation")):
        with pytest.warns(UserWarning, match="undefined"):
            assert np.isnan(score(name, nothing, FACTORS)[key])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = every_score(extended, FACTORS)
    for name, number in every_score(np.column_stack([FACTORS, np.zeros(len(FACTORS))]), FACTORS).items():
        assert found[name] == pytest.approx(number, abs=1e-9), name
    ranks = metrics.udr([extended, extended], np.ones((2, 4)), seed=0, method="spearman")
    np.testing.assert_allclose(ranks, metrics.udr([FACTORS, FACTORS], np.ones((2, 3)), seed=0, method="spearman"))


def test_latents_far_from_zero_score_as_near_it():
    near = FACTORS + np.random.default_rng(0).normal(0, 0.3, FACTORS.shape)
    assert score("dci", near + 1e8, FACTORS) == pytest.approx(score("dci", near, FACTORS), abs=0.01)


@pytest.mark.parametrize("name", list(SMALL))
def test_a_constant_factor_changes_nothing(name):
    latents = FACTORS + np.random.default_rng(0).normal(0, 0.3, FACTORS.shape)
    with_constant = np.insert(FACTORS, 1, 7, axis=1)
    assert score(name, latents, with_constant) == pytest.approx(score(name, latents, FACTORS), abs=1e-12)


TWO_FACTORS = {
    "dci": ("disentanglement", "disentanglement needs two factors that vary, got 1"),
    "mig_sup": ("mig_sup", "it needs two factors that vary, got 1"),
    "dcimig": ("dcimig", "it needs two factors that vary, got 1"),
    "beta_vae": ("accuracy", "it needs two factors that vary, got 1"),
    "factor_vae": ("accuracy", "it needs two factors that vary, got 1"),
    "z_min_variance": ("z_min_variance", "it needs two factors that vary, got 1"),
    "z_max_variance": ("z_max_variance", "it needs two factors that vary, got 1"),
    "modularity": ("modularity", "it needs two factors that vary, got 1"),
    "infomec": ("infom", "they need two factors that vary and two active latents, got 1 and 3"),
    "fairness": ("unfairness", "it needs two factors that vary"),
    "edi": ("modularity", "it needs two factors that vary and two latents, got 1 and 3"),
}


@pytest.mark.parametrize("name", list(SMALL))
def test_one_factor_only(name):
    latents, factors = FACTORS.astype(float), FACTORS[:, :1]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = score(name, latents, factors)
    undefined = {key for key, value in found.items() if np.isnan(value)}
    if name in TWO_FACTORS:
        key, message = TWO_FACTORS[name]
        assert key in undefined
        assert len(caught) == 1
        assert message in str(caught[0].message)
    else:
        assert not undefined
        assert not caught


@pytest.mark.parametrize("name", list(SMALL))
def test_no_factor_that_varies_is_nan_with_one_warning(name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = score(name, FACTORS.astype(float), FACTORS[:, :1] * 0)
    if name == "unsupervised":  # factors do not enter
        return
    assert len(caught) == 1, [str(warning.message) for warning in caught]
    assert "undefined (nan)" in str(caught[0].message)
    assert all(np.isnan(value) for key, value in found.items() if key != "num_active")


def test_fewer_latents_than_factors():
    latents = FACTORS[:, :1].astype(float)
    assert score("mig", latents, FACTORS)["mig"] == pytest.approx(1 / 3)
    assert score("mig_sup", latents, FACTORS)["mig_sup"] == pytest.approx(1)
    assert score("dcimig", latents, FACTORS)["dcimig"] == pytest.approx(np.log(3) / np.log(60), abs=1e-3)
    assert score("modularity", latents, FACTORS)["modularity"] == pytest.approx(1)
    assert score("sap", latents, FACTORS)["regression"] == pytest.approx(1 / 3, abs=0.01)
    assert score("dci_es", latents, FACTORS)["size"] == 3
    assert score("irs", latents, FACTORS)["irs"] == pytest.approx(1)
    # The one latent is all that trees for any factor can split on: importances know nothing of accuracy.
    with pytest.warns(UserWarning, match="completeness needs two latents"):
        assert score("dci", latents, FACTORS)["disentanglement"] == pytest.approx(0, abs=1e-9)
    with pytest.warns(UserWarning, match="dependence between latents is undefined"):
        assert np.isnan(score("unsupervised", latents, FACTORS)["mutual_information"])
    with pytest.warns(UserWarning, match="infoc is undefined") as caught:
        score("infomec", latents, FACTORS)
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore:SAP's classification form is undefined")
def test_continuous_factors():
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, size=(1_200, 2))
    with pytest.warns(UserWarning, match="SAP's classification form is undefined .* a factor is continuous"):
        found = score("sap", angles, angles)
    assert np.isnan(found["classification"])
    assert found["regression"] > 0.97
    for name in set(SMALL) - CONTINUOUS:
        with pytest.raises(
            ValueError, match=r"factor 0 is continuous: [\d,]+ values in [\d,]+ rows, such as .* dci, sap, infomec, mcc"
        ):
            score(name, angles, angles)
    assert score("mcc", angles, angles[:, ::-1]) == pytest.approx({"pearson": 1, "spearman": 1})
    assert score("r2", angles, angles)["linear"] == pytest.approx(1)
    assert score("r2", angles, angles)["trees"] > 0.99
    dci = score("dci", angles, angles)
    assert dci["disentanglement"] > 0.99
    assert dci["informativeness"] == pytest.approx(score("r2", angles, angles)["trees"], abs=1e-3)
    for name in ("infomec", "edi"):
        assert all(value > 0.85 for value in score(name, angles, angles).values()), name
    turned = angles @ np.array([[1, 1], [1, -1]])
    assert score("dci", turned, angles)["disentanglement"] < 0.2
    assert score("infomec", turned, angles)["infom"] < 0.2
    assert score("r2", turned, angles)["linear"] == pytest.approx(1)
    with pytest.warns(UserWarning, match=r"factor 0, factor 1 are continuous: metrics that need .* out \(mig"):
        found = metrics.evaluate(angles, angles, repeats=1, chance=False)
    assert {name.split(".")[0] for name in found.scores} == CONTINUOUS


def as_frame(table):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed; the extra betavae[dev] has it")
    words = np.array(["square", "ellipse", "heart", "star", "cross", "dot", "ring", "bar"])
    frame = pandas.DataFrame({"shape": words[table[:, 0]], "scale": table[:, 1] * 0.1, "hat": table[:, 2] > 0})
    frame["shape"] = pandas.Categorical(frame["shape"], words)
    frame["hat"] = frame["hat"].astype("boolean")
    return frame


LABELS = {
    "floats": lambda table: table * 0.1,
    "strings": lambda table: np.char.add("v", table.astype(str)),
    "objects": lambda table: table.astype(object),
    "lists": lambda table: [[f"v{value}" for value in row] for row in table],
    "booleans and words": lambda table: [[f"v{row[0]}", int(row[1]), bool(row[2])] for row in table],
    "DataFrame": as_frame,
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind_give_the_scores_of_their_numbers(kind):
    rng = np.random.default_rng(0)
    table = np.stack([rng.integers(size, size=1_500) for size in (4, 5, 2)], 1)
    latents = table + rng.normal(0, 0.3, table.shape)
    for name in ("mig", "dci", "modularity"):
        expected = getattr(metrics, name)(latents, table, seed=0, **SMALL[name])
        assert getattr(metrics, name)(latents, LABELS[kind](table), seed=0, **SMALL[name]) == pytest.approx(expected)


def test_one_factor_may_be_a_vector_and_columns_of_a_frame_give_names():
    rng = np.random.default_rng(0)
    table = np.stack([rng.integers(size, size=1_500) for size in (4, 5, 2)], 1)
    latents = table + rng.normal(0, 0.3, table.shape)
    assert metrics.mig(latents, table[:, 0], seed=0, num_train=500) == metrics.mig(
        latents, table[:, :1], seed=0, num_train=500
    )
    found = metrics.evaluate(latents, as_frame(table), metrics=["mig"], repeats=1, chance=False)
    assert [capture.factor for capture in found.captures] == ["shape", "scale", "hat"]


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ([["a"], [None], ["b"]], "factor 0 has missing values; leave their rows out of both tables"),
        (np.array([["a"], ["b"]]), "got 3 rows of latents and 2 rows of factors"),
    ],
)
def test_labels_that_cannot_serve(factors, message):
    with pytest.raises(ValueError, match=message):
        metrics.mig(np.ones((3, 2)), factors, seed=0)


def test_a_transposed_table_is_told_so():
    with pytest.raises(ValueError, match=r"latents seem to be transposed: pass latents.T"):
        metrics.mig(np.ones((2, 50)), np.ones((50, 1), int), seed=0)


# ---------------------------------------------------------------------------------------------------------------------
# Laws
# ---------------------------------------------------------------------------------------------------------------------

FROM_ALL_ROWS = ("mig", "mig_sup", "dcimig", "jemmig", "modularity", "irs")
MATRIX_SCORES = (*FROM_ALL_ROWS, "mig_chen")


TABLES = st.tuples(st.integers(0, 10**6), st.integers(2, 3), st.integers(1, 4), st.sampled_from([0.0, 0.1, 1.0]))


def build(seed: int, num_factors: int, latent_dim: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Latents that know something of the factors, and factors of a few values."""
    rng = np.random.default_rng(seed)
    factors = rng.integers(rng.integers(2, 5, size=num_factors), size=(240, num_factors))
    latents = factors @ rng.normal(size=(num_factors, latent_dim)) + noise * rng.normal(size=(240, latent_dim))
    return latents, factors


@settings(max_examples=25, deadline=None)
@given(TABLES, st.integers(0, 10**6))
def test_order_of_latents_rows_and_values_does_not_matter(table, seed):
    latents, factors = build(*table)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(latents))
    renamed = np.stack([rng.permutation(1 + column.max())[column] for column in factors.T], axis=1)
    for name in MATRIX_SCORES:
        options = {"num_bins": 16} if name == "mig_chen" else {"num_train": len(latents)}
        before = score(name, latents, factors, **options)
        after = score(name, latents[rows][:, ::-1], renamed[rows][:, ::-1], **options)
        assert after == pytest.approx(before, abs=1e-9), name


@settings(max_examples=25, deadline=None)
@given(TABLES, st.integers(-6, 6), st.sampled_from([-1.0, 1.0]))
def test_unit_and_sign_of_latents_do_not_matter(table, power, sign):
    latents, factors = build(*table)
    other = latents * sign * 2.0**power
    free = [name for name in MATRIX_SCORES if sign > 0 or name == "irs"]  # a value on the edge of a bin changes sides
    for name in free:
        options = {"num_bins": 16} if name == "mig_chen" else {"num_train": len(latents)}
        assert score(name, other, factors, **options) == pytest.approx(score(name, latents, factors, **options)), name
    sizes = {"num_train": 100, "num_test": 50, "batch_size": 8}
    assert score("factor_vae", other, factors, **sizes) == score("factor_vae", latents, factors, **sizes)
    rows = {"num_train": 150, "num_test": 80}
    before, after = (metrics.sap(z, factors, seed=0, **rows)["regression"] for z in (latents, other))
    assert after == pytest.approx(before, abs=1e-9)
    before, after = (score("explicitness", z, factors, **rows)["explicitness"] for z in (latents, other))
    assert after == pytest.approx(before, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(TABLES)
def test_scores_stay_in_their_range(table):
    latents, factors = build(*table)
    sizes = {"num_train": 150, "num_test": 80}
    options = {name: {"num_train": 240} for name in (*FROM_ALL_ROWS, "unsupervised")}
    options |= dict.fromkeys(("sap", "explicitness", "infomec", "dci_es"), sizes)
    options |= {name: sizes | {"batch_size": 8} for name in ("beta_vae", "factor_vae", "z_min_variance")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, chosen in options.items():
            for key, value in score(name, latents, factors, **chosen).items():
                meaning = metrics.score_info(key if key == name else f"{name}.{key}")
                assert np.isnan(value) or meaning.low - 1e-9 <= value <= meaning.high + 1e-9, (name, key, value)


@pytest.mark.parametrize("name", list(SMALL))
def test_same_seed_same_numbers_and_integer_latents_are_latents(name):
    latents = FACTORS * 3 + np.random.default_rng(0).integers(3, size=FACTORS.shape)
    first, again = score(name, latents, FACTORS), score(name, latents.astype(np.float32), FACTORS.astype(np.uint8))
    assert first == pytest.approx(again, abs=1e-5)
    assert score(name, latents, FACTORS) == first


@pytest.mark.parametrize("name", ["sap", "beta_vae", "factor_vae", "dci_es", "explicitness"])
def test_another_seed_draws_other_rows(name):
    latents = FACTORS + np.random.default_rng(0).normal(size=FACTORS.shape)
    assert score(name, latents, FACTORS, seed=0) != score(name, latents, FACTORS, seed=1)


# ---------------------------------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------------------------------

BAD_TABLES = [
    (
        np.array([["a"]]),
        np.ones((1, 1)),
        TypeError,
        "latents must be numeric, got an array of <U1; remove text",
    ),
    (np.array([["a", 1.0]], object), np.ones((1, 1)), TypeError, "got an array of object; remove text columns or"),
    (np.array([[1.0]], object), np.ones((1, 1)), TypeError, r"got an array of object; convert it with astype\(float\)"),
    (np.ones(3), np.ones((3, 1)), ValueError, r"latents must have the shape \(samples, latents\), got \(3,\)"),
    (np.ones((3, 2)), np.ones((3, 1, 1)), ValueError, r"factors must have the shape \(samples, factors\)"),
    (np.ones((0, 2)), np.ones((0, 1)), ValueError, r"latents must not be empty, got the shape \(0, 2\)"),
    (np.ones((3, 2)), np.ones((3, 0)), ValueError, "factors must not be empty"),
    (np.ones((3, 2)), np.ones((4, 1)), ValueError, "got 3 rows of latents and 4 rows of factors"),
    (
        np.array([[0, np.nan], [np.inf, 0]]),
        np.ones((2, 1)),
        ValueError,
        r"1 NaN and 1 infinite values in columns \[0, 1\]; the first is in row 0, column 1",
    ),
    (np.ones((2, 1)), np.array([[0.0], [np.nan]]), ValueError, "factors must be finite, got 1 NaN"),
    (np.full((2, 1), 1e200), np.ones((2, 1)), ValueError, "values of latents must be at most 1e[+]12, got 1e[+]200"),
    (np.ma.array([[1.0], [2.0]], mask=[[1], [0]]), np.ones((2, 1)), ValueError, "latents has masked entries"),
]


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize(("latents", "factors", "error", "message"), BAD_TABLES)
def test_bad_tables(name, latents, factors, error, message):
    with pytest.raises(error, match=message):
        METRICS[name](latents, factors, seed=0)


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"mig_chen", "z_min_variance", "z_max_variance", *TREES[1:]}))
def test_too_few_rows_says_how_many_are_needed(name):
    if name in ("beta_vae", "factor_vae"):
        single = np.arange(5)[:, None]
        with pytest.raises(ValueError, match="needs 2 rows of each value, but 5 of 5 values have fewer"):
            score(name, single, np.column_stack([single, single]))
        return
    with pytest.raises(ValueError, match=r"10,000 (\+ 3 )?different rows are needed, got 9"):
        METRICS[name](np.ones((9, 1)), np.ones((9, 1)), seed=0, num_train=10_000)


def test_fine_bins_need_rows():
    with pytest.raises(ValueError, match=r"of 256 bins by up to 40 factor values .* as many rows as cells, got 900"):
        metrics.mig_chen(np.zeros((900, 1)), np.arange(900)[:, None] % 40, seed=0)


def test_interventions_need_rows():
    factors = grid(3, 4, 5, times=1)
    with pytest.raises(ValueError, match=r"of factor 1, factor 2 and needs 2 rows .* 5 of 5 values have fewer"):
        score("z_max_variance", factors[:5], np.column_stack([np.arange(5) % 2, np.arange(5), np.arange(5)]))
    assert score("z_max_variance", np.tile(factors, (2, 1)), np.tile(factors, (2, 1)))["z_max_variance"] == 1


@pytest.mark.parametrize(
    "name", sorted(set(SMALL) - {"mig_chen", "beta_vae", "factor_vae", "unsupervised", "mcc", "r2"})
)
def test_factors_of_row_numbers_are_refused(name):
    rows = np.arange(len(FACTORS))
    message = r"classes in .* training rows; at least two|compares rows with|needs at least two rows per class"
    with pytest.raises(ValueError, match=message):
        score(name, FACTORS.astype(float), np.stack([rows, rows[::-1]], axis=1))


def test_rows_of_a_training_set():
    check_classes(np.array([[0], [0]]))
    with pytest.raises(ValueError, match="factor 1 has 3 classes in 4 training rows"):
        check_classes(np.array([[0, 0], [0, 1], [1, 2], [1, 2]]))
    with pytest.raises(ValueError, match="every set of rows needs at least one row"):
        draw_rows(5, (3, 0), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"factor 0 is continuous: 2 values in 2 rows, such as 1\. This metric needs"):
        check_tables(np.ones((2, 1)), np.array([[1.0], [0.5]]))
    assert check_tables(np.ones((2, 1), bool), np.array([[1.0], [0.5]]), integer_factors=False)[1].dtype == np.float64
    with pytest.raises(ValueError, match="num_bins must be at least 2, got 1"):
        score("mig", FACTORS, FACTORS, num_bins=1)


def test_groups_of_many_factors_do_not_overflow():
    rng = np.random.default_rng(0)
    table = np.repeat(rng.integers(50, size=(50, 30)), 4, axis=0)  # 50 ** 30 combinations
    groups = Groups.by_value(table, list(range(30)), "a score")
    assert groups.sizes.tolist() == [4] * 50
    assert (table[groups.draw_like(np.arange(200), rng)] == table).all()


def test_udr_refuses_what_cannot_be_compared():
    z = np.random.default_rng(0).normal(size=(50, 2))
    for arguments, message in (
        (([z], np.ones((1, 2))), "needs at least two, got 1"),
        (([z, z], np.full((2, 2), np.nan)), "kl must be finite"),
        (([z, z], np.ones((3, 2))), "one row for each of the 2 models, got 3"),
        (([z, z], np.ones((2, 3))), r"one number for each latent of a model, got the shape \(3,\) for 2 latents"),
        (([z, z[:40]], np.ones((2, 2))), r"tables of \[40, 50\] rows"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.udr(*arguments, seed=0)
    with pytest.raises(ValueError, match=r"unknown method 'laso'; did you mean 'lasso'. Known: lasso, spearman"):
        metrics.udr([z, z], np.ones((2, 2)), seed=0, method="laso")
    with pytest.warns(UserWarning, match="UDR is undefined .* no model has an active latent"):
        assert np.isnan(metrics.udr([z, z], np.zeros((2, 2)), seed=0)).all()


# ---------------------------------------------------------------------------------------------------------------------
# Which latent captures what, and how good a score can get
# ---------------------------------------------------------------------------------------------------------------------


def test_captures_by_the_rule():
    information = np.array([[0.9, 0.3, 0.05, 0.0], [0.2, 0.2, 0.05, 0.0]])
    found = metrics.find_captures(information, np.array([1, 1, 1, 0.0]), ["posX", "scale", "shape", "colour"])
    assert [capture.kind for capture in found] == ["captured", "entangled", "not captured", "does not vary"]
    assert [capture.latents for capture in found] == [(0,), (0, 1), (), ()]
    assert metrics.describe_captures(found) == (
        "posX: z0 (90 %) · scale: entangled in z0 and z1 (30 %) · shape: not captured · colour: does not vary"
    )
    only_second = metrics.find_captures(information, np.ones(4), list("abcd"), active=np.array([False, True]))
    assert only_second[0].latents == (1,)


def test_active_latents_by_spread_and_kl():
    latents = np.column_stack([FACTORS, np.random.default_rng(0).normal(0, 1e-3, len(FACTORS))])
    assert metrics.active_latents(latents).tolist() == [True, True, True, False]
    assert metrics.active_latents(latents, np.array([1, 0.01, 1, 1])).tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match=r"one number for each of the 4 latents, got the shape \(3,\)"):
        metrics.active_latents(latents, np.ones(3))


def test_ceilings_of_ambiguous_labels():
    images = np.array([1, 1, 0, 2, 2, 2])
    factors = np.array([[0, 0], [1, 0], [0, 1], [1, 0], [1, 1], [0, 1]])
    # Image 1: factor 0 is torn 1:1. Image 2: factor 0 is 2:1, factor 1 is 2:1 the other way.
    np.testing.assert_allclose(metrics.accuracy_ceiling(factors, images), [4 / 6, 5 / 6])
    np.testing.assert_allclose(metrics.information_ceiling(factors[:3], images[:3])[1], 1)
    np.testing.assert_allclose(metrics.information_ceiling(np.array([[0], [1]]), np.array([0, 0])), 0, atol=1e-12)
    assert metrics.score_ceilings(factors, images)["downstream.accuracy_100"] == pytest.approx(4.5 / 6)
    assert metrics.score_ceilings(factors * 0, images) == {}
    with pytest.raises(ValueError, match=r"one number for each of the 6 rows, got the shape \(2,\)"):
        metrics.score_ceilings(factors, np.arange(2))


def test_ceilings_of_uneven_values():
    """InfoE divides by the entropy of even values, so 1 - H(y | x) / log C is its bound, not I / H."""
    rng = np.random.default_rng(0)
    truth = rng.random(4_000) < 0.1
    factors, images = truth[:, None].astype(int), (truth ^ (rng.random(4_000) < 0.1)).astype(np.uint8)
    open_nats = sum(
        (images == x).mean() * -(p * np.log(p) + (1 - p) * np.log(1 - p))
        for x in (0, 1)
        for p in [truth[images == x].mean()]
    )
    ceilings = metrics.score_ceilings(factors, images)
    assert ceilings["infomec.infoe"] == pytest.approx(1 - open_nats / np.log(2))
    assert ceilings["mig"] == pytest.approx(metrics.information_ceiling(factors, images)[0])
    many = np.arange(3_000) % 200
    assert metrics.score_ceilings(many[:, None] // 5, many.astype(np.uint8)) == metrics.score_ceilings(
        many[:, None] // 5, many
    )


def test_a_latent_that_moves_in_the_rarest_rows_only_has_no_robustness():
    latents = np.zeros((1_200, 2))
    latents[[0, 1], 0], latents[:, 1] = [1, -1], FACTORS[:, 0]
    assert score("irs", latents, FACTORS)["irs"] == pytest.approx(score("irs", latents[:, 1:], FACTORS)["irs"])
    with pytest.warns(UserWarning, match="every latent is constant except in very few rows"):
        assert np.isnan(score("irs", latents[:, :1], FACTORS)["irs"])


def test_numbers_of_factor_values_do_not_count():
    """Years, or seconds since 1970, are names like any other."""
    latents, options = FACTORS + np.random.default_rng(0).normal(0, 0.3, FACTORS.shape), {"num_factor_bins": 3}
    named = np.array([0, 1, 100, 101, 5_000])[FACTORS]
    assert score("irs", latents, named, **options) == score("irs", latents, FACTORS, **options)
    assert score("sap", latents, FACTORS + 1_700_000_000_000_000_000) == score("sap", latents, FACTORS)


def test_a_constant_latent_tells_nothing_of_others():
    latents = FACTORS[:, [0, 0]] * 1.0
    both = score("unsupervised", latents, FACTORS)
    with_one = np.column_stack([latents, np.full(1_200, 7e11)])
    assert score("unsupervised", with_one, FACTORS) == both
    kept = score("unsupervised", with_one, FACTORS, preset=metrics.Protocol(drop_inactive=False))
    assert kept["mutual_information"] == pytest.approx(both["mutual_information"] / 3)  # two of six pairs


def test_neighbours_of_a_latent_with_few_values_and_an_outlier():
    from betavae.metrics.estimators.neighbours import nearest_neighbour_information

    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=4_000)
    latent = np.where(np.arange(4_000) == 0, 1e4, np.where(rng.random(4_000) < 0.05, 1 - labels, labels))
    share = (latent[1:] != labels[1:]).mean()
    told = np.log(2) + share * np.log(share) + (1 - share) * np.log(1 - share)
    assert nearest_neighbour_information(latent + 1e-7 * rng.normal(size=4_000), labels) == pytest.approx(
        told, abs=0.02
    )


@pytest.mark.parametrize("name", INFINITE)
def test_open_ranges_are_those_of_counts_and_distances(name):
    assert any(word in name for word in ("active", "size", "efficiency", "gaussian", "mutual_information"))


def test_tables_of_other_libraries():
    """Lists, and tensors of any type, with gradients."""
    rng = np.random.default_rng(0)
    latents, factors = rng.integers(-3, 3, (600, 3)) / 2, rng.integers(3, size=(600, 2))
    expected = METRICS["mig"](latents, factors, seed=0, num_train=500)
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        tensor = torch.tensor(latents, dtype=dtype, requires_grad=True)
        assert METRICS["mig"](tensor, torch.tensor(factors), seed=0, num_train=500) == expected
    assert METRICS["mig"](latents.tolist(), factors.tolist(), seed=0, num_train=500) == expected
    assert METRICS["z_min_variance"](latents.tolist(), factors.tolist(), seed=0)
    assert active_latents(latents.tolist()).all()
