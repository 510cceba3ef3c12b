"""Deterministic multinomial logistic regression that does not depend on the defaults of a library version."""

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Logistic:
    """A fitted classifier: p(class | x) is the softmax of x W + b.

    Attributes:
        classes: (C,) labels, ascending.
        weights: (D + 1, C); the last row is the intercept.
    """

    classes: np.ndarray
    weights: np.ndarray

    @classmethod
    def fit(
        cls,
        features: np.ndarray,
        labels: np.ndarray,
        *,
        penalty: float = 1.0,
        balanced: bool = False,
        max_iterations: int = 100,
    ) -> Self:
        """Minimise summed cross-entropy + penalty / 2 |W|^2 with L-BFGS from zero; intercepts are not penalised.

        With ``penalty`` 1, scikit-learn's ``LogisticRegression`` solves the same problem by default. For two classes,
        scikit-learn has one column of weights, and this function has two opposite columns, so it doubles the penalty.

        Args:
            features: (N, D) features.
            labels: (N,) labels with at least two different values.
            penalty: weight of the squared norm, at least 0.
            balanced: weight rows so that all classes have the same total weight.
            max_iterations: maximum number of L-BFGS iterations.

        Returns:
            The fitted classifier.

        Example:
            >>> x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([3, 3, 7, 7])
            >>> Logistic.fit(x, y).predict(x)
            array([3, 3, 7, 7])
        """
        from scipy.optimize import minimize

        classes, index = np.unique(labels, return_inverse=True)
        table = np.column_stack([features, np.ones(len(features))]).astype(np.float64)
        rows = np.arange(len(table))
        counts = np.bincount(index)
        row_weight = (len(table) / (len(classes) * counts))[index] if balanced else np.ones(len(table))
        shape = (table.shape[1], len(classes))
        penalty *= 2 if len(classes) == 2 else 1

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(shape)
            scores = table @ weights
            scores -= scores.max(axis=1, keepdims=True)
            own = scores[rows, index]
            np.exp(scores, out=scores)
            total = scores.sum(axis=1)
            value = row_weight @ (np.log(total) - own) + penalty / 2 * (weights[:-1] ** 2).sum()
            scores *= (row_weight / total)[:, None]
            scores[rows, index] -= row_weight
            gradient = table.T @ scores
            gradient[:-1] += penalty * weights[:-1]
            return value / len(table), gradient.ravel() / len(table)

        best = minimize(
            loss,
            np.zeros(shape).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": max_iterations, "gtol": 1e-4},
        )
        return cls(classes, best.x.reshape(shape))

    def log_probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return (N, C) log p(class | x) for each row."""
        return _log_softmax(features @ self.weights[:-1] + self.weights[-1])

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the (N,) most probable labels."""
        return np.asarray(self.classes[self.log_probabilities(features).argmax(axis=1)])


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
