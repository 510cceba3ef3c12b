"""Writes a page that shows a data set: one slider for each factor, and the image of the chosen values."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from betavae.data.description import describe, shown_values
from betavae.data.factor_data import FactorData
from betavae.files.atomic import write_atomically
from betavae.report.pages.image_uri import data_uri
from betavae.report.pages.templates import policy_hash, read_asset, render_page

MOST_IMAGES = 1_024
"""Largest number of images in a page."""
_LARGEST_SIDE = 96
_FEWEST_FOUND = 0.25
"""Smallest share of combinations of the sliders' values that have an image."""


def write_data_page(data: FactorData, path: Path, num_images: int = MOST_IMAGES) -> Path:
    """Write a self-contained page with a slider for each factor.

    The page has at most ``num_images`` images. If the data have more, each slider has some of the values, evenly
    spaced. Data without factors, with continuous ones, or of which few combinations exist, have one slider for the
    images.

    Args:
        data: images and factors.
        path: file to write.
        num_images: largest number of images.
    """
    sliders, rows = _chosen(data, num_images)
    sheet, columns, side = _sheet(data, rows)
    script = read_asset("data.js")
    page = render_page(
        "data.html",
        title=data.name,
        described=describe(data),
        sliders=sliders,
        sheet=sheet,
        side=side,
        script=script,
        script_hash=policy_hash(script),
        page_data={"sizes": [len(slider["values"]) for slider in sliders], "columns": columns, "rows": rows.tolist()},
    )
    return write_atomically(path, page.encode())


def _chosen(data: FactorData, num_images: int) -> tuple[list[dict[str, Any]], NDArray[np.int64]]:
    """The sliders, and the row of the image of each combination of their values; -1 if there is no such image."""
    if not data.factor_names or any(data.continuous):
        return _one_slider(data, num_images)
    kept = _numbers_of_values(data.factor_sizes, num_images)
    indices = [
        np.unique(np.linspace(0, size - 1, count).round().astype(np.int64))
        for size, count in zip(data.factor_sizes, kept, strict=True)
    ]
    sliders = []
    for k, (name, index) in enumerate(zip(data.factor_names, indices, strict=True)):
        values = shown_values(data, k)
        sliders.append({"name": name, "values": [values[i] for i in index], "total": len(values)})
    rows = data.find(np.array(list(itertools.product(*indices)), np.int64))
    return (sliders, rows) if np.mean(rows >= 0) >= _FEWEST_FOUND else _one_slider(data, num_images)


def _one_slider(data: FactorData, num_images: int) -> tuple[list[dict[str, Any]], NDArray[np.int64]]:
    """A slider for the images, and their rows."""
    rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), num_images)).astype(np.int64))
    return [{"name": "image", "values": [f"{row:,}" for row in rows], "total": len(data)}], rows


def _numbers_of_values(sizes: Sequence[int], most: int) -> list[int]:
    """Numbers of values of the factors whose product is at most ``most``; large factors lose values first.

    Example:
        >>> _numbers_of_values((3, 6, 40, 32, 32), 1024)
        [3, 4, 4, 4, 5]
    """
    kept = list(sizes)
    while math.prod(kept) > most and max(kept) > 1:
        kept[kept.index(max(kept))] -= 1
    return kept


def _sheet(data: FactorData, rows: NDArray[np.int64]) -> tuple[str, int, tuple[int, int]]:
    """One picture of all images as a data URI, its number of columns, and width and height of an image."""
    _, height, width = data.image_shape
    scale = min(1.0, _LARGEST_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    columns = math.ceil(math.sqrt(len(rows)))
    colour = data.image_shape[0] == 3
    sheet = Image.new("RGB" if colour else "L", (columns * size[0], math.ceil(len(rows) / columns) * size[1]))
    for place, row in enumerate(rows.tolist()):
        if row < 0:
            continue
        pixels = (data.images([row])[0] * np.uint8(255 // data.max_value)).transpose(1, 2, 0)
        image = Image.fromarray(np.ascontiguousarray(pixels if colour else pixels[:, :, 0]))
        corner = place % columns * size[0], place // columns * size[1]
        sheet.paste(image if scale == 1 else image.resize(size, Image.Resampling.LANCZOS), corner)
    stream = io.BytesIO()
    sheet.save(stream, "jpeg" if colour else "png", **({"quality": 90} if colour else {"optimize": True}))
    return data_uri(stream.getvalue(), "jpeg" if colour else "png"), columns, size
