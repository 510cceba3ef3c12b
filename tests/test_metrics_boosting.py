"""The compiled trees against Friedman's algorithm written out, and against scikit-learn."""

from importlib import import_module

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier

from betavae.metrics.dci import fit_trees
from betavae.metrics.estimators.boosting import boost
from tests.references_metrics import boosted_trees


def _table(num_rows: int, num_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latents of which two know the class, one knows it round a circle, and two know nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_rows)
    angle = 2 * np.pi * labels / num_classes
    columns = [labels + rng.normal(0, 1, num_rows), np.cos(angle) + rng.normal(0, 0.3, num_rows)]
    columns += [np.sin(angle) + rng.normal(0, 0.3, num_rows), rng.normal(size=num_rows), rng.normal(size=num_rows)]
    return np.stack(columns, axis=1).astype(np.float32), labels


def test_every_split_is_the_one_that_trying_all_of_them_finds():
    latents, labels = _table(160, 3)
    fast = boost(latents[:100], labels[:100], latents[100:], num_stages=4)
    gain, test_class = boosted_trees(
        latents[:100].astype(float), labels[:100], latents[100:].astype(float), num_stages=4
    )
    assert fast.gain.sum() == pytest.approx(gain.sum(), rel=1e-9)  # each latent's share may differ: equally good splits
    np.testing.assert_array_equal(fast.test_class, test_class)


@pytest.mark.parametrize("num_classes", [2, 3, 12])
def test_importances_and_predictions_are_those_of_scikit_learn(num_classes):
    latents, labels = _table(900, num_classes)
    fast = boost(latents[:600], labels[:600], latents[600:], num_stages=30)
    slow = GradientBoostingClassifier(n_estimators=30, random_state=0).fit(latents[:600], labels[:600])
    # Ties between splits are broken at random: two seeds of scikit-learn differ by 0.003 here.
    np.testing.assert_allclose(fast.gain / fast.gain.sum(), slow.feature_importances_, atol=0.01)
    assert (fast.train_class == slow.predict(latents[:600])).mean() > 0.985  # measured: 0.99 and more
    assert (fast.test_class == slow.predict(latents[600:])).mean() > 0.97


def test_discrete_and_constant_latents_are_split_between_their_values_only():
    labels = np.repeat([0, 1, 2], 50)
    latents = np.stack([labels * 1.0, np.full(150, 7.0), np.repeat([0.0, 1.0], 75)], axis=1)
    fitted = boost(latents, labels, np.array([[0.4, 7, 0], [0.6, 7, 0], [1.6, 7, 0]]), num_stages=5)
    assert fitted.gain[1] == 0
    assert fitted.gain[0] > 10 * fitted.gain[2]
    np.testing.assert_array_equal(fitted.test_class, [0, 1, 2])  # thresholds lie half way


def test_latents_of_few_values_are_split_as_scikit_learn_splits_them():
    """Bins of hundreds of equal latents: a split at the end of such a bin was not found again, and the tree stopped."""
    rng = np.random.default_rng(0)
    labels = rng.integers(40, size=10_000)
    latents = np.round((labels[:, None] / 40 + rng.normal(0, 1, (10_000, 2))) * 4).astype(np.float32) / 128 + 1.5
    fast = boost(latents, labels, latents, num_stages=1)
    slow = GradientBoostingClassifier(n_estimators=1, random_state=0).fit(latents, labels)
    removed = 0.0
    for tree in (tree.tree_ for tree in slow.estimators_[0]):
        squares = tree.impurity * tree.n_node_samples
        removed += squares[0] - squares[tree.children_left < 0].sum()
    assert fast.gain.sum() == pytest.approx(removed, rel=1e-6)


def test_labels_keep_their_values_and_order_of_latents_does_not_matter():
    latents, labels = _table(300, 4)
    first = boost(latents, labels * 10 - 7, latents, num_stages=5)
    second = boost(latents[:, ::-1], labels, latents[:, ::-1], num_stages=5)
    np.testing.assert_array_equal(first.test_class, second.test_class * 10 - 7)
    np.testing.assert_allclose(first.gain, second.gain[::-1], rtol=0.05)  # but for ties


def test_runaway_leaves_stay_finite():
    """Newton steps of single confident mistakes reach 1e9; probabilities must survive them, as in scikit-learn."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 60)
    latents = labels[:, None] + rng.normal(0, 0.01, (180, 2))
    labels = np.where(rng.random(180) < 0.05, rng.integers(3, size=180), labels)
    fitted = boost(latents, labels, latents, num_stages=300, learning_rate=1.0)
    assert np.isfinite(fitted.gain).all()
    assert (fitted.train_class == labels).all()


def test_large_steps_are_followed_exactly():
    """Whole Newton steps take odds to 0 and back; they must come back as in the algorithm written out."""
    rng = np.random.default_rng(1)
    latents = rng.normal(size=(90, 1)).astype(
        np.float32
    )  # a single latent, so that hardly any two splits are equally good
    labels = np.where(rng.random(90) < 0.3, rng.integers(3, size=90), np.digitize(latents[:, 0], [-0.5, 0.5]))
    fast = boost(latents[:60], labels[:60], latents[60:], num_stages=12, learning_rate=1.0)
    gain, test_class = boosted_trees(latents[:60].astype(float), labels[:60], latents[60:].astype(float), 12, rate=1.0)
    assert fast.gain.sum() == pytest.approx(gain.sum(), rel=1e-6)
    np.testing.assert_array_equal(fast.test_class, test_class)


@pytest.mark.parametrize("cores", [1, 4])
def test_threads_share_the_factors_and_change_nothing(cores, monkeypatch):
    latents, labels = _table(300, 12)
    factors = np.stack([labels, labels % 2, labels % 5], axis=1)
    monkeypatch.setattr(import_module("betavae.metrics.dci"), "num_threads", lambda: cores)
    fits = fit_trees(latents[:200], factors[:200], latents[200:], seed=0)
    for k in range(3):
        alone = boost(latents[:200], factors[:200, k], latents[200:], seed=0)
        np.testing.assert_array_equal(fits.predicted[:, k], alone.test_class)
        np.testing.assert_array_equal(fits.importance[:, k], alone.gain / alone.gain.sum())


def test_the_seed_decides_ties_alone():
    latents, labels = _table(300, 3)
    twice = np.hstack([latents[:, :1], latents[:, :1]])
    one, again, other = (boost(twice, labels, twice, num_stages=10, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.gain, again.gain)
    assert (one.gain != other.gain).all()
    assert one.gain.sum() == pytest.approx(other.gain.sum(), rel=1e-9)
    assert 0.2 < one.gain[0] / one.gain.sum() < 0.8  # equal latents share


@pytest.mark.parametrize("estimator", ["fast", "sklearn"])
@pytest.mark.parametrize("power", [-100, -24, 20])
def test_latents_of_any_unit_have_the_same_trees(estimator, power):
    """scikit-learn's trees alone find nothing to split on in latents of 1e-7."""
    rng = np.random.default_rng(0)
    factors = rng.integers(4, size=(300, 2))
    latents = (factors @ rng.normal(size=(2, 3)) + rng.normal(size=(300, 3))).astype(np.float32)
    expected = fit_trees(latents[:200], factors[:200], latents[200:], seed=0, estimator=estimator)
    scaled = np.ldexp(latents, power)
    found = fit_trees(scaled[:200], factors[:200], scaled[200:], seed=0, estimator=estimator)
    for one, other in zip(found[:3], expected[:3], strict=True):
        np.testing.assert_array_equal(one, other)
    for (one, classes), (other, same) in zip(found.log_probability, expected.log_probability, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(classes, same)
