"""Each metric against its paper's formula in plain numpy, and against values derived by hand."""

import itertools

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss, mutual_info_score
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import LinearSVC

from betavae import metrics
from betavae.metrics.dci import TreeFits, summarise
from betavae.metrics.dci_es import CAPACITIES
from betavae.metrics.edi import exclusivity
from betavae.metrics.estimators.boosting import boost_values
from betavae.metrics.estimators.logistic import Logistic
from betavae.metrics.estimators.neighbours import continuous_information, nearest_neighbour_information
from betavae.metrics.fairness import draw_probes, unfairness
from betavae.metrics.infomec import RULES, _active
from betavae.metrics.information import Information, count_information, discretise, entropy
from betavae.metrics.inputs import draw_rows
from betavae.metrics.mig import dcimig_of, jemmig_of, mig_of, mig_sup_of
from betavae.metrics.modularity import modularity_of, roc_areas
from betavae.metrics.r2 import explained_share
from betavae.metrics.sap import fit_svm
from betavae.metrics.udr import _strength
from tests import references_metrics as reference

GRID = np.stack(np.unravel_index(np.arange(3 * 4 * 5 * 4), (3, 4, 5, 4)), axis=1)


@pytest.fixture(scope="module")
def latents() -> np.ndarray:
    """Four factors in five latents: one alone, two mixed, one noisy, one inactive."""
    rng = np.random.default_rng(0)
    a, b, c, d = GRID.T
    columns = [a * 1.0, b + c, b - c * 0.5, d + rng.normal(0, 1, len(GRID)), rng.normal(0, 1, len(GRID))]
    return np.stack(columns, axis=1) + rng.normal(0, 0.05, (len(GRID), 5))


@pytest.fixture(scope="module")
def information(latents):
    return count_information(discretise(latents), GRID, 20)


def test_information_matrix(latents, information):
    np.testing.assert_allclose(information.shared, reference.information_matrix(latents, GRID), atol=1e-12)
    np.testing.assert_allclose(information.factor_entropy, np.log([3, 4, 5, 4]))
    np.testing.assert_array_equal(discretise(latents[:, :1])[:, 0] + 1, reference.histogram_bins(latents[:, 0]))


def test_scores_of_the_information_matrix(latents, information):
    matrix, entropies = information.shared, information.factor_entropy
    assert mig_of(information)["mig"] == pytest.approx(reference.mig(matrix, entropies))
    assert mig_sup_of(information)["mig_sup"] == pytest.approx(reference.mig_sup(matrix, entropies))
    assert dcimig_of(information)["dcimig"] == pytest.approx(reference.dcimig(matrix, entropies))
    assert jemmig_of(information)["jemmig"] == pytest.approx(reference.jemmig(latents, GRID))
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


def test_irs(latents):
    kwargs = {"seed": 0, "num_train": len(GRID)}
    assert metrics.irs(latents, GRID, reference_quantile=1.0, **kwargs)["irs"] == pytest.approx(
        reference.irs(latents, GRID, reference=1.0)
    )
    assert metrics.irs(latents, GRID, **kwargs)["irs"] == pytest.approx(reference.irs(latents, GRID, reference=0.99))


def test_nearest_neighbour_information(latents):
    labels = GRID[:, 1]
    for d in range(latents.shape[1]):
        ours = nearest_neighbour_information(latents[:, d], labels, 10)
        assert ours == pytest.approx(reference.nearest_neighbour_information(latents[:, d], labels, 10), abs=1e-12)
    theirs = mutual_info_classif(latents, labels, discrete_features=False, n_neighbors=10, random_state=0)
    ours = [nearest_neighbour_information(latent, labels, 10) for latent in latents.T]
    np.testing.assert_allclose(ours, theirs, atol=0.02)  # scikit-learn jitters the latents


def test_infomec(latents):
    """Against the authors' recipe, spelled out with scikit-learn: standardise, estimate, prune, normalise."""
    rows = np.tile(np.arange(len(GRID)), 3)
    table = np.column_stack([latents, latents[:, 0] * 0.04])[rows] + np.random.default_rng(0).normal(0, 1e-3, (720, 6))
    factors = GRID[rows]
    ours = metrics.infomec(table, factors, seed=0, num_train=719, num_test=1)
    standard = (table - table.mean(axis=0)) / table.std(axis=0)
    share = np.stack(
        [mutual_info_classif(standard, y, n_neighbors=10, random_state=0) / entropy(np.bincount(y)) for y in factors.T],
        axis=1,
    )
    span = np.ptp(table, axis=0)
    kept = share[span > span.max() / 20]
    assert len(kept) == 5  # the small copy is dropped
    assert ours["infom"] == pytest.approx(reference.concentration(kept), abs=0.03)
    assert ours["infoc"] == pytest.approx(reference.concentration(kept.T), abs=0.03)
    model = [LogisticRegression(C=np.inf, class_weight="balanced", max_iter=100).fit(standard, y) for y in factors.T]
    losses = [
        -np.log(m.predict_proba(standard)[np.arange(720), y]).mean() for m, y in zip(model, factors.T, strict=True)
    ]
    expected = np.mean([1 - loss / np.log(size) for loss, size in zip(losses, (3, 4, 5, 4), strict=True)])
    assert ours["infoe_train"] == pytest.approx(expected, abs=0.02)


def test_explicitness_of_dci_es_is_the_authors_area():
    """1 - 2 A / (B log c_max / c_min), for the loss that falls along a line, at once, and at the very end."""
    log_capacity = np.log(CAPACITIES)
    line = 1 - (log_capacity - log_capacity[0]) / (log_capacity[-1] - log_capacity[0])
    assert reference.explicitness(log_capacity, line) == pytest.approx(0)
    assert reference.explicitness(log_capacity, np.zeros(6)) == 1
    assert reference.explicitness(log_capacity, np.array([1, 1, 1, 1, 1, 0])) == pytest.approx(-0.8)
    rng = np.random.default_rng(0)
    factors = rng.integers(3, size=(1_500, 2))
    latents = factors @ rng.normal(size=(2, 3)) + rng.normal(0, 0.5, (1_500, 3))
    ours = metrics.dci_es(latents, factors, seed=0, num_train=1_000, num_test=500)["explicitness"]
    theirs = reference.dci_es(latents, factors, CAPACITIES, num_train=1_000, seed=5)
    assert ours == pytest.approx(theirs, abs=0.05)  # other rows and other waves


def test_explicitness_is_scikit_learn_s(latents):
    from sklearn.metrics import roc_auc_score

    rows = np.tile(np.arange(len(GRID)), 4)
    table, factors = latents[rows], GRID[rows]
    ours = metrics.explicitness(table, factors, seed=0, num_train=900, num_test=60)["train"]
    standard = (table - table.mean(axis=0)) / table.std(axis=0)
    areas = []
    for y in factors.T:
        p = LogisticRegression(max_iter=1_000).fit(standard, y).predict_proba(standard)
        areas.append(roc_auc_score(y, p, multi_class="ovr", average="macro"))
    assert ours == pytest.approx(np.mean(areas), abs=0.01)


def test_sap_is_the_gap_of_two_accuracies_or_correlations(latents):
    rows = np.tile(np.arange(len(GRID)), 3)
    table, factors = latents[rows], GRID[rows]
    ours = metrics.sap(table, factors, seed=0, num_train=480, num_test=240)
    train, test = draw_rows(len(rows), (480, 240), np.random.default_rng(0))
    accuracy, correlation = np.empty((5, 4)), np.empty((5, 4))
    for d, k in itertools.product(range(5), range(4)):
        model = LinearSVC(C=0.01, class_weight="balanced", dual=False, tol=1e-10, max_iter=100_000)
        predicted = model.fit(table[train, d : d + 1], factors[train, k]).predict(table[test, d : d + 1])
        accuracy[d, k] = (predicted == factors[test, k]).mean()
        correlation[d, k] = np.corrcoef(table[train, d], factors[train, k])[0, 1] ** 2
    assert ours["classification"] == pytest.approx(reference.mean_gap(accuracy), abs=1e-3)
    assert ours["regression"] == pytest.approx(reference.mean_gap(correlation))


def test_roc_areas():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=60)
    scores = rng.integers(5, size=(60, 3)) + labels[:, None]
    expected = [reference.roc_area(scores[:, c], labels == c) for c in range(3)]
    np.testing.assert_allclose(roc_areas(scores, np.arange(3), labels), expected)


@pytest.mark.parametrize("cost", [0.01, 1.0])
def test_support_vector_machines_are_liblinear_s(latents, cost):
    for latent, labels in ((latents[:, 1], GRID[:, 1]), (latents[:, 3], GRID[:, 3]), (latents[:, 4], GRID[:, 0])):
        slope, intercept = fit_svm(latent, labels, int(labels.max()) + 1, cost)
        model = LinearSVC(C=cost, class_weight="balanced", dual=False, tol=1e-10, max_iter=100_000)
        model.fit(latent[:, None], labels)
        np.testing.assert_allclose(slope, model.coef_[:, 0], atol=1e-5)
        np.testing.assert_allclose(intercept, model.intercept_, atol=1e-5)
    rare = (GRID[:, 1] == 0) & (GRID[:, 0] == 0)  # two classes of different size
    slope, intercept = fit_svm(latents[:, 1], rare.astype(int), 2, cost)
    model = LinearSVC(C=cost, class_weight="balanced", dual=False, tol=1e-10, max_iter=100_000)
    model.fit(latents[:, 1:2], rare)
    np.testing.assert_allclose(slope, [-model.coef_[0, 0], model.coef_[0, 0]], atol=1e-5)
    np.testing.assert_allclose(intercept, [-model.intercept_[0], model.intercept_[0]], atol=1e-5)


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("balanced", [False, True])
def test_logistic_regression_is_scikit_learn_s(latents, balanced, num_classes):
    labels = (GRID[:, 2] // 2 + (GRID[:, 0] == 0)).clip(max=num_classes - 1)
    ours = Logistic.fit(latents, labels, balanced=balanced, max_iterations=1_000)
    weight = "balanced" if balanced else None
    theirs = LogisticRegression(class_weight=weight, max_iter=1_000, tol=1e-8).fit(latents, labels)
    np.testing.assert_allclose(np.exp(ours.log_probabilities(latents)), theirs.predict_proba(latents), atol=2e-3)


def test_beta_vae_score(latents):
    points, labels = reference.beta_vae_points(latents, GRID, 400, 16, np.random.default_rng(0))
    expected = Logistic.fit(points[:300], labels[:300]).predict(points[300:]) == labels[300:]
    ours = metrics.beta_vae(latents, GRID, seed=0, num_train=300, num_test=400, batch_size=16)
    assert ours["accuracy"] == pytest.approx(expected.mean(), abs=0.08)  # 0.93 and 0.92: different draws


def test_factor_vae_score(latents):
    expected = reference.factor_vae(latents, GRID, 500, 16, np.random.default_rng(0))
    ours = metrics.factor_vae(latents, GRID, seed=0, num_train=1_000, num_test=1_000, batch_size=16)
    assert ours["accuracy"] == pytest.approx(expected, abs=0.08)
    assert ours["num_active"] == 5


def test_unsupervised_scores_of_two_gaussian_latents():
    rng = np.random.default_rng(0)
    z = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 50_000)
    found = metrics.unsupervised(
        np.column_stack([z, np.zeros(len(z))]), GRID[:1].repeat(len(z), 0), seed=0, num_train=50_000
    )
    assert found["gaussian_total_correlation"] == pytest.approx(-np.log(1 - 0.36) / 2, abs=0.01)
    # C has eigenvalues 1.6 and 0.4: 2 * 2 - 2 (sqrt 1.6 + sqrt 0.4)
    assert found["gaussian_wasserstein_correlation"] == pytest.approx(4 - 2 * (1.6**0.5 + 0.4**0.5), abs=0.01)
    assert found["active_latents"] == 2


def test_explicitness_of_dci_es_falls_where_reading_takes_machinery():
    rng = np.random.default_rng(0)
    factors = rng.integers(8, size=(4_000, 1))
    angle = factors[:, 0] * 2 * np.pi / 8
    easy = np.stack([np.cos(angle), np.sin(angle)], axis=1) + rng.normal(0, 0.05, (4_000, 2))
    winding = factors * 4.0 + rng.integers(40, size=(4_000, 1)) * 32.0
    scores = [metrics.dci_es(z, factors, seed=0, num_train=3_000, num_test=1_000) for z in (easy, winding)]
    assert scores[0]["explicitness"] > 0.95
    assert scores[0]["size"] == 0.5


def test_fairness_sees_a_target_that_follows_another_factor():
    factors = GRID[np.random.default_rng(0).integers(len(GRID), size=2_000)]
    fair = metrics.fairness(factors * 1.0, factors, seed=0, num_train=500)
    unfair = metrics.fairness(factors[:, :1] + factors[:, 1:2], factors, seed=0, num_train=500)
    assert fair["unfairness"] < 0.1  # sampling alone: 0.06
    assert unfair["unfairness"] > 1.5 * fair["unfairness"]
    assert unfair["unfairness_worst"] > unfair["unfairness"]


def test_total_variation_of_predictions():
    # Set to its three values, the sensitive factor 0 gets target 1 predicted as 0 in 1/4, 1/2 and 3/4 of the rows.
    predicted = np.zeros((4 * 3 + 4 * 2, 2), int)
    predicted[:12, 1] = [0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1]
    found = unfairness(predicted, [np.zeros((3, 4), int), np.zeros((2, 4), int)])
    pair = reference.total_variation(np.array([[1, 2, 3], [3, 2, 1]]))
    np.testing.assert_allclose(pair, [1 / 4, 0, 1 / 4])
    assert found["unfairness"] == pytest.approx(np.mean([pair.mean(), 0]))  # target 0 never changes
    assert found["unfairness_worst"] == pytest.approx(np.mean([pair.max(), 0]))


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
        assert scores[:3].min() > 0.75  # 0.79: one latent of three models is inactive in the fourth


def test_udr_of_a_matrix():
    """The four matrices that disentanglement_lib tests with, and a latent that the other model does not know."""
    for matrix, expected in (
        (np.eye(3), 1),
        (np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]), 2 / 3),
        (np.ones((3, 3)), 1 / 3),
        (np.zeros((3, 3)), 0),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), 1 / 2),
    ):
        assert (_strength(matrix) + _strength(matrix.T)) / 2 == pytest.approx(expected)


def test_udr_leaves_out_latents_of_small_kl():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(1_000, 1))
    tables = [np.hstack([shared, rng.normal(size=(1_000, 9))]) for _ in range(2)]
    kl = np.zeros((2, 10))
    kl[:, 0] = 1
    assert metrics.udr(tables, kl, seed=0).min() > 0.8
    assert metrics.udr(tables, np.ones((2, 10)), seed=0).max() < 0.2


# ---------------------------------------------------------------------------------------------------------------------
# disentanglement_lib: the cases of its own tests, and what it is known to compute
# ---------------------------------------------------------------------------------------------------------------------

FIVE = np.diag(np.full(5, 5.0))
EMPTY_LATENT = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
MATRICES = {  # importances or information: disentanglement, completeness, modularity
    "diagonal": (FIVE, 1, 1, 1),
    "a latent that tells nothing": (EMPTY_LATENT, 1, 1, 2 / 3),
    "every latent twice": (np.vstack([FIVE, FIVE]), 1, 1 - np.log(2) / np.log(10), 1),
    "factors that no latent tells": (FIVE[:2], 1, 1, 1),
    "two factors a latent": (np.hstack([FIVE, FIVE]), 1 - np.log(2) / np.log(10), 1, 1 - 1 / 9),
}


@pytest.mark.parametrize("case", list(MATRICES))
def test_matrices_of_disentanglement_lib(case):
    matrix, disentanglement, completeness, modularity = MATRICES[case]
    latents, factors = matrix.shape
    fit = summarise(TreeFits(matrix, np.zeros((1, factors), int), np.ones(factors)), np.zeros((1, factors), int))
    assert fit.scores()["disentanglement"] == pytest.approx(disentanglement)
    assert fit.scores()["completeness"] == pytest.approx(completeness)
    assert reference.disentanglement(matrix) == pytest.approx(disentanglement)
    information = Information(matrix, matrix, np.ones(latents), np.ones(factors), 20)
    assert modularity_of(information)["modularity"] == pytest.approx(modularity)


def test_nothing_is_zero_there_and_undefined_here():
    """No importance at all: its 1e-11 makes the columns uniform and the scores 0; ours says that there is no score."""
    assert reference.disentanglement(np.zeros((10, 10)) + 1e-300) == pytest.approx(0, abs=1e-6)
    fit = summarise(TreeFits(np.zeros((10, 10)), np.zeros((1, 10), int), np.ones(10)), np.zeros((1, 10), int))
    with pytest.warns(UserWarning, match="no classifier found a latent to split on"):
        assert np.isnan(fit.scores()["disentanglement"])
    information = Information(np.zeros((10, 10)), np.ones((10, 10)), np.ones(10), np.ones(10), 20)
    assert modularity_of(information)["modularity"] == 0


def dlib(name: str, latents: np.ndarray, factors: np.ndarray, **options: object) -> dict[str, float]:
    return metrics.METRICS[name](latents, factors, seed=0, preset="dlib", **options)


TEN = np.random.default_rng(0).integers(10, size=(6_000, 10))


def test_ten_factors_of_ten_values_as_their_own_code():
    latents, sizes = TEN * 1.0, {"num_train": 3_000, "num_test": 3_000}
    assert dlib("mig", latents, TEN, num_train=3_000)["mig"] > 0.9
    assert dlib("sap", latents, TEN, **sizes)["regression"] > 0.9
    assert dlib("modularity", latents, TEN, num_train=3_000)["modularity"] > 0.9
    assert dlib("irs", latents, TEN, num_train=3_000)["irs"] > 0.9
    sizes = {"num_train": 2_000, "num_test": 1_000, "batch_size": 5}
    assert dlib("beta_vae", latents, TEN, **sizes)["accuracy"] > 0.9
    assert dlib("factor_vae", latents, TEN, **sizes)["accuracy"] > 0.9
    twice = np.hstack([latents, latents])
    assert dlib("mig", twice, TEN, num_train=3_000)["mig"] < 0.1
    assert dlib("sap", twice, TEN, num_train=3_000, num_test=100)["regression"] < 0.2
    assert dlib("modularity", twice, TEN, num_train=3_000)["modularity"] > 0.9
    inactive = latents * 0
    assert dlib("mig", inactive, TEN, num_train=3_000)["mig"] == 0
    assert dlib("sap", inactive, TEN, num_train=3_000, num_test=100)["regression"] == 0
    assert dlib("factor_vae", inactive, TEN, **sizes)["accuracy"] == 0
    # Each row's factors in another order: every latent tells a little about every factor.
    many = np.random.default_rng(1).integers(10, size=(40_000, 10))
    shuffled = np.random.default_rng(0).permuted(many * 1.0, axis=1)
    assert dlib("modularity", shuffled, many, num_train=20_000, num_bins=10)["modularity"] < 0.2


def test_dci_of_factors_as_their_own_code_twice_and_shuffled():
    factors, sizes = TEN[:, :5], {"num_train": 500, "num_test": 200}
    twice = 1 - np.log(2) / np.log(10)
    for latents, completeness in ((factors * 1.0, 1), (np.hstack([factors, factors]) * 1.0, twice)):
        found = dlib("dci", latents, factors, **sizes)
        assert found["disentanglement"] > 0.9
        assert found["completeness"] == pytest.approx(completeness, abs=0.1)
    found = dlib("dci", np.random.default_rng(0).permuted(factors * 1.0, axis=1), factors, **sizes)
    assert found["disentanglement"] < 0.2
    assert found["completeness"] < 0.2


def test_correlated_gaussian_latents_by_kl_and_by_the_square_root_of_a_matrix():
    from scipy.linalg import sqrtm

    z = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 10_000)
    found = metrics.unsupervised(z, np.zeros((10_000, 1), int), seed=0, num_train=10_000)
    c = np.cov(z.T)
    alone = np.diag(np.diag(c))
    kl = 0.5 * (np.trace(np.linalg.inv(alone) @ c) - 2 + np.log(np.linalg.det(alone) / np.linalg.det(c)))
    assert found["gaussian_total_correlation"] == pytest.approx(kl)
    distance = np.trace(c + alone - 2 * sqrtm(c @ alone)).real
    assert found["gaussian_wasserstein_correlation"] == pytest.approx(distance)
    assert found["gaussian_wasserstein_correlation_normalised"] == pytest.approx(distance / np.trace(c))


DSPRITES = (3, 6, 40, 32, 32)


def test_plug_in_information_of_noise():
    """A latent of pure noise seems to tell (.0015, .0047, .0366, .0301, .0303) nats of dSprites' factors."""
    rng = np.random.default_rng(0)
    factors, latents = rng.integers(DSPRITES, size=(10_000, 5)), rng.normal(size=(10_000, 8))
    plain = metrics.measure_information(latents, factors, seed=0, num_train=10_000, bias_correction=False)
    one_latent = [0.0015, 0.0047, 0.0366, 0.0301, 0.0303]
    np.testing.assert_allclose(plain.shared.mean(axis=0), one_latent, rtol=0.3)
    corrected = metrics.measure_information(latents, factors, seed=0, num_train=10_000)
    assert corrected.shared.mean(axis=0).max() < 0.01  # measured 0.007: rare bins are still too few
    assert modularity_of(plain)["modularity"] == pytest.approx(0.65, abs=0.03)
    assert modularity_of(corrected)["modularity"] == 0
    few = rng.integers((3, 32, 100), size=(200, 3))
    perfect = metrics.measure_information(few * 1.0, few, seed=0, num_train=200)
    assert modularity_of(perfect)["modularity"] > 0.9  # in cells with less than a row each
    half = metrics.measure_information(np.column_stack([factors, latents[:, :5]]), factors, seed=0, num_train=10_000)
    assert modularity_of(half)["modularity"] == pytest.approx(0.5, abs=0.01)
    assert mig_of(plain)["mig"] < 0.002  # the gap cancels the bias


def test_interventional_robustness_of_noise_and_of_binned_factors():
    rng = np.random.default_rng(0)
    factors, noise = rng.integers(DSPRITES, size=(20_000, 5)), rng.normal(size=(20_000, 10))
    assert dlib("irs", noise, factors)["irs"] == pytest.approx(0.375, abs=0.04)  # hangs on one extreme row
    assert dlib("irs", noise, factors, quantile=1.0)["irs"] == pytest.approx(0.20, abs=0.03)
    assert dlib("irs", rng.uniform(size=(20_000, 10)), factors)["irs"] == pytest.approx(0.014, abs=0.01)
    assert metrics.irs(noise, factors, seed=0)["irs"] == pytest.approx(0, abs=0.1)
    assert dlib("irs", factors * 1.0, factors)["irs"] == pytest.approx(0.979, abs=0.003)
    assert metrics.irs(factors * 1.0, factors, seed=0)["irs"] == 1


def test_a_constant_colour_inflates_disentanglement_where_it_counts():
    """Uniform importance over five factors: 0; with a sixth of no importance in the logarithm's base 0.10."""
    uniform = np.full((10, 5), 0.1)
    assert reference.disentanglement(uniform) == pytest.approx(0, abs=1e-9)
    assert reference.disentanglement(np.hstack([np.zeros((10, 1)), uniform])) == pytest.approx(0.10, abs=0.005)
    with_constant = TreeFits(np.hstack([np.full((10, 1), np.nan), uniform]), np.zeros((1, 6), int), np.ones(6))
    assert summarise(with_constant, np.zeros((1, 6), int)).scores()["disentanglement"] == pytest.approx(0, abs=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Continuous factors and discrete latents
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smooth() -> tuple[np.ndarray, np.ndarray]:
    """Three latents and three continuous factors: one alone, two mixed."""
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(2_000, 3))
    latents = np.stack([factors[:, 0], factors[:, 1] + factors[:, 2], factors[:, 1] - 0.5 * factors[:, 2]], axis=1)
    return latents + rng.normal(0, 0.1, latents.shape), factors


def test_regression_trees_are_those_of_scikit_learn(smooth):
    latents, factors = smooth
    latents = latents.astype(np.float32)
    found = boost_values(latents[:1_500], factors[:1_500], latents[1_500:], seed=0)
    for k in range(3):
        model = GradientBoostingRegressor(random_state=0).fit(latents[:1_500], factors[:1_500, k])
        np.testing.assert_allclose(found.train[:, k], model.predict(latents[:1_500]), atol=1e-9)
        np.testing.assert_allclose(found.gain[:, k] / found.gain[:, k].sum(), model.feature_importances_, atol=2e-3)
        # Nodes of few rows have equal splits on several latents, so further rows may differ.
        ours, theirs = (
            explained_share(factors[1_500:, k], p) for p in (found.test[:, k], model.predict(latents[1_500:]))
        )
        assert ours == pytest.approx(theirs, abs=3e-3)


def test_dci_of_continuous_factors(smooth):
    latents, factors = smooth
    sizes = {"num_train": 1_500, "num_test": 500}
    ours = metrics.fit_dci(latents, factors, seed=0, **sizes)
    theirs = metrics.fit_dci(latents, factors, seed=0, estimator="sklearn", **sizes)
    np.testing.assert_allclose(ours.importance, theirs.importance, atol=3e-3)
    np.testing.assert_allclose(ours.accuracy, theirs.accuracy, atol=3e-3)
    share = ours.importance / ours.importance.sum(axis=1, keepdims=True)
    per_latent = 1 + (share * np.log(share)).sum(axis=1) / np.log(3)
    weight = ours.importance.sum(axis=1) / ours.importance.sum()
    assert ours.scores()["disentanglement"] == pytest.approx(per_latent @ weight)


def test_a_mixed_table_has_both_kinds_of_trees(smooth):
    latents, factors = smooth
    labels = np.digitize(factors[:, 0], [-0.5, 0.5])
    mixed = metrics.fit_dci(latents, np.column_stack([labels, factors[:, 1]]), seed=0, num_train=1_500, num_test=500)
    alone = metrics.fit_dci(latents, np.column_stack([labels, labels]), seed=0, num_train=1_500, num_test=500)
    smooth_only = metrics.fit_dci(latents, factors, seed=0, num_train=1_500, num_test=500)
    assert mixed.accuracy[0] == alone.accuracy[0]
    assert mixed.accuracy[1] == pytest.approx(smooth_only.accuracy[1], abs=1e-12)


def test_information_of_continuous_variables(smooth):
    latents, factors = smooth
    for k in range(3):
        theirs = mutual_info_regression(latents, factors[:, k], n_neighbors=10, random_state=0)
        ours = [continuous_information(latent, factors[:, k]) for latent in latents.T]
        np.testing.assert_allclose(ours, theirs, atol=0.02)
    x, y = np.random.default_rng(0).normal(size=(2, 4_000))
    assert continuous_information(x, 0.8 * x + 0.6 * y) == pytest.approx(-np.log(1 - 0.64) / 2, abs=0.05)


def test_infomec_of_continuous_factors(smooth):
    latents, factors = smooth
    found = metrics.infomec(latents, factors, seed=0, num_train=1_990, num_test=10)
    z = (latents - latents.mean(0)) / latents.std(0)
    own = [continuous_information(y, y) for y in factors.T]
    share = np.array([[continuous_information(latent, factors[:, k]) / own[k] for k in range(3)] for latent in z.T])
    infom = ((share.max(1) / share.sum(1)).mean() - 1 / 3) / (1 - 1 / 3)
    assert found["infom"] == pytest.approx(infom, abs=0.01)
    linear = [LinearRegression().fit(latents, y).score(latents, y) for y in factors.T]
    assert found["infoe_train"] == pytest.approx(np.mean(linear), abs=0.005)


@pytest.fixture(scope="module")
def quantised(latents) -> np.ndarray:
    """The latents of `latents`, each rounded to at most 8 values between -1 and 1; the last one nearly always 0."""
    scaled = latents / np.abs(latents).max(axis=0)
    table = np.round(scaled * 4) / 4
    table[:, 4] = np.where(np.arange(len(latents)) % 50, 0, 0.25)
    return table


def test_infomec_of_discrete_latents(quantised):
    """The discrete mode of the authors: plug-in information of labels, one-hot latents in an unpenalised regression."""
    rows = len(GRID) - 1
    found = metrics.infomec(quantised, GRID, seed=0, discrete=True, num_train=rows, num_test=1, preset="dlib")
    train, _ = draw_rows(len(GRID), (rows, 1), np.random.default_rng(0))
    z, y = quantised[train], GRID[train]
    labels_of = [np.unique(latent, return_inverse=True)[1] for latent in z.T]
    share = np.array([[mutual_info_score(a, b) / mutual_info_score(b, b) for b in y.T] for a in labels_of])
    assert found["infom"] == pytest.approx(((share.max(1) / share.sum(1)).mean() - 1 / 4) / (1 - 1 / 4))
    assert found["infoc"] == pytest.approx(((share.max(0) / share.sum(0)).mean() - 1 / 5) / (1 - 1 / 5))
    hot = OneHotEncoder().fit_transform(z)
    explained = []
    for labels in y.T:
        model = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=1_000).fit(hot, labels)
        explained.append(1 - log_loss(labels, model.predict_proba(hot)) / np.log(len(np.unique(labels))))
    assert found["infoe_train"] == pytest.approx(np.mean(explained), abs=0.03)
    as_continuous = metrics.infomec(quantised, GRID, seed=0, num_train=rows, num_test=1, preset="dlib")
    assert abs(as_continuous["infom"] - found["infom"]) > 0.01
    with pytest.raises(ValueError, match="so it is not discrete; score it as continuous"):
        metrics.infomec(np.random.default_rng(0).normal(size=(240, 2)), GRID[:240], seed=0, discrete=True)


def test_rules_of_infomec(latents, quantised):
    """Ranges 1, 1/10 and 1/30; the third latent has its range from a single outlier."""
    rng = np.random.default_rng(0)
    table = np.stack([rng.uniform(size=1_000), rng.uniform(size=1_000) / 10, rng.uniform(size=1_000) / 30], axis=1)
    table[0, 2] = 1
    expected = {"range20": [True, True, True], "range8": [True, False, True], "iqr10": [True, True, False]}
    for name, kept in expected.items():
        assert _active(table * [1, 1.05, 1], RULES[name], discrete=False).tolist() == kept, name
    discrete = {"range20": [True] * 5, "range8": [True] * 5, "iqr10": [True] * 4 + [False]}
    for name, kept in discrete.items():
        assert _active(quantised, RULES[name], discrete=True).tolist() == kept, name
    values = {name: metrics.infomec(latents, GRID, seed=0, rule=name) for name in RULES}
    three = metrics.infomec(latents, GRID, seed=0, num_neighbours=3)
    assert values["range8"]["infoc"] == pytest.approx(three["infoc"]) != values["range20"]["infoc"]
    with pytest.raises(ValueError, match="unknown rule 'range'"):
        metrics.infomec(latents, GRID, seed=0, rule="range")


def test_mcc_is_the_best_assignment(smooth):
    latents, factors = smooth
    found = metrics.mcc(latents, factors, seed=0, num_train=2_000)
    for name, correlate in (("pearson", pearsonr), ("spearman", spearmanr)):
        table = np.array([[abs(correlate(z, y)[0]) for y in factors.T] for z in latents.T])
        best = max(np.mean([table[d, k] for k, d in enumerate(order)]) for order in itertools.permutations(range(3)))
        assert found[name] == pytest.approx(best)
    assert metrics.mcc(latents[:, :1], factors, seed=0)["pearson"] < 1 / 3 + 0.01  # two factors have no latent


def test_r2_is_that_of_a_regression(smooth):
    latents, factors = smooth
    found = metrics.r2(latents, factors, seed=0, num_train=1_500, num_test=500)
    train, test = draw_rows(2_000, (1_500, 500), np.random.default_rng(0))
    linear = [LinearRegression().fit(latents[train], y[train]).score(latents[test], y[test]) for y in factors.T]
    assert found["linear"] == pytest.approx(np.mean(linear))


def test_exclusivity_by_hand():
    """A row's largest entry less the root of the mean square of the others."""
    np.testing.assert_allclose(exclusivity(np.array([[0.9, 0.3, 0.4]])), [0.9 - np.sqrt((0.09 + 0.16) / 2)])
    rng = np.random.default_rng(0)
    factors = rng.integers(4, size=(3_000, 2))
    twice = np.repeat(factors, 2, axis=1) + rng.normal(0, 0.02, (3_000, 4))  # two latents a factor
    found = metrics.edi(twice, factors, seed=0)
    assert found["modularity"] > 0.95
    assert found["compactness"] == pytest.approx(1 - np.sqrt(1 / 3), abs=0.05)  # 1, 1, 0, 0 over four latents
    assert found["explicitness"] > 0.95
    mixed = metrics.edi(factors @ np.array([[1.0, 1.0], [1.0, -1.0]]), factors, seed=0)
    assert mixed["modularity"] < 0.2


def test_fairness_of_the_same_rows():
    """Latents that are factors predict the same for the same rows, whatever another factor is set to."""
    latents = GRID * 1.0
    paired = metrics.fairness(latents, GRID, seed=0, paired=True)
    assert paired == pytest.approx({"unfairness": 0, "unfairness_worst": 0}, abs=1e-12)
    assert metrics.fairness(latents, GRID, seed=0)["unfairness"] > 0.05
    assert metrics.fairness(latents, GRID, seed=0, preset="dlib")["unfairness"] < 0.01
    mixed = np.column_stack([latents[:, 0] + (latents[:, 1] > 1), latents[:, 2:]])  # the first two cannot be told apart
    assert metrics.fairness(mixed, GRID, seed=0, paired=True)["unfairness"] > 0.02
    with pytest.warns(UserWarning, match="fairness draws different rows for each value of factor 0, factor 1"):
        metrics.fairness(latents[:-7], GRID[:-7], seed=0, paired=True)


def test_probes_of_the_same_rows_differ_in_one_factor():
    doubled = np.tile(GRID, (2, 1))
    for k, probe in enumerate(draw_probes(doubled, 0, paired=True)):
        rows = doubled[probe]  # (values, 100, factors)
        assert (rows[:, :, k] == np.arange(len(probe))[:, None]).all()
        others = np.delete(rows, k, axis=2)
        assert (others == others[0]).all()


def test_unibound_sees_a_rotated_copy():
    factors = TEN[:3_000, :2] % 3
    turned = factors @ np.array([[1.0, 1.0], [1.0, -1.0]])
    assert metrics.unibound(factors * 1.0, factors, seed=0)["unibound"] == pytest.approx(1, abs=0.02)
    both = np.hstack([factors, turned])
    assert metrics.unibound(both, factors, seed=0)["unibound"] < 0.02
    assert metrics.mig(both, factors, seed=0)["mig"] > 0.3
