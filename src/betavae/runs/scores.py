"""Computes the contents of scores.json, and derives from them which latents capture which factors."""

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
from betavae.metrics.undefined import MetricSkipped


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
    """Score the latents of any model with `metrics.evaluate`; returns plain values, with its warnings as "notes" and
    the metrics that cannot be computed, with the reasons, as "skipped".

    Args:
        latents: latents (N, D).
        factors: integer factors (N, K).
        names: metrics. If empty, all that can be computed from the tables.
        preset: protocol, see `metrics.evaluate`.
        seed: seed of the evaluation.
        repeats: number of evaluations with different seeds.
        num_train: rows to train the metrics' predictors. If None, as `metrics.sample_sizes`; a note reports if these
            are fewer than usual.
        num_test: rows to test them; likewise.
        **options: further arguments of `metrics.evaluate`.

    Raises:
        TypeError: a table does not contain numbers.
        ValueError: a table is malformed or has too few rows, a metric or the preset is unknown, or there are too many
            evaluations.
    """
    check_evaluations("evaluations", repeats)
    factor_names = options.get("factor_names") or []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            scores = metrics.evaluate(
                latents,
                factors,
                metrics=names or None,
                preset=preset,
                seed=seed,
                repeats=repeats,
                num_train=num_train,
                num_test=num_test,
                **options,
            )
        except ValueError as error:
            raise ValueError(name_factors(str(error), factor_names)) from error
    train_rows, test_rows = metrics.sample_sizes(len(latents), preset, num_train, num_test)
    protocol = {
        "betavae": metadata.version("betavae"),
        "preset": preset,
        "seed": seed,
        "evaluations": repeats,
        "rows": len(latents),
        "num_train": train_rows,
        "num_test": test_rows,
    }
    values = scores.to_json()
    skipped = {
        warning.message.metric: name_factors(warning.message.reason, factor_names)
        for warning in caught
        if isinstance(warning.message, MetricSkipped)
    }
    notes = [
        name_factors(str(warning.message), factor_names)
        for warning in caught
        if not isinstance(warning.message, MetricSkipped)
    ]
    if num_train is num_test is None and (train_rows, test_rows) != (NUM_TRAIN, NUM_TEST):
        notes.insert(0, f"{train_rows:,} training rows and {test_rows:,} test rows: the table has no more")
    values |= {"protocol": protocol, "notes": notes, "skipped": skipped}
    return values


def notes_of(scores: Mapping[str, Any]) -> list[str]:
    """The notes of scores.json, and a sentence for each metric that was left out."""
    skipped = scores.get("skipped", {})
    return [*scores.get("notes", []), *(f"{metric} is left out: {reason}" for metric, reason in skipped.items())]


def name_factors(note: str, names: Sequence[str]) -> str:
    """Replace the factor numbers in a note of the metrics by the factor names.

    Example:
        >>> name_factors("factor 1 does not vary", ["shape", "scale"])
        'scale does not vary'
    """
    return re.sub(r"\bfactor (\d+)", lambda match: names[int(match[1])] if names else match[0], note)


def capture_phrases(scores: dict[str, Any]) -> list[str]:
    """For each factor, the latents that capture it as text: "posX: z6 (60 %)", "shape: not captured"."""
    captures = [capture | {"strength": undefined_as_nan(capture["strength"])} for capture in scores.get("captures", [])]
    return [metrics.describe_captures([metrics.Capture(**capture)]) for capture in captures]


def undefined_as_nan(value: float | None) -> float:
    """Convert the ``null`` that stands for an undefined number in JSON to ``nan``.

    Example:
        >>> undefined_as_nan(None), undefined_as_nan(0.5)
        (nan, 0.5)
    """
    return math.nan if value is None else value


def combination_rows(combinations: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """The rows of a table of `compare_combinations`: what is measured, on seen and on unseen combinations.

    Example:
        >>> part = {"images": 5, "reconstruction": 30.0, "accuracy": {"shape": 0.9}, "mean_accuracy": 0.9}
        >>> combination_rows({"seen": part, "unseen": part})[:2]
        [('reconstruction', 30.0, 30.0), ('accuracy', 0.9, 0.9)]
    """
    if not combinations:
        return []
    seen, unseen = combinations["seen"], combinations["unseen"]
    rows = [("reconstruction", seen["reconstruction"], unseen["reconstruction"])]
    if "accuracy" in seen and "accuracy" in unseen:
        rows.append(("accuracy", seen["mean_accuracy"], unseen["mean_accuracy"]))
        rows += [
            (f"accuracy of {name}", value, unseen["accuracy"].get(name)) for name, value in seen["accuracy"].items()
        ]
    return rows


def strengths(scores: Mapping[str, Any], latent_dim: int) -> list[list[tuple[str, float]]]:
    """For each latent, the factors that it captures and the fraction of each factor's entropy that it explains.

    Args:
        scores: contents of scores.json; may be empty.
        latent_dim: number of latents of the model.

    Example:
        >>> captures = [{"factor": "posX", "kind": "captured", "latents": [1], "strength": 0.8}]
        >>> strengths({"captures": captures}, 2)
        [[], [('posX', 0.8)]]
    """
    arrays = scores.get("arrays", {})
    information, entropies = arrays.get("mig.mutual_information"), arrays.get("mig.factor_entropy")
    captured: list[list[tuple[str, float]]] = [[] for _ in range(latent_dim)]
    for k, capture in enumerate(scores.get("captures", [])):
        for latent in capture["latents"]:
            fraction = information[latent][k] / entropies[k] if information and entropies[k] else capture["strength"]
            captured[latent].append((capture["factor"], min(fraction, 1.0)))
    return [sorted(factors, key=lambda factor: -factor[1]) for factors in captured]


def captured_factors(scores: Mapping[str, Any], latent_dim: int) -> list[str]:
    """For each latent, the names of the factors that it captures, strongest first, joined by commas.

    Example:
        >>> captures = [{"factor": "posX", "kind": "captured", "latents": [1], "strength": 0.8}]
        >>> captured_factors({"captures": captures}, 2)
        ['', 'posX']
    """
    return [", ".join(factor for factor, _ in latent) for latent in strengths(scores, latent_dim)]


def information_shares(scores: dict[str, Any], kl: Sequence[float]) -> dict[str, list[float]]:
    """For each latent, in descending order of KL, the fraction of each factor's entropy that it explains.

    Empty if there are no scores.
    """
    arrays = scores.get("arrays", {})
    if not kl or "mig.mutual_information" not in arrays:
        return {}
    entropies = np.array(arrays["mig.factor_entropy"], float)
    fractions = np.array(arrays["mig.mutual_information"], float) / np.where(entropies > 0, entropies, 1)
    return {f"z{latent}": fractions[latent].clip(0, 1).tolist() for latent in np.argsort(-np.array(kl), kind="stable")}
