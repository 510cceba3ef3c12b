"""BetaVAE score: a linear classifier predicts which factor pairs of images share."""

import numpy as np

from betavae.metrics.estimators.logistic import Logistic
from betavae.metrics.inputs import varying_factors
from betavae.metrics.interventions import Groups
from betavae.metrics.protocol import Protocol, choose, prepare, sample_sizes
from betavae.metrics.record import Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined


def beta_vae(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_test: int | None = None,
    batch_size: int = 64,
) -> dict[str, float]:
    """Compute the accuracy of a linear classifier that predicts the fixed factor from differences between latents.

    For each point, draw a factor k and ``batch_size`` pairs of rows with equal values of it. The features are the mean
    of |z - z'| over the pairs; the label is k. The classifier is a multinomial logistic regression with an L2 penalty
    of 1, as in disentanglement_lib with current versions of scikit-learn. (The paper trains a linear classifier with
    Adagrad.) Features are not scaled, so the penalty has more effect on latents with a small standard deviation.

    Source:
        beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017),
        section 3. https://openreview.net/forum?id=Sy2fzU9gl

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors; each value of a factor must occur in at least two rows.
        seed: seed for drawing factors and rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`.
        num_train: number of training points; see `sample_sizes`.
        num_test: number of test points; see `sample_sizes`.
        batch_size: number of pairs per point.

    Returns:
        ``accuracy`` on test points and ``accuracy_train`` on training points, in 0..1, larger is better. The chance
        level is 1 / (number of factors that vary). ``nan`` with a warning when fewer than two factors vary.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid, or a factor value occurs in only one row.

    Example:
        >>> factors = np.random.default_rng(0).integers(4, size=(1000, 3))
        >>> beta_vae(factors.astype(float), factors, seed=0, num_train=300, num_test=100)["accuracy"]
        1.0
    """
    protocol = choose(preset)
    latents, factors = prepare(latents, factors, protocol)
    num_train, num_test = sample_sizes(len(latents), protocol, num_train, num_test)
    varying = np.flatnonzero(varying_factors(factors))
    if len(varying) < 2:
        warn_undefined("BetaVAE score", f"it needs two factors that vary, got {len(varying)}")
        return {"accuracy": float("nan"), "accuracy_train": float("nan")}
    rng = np.random.default_rng(seed)
    fixed = rng.choice(varying, size=num_train + num_test)
    features = np.empty((len(fixed), latents.shape[1]))
    for k in varying:
        points = np.flatnonzero(fixed == k)
        groups = Groups.by_value(factors, [int(k)], "the BetaVAE score")
        first = rng.integers(len(latents), size=(len(points), batch_size))
        second = groups.draw_like(first.ravel(), rng).reshape(first.shape)
        features[points] = np.abs(latents[first] - latents[second]).mean(axis=1, dtype=np.float64)
    model = Logistic.fit(features[:num_train], fixed[:num_train])
    correct = model.predict(features) == fixed
    return {"accuracy": float(correct[num_train:].mean()), "accuracy_train": float(correct[:num_train].mean())}


METRIC = Metric(
    "beta_vae",
    beta_vae,
    {
        "accuracy": ScoreInfo(0, 1, True, "can a linear classifier predict which factor pairs of images share?", 2),
        "accuracy_train": ScoreInfo(0, 1, True, "the BetaVAE score on its training points", 0),
    },
    "a linear classifier names the factor that pairs of images share",
)
