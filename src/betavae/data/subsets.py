"""Training on less than all combinations of the factors: combinations held out, and correlated factors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from betavae.data.factor_data import FactorData
from betavae.files.conditions import Combined, Comparison, parse_condition, parse_correlation
from betavae.files.validation import nearest

Values = NDArray[np.float64]


def held_out_mask(data: FactorData, conditions: Sequence[str]) -> NDArray[np.bool_]:
    """Mark the images (N,) that match at least one of the conditions.

    A condition compares a factor with the values in `FactorData.value_labels`: a number, or the name of a class.
    Classes with names may also be given by their number, from 0. Numbers have a relative tolerance of 1e-6.

    Args:
        data: the data set.
        conditions: conditions as in `betavae.files.conditions`.

    Raises:
        ValueError: a condition cannot be read; a factor or value does not exist; a condition matches no image; or all
            images match.

    Example:
        >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.int32)
        >>> data = FactorData("dots", np.zeros((4, 1), np.uint8), (1, 2, 2), 1, factors, ("x", "y"), (2, 2))
        >>> held_out_mask(data, ["x = 1 & y > 0"])
        array([False, False, False,  True])
    """
    mask = np.zeros(len(data), bool)
    for text in conditions:
        matches = _matches(data, parse_condition(text))
        if not matches.any():
            raise ValueError(f"hold_out {text!r} matches no image of {data.name}; {_describe(data)}")
        mask |= matches
    if mask.all():
        raise ValueError(
            f"hold_out {' | '.join(conditions)!r} matches all {len(data):,} images of {data.name}, so none remain for "
            "training; hold out less"
        )
    return mask


def seen_rows(data: FactorData, conditions: Sequence[str]) -> NDArray[np.int64] | None:
    """Rows of the images that match no condition; None without conditions. Raises as `held_out_mask`."""
    return np.flatnonzero(~held_out_mask(data, conditions)) if conditions else None


def correlation_weights(
    data: FactorData, correlations: Sequence[str], rows: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Weights of images (len(rows),) under which pairs of factors are correlated; None without correlations.

    The weight is exp(-(a - b)² / (2 σ²)), with both factors scaled to [0, 1]. Weights of several pairs are multiplied.
    Factors without numbers, such as shape, are scaled by their index.

    Source:
        On Disentangled Representations Learned From Correlated Data (Träuble et al., 2021), equation 1.
        https://arxiv.org/abs/2006.07886

    Args:
        data: the data set.
        correlations: pairs and their σ, such as ``shape~posX:0.1``.
        rows: rows of the images.

    Raises:
        ValueError: a correlation cannot be read, a factor does not exist, or all weights are 0.

    Example:
        >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.int32)
        >>> data = FactorData("dots", np.zeros((4, 1), np.uint8), (1, 2, 2), 1, factors, ("x", "y"), (2, 2))
        >>> correlation_weights(data, ["x~y:0.5"], np.arange(4)).round(3)
        array([1.   , 0.135, 0.135, 1.   ])
    """
    if not correlations:
        return None
    exponent = np.zeros(len(rows))
    for text in correlations:
        first, second, width = parse_correlation(text)
        a, b = (_scaled(data, name)[data.factors[rows, _factor(data, name)]] for name in (first, second))
        exponent += ((a - b) / width) ** 2 / 2
    weights: NDArray[np.float64] = np.exp(-exponent)
    if not weights.any():
        raise ValueError(
            f"under the correlations {', '.join(correlations)}, the weights of all {len(rows):,} training images are "
            "0; increase the widths, or hold out less"
        )
    return weights


def _matches(data: FactorData, condition: Comparison | Combined) -> NDArray[np.bool_]:
    if isinstance(condition, Comparison):
        factor = _factor(data, condition.factor)
        matches: NDArray[np.bool_] = _chosen_values(data, factor, condition)[data.factors[:, factor]]
        return matches
    parts = [_matches(data, part) for part in condition.conditions]
    combined: NDArray[np.bool_] = np.logical_and.reduce(parts) if condition.all_hold else np.logical_or.reduce(parts)
    return combined


def _factor(data: FactorData, name: str) -> int:
    """The column of a factor."""
    if name not in data.factor_names:
        known = ", ".join(data.factor_names) or "none"
        hint = nearest(name, data.factor_names) or ";"
        raise ValueError(f"{data.name} has no factor {name!r}{hint} its factors: {known}")
    return data.factor_names.index(name)


def _chosen_values(data: FactorData, factor: int, condition: Comparison) -> NDArray[np.bool_]:
    """Mark the values of a factor (size,) for which a comparison holds."""
    labels = data.value_labels()[factor]
    named = [str(label) for label in labels] if any(isinstance(label, str) for label in labels) else []
    values = np.arange(len(labels), dtype=float) if named or condition.by_index else np.array(labels, float)
    if condition.value in named and not condition.by_index:
        number = float(named.index(condition.value))
        if condition.comparison not in ("=", "!="):
            raise ValueError(
                f"{condition.factor} has names, which have no order, so {condition.comparison} {condition.value} says "
                "nothing; use = or !=, or the number of the class"
            )
    else:
        number = _number(data, condition, named, labels)
    equal = np.isclose(values, number, rtol=1e-6, atol=1e-9)
    if condition.comparison in ("=", "!=") and not equal.any():
        raise ValueError(_no_such_value(data, condition, named or list(map(_short, labels))))
    chosen: dict[str, NDArray[np.bool_]] = {
        "=": equal,
        "!=": ~equal,
        "<": (values < number) & ~equal,
        "<=": (values < number) | equal,
        ">": (values > number) & ~equal,
        ">=": (values > number) | equal,
    }
    return chosen[condition.comparison]


def _number(data: FactorData, condition: Comparison, named: list[str], labels: Sequence[float | str]) -> float:
    try:
        return float(condition.value)
    except ValueError:
        raise ValueError(_no_such_value(data, condition, named or list(map(_short, labels)))) from None


def _no_such_value(data: FactorData, condition: Comparison, known: list[str]) -> str:
    what = f"index({condition.factor})" if condition.by_index else condition.factor
    if condition.by_index:
        return f"{data.name} has no {what} {condition.value}; it goes from 0 to {len(known) - 1}"
    shown = ", ".join(known[:12]) + (f", ... {known[-1]}" if len(known) > 12 else "")
    hint = nearest(condition.value, known) or ";"
    return f"{data.name} has no {what} {condition.value!r}{hint} its values: {shown}"


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def _describe(data: FactorData) -> str:
    """The factors and the ends of their values, for error messages."""
    ends = [
        f"{name} "
        + (", ".join(map(_short, labels)) if len(labels) < 5 else " to ".join(map(_short, labels[:: len(labels) - 1])))
        for name, labels in zip(data.factor_names, data.value_labels(), strict=True)
    ]
    return "its factors: " + "; ".join(ends)


def _scaled(data: FactorData, name: str) -> Values:
    """The values of a factor (size,), scaled to [0, 1]."""
    labels = data.value_labels()[_factor(data, name)]
    numbers = not any(isinstance(label, str) for label in labels)
    values = np.array(labels, float) if numbers else np.arange(len(labels), dtype=float)
    spread = values.max() - values.min()
    scaled: Values = (values - values.min()) / (spread or 1.0)
    return scaled
