"""Disentanglement, completeness and informativeness, from the importances of boosted trees."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from betavae.metrics.inputs import check_classes, check_name, check_tables, draw_rows, num_threads
from betavae.metrics.undefined import warn_undefined

ESTIMATORS = ("fast", "sklearn")


@dataclass(frozen=True)
class DCI:
    """Everything one DCI fit knows; `scores` sums it up.

    Attributes:
        importance: (D, K) share of each code in the prediction of each factor; a column sums to 1, or is ``nan`` for a
            factor that does not vary.
        per_code: (D,) disentanglement of each code; ``nan`` for a code that no classifier uses.
        code_weight: (D,) weight of each code in the disentanglement score; sums to 1.
        per_factor: (K,) completeness of each factor.
        accuracy: (K,) held-out accuracy of each factor's classifier.
        accuracy_train: (K,) its accuracy on the rows it was fitted to.
    """

    importance: np.ndarray
    per_code: np.ndarray
    code_weight: np.ndarray
    per_factor: np.ndarray
    accuracy: np.ndarray
    accuracy_train: np.ndarray

    def scores(self) -> dict[str, float]:
        """Sum up: ``disentanglement``, ``completeness``, ``informativeness``, ``informativeness_train``.

        Undefined scores are ``nan``, with one warning that names them all.
        """
        varying = ~np.isnan(self.importance).any(axis=0)
        used = self.code_weight > 0
        reasons = []
        if varying.sum() < 2:
            reasons.append(f"disentanglement needs two factors that vary, got {varying.sum()}")
        if len(self.importance) < 2:
            reasons.append("completeness needs two codes, got 1")
        if not used.any():
            reasons.append("no classifier found a code to split on")
        if reasons:
            warn_undefined("a DCI score", "; ".join(reasons))
        mass = np.where(varying, np.nan_to_num(self.importance).sum(axis=0), 0.0)
        return {
            "disentanglement": _weighted_mean(self.per_code[used], self.code_weight[used]),
            "completeness": _weighted_mean(self.per_factor[mass > 0], mass[mass > 0]),
            "informativeness": _mean(self.accuracy[varying]),
            "informativeness_train": _mean(self.accuracy_train[varying]),
        }


def dci(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    num_train: int = 10_000,
    num_test: int = 5_000,
    estimator: str = "fast",
    with_replacement: bool = False,
) -> dict[str, float]:
    """Disentanglement, completeness and informativeness, from gradient boosted trees.

    R[d, k] is the share of code d in the error that the trees for factor k remove. With p the rows of R scaled to sum
    1 and K factors, a code's disentanglement is 1 - H(p) / log K; the score weights the codes by their share of R.
    Completeness is the same for columns, with log D. Informativeness is the accuracy on held-out rows (larger is
    better; some papers report 1 - accuracy under this name).

    Dead codes count in D: leave them out, or completeness grows with their number.

    Source:
        A Framework for the Quantitative Evaluation of Disentangled Representations (Eastwood & Williams, 2018), section
        2. https://openreview.net/forum?id=By-7dz-AZ

    Args:
        codes: (N, D) codes.
        factors: (N, K) integer factors.
        seed: seed of the rows drawn, and of scikit-learn.
        num_train: rows the classifiers are fitted to.
        num_test: rows they are judged on.
        estimator: ``"fast"`` (compiled here) or ``"sklearn"`` (``GradientBoostingClassifier``; minutes).
        with_replacement: draw rows as disentanglement_lib does; training and test rows may then coincide.

    Returns:
        ``disentanglement``, ``completeness``, ``informativeness``, ``informativeness_train``, each in 0..1, larger is
        better. Factors that do not vary are left out; ``nan`` with a warning where nothing is left.

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
        codes,
        factors,
        seed=seed,
        num_train=num_train,
        num_test=num_test,
        estimator=estimator,
        with_replacement=with_replacement,
    ).scores()


def fit_dci(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    num_train: int = 10_000,
    num_test: int = 5_000,
    estimator: str = "fast",
    with_replacement: bool = False,
) -> DCI:
    """Fit the classifiers of `dci` (same arguments) and keep the matrix and the values of each code and factor.

    Example:
        >>> factors = np.random.default_rng(0).integers(3, size=(600, 2))
        >>> fit_dci(factors[:, ::-1].astype(float), factors, seed=0, num_train=400, num_test=200).importance.round(2)
        array([[0., 1.],
               [1., 0.]])
    """
    codes, factors = check_tables(codes, factors)
    rng = np.random.default_rng(seed)
    train, test = draw_rows(len(codes), (num_train, num_test), rng, with_replacement=with_replacement)
    check_classes(factors[train])
    fits = fit_trees(codes[train], factors[train], codes[test], seed=seed, estimator=estimator)
    return summarise(fits, factors[test])


class TreeFits(NamedTuple):
    """What boosted trees, one set for each factor, know about a table.

    Attributes:
        importance: (D, K) share of each code; a column sums to 1, or is ``nan`` for a factor that does not vary.
        predicted: (M, K) predicted values of the test rows.
        accuracy_train: (K,) accuracy on the training rows.
    """

    importance: np.ndarray
    predicted: np.ndarray
    accuracy_train: np.ndarray


def fit_trees(
    train_codes: np.ndarray,
    train_factors: np.ndarray,
    test_codes: np.ndarray,
    *,
    seed: int,
    estimator: str = "fast",
) -> TreeFits:
    """Fit gradient boosted trees to each factor, on all cores, and predict further rows.

    Trees take codes for equal that are 1e-7 apart, whatever their unit; so all are scaled by the power of two that
    brings the most varied one near to a standard deviation of 1, as codes of a VAE are.

    Args:
        train_codes: (N, D) codes.
        train_factors: (N, K) integer factors.
        test_codes: (M, D) codes.
        seed: seed of the estimator.
        estimator: ``"fast"`` or ``"sklearn"``.

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
    spread = train_codes.std(axis=0, dtype=np.float64).max()
    magnitude = round(np.log2(spread)) if 0 < spread < np.inf else 0
    train_codes, test_codes = np.ldexp(train_codes, -magnitude), np.ldexp(test_codes, -magnitude)
    fit = _fit_fast if estimator == "fast" else _fit_sklearn

    def fit_factor(k: int) -> tuple[np.ndarray, np.ndarray, float]:
        labels = train_factors[:, k]
        if (labels == labels[0]).all():
            return np.full(train_codes.shape[1], np.nan), np.full(len(test_codes), labels[0]), np.nan
        gain, train_class, test_class = fit(train_codes, labels, test_codes, seed)
        return gain / max(gain.sum(), np.finfo(float).tiny), test_class, float((train_class == labels).mean())

    num_classes = [len(np.unique(column)) for column in train_factors.T]
    order = np.argsort(num_classes)[::-1]  # the longest first, so that the cores finish together
    with ThreadPoolExecutor(max_workers=num_threads()) as pool:
        fits = dict(zip(order.tolist(), pool.map(fit_factor, order.tolist()), strict=True))
    columns, predicted, accuracy_train = zip(*(fits[k] for k in range(len(num_classes))), strict=True)
    return TreeFits(np.stack(columns, axis=1), np.stack(predicted, axis=1), np.array(accuracy_train))


def _fit_fast(train: np.ndarray, labels: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    from betavae.metrics.boosting import boost

    return boost(train, labels, test, seed=seed)


def _fit_sklearn(train: np.ndarray, labels: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    from sklearn.ensemble import GradientBoostingClassifier

    model = GradientBoostingClassifier(random_state=seed).fit(train, labels)
    return model.feature_importances_, model.predict(train), model.predict(test)


def summarise(fits: TreeFits, test_factors: np.ndarray) -> DCI:
    """Turn importances and predictions into a `DCI`.

    Args:
        fits: trees fitted to each factor.
        test_factors: (M, K) true factors of the rows that ``fits`` predicts.

    Returns:
        Disentanglement of each code, completeness and accuracy of each factor.

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
    return DCI(
        importance=fits.importance,
        per_code=_concentration(known),
        code_weight=known.sum(axis=1) / max(known.sum(), np.finfo(float).tiny),
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
