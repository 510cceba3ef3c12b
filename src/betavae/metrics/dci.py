"""Disentanglement, completeness and informativeness, from the importances of boosted trees."""

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
    """Everything one DCI fit knows; `scores` sums it up.

    Attributes:
        importance: (D, K) share of each latent in the prediction of each factor; a column sums to 1, or is ``nan`` for
            a factor that does not vary.
        per_latent: (D,) disentanglement of each latent; ``nan`` for a latent that no classifier uses.
        latent_weight: (D,) weight of each latent in the disentanglement score; sums to 1.
        per_factor: (K,) completeness of each factor.
        accuracy: (K,) held-out accuracy of each factor's classifier; of a continuous factor, R2 of its regression.
        accuracy_train: (K,) the same on the rows of the fit.
    """

    importance: np.ndarray
    per_latent: np.ndarray
    latent_weight: np.ndarray
    per_factor: np.ndarray
    accuracy: np.ndarray
    accuracy_train: np.ndarray

    def widen(self, kept: np.ndarray) -> "DCI":
        """Put back latents that were left out, with importance and weight 0.

        Args:
            kept: (D,) mask of the latents that were fitted.
        """
        importance, weight = np.zeros((len(kept), self.importance.shape[1])), np.zeros(len(kept))
        per_latent = np.full(len(kept), np.nan)
        importance[:, np.isnan(self.importance).any(axis=0)] = np.nan
        importance[kept], weight[kept], per_latent[kept] = self.importance, self.latent_weight, self.per_latent
        return replace(self, importance=importance, per_latent=per_latent, latent_weight=weight)

    def scores(self) -> dict[str, float]:
        """Sum up: ``disentanglement``, ``completeness``, ``informativeness``, ``informativeness_train``.

        Undefined scores are ``nan``, with one warning that names them all.
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
    """Disentanglement, completeness and informativeness, from gradient boosted trees.

    R[d, k] is the share of latent d in the error that the trees for factor k remove. With p the rows of R scaled to sum
    1 and K factors, a latent's disentanglement is 1 - H(p) / log K; the score weights the latents by their share of R.
    Completeness is the same for columns, with log D. Informativeness is the accuracy on held-out rows (larger is
    better; some papers report 1 - accuracy under this name). Trees for a continuous factor are regression trees, and R2
    takes the place of accuracy.

    Inactive latents, where the preset keeps them, count in D: completeness grows with their number.

    Source:
        A Framework for the Quantitative Evaluation of Disentangled Representations (Eastwood & Williams, 2018), section
        2. https://openreview.net/forum?id=By-7dz-AZ

    Args:
        latents: (N, D) latents.
        factors: (N, K) labels, or continuous factors.
        seed: seed of the rows drawn, and of scikit-learn.
        preset: name of a protocol, or a `Protocol`; see `PRESETS`. What is given besides replaces its part.
        num_train: rows the classifiers are fitted to; see `sample_sizes`.
        num_test: rows they are tested on; see `sample_sizes`.
        estimator: ``"fast"`` (compiled here) or ``"sklearn"`` (its gradient boosting; minutes).
        with_replacement: draw rows with replacement; if unset, as the preset says.

    Returns:
        ``disentanglement``, ``completeness``, ``informativeness``, ``informativeness_train``, each in 0..1 (but R2,
        which may be below 0), larger is better. Factors that do not vary are left out; ``nan`` with a warning where
        nothing is left.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed, holds too few rows, or a factor has too many classes; unknown estimator.

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
    """Fit the classifiers of `dci` (same arguments) and keep the matrix and the values of each latent and factor.

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
    """What boosted trees, one set for each factor, know about a table.

    Attributes:
        importance: (D, K) share of each latent; a column sums to 1, or is ``nan`` for a factor that does not vary.
        predicted: (M, K) predicted values of the test rows.
        accuracy_train: (K,) accuracy on the training rows; R2 of a continuous factor.
        log_probability: for each factor (M, values) log probabilities of its values, and the (values,) values; `None`
            for one that is continuous or does not vary.
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
    """Fit gradient boosted trees to each factor, on all cores, and predict further rows.

    Trees take latents for equal that are 1e-7 apart, whatever their unit; so all are scaled by the power of two that
    brings the most varied one near to a standard deviation of 1, as latents of a VAE are.

    Args:
        train_latents: (N, D) latents.
        train_factors: (N, K) factors.
        test_latents: (M, D) latents.
        seed: seed of the estimator.
        estimator: ``"fast"`` or ``"sklearn"``.
        continuous: (K,) which factors are continuous; none by default.

    Returns:
        Importances and predictions; a factor that does not vary is predicted as the value it has.

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
    order = np.argsort(num_classes)[::-1]  # the longest first, so that the cores finish together
    with ThreadPoolExecutor(max_workers=num_threads()) as pool:
        fits = dict(zip(order.tolist(), pool.map(fit_factor, order.tolist()), strict=True))
    columns, predicted, accuracy_train, log_probability = zip(*(fits[k] for k in range(len(num_classes))), strict=True)
    return TreeFits(np.stack(columns, axis=1), np.stack(predicted, axis=1), np.array(accuracy_train), log_probability)


def _fit_fast(train: np.ndarray, labels: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    from scipy.special import log_softmax

    from betavae.metrics.estimators.boosting import boost

    found = boost(train, labels, test, seed=seed)
    return found.gain, found.train_class, found.test_class, log_softmax(found.test_logits, axis=1), found.classes


def _values_fast(train: np.ndarray, values: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    from betavae.metrics.estimators.boosting import boost_values

    found = boost_values(train, values[:, None], test, seed=seed)
    return found.gain[:, 0], found.train[:, 0], found.test[:, 0]


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
    """What trees know about a factor, in nats: cross-entropy of the frequencies less that of their predictions.

    Example:
        >>> sure = np.log(np.array([[0.9, 0.1], [0.1, 0.9]]))
        >>> fits = TreeFits(np.ones((1, 1)), np.array([[0], [1]]), np.ones(1), ((sure, np.array([0, 1])),))
        >>> round(tree_information(fits, np.array([[0], [1]]), 0), 3)  # log 2 + log 0.9
        0.588
    """
    labels = test_factors[:, factor]
    found = fits.log_probability[factor]
    if found is None:
        error = ((labels - fits.predicted[: len(labels), factor]) ** 2).mean()
        return max(0.0, float(np.log(labels.var() / max(error, 1e-12 * labels.var())) / 2)) if labels.var() else 0.0
    log_probability, classes = found
    known = np.isin(labels, classes)
    column = np.searchsorted(classes, labels[known])
    if not len(column):
        return 0.0
    frequency = np.bincount(column, minlength=len(classes)) / len(column)
    entropy = -float(np.log(frequency[column]).mean())
    return max(0.0, entropy + float(log_probability[: len(labels)][known][np.arange(len(column)), column].mean()))


def summarise(fits: TreeFits, test_factors: np.ndarray, continuous: np.ndarray | None = None) -> DCI:
    """Turn importances and predictions into a `DCI`.

    Args:
        fits: trees fitted to each factor.
        test_factors: (M, K) true factors of the rows that ``fits`` predicts.
        continuous: (K,) which factors are continuous; none by default.

    Returns:
        Disentanglement of each latent, completeness and accuracy of each factor.

    Example:
        >>> fits = TreeFits(np.array([[1.0, 0.5], [0.0, 0.5]]), np.array([[0, 1]]), np.ones(2))
        >>> summarise(fits, np.array([[0, 0]])).per_factor.round(2)
        array([1., 0.])
    """
    varying = ~np.isnan(fits.importance).any(axis=0)
    known = fits.importance[:, varying]
    per_factor = np.full(len(varying), np.nan)
    per_factor[varying] = _concentration(known.T)
    accuracy = (fits.predicted == test_factors).mean(axis=0)
    for k in np.flatnonzero(varying & (False if continuous is None else continuous)):
        accuracy[k] = explained_share(test_factors[:, k], fits.predicted[:, k])
    return DCI(
        importance=fits.importance,
        per_latent=_concentration(known),
        latent_weight=known.sum(axis=1) / max(known.sum(), np.finfo(float).tiny),
        per_factor=per_factor,
        accuracy=np.where(varying, accuracy, np.nan),
        accuracy_train=fits.accuracy_train,
    )


def _concentration(rows: np.ndarray) -> np.ndarray:
    """1 - entropy / log(columns) of each row scaled to sum 1; nan for a row of zeros, or where there is one column."""
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
        "disentanglement": ScoreInfo(0, 1, True, "does each latent capture one factor only?", 3),
        "completeness": ScoreInfo(0, 1, True, "is each factor captured by one latent only?", 2),
        "informativeness": ScoreInfo(0, 1, True, "how accurately do boosted trees predict the factors?", 2),
        "informativeness_train": ScoreInfo(0, 1, True, "informativeness on the training rows", 0),
    },
    "importances of boosted trees that predict factors from latents",
    takes_continuous=True,
    counts_classes=True,
    shared=_shared,
    per_latent=("importance", "per_latent", "latent_weight"),
)
