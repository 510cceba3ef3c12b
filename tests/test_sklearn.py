"""The scikit-learn face obeys scikit-learn's rules, for tables and for images."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from betavae import TC, Beta
from betavae.model import VAE
from betavae.sklearn import BetaVAE

QUICK = {"model": "tiny", "steps": 3, "batch_size": 8, "latent_dim": 2, "device": "cpu", "precision": "fp32"}


@parametrize_with_checks([BetaVAE(**QUICK | {"latent_dim": 1})])
def test_scikit_learns_own_checks(estimator, check):
    """All of them: none is expected to fail."""
    check(estimator)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (60, 16, 16), np.uint8)


def test_images_of_any_layout_and_their_rows_give_the_same_latents(images):
    expected = BetaVAE(**QUICK, random_state=0).fit(images).transform(images)
    assert expected.shape == (60, 2)
    assert expected.dtype == np.float32
    for given in (images[..., None], images[:, None], images / 255):
        vae = BetaVAE(**QUICK, random_state=0).fit(given)
        np.testing.assert_allclose(vae.transform(given), expected, atol=1e-5)
    rows = images.reshape(60, -1)
    flat = BetaVAE(**QUICK, image_shape=(1, 16, 16), random_state=0).fit(rows)
    np.testing.assert_allclose(flat.transform(rows), expected, atol=1e-5)
    assert flat.image_shape_ == vae.image_shape_ == (1, 16, 16)
    assert isinstance(flat.model_, VAE)
    assert flat.curve_[-1]["step"] == 3


def test_inverse_transform_gives_rows_in_the_range_of_the_data(images):
    vae = BetaVAE(**QUICK, random_state=0).fit(images)
    rows = vae.inverse_transform(vae.transform(images))
    assert rows.shape == (60, 256)
    assert 50 < rows.mean() < 200
    table = np.random.default_rng(0).normal(5, 3, (60, 12))
    vae = BetaVAE(**QUICK, random_state=0).fit(table)
    assert vae.range_ == (table.min(), table.max())
    found = vae.inverse_transform(vae.transform(table))
    assert table.min() <= found.min() <= found.max() <= table.max()


def test_the_score_rises_with_training_and_is_the_elbo(images):
    bright = images // 128 * 255
    untrained, trained = (
        BetaVAE(**QUICK | {"steps": steps}, objective="vae", random_state=0).fit(bright) for steps in (1, 100)
    )
    assert untrained.score(bright) < trained.score(bright) < 0
    assert trained.score(bright) == trained.score(bright)


def test_it_works_in_pipelines_and_searches(images):
    rows, labels = images.reshape(60, -1), images[:, 0, 0] > 127
    vae = BetaVAE(**QUICK, objective=TC(beta=2.0), image_shape=(1, 16, 16), random_state=0)
    pipeline = make_pipeline(vae, LogisticRegression()).fit(rows, labels)
    assert pipeline.predict(rows).shape == (60,)
    assert list(vae.fit(rows).get_feature_names_out()) == ["betavae0", "betavae1"]
    search = GridSearchCV(vae, {"objective": [Beta(beta=1.0), Beta(beta=4.0)]}, cv=2).fit(rows)
    assert search.best_params_["objective"] in (Beta(beta=1.0), Beta(beta=4.0))
    assert clone(vae).get_params() == vae.get_params()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_shape": (1, 8, 8)}, "image_shape is .1, 8, 8., which is 64 pixels, but X has 256 features"),
        ({"objective": "tcc"}, "unknown objective 'tcc'; did you mean 'tc'"),
        ({"objective": "semi"}, "which needs known factors; take one without labels"),
        ({"model": "locatello", "image_shape": (1, 16, 16)}, "model locatello takes images of 64x64 pixels"),
        ({"latent_dim": 0}, "latent_dim is 0; it must be a number of at least 1"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(settings, message, images):
    with pytest.raises(ValueError, match=message):
        BetaVAE(**QUICK | settings).fit(images.reshape(60, -1))


def test_other_images_than_in_training_are_refused(images):
    vae = BetaVAE(**QUICK).fit(images)
    with pytest.raises(ValueError, match=r"images have the shape \(60, 8, 8\); it must be \(N, 1, 16, 16\)"):
        vae.transform(images[:, :8, :8])
