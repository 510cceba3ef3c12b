"""Presets: which rows are drawn, which codes count, and how information is estimated."""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from betavae.metrics.inputs import active_codes, check_name, check_tables, check_whole

NUM_TRAIN: Final = 10_000
NUM_TEST: Final = 5_000


@dataclass(frozen=True)
class Protocol:
    """Everything that published protocols disagree about. Every metric takes one, or the name of one, as `preset`.

    Attributes:
        with_replacement: draw rows with replacement; training and test rows may then coincide.
        bias_correction: correct entropies by Miller and Madow.
        drop_inactive: leave out inactive codes, by the rule of `active_codes`.
        paired_fairness: set a factor of the *same* rows to each value, where the table holds all of these rows.
        min_std: standard deviation that a code needs to take part in the FactorVAE vote; if `None`, codes take part
            that are active.
        irs_reference: quantile of the deviations from the overall mean in IRS; if `None`, that of the others.
        irs_bins: bins of the factors in IRS; if `None`, factors are not binned.
        infomec_rule: which codes InfoMEC keeps, one of `RULES`.
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
"""``default``: disjoint rows, corrected information, active codes. ``dlib``: the protocol of disentanglement_lib."""


def choose(preset: str | Protocol, **given: Any) -> Protocol:
    """Look up a preset, and replace what is given and not `None`.

    Raises:
        ValueError: Unknown preset.

    Example:
        >>> choose("dlib", bias_correction=True).with_replacement, choose("dlib", bias_correction=None).bias_correction
        (True, False)
    """
    if not isinstance(preset, Protocol):
        check_name("preset", preset, PRESETS)
        preset = PRESETS[preset]
    return replace(preset, **{name: value for name, value in given.items() if value is not None})


def prepare(
    codes: np.ndarray, factors: np.ndarray, protocol: Protocol, *, integer_factors: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Check the two tables, and leave out inactive codes where the protocol says so and any code is active.

    Raises:
        TypeError, ValueError: See `check_tables`.

    Example:
        >>> prepare(np.array([[0.0, 5.0], [1.0, 5.0]]), np.array([[0], [1]]), Protocol())[0].shape
        (2, 1)
    """
    codes, factors = check_tables(codes, factors, integer_factors=integer_factors)
    if protocol.drop_inactive and (active := active_codes(codes)).any() and not active.all():
        codes = codes[:, active]
    return codes, factors


def sample_sizes(
    num_rows: int, preset: str | Protocol = "default", num_train: int | None = None, num_test: int | None = None
) -> tuple[int, int]:
    """Rows to fit and rows to test on: what is given, otherwise 10,000 and 5,000.

    If a table has fewer than 15,000 rows, and rows are drawn without replacement, the defaults are two thirds and one
    third of its rows.

    Raises:
        ValueError: Unknown preset, or a size is not a positive whole number.

    Example:
        >>> sample_sizes(900), sample_sizes(900, "dlib"), sample_sizes(900, num_test=50)
        ((600, 300), (10000, 5000), (600, 50))
    """
    enough = choose(preset).with_replacement or num_rows >= NUM_TRAIN + NUM_TEST
    usual = (NUM_TRAIN, NUM_TEST) if enough else (max(2 * num_rows // 3, 1), max(num_rows // 3, 1))
    train = usual[0] if num_train is None else check_whole("num_train", num_train, 1)
    test = usual[1] if num_test is None else check_whole("num_test", num_test, 1)
    return train, test
