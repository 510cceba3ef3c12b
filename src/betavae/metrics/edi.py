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
    """Exclusivity disentanglement index: modularity, compactness and explicitness.

    With m[d, k] = I(z_d; y_k) / I(z; y_k), the share of what all latents together tell about factor k that one latent
    tells, exclusivity of a row or column x of m is its largest entry less the root of the mean square of the others:
    e(x) = max x - sqrt((sum x^2 - max^2 x) / (n - 1)).

    - ``modularity``: the exclusivity of each latent counts for the factor that it tells most about; sum over latents,
      at most 1 a factor, mean over factors
    - ``compactness``: mean over factors of the exclusivity over latents
    - ``explicitness``: mean over factors of I(z; y_k) / H(y_k)

    I(z_d; y_k) is estimated from ten nearest neighbours. The authors estimate I(z; y_k) by a neural network (MINE);
    here it is what boosted trees find: the entropy of the factor less their cross-entropy on held-out rows (of a
    continuous factor, -log(1 - R2) / 2), and at least the information of the best latent. H(y_k) of a continuous factor
    is its information with itself, by the same estimate.

    Source:
        Towards an Improved Metric for Evaluating Disentangled Representations (Julka, Wang & Granitzer, 2024), and the
        authors' code. https://arxiv.org/abs/2410.03056, https://github.com/julka01/InnVariant

    Args:
        latents: (N, D) latents.
        factors: (N, K) labels, or continuous factors.
        seed: seed of the rows drawn.
        preset: name of a protocol, or a `Protocol`; see `PRESETS`. What is given besides replaces its part.
        num_train: rows that information is estimated from and trees are fitted to; see `sample_sizes`.
        num_test: rows that the trees are tested on; see `sample_sizes`.
        with_replacement: draw rows with replacement; if unset, as the preset says.

    Returns:
        ``modularity``, ``compactness`` and ``explicitness``, 0..1, larger is better; ``nan`` with a warning where fewer
        than two factors vary (modularity), there is one latent (compactness), or no factor varies (explicitness).

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed, or holds too few rows.

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
    """Scores of `edi` from the training rows, and trees that were fitted to them.

    Example:
        >>> labels = np.random.default_rng(0).integers(3, size=(600, 2))
        >>> fits = fit_trees(labels * 1.0, labels, labels * 1.0, seed=0)
        >>> scores = exclusivity_scores(labels * 1.0, labels, np.array([False, False]), fits, labels, 0)
        >>> round(scores["explicitness"], 1)
        1.0
    """
    varying = np.flatnonzero(varying_factors(factors))
    if len(varying) < 2 or latents.shape[1] < 2:
        why = f"it needs two factors that vary and two latents, got {len(varying)} and {latents.shape[1]}"
        warn_undefined("a score of EDI", why)
    if not len(varying):
        return dict.fromkeys(("modularity", "compactness", "explicitness"), float("nan"))
    z = tell_apart(standardised(latents)[0], np.random.default_rng(seed))
    shared, own = neighbour_information(z, factors[:, varying], continuous[varying], _NEIGHBOURS)
    told = np.array([tree_information(fits, test_factors, k) for k in varying.tolist()])
    joint = np.maximum(told, shared.max(axis=0))
    share = np.divide(shared, joint, out=np.zeros_like(shared), where=joint > 0)
    return {
        "modularity": _modularity(share) if len(varying) > 1 else float("nan"),
        "compactness": float(exclusivity(share.T).mean()) if len(share) > 1 else float("nan"),
        "explicitness": float((joint / own).clip(max=1).mean()),
    }


def exclusivity(rows: np.ndarray) -> np.ndarray:
    """Largest entry of each row less the root of the mean square of the others, (rows,).

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
        "compactness": ScoreInfo(0, 1, True, "does one latent only have information about each factor?"),
        "explicitness": ScoreInfo(0, 1, True, "how much of each factor do all latents together know?"),
    },
    "exclusivity of the information of latents and about factors",
    takes_continuous=True,
    counts_classes=True,
    shared=_shared,
)
