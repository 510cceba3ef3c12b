"""Scores of two tables as plain values, what scores.json keeps of them, and what that says of each latent."""

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
    latents: NDArray[Any],
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
    """Score latents of any model: `metrics.evaluate` as plain values, with what it warned of under "notes".

    Args:
        latents: (N, D) latents.
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
                latents,
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
    fitted, tested = metrics.sample_sizes(len(latents), preset, num_train, num_test)
    protocol = {
        "betavae": metadata.version("betavae"),
        "preset": preset,
        "seed": seed,
        "evaluations": repeats,
        "rows": len(latents),
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


def capture_phrases(scores: dict[str, Any]) -> list[str]:
    """For each factor the latents that capture it, in words: "posX: z6 (60 %)", "shape: not captured"."""
    captures = [capture | {"strength": undefined_as_nan(capture["strength"])} for capture in scores.get("captures", [])]
    return [metrics.describe_captures([metrics.Capture(**capture)]) for capture in captures]


def undefined_as_nan(value: float | None) -> float:
    """A number as JSON has it: JSON has no ``nan``, so ``null`` stands for it.

    Example:
        >>> undefined_as_nan(None), undefined_as_nan(0.5)
        (nan, 0.5)
    """
    return math.nan if value is None else value


def strengths(scores: Mapping[str, Any], latent_dim: int) -> list[list[tuple[str, float]]]:
    """For each latent the factors that it captures, with the share of the factor's entropy that it tells.

    Args:
        scores: as in scores.json; empty where there are none.
        latent_dim: latents of the model.

    Example:
        >>> captures = [{"factor": "posX", "kind": "captured", "latents": [1], "strength": 0.8}]
        >>> strengths({"captures": captures}, 2)
        [[], [('posX', 0.8)]]
    """
    arrays = scores.get("arrays", {})
    information, entropies = arrays.get("mig.mutual_information"), arrays.get("mig.factor_entropy")
    found: list[list[tuple[str, float]]] = [[] for _ in range(latent_dim)]
    for k, capture in enumerate(scores.get("captures", [])):
        for latent in capture["latents"]:
            share = information[latent][k] / entropies[k] if information and entropies[k] else capture["strength"]
            found[latent].append((capture["factor"], min(share, 1.0)))
    return [sorted(factors, key=lambda factor: -factor[1]) for factors in found]


def captured_factors(scores: Mapping[str, Any], latent_dim: int) -> list[str]:
    """Names of the factors that each latent captures, the strongest first, joined by commas.

    Example:
        >>> captures = [{"factor": "posX", "kind": "captured", "latents": [1], "strength": 0.8}]
        >>> captured_factors({"captures": captures}, 2)
        ['', 'posX']
    """
    return [", ".join(factor for factor, _ in latent) for latent in strengths(scores, latent_dim)]


def information_shares(scores: dict[str, Any], kl: Sequence[float]) -> dict[str, list[float]]:
    """For each latent, the largest KL first, the share of each factor's entropy that it tells; empty without scores."""
    arrays = scores.get("arrays", {})
    if not kl or "mig.mutual_information" not in arrays:
        return {}
    entropies = np.array(arrays["mig.factor_entropy"], float)
    shares = np.array(arrays["mig.mutual_information"], float) / np.where(entropies > 0, entropies, 1)
    return {f"z{latent}": shares[latent].clip(0, 1).tolist() for latent in np.argsort(-np.array(kl), kind="stable")}
