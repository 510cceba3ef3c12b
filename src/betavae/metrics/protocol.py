"""Presets: how rows are drawn, which latents are scored, and how information is estimated."""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from betavae.files.validation import check_name
from betavae.metrics.inputs import active_latents, by_kind, check_classes, check_tables, check_whole, draw_rows

NUM_TRAIN: Final = 10_000
NUM_TEST: Final = 5_000


@dataclass(frozen=True)
class Protocol:
    """Options in which published protocols differ. Every metric accepts a protocol or its name as `preset`.

    Attributes:
        with_replacement: draw rows with replacement. Training and test rows may then overlap.
        bias_correction: apply the Miller-Madow correction to entropies.
        drop_inactive: leave out inactive latents, as defined by `active_latents`.
        paired_fairness: for fairness, set a factor of the *same* rows to each value, if the table has all these rows.
        min_std: minimum standard deviation of a latent in the FactorVAE vote; if `None`, all active latents vote.
        irs_reference: quantile of the deviations from the overall mean in IRS; if `None`, the same quantile as for the
            deviations within a factor value.
        irs_bins: number of bins for the factors in IRS; if `None`, factors are not binned.
        infomec_rule: rule by which InfoMEC selects latents, one of `RULES`.
    """

    with_replacement: bool = False
    bias_correction: bool = True
    drop_inactive: bool = True
    paired_fairness: bool = False
    min_std: float | None = None
    irs_reference: float | None = None
    irs_bins: int | None = None
    infomec_rule: str = "range20"


PRESETS: Final[dict[str, Protocol]] = {
    "default": Protocol(),
    "dlib": Protocol(
        with_replacement=True,
        bias_correction=False,
        drop_inactive=False,
        paired_fairness=True,
        min_std=0.05,
        irs_reference=1.0,
        irs_bins=20,
    ),
}
"""``default``: disjoint rows, bias-corrected information, active latents only. ``dlib``: as in disentanglement_lib."""


def choose(preset: str | Protocol, **overrides: Any) -> Protocol:
    """Look up a preset and replace the fields whose override is not `None`.

    Raises:
        ValueError: Unknown preset.

    Example:
        >>> choose("dlib", bias_correction=True).with_replacement, choose("dlib", bias_correction=None).bias_correction
        (True, False)
    """
    if not isinstance(preset, Protocol):
        check_name("preset", preset, PRESETS)
        preset = PRESETS[preset]
    return replace(preset, **{name: value for name, value in overrides.items() if value is not None})


def prepare(
    latents: np.ndarray, factors: np.ndarray, protocol: Protocol, *, integer_factors: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Validate the two tables and select the latents that the protocol scores; see `kept_latents`.

    Raises:
        TypeError, ValueError: See `check_tables`.

    Example:
        >>> prepare(np.array([[0.0, 5.0], [1.0, 5.0]]), np.array([[0], [1]]), Protocol())[0].shape
        (2, 1)
    """
    latents, factors = check_tables(latents, factors, integer_factors=integer_factors)
    kept = kept_latents(latents, protocol)
    return latents if kept.all() else latents[:, kept], factors


def kept_latents(latents: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Return a (D,) mask of the latents that a protocol scores.

    These are the active latents if the protocol drops inactive ones and at least one is active; otherwise all latents.
    """
    active = active_latents(latents) if protocol.drop_inactive else np.ones(latents.shape[1], bool)
    return active if active.any() else np.ones_like(active)


class Sample(NamedTuple):
    """Validated tables with training and test rows.

    Attributes:
        latents: (N, kept latents) latents that the protocol scores.
        factors: (N, K) factors.
        continuous: (K,) mask of continuous factors.
        train: indices of the training rows.
        test: indices of the test rows.
        rng: generator for further random numbers.
        kept: (D,) mask of the original latents that are in ``latents``.
    """

    latents: np.ndarray
    factors: np.ndarray
    continuous: np.ndarray
    train: np.ndarray
    test: np.ndarray
    rng: np.random.Generator
    kept: np.ndarray


def draw_sample(
    latents: np.ndarray,
    factors: np.ndarray,
    protocol: Protocol,
    *,
    seed: int,
    num_train: int | None,
    num_test: int | None = None,
    factors_as: Literal["classes", "classes or numbers", "numbers"] = "classes",
) -> Sample:
    """Validate the two tables, select the latents that the protocol scores, and draw training and test rows.

    Args:
        latents: (N, D) latents.
        factors: (N, K) factors.
        protocol: how rows are drawn, and which latents are scored.
        seed: seed for drawing rows.
        num_train: number of training rows; see `sample_sizes`.
        num_test: number of test rows; see `sample_sizes`.
        factors_as: how the metric uses factors: ``"classes"`` (int64, several rows per class), ``"classes or numbers"``
            (see `by_kind`), or ``"numbers"`` (float64).

    Raises:
        TypeError, ValueError: See `check_tables`, `draw_rows` and `check_classes`.

    Example:
        >>> sample = draw_sample(np.eye(6)[:, :1], np.arange(6) % 2, Protocol(), seed=0, num_train=4)
        >>> sample.latents.shape, len(sample.train), len(sample.test), sample.factors.dtype
        ((6, 1), 4, 2, dtype('int64'))
    """
    latents, factors = check_tables(latents, factors, integer_factors=factors_as == "classes")
    kept = kept_latents(latents, protocol)
    continuous = np.zeros(factors.shape[1], bool)
    if factors_as == "classes or numbers":
        factors, continuous = by_kind(factors)
    rng = np.random.default_rng(seed)
    sizes = sample_sizes(len(latents), protocol, num_train, num_test)
    train, test = draw_rows(len(latents), sizes, rng, with_replacement=protocol.with_replacement)
    if factors_as != "numbers":
        check_classes(factors[train][:, ~continuous])
    return Sample(latents if kept.all() else latents[:, kept], factors, continuous, train, test, rng, kept)


def sample_sizes(
    num_rows: int, preset: str | Protocol = "default", num_train: int | None = None, num_test: int | None = None
) -> tuple[int, int]:
    """Return the numbers of training and test rows, by default 10,000 and 5,000.

    If rows are drawn without replacement and the table has fewer than 15,000 rows, the defaults are two thirds and one
    third of its rows.

    Raises:
        ValueError: Unknown preset, or a size is not a positive integer.

    Example:
        >>> sample_sizes(900), sample_sizes(900, "dlib"), sample_sizes(900, num_test=50)
        ((600, 300), (10000, 5000), (600, 50))
    """
    enough = choose(preset).with_replacement or num_rows >= NUM_TRAIN + NUM_TEST
    defaults = (NUM_TRAIN, NUM_TEST) if enough else (max(2 * num_rows // 3, 1), max(num_rows // 3, 1))
    train = defaults[0] if num_train is None else check_whole("num_train", num_train, 1)
    test = defaults[1] if num_test is None else check_whole("num_test", num_test, 1)
    return train, test
