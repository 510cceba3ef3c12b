"""DCI-ES: explicitness (how much capacity a probe needs to predict the factors) and size (number of latents)."""

import math

import numpy as np

from betavae.metrics.inputs import standardised, varying_factors
from betavae.metrics.protocol import Protocol, choose, draw_sample
from betavae.metrics.record import Metric, ScoreInfo
from betavae.metrics.undefined import warn_undefined

CAPACITIES = (16, 32, 64, 128, 256, 512)


def dci_es(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    preset: str | Protocol = "default",
    num_train: int | None = None,
    num_test: int | None = None,
    with_replacement: bool | None = None,
) -> dict[str, float]:
    """Compute explicitness from loss-capacity curves, and size.

    Probes with increasing capacity c predict a factor. Let l(c) be the lowest loss on test rows of the probes with
    capacity up to c, A the area between l and its minimum, integrated over log c from the smallest to the largest
    capacity, and B the loss of a probe without latents. Explicitness is 1 - 2 A / (B log(c_max / c_min)), averaged over
    factors. It is 1 if the smallest probe is as good as the largest, and 0 if the loss decreases linearly in log c from
    B to 0. Size is the number of factors divided by the number of latents, K / D.

    The probes are ridge regressions from random Fourier features of the standardised latents to one-hot labels. Their
    capacity is the number of features, 16 to 512. The loss is the squared error, divided by the squared error of
    predicting the class frequencies, so B = 1. The scores depend on the type of probe; the paper uses multilayer
    perceptrons, random forests and random features. Latents without information about the factors have a flat curve and
    score 1, so always report explicitness together with informativeness.

    Source:
        DCI-ES: An Extended Disentanglement Framework with Connections to Identifiability (Eastwood et al., 2023),
        section 4. https://arxiv.org/abs/2210.00364

    Args:
        latents: (N, D) latents.
        factors: (N, K) integer factors.
        seed: seed for drawing rows and for the random features.
        preset: name of a preset in `PRESETS`, or a `Protocol`. Other arguments override its fields.
        num_train: number of training rows; see `sample_sizes`.
        num_test: number of test rows; see `sample_sizes`.
        with_replacement: draw rows with replacement; defaults to the preset's value.

    Returns:
        ``explicitness``, at most 1, larger is better, and ``size``, below 1 if there are more latents than factors.
        ``nan`` with a warning when no factor varies.

    Raises:
        TypeError: A table is not numeric.
        ValueError: A table is invalid or has too few rows.

    Example:
        >>> factors = np.random.default_rng(0).integers(2, size=(1000, 2))
        >>> dci_es(factors.astype(float), factors, seed=0, num_train=800, num_test=200)["explicitness"] > 0.9
        True
    """
    protocol = choose(preset, with_replacement=with_replacement)
    sample = draw_sample(latents, factors, protocol, seed=seed, num_train=num_train, num_test=num_test)
    latents, factors, _, train, test, rng = sample[:6]
    varying = np.flatnonzero(varying_factors(factors[train]))
    if not len(varying):
        warn_undefined("DCI-ES", "no factor varies")
        return {"explicitness": float("nan"), "size": float("nan")}
    z, z_test = standardised(latents[train], latents[test])
    scale = np.sqrt(z.shape[1])  # typical distance of two standardised rows, divided by sqrt(2)
    frequencies = rng.normal(size=(z.shape[1], max(CAPACITIES))) / scale
    phases = rng.uniform(0, 2 * np.pi, max(CAPACITIES))
    features, test_features = (table @ frequencies for table in (z, z_test))
    for table in (features, test_features):  # in place, to save memory
        np.cos(np.add(table, phases, out=table), out=table)
    centre = features.mean(axis=0)
    features -= centre
    test_features -= centre
    gram = features.T @ features
    losses = np.array(
        [_probe_losses(features, gram, factors[train, k], test_features, factors[test, k]) for k in varying]
    )
    lowest = np.minimum.accumulate(losses, axis=1)
    excess = lowest - lowest[:, -1:]
    log_capacity = np.log(CAPACITIES)
    area = ((excess[:, :-1] + excess[:, 1:]) / 2 * np.diff(log_capacity)).sum(axis=1)
    explicitness = 1 - 2 * area / (log_capacity[-1] - log_capacity[0])
    return {"explicitness": float(explicitness.mean()), "size": len(varying) / latents.shape[1]}


def _probe_losses(
    table: np.ndarray, gram: np.ndarray, labels: np.ndarray, test_table: np.ndarray, test_labels: np.ndarray
) -> list[float]:
    """Return the relative squared error on test rows of ridge probes with the first 16, 32, ... features."""
    classes, index = np.unique(labels, return_inverse=True)
    target = np.eye(len(classes))[index]
    frequency = target.mean(axis=0)
    truth = (test_labels[:, None] == classes) - frequency
    slope = table.T @ (target - frequency)
    losses = []
    for size in CAPACITIES:
        ridge = gram[:size, :size] + 1e-4 * len(table) * np.eye(size)
        weights = np.linalg.solve(ridge, slope[:size])
        losses.append(float(((truth - test_table[:, :size] @ weights) ** 2).sum() / (truth**2).sum()))
    return losses


METRIC = Metric(
    "dci_es",
    dci_es,
    {
        "explicitness": ScoreInfo(-math.inf, 1, True, "do small probes predict factors as well as large ones?"),
        "size": ScoreInfo(0, math.inf, None, "number of factors over number of latents", 0, True),
    },
    "how much capacity a probe needs to predict the factors",
    counts_classes=True,
)
