"""Disentanglement, completeness and informativeness (DCI) from the feature importances of boosted trees."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from betavae.files.validation import check_name
from betavae.metrics.inputs import num_threads
from betavae.metrics.protocol import Protocol, choose, draw_sample
from betavae.metrics.r2 import explained_share
from betavae.metrics.record import Measured, Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined

if TYPE_CHECKING:
    from betavae.metrics.evaluation import Evaluation

ESTIMATORS = ("fast", "sklearn")


@dataclass(frozen=True)
class DCI:
    """Detailed result of DCI; `scores` summarises it.

    Attributes:
        importance: (D, K) relative importance of each latent for each factor; a column sums to 1, or is ``nan`` for a
            factor that does not vary.
        per_latent: (D,) disentanglement of each latent; ``nan`` for a latent that no classifier uses.
        latent_weight: (D,) weight of each latent in the disentanglement score; sums to 1.
        per_factor: (K,) completeness of each factor.
        accuracy: (K,) test accuracy of each factor's classifier; R2 of the regression for a continuous factor.
        accuracy_train: (K,) the same on the training rows.
    """

    importance: np.ndarray
    per_latent: np.ndarray
    latent_weight: np.ndarray
    per_factor: np.ndarray
    accuracy: np.ndarray
    accuracy_train: np.ndarray

    def widen(self, kept: np.ndarray) -> "DCI":
        """Reinsert the latents that were left out, with importance and weight 0.

        Args:
            kept: (D,) mask of the latents that were fitted.
        """
        importance, weight = np.zeros((len(kept), self.importance.shape[1])), np.zeros(len(kept))
        per_latent = np.full(len(kept), np.nan)
        importance[:, np.isnan(self.importance).any(axis=0)] = np.nan
        importance[kept], weight[kept], per_latent[kept] = self.importance, self.latent_weight, self.per_latent
        return replace(self, importance=importance, per_latent=per_latent, latent_weight=weight)

    def scores(self) -> dict[str, float]:
        """Return ``disentanglement``, ``completeness``, ``informativeness`` and ``informativeness_train``.

        Undefined scores are ``nan``, with one warning that lists all reasons.
        """
        varying = ~np.isnan(self.importance).any(axis=0)
        used = self.latent_weight > 0
        reasons = []
        if varying.sum() < 2:
            reasons.append(f"disentanglement needs two factors that vary, got {varying.sum()}")
        if len(self.importance) < 2:
            reasons.append("completeness needs two latents, got 1")
        if not used.any():
            reasons.append("no classifier found a latent to split on")
        if reasons:
            warn_undefined("a DCI score", "; ".join(reasons))
        mass = np.where(varying, np.nan_to_num(self.importance).sum(axis=0), 0.0)
        return {
            "disentanglement": _weighted_mean(self.per_latent[used], self.latent_weight[used]),
            "completeness": _weighted_mean(self.per_factor[mass > 0], mass[mass > 0]),
            "informativeness": _mean(self.accuracy[varying]),
            "informativeness_train": _mean(self.accuracy_train[varying]),
        }


def dci(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_test: int | None = None,
    estimator: str = "fast",
    with_replacement: bool | None = None,
) -> dict[str, float]:
    """Compute disentanglement, completeness and informativeness from gradient boosted trees.

    R[d, k] is the importance of latent d for factor k: its share of the error reduction by the trees for this factor.
    Let p be a row of R, scaled to sum to 1. The disentanglement of a latent is 1 - H(p) / log K, and the score is the
    mean over latents, weighted by their sums of R. Completeness is the same for columns, with log D. Informativeness is
    the accuracy on test rows (larger is better; some papers report 1 - accuracy under this name). For a continuous
    factor, regression trees replace the classifier, and R2 replaces the accuracy.

    If the preset keeps inactive latents, they count in D, so completeness increases with their number.

    Source:
        A Framework for the Quantitative Evaluation of Disentangled Representations (Eastwood & Williams, 2018), section
        2. https://openreview.net/forum?id=By-7dz-AZ

    Args:
        latents: (N, D) latents.
        factors: (N, K) labels, or continuous factors.
        seed: seed for drawing rows and for scikit-learn.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of training rows; see `sample_sizes`.
        num_test: number of test rows; see `sample_sizes`.
        estimator: ``"fast"`` (compiled, part of this package) or ``"sklearn"`` (scikit-learn; takes minutes).
        with_replacement: draw rows with replacement; defaults to the preset's value.

    Returns:
        ``disentanglement``, ``completeness``, ``informativeness``, ``informativeness_train``, each in 0..1 (R2 may be
        below 0), larger is better. Factors that do not vary are left out. Undefined scores are ``nan`` with a warning.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid, has too few rows, or a factor has too many classes; unknown estimator.

    Example:
        >>> factors = np.random.default_rng(0).integers(3, size=(600, 2))
        >>> scores = dci(factors.astype(float), factors, seed=0, num_train=400, num_test=200)
        >>> round(scores["disentanglement"], 2), round(scores["completeness"], 2), scores["informativeness"]
        (1.0, 1.0, 1.0)
    """
    return fit_dci(
        latents,
        factors,
        seed=seed,
        preset=preset,
        num_train=num_train,
        num_test=num_test,
        estimator=estimator,
        with_replacement=with_replacement,
    ).scores()


def fit_dci(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_test: int | None = None,
    estimator: str = "fast",
    with_replacement: bool | None = None,
) -> DCI:
    """Compute the detailed `DCI` result: importance matrix and values per latent and factor. See `dci` for arguments.

    Latents that the preset leaves out have importance and weight 0, and no disentanglement (``nan``).

    Example:
        >>> factors = np.random.default_rng(0).integers(3, size=(600, 2))
        >>> fit_dci(factors[:, ::-1].astype(float), factors, seed=0, num_train=400, num_test=200).importance.round(2)
        array([[0., 1.],
               [1., 0.]])
    """
    protocol = choose(preset, with_replacement=with_replacement)
    latents, factors, continuous, train, test, _, kept = draw_sample(
        latents,
        factors,
        protocol,
        seed=seed,
        num_train=num_train,
        num_test=num_test,
        factors_as="classes or numbers",
    )
    fits = fit_trees(
        latents[train], factors[train], latents[test], seed=seed, estimator=estimator, continuous=continuous
    )
    fitted = summarise(fits, factors[test], continuous)
    return fitted if kept.all() else fitted.widen(kept)


class TreeFits(NamedTuple):
    """Results of boosted trees, one model for each factor.

    Attributes:
        importance: (D, K) relative importance of each latent; a column sums to 1, or is ``nan`` for a factor that does
            not vary.
        predicted: (M, K) predicted factors of the test rows.
        accuracy_train: (K,) accuracy on the training rows; R2 for a continuous factor.
        log_probability: for each factor, (M, values) log probabilities and the (values,) factor values; `None` for a
            factor that is continuous or does not vary.
    """

    importance: np.ndarray
    predicted: np.ndarray
    accuracy_train: np.ndarray
    log_probability: tuple[tuple[np.ndarray, np.ndarray] | None, ...] = ()


def fit_trees(
    train_latents: np.ndarray,
    train_factors: np.ndarray,
    test_latents: np.ndarray,
    *,
    seed: int,
    estimator: str = "fast",
    continuous: np.ndarray | None = None,
) -> TreeFits:
    """Fit gradient boosted trees to each factor, on all cores, and predict the factors of the test rows.

    Trees treat latents as equal if they differ by at most 1e-7, independent of their unit. All latents are therefore
    scaled by one power of two, so that the largest standard deviation is close to 1, as for the latents of a VAE.

    Args:
        train_latents: (N, D) latents.
        train_factors: (N, K) factors.
        test_latents: (M, D) latents.
        seed: seed of the estimator.
        estimator: ``"fast"`` or ``"sklearn"``.
        continuous: (K,) mask of continuous factors; by default, none is continuous.

    Returns:
        Importances and predictions. For a factor that does not vary, its only value is predicted.

    Raises:
        ValueError: Unknown estimator.

    Example:
        >>> factors = np.arange(60)[:, None] // 20
        >>> fit_trees(factors.astype(float), factors, np.array([[1.0]]), seed=0).predicted
        array([[1]])
    """
    check_name("estimator", estimator, ESTIMATORS)
    spread = train_latents.std(axis=0, dtype=np.float64).max()
    magnitude = round(np.log2(spread)) if 0 < spread < np.inf else 0
    train_latents, test_latents = np.ldexp(train_latents, -magnitude), np.ldexp(test_latents, -magnitude)
    continuous = np.zeros(train_factors.shape[1], bool) if continuous is None else continuous

    def fit_factor(k: int) -> tuple[np.ndarray, np.ndarray, float, tuple[np.ndarray, np.ndarray] | None]:
        values = train_factors[:, k]
        if (values == values[0]).all():
            return np.full(train_latents.shape[1], np.nan), np.full(len(test_latents), values[0]), np.nan, None
        if continuous[k]:
            fit_values = _values_fast if estimator == "fast" else _values_sklearn
            gain, train_values, test_values = fit_values(train_latents, values, test_latents, seed)
            return (
                gain / max(gain.sum(), np.finfo(float).tiny),
                test_values,
                explained_share(values, train_values),
                None,
            )
        fit = _fit_fast if estimator == "fast" else _fit_sklearn
        gain, train_class, test_class, *probability = fit(train_latents, values, test_latents, seed)
        accuracy = float((train_class == values).mean())
        return gain / max(gain.sum(), np.finfo(float).tiny), test_class, accuracy, tuple(probability)  # type: ignore[return-value]

    num_classes = [1 if continuous[k] else len(np.unique(column)) for k, column in enumerate(train_factors.T)]
    order = np.argsort(num_classes)[::-1]  # longest task first, to balance the load of the cores
    with ThreadPoolExecutor(max_workers=num_threads()) as pool:
        fits = dict(zip(order.tolist(), pool.map(fit_factor, order.tolist()), strict=True))
    columns, predicted, accuracy_train, log_probability = zip(*(fits[k] for k in range(len(num_classes))), strict=True)
    return TreeFits(np.stack(columns, axis=1), np.stack(predicted, axis=1), np.array(accuracy_train), log_probability)


def _fit_fast(train: np.ndarray, labels: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    from scipy.special import log_softmax

    from betavae.metrics.estimators.boosting import boost

    fit = boost(train, labels, test, seed=seed)
    return fit.gain, fit.train_class, fit.test_class, log_softmax(fit.test_logits, axis=1), fit.classes


def _values_fast(train: np.ndarray, values: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    from betavae.metrics.estimators.boosting import boost_values

    fit = boost_values(train, values[:, None], test, seed=seed)
    return fit.gain[:, 0], fit.train[:, 0], fit.test[:, 0]


def _values_sklearn(train: np.ndarray, values: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    from sklearn.ensemble import GradientBoostingRegressor

    model = GradientBoostingRegressor(random_state=seed).fit(train, values)
    return model.feature_importances_, model.predict(train), model.predict(test)


def _fit_sklearn(train: np.ndarray, labels: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    from sklearn.ensemble import GradientBoostingClassifier

    model = GradientBoostingClassifier(random_state=seed).fit(train, labels)
    probability = model.predict_log_proba(test)
    return model.feature_importances_, model.predict(train), model.predict(test), probability, model.classes_


def tree_information(fits: TreeFits, test_factors: np.ndarray, factor: int) -> float:
    """Estimate the information that trees have about a factor, in nats.

    It is the entropy of the factor minus the cross-entropy of the predictions, at least 0. For a continuous factor it
    is -log(1 - R2) / 2.

    Example:
        >>> predictions = np.log(np.array([[0.9, 0.1], [0.1, 0.9]]))
        >>> fits = TreeFits(np.ones((1, 1)), np.array([[0], [1]]), np.ones(1), ((predictions, np.array([0, 1])),))
        >>> round(tree_information(fits, np.array([[0], [1]]), 0), 3)  # log 2 + log 0.9
        0.588
    """
    labels = test_factors[:, factor]
    prediction = fits.log_probability[factor]
    if prediction is None:
        error = ((labels - fits.predicted[: len(labels), factor]) ** 2).mean()
        return max(0.0, float(np.log(labels.var() / max(error, 1e-12 * labels.var())) / 2)) if labels.var() else 0.0
    log_probability, classes = prediction
    known = np.isin(labels, classes)
    column = np.searchsorted(classes, labels[known])
    if not len(column):
        return 0.0
    frequency = np.bincount(column, minlength=len(classes)) / len(column)
    entropy = -float(np.log(frequency[column]).mean())
    return max(0.0, entropy + float(log_probability[: len(labels)][known][np.arange(len(column)), column].mean()))


def summarise(fits: TreeFits, test_factors: np.ndarray, continuous: np.ndarray | None = None) -> DCI:
    """Compute `DCI` from importances and predictions.

    Args:
        fits: trees fitted to each factor.
        test_factors: (M, K) true factors of the rows that ``fits`` predicts.
        continuous: (K,) mask of continuous factors; by default, none is continuous.

    Returns:
        Disentanglement of each latent, completeness and accuracy of each factor.

    Example:
        >>> fits = TreeFits(np.array([[1.0, 0.5], [0.0, 0.5]]), np.array([[0, 1]]), np.ones(2))
        >>> summarise(fits, np.array([[0, 0]])).per_factor.round(2)
        array([1., 0.])
    """
    varying = ~np.isnan(fits.importance).any(axis=0)
    importance = fits.importance[:, varying]
    per_factor = np.full(len(varying), np.nan)
    per_factor[varying] = _concentration(importance.T)
    accuracy = (fits.predicted == test_factors).mean(axis=0)
    for k in np.flatnonzero(varying & (False if continuous is None else continuous)):
        accuracy[k] = explained_share(test_factors[:, k], fits.predicted[:, k])
    return DCI(
        importance=fits.importance,
        per_latent=_concentration(importance),
        latent_weight=importance.sum(axis=1) / max(importance.sum(), np.finfo(float).tiny),
        per_factor=per_factor,
        accuracy=np.where(varying, accuracy, np.nan),
        accuracy_train=fits.accuracy_train,
    )


def _concentration(rows: np.ndarray) -> np.ndarray:
    """Return 1 - H(p) / log(columns) for each row p scaled to sum 1; nan for a row of zeros or a single column."""
    if rows.shape[1] < 2:
        return np.full(len(rows), np.nan)
    mass = rows.sum(axis=1, keepdims=True)
    share = np.divide(rows, mass, out=np.zeros_like(rows), where=mass > 0)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return np.where(mass[:, 0] > 0, 1 + (share * logs).sum(axis=1) / np.log(rows.shape[1]), np.nan)


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float((values * weights).sum() / weights.sum()) if len(values) else float("nan")


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _shared(evaluation: "Evaluation") -> Measured:
    return evaluation.dci.scores(), dict(vars(evaluation.dci))


METRIC = Metric(
    "dci",
    dci,
    {
        "disentanglement": ScoreInfo(
            0, 1, True, "does each latent capture only one factor?", 3, title="DCI disentanglement"
        ),
        "completeness": ScoreInfo(0, 1, True, "is each factor captured by only one latent?", 2),
        "informativeness": ScoreInfo(0, 1, True, "how accurately do boosted trees predict the factors?", 2),
        "informativeness_train": ScoreInfo(0, 1, True, "informativeness on the training rows", 0),
    },
    "importances of boosted trees that predict factors from latents",
    takes_continuous=True,
    counts_classes=True,
    shared=_shared,
    per_latent=("importance", "per_latent", "latent_weight"),
)
