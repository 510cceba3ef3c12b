"""EDI, the exclusivity disentanglement index."""

from typing import TYPE_CHECKING

import numpy as np

from betavae.metrics.dci import TreeFits, fit_trees, tree_information
from betavae.metrics.estimators.neighbours import neighbour_information, tell_apart
from betavae.metrics.inputs import standardised, varying_factors
from betavae.metrics.protocol import Protocol, choose, draw_sample
from betavae.metrics.record import Measured, Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined

if TYPE_CHECKING:
    from betavae.metrics.evaluation import Evaluation

_NEIGHBOURS = 10


def edi(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_test: int | None = None,
    with_replacement: bool | None = None,
) -> dict[str, float]:
    """Compute the exclusivity disentanglement index: modularity, compactness and explicitness.

    Let m[d, k] = I(z_d; y_k) / I(z; y_k), the information of one latent about factor k, relative to the information of
    all latents together. The exclusivity of a row or column x of m is its largest entry minus the root mean square of
    the others: e(x) = max x - sqrt((sum x^2 - max^2 x) / (n - 1)).

    - ``modularity``: the exclusivity of each latent is credited to the factor about which it has the most information;
      sum over latents, clipped to 1 for each factor, then mean over factors
    - ``compactness``: mean over factors of the exclusivity over latents
    - ``explicitness``: mean over factors of I(z; y_k) / H(y_k)

    I(z_d; y_k) is estimated from ten nearest neighbours. The authors estimate I(z; y_k) with a neural network (MINE).
    Here it is estimated with boosted trees, as the entropy of the factor minus their cross-entropy on test rows; for a
    continuous factor, as -log(1 - R2) / 2. It is at least the information of the most informative latent. H(y_k) of a
    continuous factor is its mutual information with itself, by the same estimator.

    Source:
        Towards an Improved Metric for Evaluating Disentangled Representations (Julka, Wang & Granitzer, 2024), and the
        authors' code. https://arxiv.org/abs/2410.03056, https://github.com/julka01/InnVariant

    Args:
        latents: (N, D) latents.
        factors: (N, K) labels, or continuous factors.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of training rows; see `sample_sizes`.
        num_test: number of test rows; see `sample_sizes`.
        with_replacement: draw rows with replacement; defaults to the preset's value.

    Returns:
        ``modularity``, ``compactness`` and ``explicitness``, 0..1, larger is better. ``nan`` with a warning if fewer
        than two factors vary (modularity), there is only one latent (compactness), or no factor varies (all).

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> factors = rng.integers(4, size=(900, 2))
        >>> scores = edi(factors + rng.normal(0, 0.05, (900, 2)), factors, seed=0)
        >>> scores["modularity"] > 0.9, scores["compactness"] > 0.9, scores["explicitness"] > 0.9
        (True, True, True)
    """
    protocol = choose(preset, with_replacement=with_replacement)
    sample = draw_sample(
        latents, factors, protocol, seed=seed, num_train=num_train, num_test=num_test, factors_as="classes or numbers"
    )
    latents, factors, continuous, train, test = sample[:5]
    fits = fit_trees(latents[train], factors[train], latents[test], seed=seed, continuous=continuous)
    return exclusivity_scores(latents[train], factors[train], continuous, fits, factors[test], seed)


def exclusivity_scores(
    latents: np.ndarray,
    factors: np.ndarray,
    continuous: np.ndarray,
    fits: TreeFits,
    test_factors: np.ndarray,
    seed: int,
) -> dict[str, float]:
    """Compute the scores of `edi` from the training rows and the trees that are fitted to them.

    Example:
        >>> labels = np.random.default_rng(0).integers(3, size=(600, 2))
        >>> fits = fit_trees(labels * 1.0, labels, labels * 1.0, seed=0)
        >>> scores = exclusivity_scores(labels * 1.0, labels, np.array([False, False]), fits, labels, 0)
        >>> round(scores["explicitness"], 1)
        1.0
    """
    varying = np.flatnonzero(varying_factors(factors))
    if len(varying) < 2 or latents.shape[1] < 2:
        reason = f"it needs two factors that vary and two latents, got {len(varying)} and {latents.shape[1]}"
        warn_undefined("a score of EDI", reason)
    if not len(varying):
        return dict.fromkeys(("modularity", "compactness", "explicitness"), float("nan"))
    z = tell_apart(standardised(latents)[0], np.random.default_rng(seed))
    shared, own = neighbour_information(z, factors[:, varying], continuous[varying], _NEIGHBOURS)
    tree_estimates = np.array([tree_information(fits, test_factors, k) for k in varying.tolist()])
    joint = np.maximum(tree_estimates, shared.max(axis=0))
    share = np.divide(shared, joint, out=np.zeros_like(shared), where=joint > 0)
    return {
        "modularity": _modularity(share) if len(varying) > 1 else float("nan"),
        "compactness": float(exclusivity(share.T).mean()) if len(share) > 1 else float("nan"),
        "explicitness": float((joint / own).clip(max=1).mean()),
    }


def exclusivity(rows: np.ndarray) -> np.ndarray:
    """Return the largest entry of each row minus the root mean square of the others, (rows,).

    Example:
        >>> exclusivity(np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5]]))
        array([1., 0.])
    """
    largest = rows.max(axis=1)
    others = ((rows**2).sum(axis=1) - largest**2).clip(min=0) / (rows.shape[1] - 1)
    return np.asarray(largest - np.sqrt(others))


def _modularity(share: np.ndarray) -> float:
    credit = np.zeros(share.shape[1])
    np.add.at(credit, share.argmax(axis=1), exclusivity(share))
    return float(credit.clip(max=1).mean())


def _shared(evaluation: "Evaluation") -> Measured:
    train, test = evaluation.rows
    labels = evaluation.labels
    scores = exclusivity_scores(
        evaluation.latents[train], labels[train], evaluation.continuous, evaluation.trees, labels[test], evaluation.seed
    )
    return scores, {}


METRIC = Metric(
    "edi",
    edi,
    {
        "modularity": ScoreInfo(0, 1, True, "does each latent have information about one factor only?"),
        "compactness": ScoreInfo(0, 1, True, "does only one latent have information about each factor?"),
        "explicitness": ScoreInfo(0, 1, True, "how much information about each factor do all latents have together?"),
    },
    "exclusivity of the information of latents and about factors",
    takes_continuous=True,
    counts_classes=True,
    shared=_shared,
)
