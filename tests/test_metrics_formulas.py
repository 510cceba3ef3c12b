"""Each metric against its paper's formula in plain numpy, and against values derived by hand."""

import numpy as np
import pytest
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from betavae import metrics
from betavae.metrics.dci import TreeFits, summarise
from betavae.metrics.infomec import nearest_neighbour_information
from betavae.metrics.information import count_information, discretise
from betavae.metrics.logistic import Logistic
from betavae.metrics.mig import dcimig_of, jemmig_of, mig_of, mig_sup_of
from betavae.metrics.modularity import modularity_of, roc_areas
from betavae.metrics.sap import fit_svm
from tests import references_metrics as reference

GRID = np.stack(np.unravel_index(np.arange(3 * 4 * 5 * 4), (3, 4, 5, 4)), axis=1)


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    """Four factors in five codes: one alone, two mixed, one noisy, one dead."""
    rng = np.random.default_rng(0)
    a, b, c, d = GRID.T
    columns = [a * 1.0, b + c, b - c * 0.5, d + rng.normal(0, 1, len(GRID)), rng.normal(0, 1, len(GRID))]
    return np.stack(columns, axis=1) + rng.normal(0, 0.05, (len(GRID), 5))


@pytest.fixture(scope="module")
def information(codes):
    return count_information(discretise(codes), GRID, 20)


def test_information_matrix(codes, information):
    np.testing.assert_allclose(information.shared, reference.information_matrix(codes, GRID), atol=1e-12)
    np.testing.assert_allclose(information.factor_entropy, np.log([3, 4, 5, 4]))
    np.testing.assert_array_equal(discretise(codes[:, :1])[:, 0] + 1, reference.histogram_bins(codes[:, 0]))


def test_scores_of_the_information_matrix(codes, information):
    matrix, entropies = information.shared, information.factor_entropy
    assert mig_of(information)["mig"] == pytest.approx(reference.mig(matrix, entropies))
    assert mig_sup_of(information)["mig_sup"] == pytest.approx(reference.mig_sup(matrix, entropies))
    assert dcimig_of(information)["dcimig"] == pytest.approx(reference.dcimig(matrix, entropies))
    assert jemmig_of(information)["jemmig"] == pytest.approx(reference.jemmig(codes, GRID))
    assert modularity_of(information)["modularity"] == pytest.approx(reference.modularity(matrix))


def test_dci_of_an_importance_matrix():
    rng = np.random.default_rng(0)
    importance = rng.dirichlet([0.3] * 6, size=4).T
    fit = summarise(TreeFits(importance, np.zeros((1, 4), int), np.ones(4)), np.zeros((1, 4), int))
    scores = fit.scores()
    assert scores["disentanglement"] == pytest.approx(reference.disentanglement(importance), abs=1e-8)
    assert scores["completeness"] == pytest.approx(reference.completeness(importance), abs=1e-8)
    uniform = summarise(TreeFits(np.full((6, 4), 1 / 6), np.zeros((1, 4), int), np.ones(4)), np.zeros((1, 4), int))
    assert uniform.scores()["disentanglement"] == pytest.approx(0, abs=1e-12)
    assert uniform.scores()["completeness"] == pytest.approx(0, abs=1e-12)


def test_irs(codes):
    kwargs = {"seed": 0, "num_train": len(GRID)}
    assert metrics.irs(codes, GRID, reference_quantile=1.0, **kwargs)["irs"] == pytest.approx(
        reference.irs(codes, GRID, reference=1.0)
    )
    assert metrics.irs(codes, GRID, **kwargs)["irs"] == pytest.approx(reference.irs(codes, GRID, reference=0.99))


def test_nearest_neighbour_information(codes):
    labels = GRID[:, 1]
    for d in range(codes.shape[1]):
        ours = nearest_neighbour_information(codes[:, d], labels, 10)
        assert ours == pytest.approx(reference.nearest_neighbour_information(codes[:, d], labels, 10), abs=1e-12)
    theirs = mutual_info_classif(codes, labels, discrete_features=False, n_neighbors=10, random_state=0)
    ours = [nearest_neighbour_information(code, labels, 10) for code in codes.T]
    np.testing.assert_allclose(ours, theirs, atol=0.02)  # scikit-learn jitters the codes


def test_roc_areas():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=60)
    scores = rng.integers(5, size=(60, 3)) + labels[:, None]
    expected = [reference.roc_area(scores[:, c], labels == c) for c in range(3)]
    np.testing.assert_allclose(roc_areas(scores, np.arange(3), labels), expected)


@pytest.mark.parametrize("cost", [0.01, 1.0])
def test_support_vector_machines_are_liblinear_s(codes, cost):
    for code, labels in ((codes[:, 1], GRID[:, 1]), (codes[:, 3], GRID[:, 3]), (codes[:, 4], GRID[:, 0])):
        slope, intercept = fit_svm(code, labels, int(labels.max()) + 1, cost)
        model = LinearSVC(C=cost, class_weight="balanced", dual=False, tol=1e-10, max_iter=100_000)
        model.fit(code[:, None], labels)
        np.testing.assert_allclose(slope, model.coef_[:, 0], atol=1e-5)
        np.testing.assert_allclose(intercept, model.intercept_, atol=1e-5)


@pytest.mark.parametrize("balanced", [False, True])
def test_logistic_regression_is_scikit_learn_s(codes, balanced):
    labels = GRID[:, 2] // 2 + (GRID[:, 0] == 0)
    ours = Logistic.fit(codes, labels, balanced=balanced, max_iterations=1_000)
    weight = "balanced" if balanced else None
    theirs = LogisticRegression(class_weight=weight, max_iter=1_000, tol=1e-8).fit(codes, labels)
    np.testing.assert_allclose(np.exp(ours.log_probabilities(codes)), theirs.predict_proba(codes), atol=2e-3)


def test_beta_vae_score(codes):
    points, labels = reference.beta_vae_points(codes, GRID, 400, 16, np.random.default_rng(0))
    expected = Logistic.fit(points[:300], labels[:300]).predict(points[300:]) == labels[300:]
    ours = metrics.beta_vae(codes, GRID, seed=0, num_train=300, num_test=400, batch_size=16)
    assert ours["accuracy"] == pytest.approx(expected.mean(), abs=0.08)  # 0.93 and 0.92: different draws


def test_factor_vae_score(codes):
    expected = reference.factor_vae(codes, GRID, 500, 16, np.random.default_rng(0))
    ours = metrics.factor_vae(codes, GRID, seed=0, num_train=1_000, num_test=1_000, batch_size=16)
    assert ours["accuracy"] == pytest.approx(expected, abs=0.08)
    assert ours["num_active"] == 5


def test_unsupervised_scores_of_two_gaussian_codes():
    rng = np.random.default_rng(0)
    z = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 50_000)
    found = metrics.unsupervised(
        np.column_stack([z, np.zeros(len(z))]), GRID[:1].repeat(len(z), 0), seed=0, num_train=50_000
    )
    assert found["gaussian_total_correlation"] == pytest.approx(-np.log(1 - 0.36) / 2, abs=0.01)
    # C has eigenvalues 1.6 and 0.4: 2 * 2 - 2 (sqrt 1.6 + sqrt 0.4)
    assert found["gaussian_wasserstein_correlation"] == pytest.approx(4 - 2 * (1.6**0.5 + 0.4**0.5), abs=0.01)
    assert found["active_codes"] == 2


def test_explicitness_of_dci_es_falls_where_reading_takes_machinery():
    rng = np.random.default_rng(0)
    factors = rng.integers(8, size=(4_000, 1))
    angle = factors[:, 0] * 2 * np.pi / 8
    easy = np.stack([np.cos(angle), np.sin(angle)], axis=1) + rng.normal(0, 0.05, (4_000, 2))
    winding = factors * 4.0 + rng.integers(40, size=(4_000, 1)) * 32.0
    scores = [metrics.dci_es(z, factors, seed=0, num_train=3_000, num_test=1_000) for z in (easy, winding)]
    assert scores[0]["explicitness"] > 0.95
    assert scores[0]["size"] == 0.5


def test_fairness_sees_a_target_that_follows_another_factor(codes):
    factors = GRID[np.random.default_rng(0).integers(len(GRID), size=2_000)]
    fair = metrics.fairness(factors * 1.0, factors, seed=0, num_train=1_000)
    mixed = metrics.fairness((factors[:, :1] * 100.0 + factors), factors, seed=0, num_train=1_000)
    unfair = metrics.fairness(factors[:, :1] + factors[:, 1:2], factors, seed=0, num_train=1_000)
    assert fair["unfairness"] < 0.1  # sampling alone: 0.06
    assert mixed["unfairness"] < 0.1
    assert unfair["unfairness"] > 0.2
    assert unfair["unfairness_worst"] > unfair["unfairness"]


def test_downstream_accuracy_grows_with_labels():
    factors = GRID[np.random.default_rng(0).integers(len(GRID), size=3_000)]
    found = metrics.downstream(factors * 1.0, factors, seed=0, num_labels=(10, 100, 1_000), num_test=500)
    assert found["accuracy_10"] < found["accuracy_100"] <= found["accuracy_1000"] == 1
    assert found["efficiency_100"] == found["accuracy_100"]


def test_udr_ranks_agreeing_models_above_the_odd_one():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2_000, 4))
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    tables = [z, z[:, [2, 0, 3, 1]] * [-1, 1, 1, -1], z[:, ::-1] * 3, z @ rotation]
    kl = np.ones((4, 4))
    kl[0, 3] = 0.0
    for method in ("lasso", "spearman"):
        scores = metrics.udr(tables, kl, seed=0, method=method)
        assert scores[3] < scores[:3].min() - 0.2
        assert scores[:3].min() > 0.8


def test_ceilings_of_ambiguous_labels():
    packed = np.array([[1, 2], [1, 2], [3, 4], [5, 6], [5, 6], [5, 6]], np.uint8)
    images = metrics.identical_rows(packed)
    factors = np.array([[0, 0], [1, 0], [0, 1], [1, 0], [1, 1], [0, 1]])
    # Image 1: factor 0 is torn 1:1. Image 3: factor 0 is 2:1, factor 1 is 2:1 the other way.
    np.testing.assert_allclose(metrics.accuracy_ceiling(factors, images), [4 / 6, 5 / 6])
    np.testing.assert_allclose(metrics.information_ceiling(factors[:3], images[:3])[1], 1)
    np.testing.assert_allclose(metrics.information_ceiling(np.array([[0], [1]]), np.array([0, 0])), 0, atol=1e-12)
