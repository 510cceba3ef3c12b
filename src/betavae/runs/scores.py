"""Scores of two tables as plain values, what scores.json keeps of them, and what that says of each code."""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from betavae import metrics
from betavae.files.validation import check_evaluations
from betavae.metrics.protocol import NUM_TEST, NUM_TRAIN


def score_tables(
    codes: NDArray[Any],
    factors: NDArray[Any],
    names: Sequence[str] = (),
    *,
    preset: str = "default",
    seed: int = 0,
    repeats: int = 5,
    num_train: int | None = None,
    num_test: int | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Score codes of any model: `metrics.evaluate` as plain values, with what it warned of under "notes".

    Args:
        codes: (N, D) codes.
        factors: (N, K) integer factors.
        names: metrics; all that the tables allow where none is named.
        preset: protocol.
        seed: of the evaluation.
        repeats: evaluations, with different seeds.
        num_train: rows to fit; by default as `metrics.sample_sizes` says, with a note where that is fewer than usual.
        num_test: rows to judge, likewise.
        **options: more arguments of `metrics.evaluate`.

    Raises:
        TypeError: a table holds no numbers.
        ValueError: a table is malformed or holds too few rows; an unknown metric or preset; too many evaluations.
    """
    check_evaluations("evaluations", repeats)
    factor_names = options.get("factor_names") or []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            scores = metrics.evaluate(
                codes,
                factors,
                names=names or None,
                preset=preset,
                seed=seed,
                repeats=repeats,
                num_train=num_train,
                num_test=num_test,
                **options,
            )
        except ValueError as error:
            raise ValueError(named(str(error), factor_names)) from error
    fitted, tested = metrics.sample_sizes(len(codes), preset, num_train, num_test)
    protocol = {
        "betavae": metadata.version("betavae"),
        "preset": preset,
        "seed": seed,
        "evaluations": repeats,
        "rows": len(codes),
        "num_train": fitted,
        "num_test": tested,
    }
    values = scores.to_json()
    notes = [named(str(warning.message), factor_names) for warning in caught]
    if num_train is num_test is None and (fitted, tested) != (NUM_TRAIN, NUM_TEST):
        notes.insert(0, f"{fitted:,} rows to fit and {tested:,} to judge: there are no more")
    values |= {"protocol": protocol, "notes": notes}
    return values


def named(note: str, names: Sequence[str]) -> str:
    """A note of the metrics, which know factors by number, with their names.

    Example:
        >>> named("factor 1 does not vary", ["shape", "scale"])
        'scale does not vary'
    """
    return re.sub(r"\bfactor (\d+)", lambda found: names[int(found[1])] if names else found[0], note)


def carrier_phrases(scores: dict[str, Any]) -> list[str]:
    """For each factor the codes that carry it, in words: "posX: z6 (60 %)", "shape: not found"."""
    carriers = [carrier | {"strength": undefined_as_nan(carrier["strength"])} for carrier in scores.get("carriers", [])]
    return [metrics.describe_carriers([metrics.Carrier(**carrier)]) for carrier in carriers]


def undefined_as_nan(value: float | None) -> float:
    """A number as JSON has it: JSON has no ``nan``, so ``null`` stands for it.

    Example:
        >>> undefined_as_nan(None), undefined_as_nan(0.5)
        (nan, 0.5)
    """
    return math.nan if value is None else value


def strengths(scores: Mapping[str, Any], num_codes: int) -> list[list[tuple[str, float]]]:
    """For each code the factors that it carries, with the share of the factor's entropy that it tells.

    Args:
        scores: as in scores.json; empty where there are none.
        num_codes: codes of the model.

    Example:
        >>> carriers = [{"factor": "posX", "kind": "carried", "codes": [1], "strength": 0.8}]
        >>> strengths({"carriers": carriers}, 2)
        [[], [('posX', 0.8)]]
    """
    arrays = scores.get("arrays", {})
    information, entropies = arrays.get("mig.mutual_information"), arrays.get("mig.factor_entropy")
    found: list[list[tuple[str, float]]] = [[] for _ in range(num_codes)]
    for k, carrier in enumerate(scores.get("carriers", [])):
        for code in carrier["codes"]:
            share = information[code][k] / entropies[k] if information and entropies[k] else carrier["strength"]
            found[code].append((carrier["factor"], min(share, 1.0)))
    return [sorted(factors, key=lambda factor: -factor[1]) for factors in found]


def carried_factors(scores: Mapping[str, Any], num_codes: int) -> list[str]:
    """For each code the names of the factors that it carries, the strongest first, joined; empty where there are none.

    Example:
        >>> carriers = [{"factor": "posX", "kind": "carried", "codes": [1], "strength": 0.8}]
        >>> carried_factors({"carriers": carriers}, 2)
        ['', 'posX']
    """
    return [", ".join(factor for factor, _ in code) for code in strengths(scores, num_codes)]


def information_shares(scores: dict[str, Any], kl: Sequence[float]) -> dict[str, list[float]]:
    """For each code, the largest KL first, the share of each factor's entropy that it tells; empty without scores."""
    arrays = scores.get("arrays", {})
    if not kl or "mig.mutual_information" not in arrays:
        return {}
    entropies = np.array(arrays["mig.factor_entropy"], float)
    shares = np.array(arrays["mig.mutual_information"], float) / np.where(entropies > 0, entropies, 1)
    return {f"z{code}": shares[code].clip(0, 1).tolist() for code in np.argsort(-np.array(kl), kind="stable")}
