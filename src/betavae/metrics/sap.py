"""Separated attribute predictability (SAP): is each factor predicted by a single latent?"""

import numpy as np

from betavae.metrics.inputs import check_classes, varying_factors
from betavae.metrics.mig import top_two
from betavae.metrics.protocol import Protocol, choose, draw_sample
from betavae.metrics.record import Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined

_MAX_STEPS = 100


def sap(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_test: int | None = None,
    cost: float = 0.01,
    with_replacement: bool | None = None,
) -> dict[str, float]:
    """Compute the mean difference between the scores S of the two latents that predict each factor best.

    There are two published forms. In ``classification``, S[d, k] is the test accuracy of a linear support vector
    machine on latent d, with the protocol of disentanglement_lib: squared hinge loss, one class against the rest,
    balanced classes, cost 0.01, penalised intercept, unscaled latent. In ``regression``, S[d, k] is the squared
    correlation of latent d and factor k.

    The two forms differ by several times, so do not compare them with each other. ``classification`` is small for
    factors with many values, because linear classifiers on one latent cannot separate, for example, 32 classes.

    Source:
        Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar, Sattigeri &
        Balakrishnan, 2018), section 3. https://arxiv.org/abs/1711.00848

    Args:
        latents: (N, D) latents.
        factors: (N, K) factors. For continuous factors (values that are not integers), only ``regression`` is defined.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of training rows; see `sample_sizes`.
        num_test: number of test rows; see `sample_sizes`.
        cost: cost of the support vector machines.
        with_replacement: draw rows with replacement; defaults to the preset's value.

    Returns:
        ``classification`` and ``regression`` in 0..1, larger is better; ``nan`` with a warning when no factor varies,
        and for ``classification`` also when a factor is continuous. With a single latent, the second-best score is 0.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(2, size=(1000, 2))
        >>> scores = sap(factors.astype(float), factors, seed=0, num_train=800, num_test=200)
        >>> scores["regression"] > 0.95
        True
    """
    protocol = choose(preset, with_replacement=with_replacement)
    sample = draw_sample(
        latents, factors, protocol, seed=seed, num_train=num_train, num_test=num_test, factors_as="numbers"
    )
    latents, all_factors, _, train, test = sample[:5]
    varying = np.flatnonzero(varying_factors(all_factors[train]))
    if not len(varying):
        warn_undefined("SAP", "no factor varies")
        return {"classification": float("nan"), "regression": float("nan")}
    continuous = any((column != np.round(column)).any() for column in all_factors.T[varying])
    latents, test_latents = (latents[rows].astype(np.float64) for rows in (train, test))
    factors, test_factors = (all_factors[rows][:, varying] for rows in (train, test))
    regression = _mean_gap(squared_correlation(latents, factors))
    if continuous:
        warn_undefined("SAP's classification form", "a factor is continuous")
        return {"classification": float("nan"), "regression": regression}
    check_classes(all_factors[train])
    accuracy = np.array(
        [
            [
                _svm_accuracy(latents[:, d], factors[:, k], test_latents[:, d], test_factors[:, k], cost)
                for k in range(len(varying))
            ]
            for d in range(latents.shape[1])
        ]
    )
    return {"classification": _mean_gap(accuracy), "regression": regression}


def squared_correlation(latents: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return the (D, K) squared Pearson correlations of latents and factors; 0 for a constant column.

    Example:
        >>> squared_correlation(np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([[3], [4]]))
        array([[1.],
               [0.]])
    """
    z, y = (table - table.mean(axis=0) for table in (latents, factors))
    product = (z**2).sum(axis=0)[:, None] * (y**2).sum(axis=0)
    return np.asarray(np.divide((z.T @ y) ** 2, product, out=np.zeros_like(product), where=product > 1e-24))


def _mean_gap(scores: np.ndarray) -> float:
    first, second = top_two(scores)
    return float((first - second).mean())


def _svm_accuracy(
    latent: np.ndarray, labels: np.ndarray, test_latent: np.ndarray, test_labels: np.ndarray, cost: float
) -> float:
    classes, index = np.unique(labels, return_inverse=True)
    slope, intercept = fit_svm(latent, index, len(classes), cost)
    return float((classes[(test_latent[:, None] * slope + intercept).argmax(axis=1)] == test_labels).mean())


def fit_svm(latent: np.ndarray, labels: np.ndarray, num_classes: int, cost: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit exact linear support vector machines on one latent, one class against the rest.

    Each minimises (w^2 + b^2) / 2 + cost * sum of c_i max(0, 1 - y_i (w z_i + b))^2 with y_i = +-1. The weights c_i are
    N / (C N_class) for the class and 1 for the rest, as in liblinear with balanced classes; for two classes, both
    classes have the weight N / (C N_class). The rows with a positive loss lie on one side of a threshold. A Newton step
    therefore uses cumulative sums over the sorted latent and needs no pass over the rows.

    Args:
        latent: (N,) one latent.
        labels: (N,) integers 0 .. num_classes - 1.
        num_classes: number of classes C.
        cost: cost of an error.

    Returns:
        Slopes w (C,) and intercepts b (C,).

    Example:
        >>> slope, intercept = fit_svm(np.array([-1.0, -1.0, 1.0, 1.0]), np.array([0, 0, 1, 1]), 2, 100.0)
        >>> slope.round(2), abs(intercept).max() < 1e-6
        (array([-1.,  1.]), np.True_)
    """
    order = np.argsort(latent, kind="stable")
    z = latent[order]
    member = labels[order][:, None] == np.arange(num_classes)
    counts = member.sum(axis=0)
    balance = len(z) / (num_classes * np.maximum(counts, 1))
    rest = balance[labels[order]][:, None] if num_classes == 2 else 1.0
    weight = np.where(member, balance, rest) * cost
    moments = np.stack([weight, weight * z[:, None], weight * z[:, None] ** 2])
    running = np.zeros((2, 3, len(z) + 1, num_classes))
    for side, mask in enumerate((member, ~member)):
        np.cumsum(moments * mask, axis=1, out=running[side, :, 1:])
    columns = np.arange(num_classes)

    def active_moments(w: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the sums of weight, weight * z and weight * z^2 over the rows with a positive loss, (side, 3, C)."""
        sums = np.empty((2, 3, num_classes))
        for side, y in enumerate((1.0, -1.0)):
            # y (w z + b) < 1 holds below a threshold if y w > 0, and above it if y w < 0.
            with np.errstate(divide="ignore", invalid="ignore"):
                edge = np.where(w == 0, np.where(y * b < 1, np.inf, -np.inf), (y - b) / w)
            position = np.searchsorted(z, edge)
            below = running[side][:, position, columns]
            sums[side] = np.where((y * w >= 0), below, running[side][:, -1] - below)
        return sums

    def objective(w: np.ndarray, b: np.ndarray) -> np.ndarray:
        value = (w**2 + b**2) / 2
        for y, (m0, m1, m2) in zip((1.0, -1.0), active_moments(w, b), strict=True):
            value = value + m0 * (1 - y * b) ** 2 - 2 * m1 * y * w * (1 - y * b) + m2 * w**2
        return np.asarray(value)

    w, b = np.zeros(num_classes), np.zeros(num_classes)
    for _ in range(_MAX_STEPS):
        positive, negative = active_moments(w, b)
        m0, m1, m2 = positive + negative
        t0, t1 = (positive - negative)[:2]
        gradient = np.stack([w + 2 * (m2 * w + m1 * b - t1), b + 2 * (m1 * w + m0 * b - t0)])
        if np.abs(gradient).max() < 1e-8 * len(z) * cost:
            break
        ww, wb, bb = 1 + 2 * m2, 2 * m1, 1 + 2 * m0
        determinant = ww * bb - wb**2
        step_w = (bb * gradient[0] - wb * gradient[1]) / determinant
        step_b = (ww * gradient[1] - wb * gradient[0]) / determinant
        size = np.ones(num_classes)
        before = objective(w, b)
        for _ in range(30):
            worse = objective(w - size * step_w, b - size * step_b) > before + 1e-12 * np.abs(before)
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        w, b = w - size * step_w, b - size * step_b
    return w, b


METRIC = Metric(
    "sap",
    sap,
    {
        "classification": ScoreInfo(0, 1, True, "does one latent classify each factor better than all others?", 2),
        "regression": ScoreInfo(0, 1, True, "is one latent more correlated with each factor than all others?"),
    },
    "gap between the two latents that predict each factor best, each alone",
    takes_continuous=True,
    counts_classes=True,
)
