"""BetaVAE score: which factor did two batches share? A linear classifier answers."""

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
    """Accuracy of a linear classifier that tells which factor was held, from differences between latents.

    One point: draw a factor k; draw ``batch_size`` pairs of rows that agree in it; the features are the mean of
    |z - z'| over the pairs, the label is k. The classifier is a multinomial logistic regression with an L2 penalty of
    1, as in disentanglement_lib under current versions of scikit-learn (the paper trained one by Adagrad). Features are
    not scaled, so the penalty weighs more on latents with a small spread.

    Source:
        beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017),
        section 3. https://openreview.net/forum?id=Sy2fzU9gl

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors; every value of a factor needs two rows.
        seed: seed of the factors and rows drawn.
        preset: name of a protocol, or a `Protocol`; see `PRESETS`.
        num_train: points that the classifier is fitted to; see `sample_sizes`.
        num_test: points that it is tested on; see `sample_sizes`.
        batch_size: pairs averaged into one point.

    Returns:
        ``accuracy`` and ``accuracy_train`` in 0..1, larger is better, chance 1 / (factors that vary); ``nan`` with a
        warning when fewer than two factors vary.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed, or a factor value has a single row.

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
    held = rng.choice(varying, size=num_train + num_test)
    points = np.empty((len(held), latents.shape[1]))
    for k in varying:
        mine = np.flatnonzero(held == k)
        groups = Groups.by_value(factors, [int(k)], "the BetaVAE score")
        first = rng.integers(len(latents), size=(len(mine), batch_size))
        second = groups.draw_like(first.ravel(), rng).reshape(first.shape)
        points[mine] = np.abs(latents[first] - latents[second]).mean(axis=1, dtype=np.float64)
    model = Logistic.fit(points[:num_train], held[:num_train])
    right = model.predict(points) == held
    return {"accuracy": float(right[num_train:].mean()), "accuracy_train": float(right[:num_train].mean())}


METRIC = Metric(
    "beta_vae",
    beta_vae,
    {
        "accuracy": ScoreInfo(0, 1, True, "can a linear classifier tell which factor pairs of images share?", 2),
        "accuracy_train": ScoreInfo(0, 1, True, "the BetaVAE score on its training points", 0),
    },
    "a linear classifier names the factor that pairs of images share",
)
