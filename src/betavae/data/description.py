"""Describes a data set: its factors, whether the grid is complete, equal images, and what limits the scores."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from betavae.data.catalogue import CATALOGUE, verdict
from betavae.data.factor_data import FactorData
from betavae.data.loading import split_source
from betavae.data.prepared.fingerprints import checksums
from betavae.data.prepared.image_file import ImageFile
from betavae.data.registry import DATASETS
from betavae.metrics.ceilings import accuracy_ceiling, score_ceilings

_SHOWN = 8
_MOST_FILES = 20


def describe(data: FactorData) -> list[tuple[str, str]]:
    """Rows of a table that describes a data set: what, and the text.

    Example:
        >>> data = FactorData.from_arrays(np.zeros((4, 8, 8)), [[0, 0], [0, 1], [1, 0], [1, 1]], ["x", "y"])
        >>> dict(describe(data))["grid"]
        'complete: each of the 4 combinations occurs once'
    """
    channels, height, width = data.image_shape
    kind = "black and white" if data.max_value == 1 else "grey" if channels == 1 else "colour"
    numbers = data.image_numbers()
    distinct = int(numbers.max()) + 1
    rows = [
        ("size", f"{len(data):,} images of {width}x{height} pixels, {kind}"),
        ("memory", _memory(data)),
        ("distinct images", f"{distinct:,}" if distinct < len(data) else "all"),
    ]
    for k, name in enumerate(data.factor_names):
        rows.append((f"factor {name}", factor_text(data, k)))
    for name, column in data.labels.items():
        rows.append((f"label {name}", f"{len(np.unique(column)):,} values; not a factor"))
    if not data.factor_names:
        return [*rows, ("factors", "none: a run reports the KL and held-out terms, but no scores")]
    rows.append(("grid", _grid(data)))
    if distinct < len(data) and not any(data.continuous):
        accuracies = accuracy_ceiling(data.factors, numbers)
        limits = [
            f"{name} {accuracy:.4f}"
            for name, accuracy in zip(data.factor_names, accuracies, strict=True)
            if accuracy < 1 - 1e-9
        ]
        ceilings = score_ceilings(data.factors, numbers)
        rows.append(("best accuracy", ", ".join(limits) or "1 for every factor"))
        rows.append(("highest MIG", f"{ceilings['mig']:.4f}"))
    return rows


def checksum_rows(source: str) -> list[tuple[str, str]]:
    """Rows that compare the files of a source with the known original files; empty for generated data."""
    if source in DATASETS:
        return [("files", "none: the images are generated")]
    name, path = split_source(source)
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    known = {file.name for entry in CATALOGUE.values() for file in entry.files}
    chosen = [file for file in files if path.is_file() or file.name in known][:_MOST_FILES]
    return [(f"file {file.name}", verdict(checksums(file), file.name, name)) for file in chosen]


def factor_text(data: FactorData, k: int) -> str:
    """The number of values of a factor, and some of them."""
    if data.continuous and data.continuous[k]:
        measured = data.factor_values[k]
        return f"continuous, from {measured[0]:.4g} to {measured[-1]:.4g}"
    values = shown_values(data, k)
    middle = values if len(values) <= _SHOWN else [*values[: _SHOWN - 2], "…", values[-1]]
    return f"{len(values):,} values: {', '.join(middle)}"


def shown_values(data: FactorData, k: int) -> list[str]:
    """The values of a factor as text."""
    return [f"{value:.4g}" if isinstance(value, float) else str(value) for value in data.value_labels()[k]]


def _grid(data: FactorData) -> str:
    if any(data.continuous):
        return "none: there are continuous factors, which only some metrics take"
    combinations = math.prod(data.factor_sizes)
    keys, _ = data.index
    present = int(np.count_nonzero(np.diff(keys))) + 1
    if present == combinations == len(data):
        return f"complete: each of the {combinations:,} combinations occurs once"
    most = int(np.diff([*np.flatnonzero(np.diff(keys, prepend=-1)), len(keys)]).max())
    often = "once" if most == 1 else f"up to {most:,} times"
    return f"{present:,} of {combinations:,} combinations occur, each {often}"


def _memory(data: FactorData) -> str:
    if isinstance(data.packed, ImageFile):
        return f"{math.prod(data.packed.shape) / 1e6:,.1f} MB on disk, little in memory"
    return f"{data.packed.nbytes / 1e6:,.1f} MB"


def source_size(path: Path) -> int:
    """Number of bytes of a file or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
