"""Fairness: does the prediction of one factor depend on the value of another?"""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from betavae.metrics.dci import fit_trees
from betavae.metrics.interventions import Groups
from betavae.metrics.protocol import Protocol, choose, draw_sample
from betavae.metrics.record import Measured, Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined

if TYPE_CHECKING:
    from betavae.metrics.evaluation import Evaluation


def fairness(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_test: int | None = None,
    num_per_value: int = 100,
    with_replacement: bool | None = None,
    paired: bool | None = None,
) -> dict[str, float]:
    """Compute the unfairness: how much predictions of a factor change when another factor is fixed to a value.

    Boosted trees predict each target factor from the latents. For each sensitive factor, draw ``num_per_value`` rows
    with each of its values. The unfairness is the total variation distance between the predictions for one value and
    the predictions for all values. It is 0 if the predictions do not depend on the sensitive factor, and at most 1.
    disentanglement_lib calls this quantity fairness, but smaller is fairer.

    Two samples of 100 rows differ by chance: for a target with 40 values, expect about 0.2 even for perfect latents.
    The preset ``dlib`` avoids this as disentanglement_lib does: it sets the sensitive factor of the *same* 100 rows to
    each value. The table must contain all these rows, as a full grid does. If a row is missing, different rows are
    drawn for each value, with a warning.

    Source:
        On the Fairness of Disentangled Representations (Locatello et al., 2019), section 3.
        https://arxiv.org/abs/1905.13662

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors.
        seed: seed for drawing rows.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of training rows; see `sample_sizes`.
        num_test: number of test rows. They are not used, but drawn as in `dci`, because `evaluate` uses the same trees
            for both; see `sample_sizes`.
        num_per_value: number of rows drawn, with replacement, for each value of a sensitive factor.
        with_replacement: draw the training rows with replacement; defaults to the preset's value.
        paired: set the sensitive factor of the same rows to each value; defaults to the preset's value.

    Returns:
        ``unfairness``, the mean over values and pairs of different factors, and ``unfairness_worst``, the maximum over
        values, averaged over pairs; 0..1, smaller is better; ``nan`` with a warning when fewer than two factors vary.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(2, size=(1000, 2))
        >>> fairness(factors.astype(float), factors, seed=0, num_train=500)["unfairness"] < 0.1
        True
    """
    protocol = choose(preset, with_replacement=with_replacement, paired_fairness=paired)
    sample = draw_sample(latents, factors, protocol, seed=seed, num_train=num_train, num_test=num_test)
    latents, factors, _, train = sample[:4]
    probes = draw_probes(factors, seed, num_per_value, paired=protocol.paired_fairness)
    rows = np.concatenate([probe.ravel() for probe in probes])
    return unfairness(fit_trees(latents[train], factors[train], latents[rows], seed=seed).predicted, probes)


def draw_probes(factors: np.ndarray, seed: int, num_per_value: int = 100, *, paired: bool = False) -> list[np.ndarray]:
    """Draw rows with each value of each factor.

    Args:
        factors: (N, K) integer factors.
        seed: seed for drawing rows.
        num_per_value: number of rows for each value.
        paired: draw ``num_per_value`` rows once, and for each value use the rows that differ from them only in this
            factor. If such a row is missing, draw different rows for each value, and warn.

    Returns:
        For each factor, (values, ``num_per_value``) row indices; (0, ``num_per_value``) for a constant factor.

    Example:
        >>> [probe.shape for probe in draw_probes(np.array([[0, 5], [1, 5]]), seed=0)]
        [(2, 100), (0, 100)]
    """
    rng = np.random.default_rng([seed, 1])
    probes: list[np.ndarray] = []
    missing: list[int] = []
    for k in range(factors.shape[1]):
        groups = Groups.by_value(factors, [k], "fairness", num_needed=1)
        num_values = len(groups.sizes) if len(groups.sizes) > 1 else 0
        probe = (
            _matching_rows(factors, k, groups, rng.integers(len(factors), size=num_per_value), rng) if paired else None
        )
        if paired and probe is None:
            missing.append(k)
        probes.append(groups.draw(np.arange(num_values), rng, num_per_value) if probe is None else probe[:num_values])
    if missing:
        warnings.warn(
            "fairness draws different rows for each value of "
            + ", ".join(f"factor {k}" for k in missing)
            + ": the table does not contain all combinations of factor values",
            stacklevel=2,
        )
    return probes


def _matching_rows(
    factors: np.ndarray, k: int, groups: Groups, base: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    """Find, for each value of factor k, rows with the other factors of the base rows; `None` if a row is missing."""
    others = [other for other in range(factors.shape[1]) if other != k]
    rest = Groups.by_value(factors, others, "fairness", num_needed=1).label if others else np.zeros_like(groups.label)
    num_values = len(groups.sizes)
    key = rest * num_values + groups.label
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    targets = rest[base] * num_values + np.arange(num_values)[:, None]
    first, last = (np.searchsorted(ordered, targets, side=side) for side in ("left", "right"))
    return None if (first == last).any() else order[first + rng.integers(last - first)]


def unfairness(predicted: np.ndarray, probes: list[np.ndarray]) -> dict[str, float]:
    """Compute the total variation between predictions for one value of a sensitive factor and for all its values.

    Args:
        predicted: (M, K) predicted factors for the rows of all probes, concatenated.
        probes: rows with each value of each factor, from `draw_probes`.

    Returns:
        ``unfairness`` and ``unfairness_worst``; see `fairness`.

    Example:
        >>> probes = [np.zeros((2, 2), int), np.zeros((2, 2), int)]  # target 1 depends on factor 0
        >>> unfairness(np.array([[0, 3], [0, 3], [0, 4], [0, 4], [0, 3], [0, 4], [0, 3], [0, 4]]), probes)
        {'unfairness': 0.25, 'unfairness_worst': 0.25}
    """
    ends = np.cumsum([probe.size for probe in probes])
    distances = []
    for sensitive, probe in enumerate(probes):
        for target in range(len(probes)):
            if target != sensitive and len(probe) and len(probes[target]):
                block = predicted[ends[sensitive] - probe.size : ends[sensitive], target]
                _, label = np.unique(block, return_inverse=True)
                share = (label.reshape(probe.shape)[:, :, None] == np.arange(label.max() + 1)).mean(axis=1)
                distances.append(np.abs(share - share.mean(axis=0)).sum(axis=1) / 2)
    if not distances:
        warn_undefined("fairness", "it needs two factors that vary")
        return {"unfairness": float("nan"), "unfairness_worst": float("nan")}
    return {
        "unfairness": float(np.mean([distance.mean() for distance in distances])),
        "unfairness_worst": float(np.mean([distance.max() for distance in distances])),
    }


def _shared(evaluation: "Evaluation") -> Measured:
    predicted = evaluation.trees.predicted[len(evaluation.rows[1]) :]
    return unfairness(predicted, evaluation.probes), {}


METRIC = Metric(
    "fairness",
    fairness,
    {
        "unfairness": ScoreInfo(0, 1, False, "how much do predictions change with other factors, on average?"),
        "unfairness_worst": ScoreInfo(0, 1, False, "how much do predictions change for the worst value?"),
    },
    "total variation of predictions when another factor changes",
    counts_classes=True,
    shared=_shared,
)
