"""Figures: arrays in, a matplotlib `Figure` or a list of Pillow frames out.

Nothing here knows a model, a data set or a run. Images are (n, C, H, W) with C 1 or 3 and values in [0, 1]; codes are
(N, D); KL divergences are in nats. Codes are called z0, z1, ... by their index and, wherever they stand in a row, are
sorted by their KL, the most informative first. A code below `DEAD_NATS` counts as dead and is drawn in grey.

One style throughout: the colour-blind safe palette of Okabe and Ito for lines, viridis for ordered values. Figures are
built with matplotlib's object interface, so neither pyplot's state nor the user's rcParams change.
"""

import gc
import io
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, StrMethodFormatter
from PIL import Image, ImageDraw, ImageFont

from betavae.files import write_atomically
from betavae.metrics.inputs import DEAD_NATS

Decode = Callable[[np.ndarray], np.ndarray]
"""From codes (n, D) float32 to images (n, C, H, W) in [0, 1]."""

BLUE, VERMILLION, _PURPLE = "#0072B2", "#D55E00", "#CC79A7"
INK, _GREY, _PALE, _FAINT = "#24292F", "#7A838D", "#C6CCD3", "#E4E7EB"
_DPI = 160
_CELL = 0.5  # inches of one image in a mosaic
_MAX_CODES = 20  # shown in a traversal grid, an animation or a strip plot; beyond that it is unreadable
_NIGHT, _SNOW, _TRACK, _ACCENT = (13, 17, 23), (236, 240, 245), (64, 72, 84), (240, 170, 40)
_ANIMATED_COLUMNS, _ANIMATED_PIXELS = 5, 128  # cells in a row of an animation; a cell's width, as nearly as it may be
_FRAME_MILLISECONDS = 60
_LEVELS = 16  # of anti-aliased text in a GIF
_LEVEL_HEADING = 11  # letters that stand above a column of a matrix without touching the next


def loss_curves(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Total loss, reconstruction and rate against the training step, for training and validation.

    The training curve is drawn thin, with its moving average (a fiftieth of the run) over it. Loss and reconstruction
    have a logarithmic axis, for they fall from thousands of nats to tens; where a value is not positive (a Gaussian
    likelihood can be negative) the axis is linear and leaves out the first steps.

    Args:
        records: Lines of a curve file: `step`, `split` ("train" or "validation"), `loss`, `reconstruction` and `rate`
            in nats; optional `capacity_nats` and `total_correlation`, drawn beside the rate.

    Returns:
        A figure of three panels.

    Raises:
        ValueError: There is no record.

    Example:
        >>> line = {"split": "train", "loss": 90.0, "reconstruction": 75.0, "rate": 15.0}
        >>> figure = loss_curves([{"step": step, **line} for step in range(3)])
        >>> [axes.get_title() for axes in figure.axes]
        ['Loss', 'Reconstruction', 'Rate']
    """
    if not records:
        raise ValueError("no training records to draw: pass the lines of a curve file, at least one")
    figure = Figure(figsize=(11, 3.4), dpi=_DPI, layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, title in zip(panels, ("Loss", "Reconstruction", "Rate"), strict=True):
        style_axes(axes, title, "step", "nats")
        key = title.lower()
        drawn = []
        for split, colour in (("train", BLUE), ("validation", VERMILLION)):
            steps, values = _series(records, split, key)
            if split == "train" and len(values) > 20:
                smooth = _moving_average(values, len(values) // 50)
                axes.plot(steps, values, color=colour, linewidth=0.5, alpha=0.35)
                axes.plot(steps, smooth, color=colour, linewidth=1.6, label=split)
            elif len(values):
                marker = "o" if len(values) < 20 else ""
                axes.plot(steps, values, color=colour, linewidth=1.4, marker=marker, markersize=3, label=split)
            drawn.append(values)
        if key == "rate":
            for extra, label, style in (
                ("capacity_nats", "capacity", {"color": INK, "linestyle": (0, (4, 2))}),
                ("total_correlation", "total correlation", {"color": _PURPLE, "alpha": 0.8}),
            ):
                steps, values = _series(records, "train", extra)
                if len(values):
                    axes.plot(steps, values, linewidth=1.2, label=label, **style)
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        else:
            _loss_axis(axes, np.concatenate(drawn))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        if axes.lines:
            axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure


def reconstructions(originals: np.ndarray, reconstructed: np.ndarray, *, columns: int = 10) -> Figure:
    """Originals with the reconstruction of each right below it.

    Args:
        originals: Images (n, C, H, W) in [0, 1].
        reconstructed: The model's mean images, of the same shape.
        columns: Images in a row.

    Returns:
        A figure with ceil(n / columns) pairs of rows.

    Raises:
        ValueError: The two differ in shape, hold no image, or are not images in [0, 1].

    Example:
        >>> images = np.zeros((3, 1, 8, 8))
        >>> figure = reconstructions(images, images)
    """
    above, below = _pixels(originals, "originals"), _pixels(reconstructed, "reconstructions")
    if above.shape != below.shape:
        raise ValueError(
            f"originals have shape {originals.shape} and reconstructions {reconstructed.shape}: "
            "pass one reconstruction for each original"
        )
    columns = min(columns, len(above))
    starts = range(0, len(above), columns)
    down, pitch = _pitch(above)
    margin, block = 1.15, 2 * down + 0.1
    figure = Figure(figsize=(margin + columns * pitch, len(starts) * block - 0.1), dpi=_image_dpi(above))
    for row, start in enumerate(starts):
        pair = np.stack([above[start : start + columns], below[start : start + columns]])
        _place(figure, pair, margin, row * block)
        for line, (name, colour) in enumerate((("original", INK), ("reconstruction", BLUE))):
            _text(figure, margin - 0.08, row * block + line * down + _tall(above) / 2, name, ha="right", color=colour)
    return figure


def traversal_grid(
    original: np.ndarray,
    reconstruction: np.ndarray,
    traversals: np.ndarray,
    values: np.ndarray,
    *,
    kl: np.ndarray | None = None,
    carries: Sequence[str] = (),
) -> Figure:
    """One image decoded again and again while one code at a time takes other values.

    Rows are codes sorted by KL (at most 20, the rest is counted below), columns are values of the code.

    Args:
        original: The seed image (C, H, W) in [0, 1].
        reconstruction: Its reconstruction, of the same shape.
        traversals: Decoded images (D, steps, C, H, W); see `traverse`.
        values: What the code of the row is set to in each column (steps,).
        kl: KL of each code (D,) in nats, for order and labels; without it the codes stay in their order.
        carries: For each code the factor it carries, "" where it carries none.

    Returns:
        A figure with the original and its reconstruction left of the grid.

    Raises:
        ValueError: The arrays do not fit together or are not images in [0, 1].

    Example:
        >>> image = np.zeros((1, 8, 8))
        >>> figure = traversal_grid(image, image, np.zeros((4, 3, 1, 8, 8)), np.array([-1, 0, 1]))
    """
    rows = _traversed(traversals)
    num_codes, steps = rows.shape[:2]
    if len(values) != steps:
        raise ValueError(f"traversals have {steps} steps but there are {len(values)} values: pass one value a step")
    labels, flat = _labels(num_codes, carries), _tall(rows) < 0.8 * _CELL
    if kl is not None and flat:  # too little room for two lines
        labels = [f"{label}, {nats:.2f} nats" for label, nats in zip(labels, kl, strict=True)]
    order, shown = _order(kl, num_codes), min(num_codes, _MAX_CODES)
    beside = _pixels(np.stack([original, reconstruction]), "original and reconstruction")
    side, head, (down, pitch), tall = 1.0, 0.3, _pitch(rows), _tall(rows)
    names = max(1.45, 0.2 + 0.085 * max(map(len, labels)))  # a bold character of 9 points is 0.085 inches wide
    left = side + names
    height = head + max(shown * down, 2 * (tall + 0.5)) + 0.28
    figure = Figure(figsize=(left + steps * pitch + 0.04, height), dpi=_image_dpi(beside))
    for row, (image, name) in enumerate(zip(beside, ("original", "reconstruction"), strict=True)):
        top = head + (tall + 0.4) * row
        _place(figure, image[None, None], (side - _CELL) / 2, top)
        _text(figure, side / 2, top + tall + 0.13, name, ha="center", size=8)
    _place(figure, rows[order[:shown]], left, head)
    for row, code in enumerate(order[:shown]):
        top = head + row * down + (tall - _CELL) / 2
        dead = kl is not None and kl[code] < DEAD_NATS
        name_top = top + (_CELL / 2 if kl is None or flat else 0.16)
        _text(figure, left - 0.1, name_top, labels[code], ha="right", color=_GREY if dead else INK, weight="bold")
        if kl is not None and not flat:
            _text(figure, left - 0.1, top + 0.34, f"{kl[code]:.2f} nats", ha="right", color=_GREY, size=8)
    every = max(1, -(-steps // 13))
    for column in range(0, steps, every):
        text = f"{values[column]:+.2g}".replace("-", "−") if values[column] else "0"
        _text(figure, left + column * pitch + _CELL / 2, head - 0.12, text, ha="center", size=8)
    foot = "value of the code, the others as encoded"
    if num_codes > shown:
        foot += f"; {num_codes - shown} codes of less KL are not shown"
    _text(figure, left, head + shown * down + 0.12, foot, ha="left", color=_GREY, size=8)
    return figure


def importance_heatmap(
    importance: np.ndarray,
    factor_names: Sequence[str],
    code_labels: Sequence[str] = (),
    *,
    per_code: Mapping[str, np.ndarray] | None = None,
    per_factor: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """A matrix of codes and factors as colours with the number in each cell.

    Args:
        importance: (D, K), at least 0; any matrix of codes and factors will do. NaN is drawn as an empty cell.
        factor_names: K names.
        code_labels: D labels, "z0", "z1", ... if not given. Rows stay in the order given.
        per_code: Named columns (D,) to the right of the matrix, such as the disentanglement of each code, in [0, 1].
        per_factor: Named rows (K,) below the matrix, such as the completeness of each factor, in [0, 1].

    Returns:
        A figure with one row a code and one column a factor.

    Raises:
        ValueError: The sizes do not fit together.

    Example:
        >>> figure = importance_heatmap(np.eye(2), ("scale", "posX"), per_factor={"completeness": np.ones(2)})
        >>> [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
        ['scale', 'posX']
    """
    matrix = np.asarray(importance, dtype=float)
    if matrix.ndim != 2 or matrix.shape[1] != len(factor_names):
        raise ValueError(
            f"the matrix has shape {matrix.shape} but there are {len(factor_names)} factor names: pass (codes, factors)"
        )
    rows, columns = matrix.shape
    labels = list(code_labels) or _labels(rows, ())
    right, below = per_code or {}, per_factor or {}
    for name, values, size in [(n, v, rows) for n, v in right.items()] + [(n, v, columns) for n, v in below.items()]:
        if len(values) != size:
            raise ValueError(f"{name!r} has {len(values)} values where the matrix has {size}: pass one for each")
    widths, heights = [columns, max(len(right), 0.01)], [rows, max(len(below), 0.01)]
    longest = max(map(len, map(plain, factor_names)))
    slanted = longest if longest > _LEVEL_HEADING else 0
    names = max(map(len, map(plain, [*labels, *below])))
    figure = Figure(
        figsize=(
            max(2.2, 0.8 + 0.075 * names) + 0.85 * sum(widths) + 0.03 * slanted,
            1.2 + 0.32 * sum(heights) + 0.045 * slanted,
        ),
        dpi=_DPI,
        layout=ConstrainedLayoutEngine(w_pad=0.08),
    )
    grid = figure.add_gridspec(2, 2, width_ratios=widths, height_ratios=heights)
    top = float(np.nanmax(matrix, initial=1e-12))
    _cells(figure.add_subplot(grid[0, 0]), matrix, factor_names, labels, "Blues", top, bool(slanted))
    if right:
        table = np.column_stack(list(right.values()))
        _cells(figure.add_subplot(grid[0, 1]), table, list(right), (), "Greys", 2.2, bool(slanted))
    if below:
        _cells(figure.add_subplot(grid[1, 0]), np.stack(list(below.values())), (), list(below), "Greys", 2.2)
    figure.suptitle("Importance of each code for each factor", fontsize=11, color=INK, fontweight="bold")
    return figure


def factor_strips(
    codes: np.ndarray,
    factors: np.ndarray,
    factor_names: Sequence[str],
    *,
    factor_values: Mapping[str, Sequence[float | str]] | None = None,
    kl: np.ndarray | None = None,
    num_points: int = 2_500,
    seed: int = 0,
) -> Figure:
    """For each factor, every code's values coloured by the factor's value.

    A code that carries the factor shows a colour gradient from bottom to top; one that knows nothing of it shows all
    colours mixed.

    Args:
        codes: Posterior means (N, D).
        factors: Indices of the factors' values (N, K).
        factor_names: K names.
        factor_values: By factor name, the real value (or its name) of each index, for the colour bar.
        kl: KL of each code (D,) in nats: codes are sorted by it and dead ones drawn in grey.
        num_points: Rows drawn, at random without replacement.
        seed: Seed of the choice of rows and of the horizontal jitter.

    Returns:
        A figure with one panel a factor; the points are rasterised in PDF and SVG.

    Raises:
        ValueError: The tables do not fit together, or hold no row or no factor.

    Example:
        >>> figure = factor_strips(np.zeros((4, 2)), np.array([[0], [1], [0], [1]]), ["scale"])
        >>> figure.axes[0].get_title()
        'scale'
    """
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or len(codes) == 0:
        raise ValueError(
            f"codes {codes.shape} and factors {factors.shape} must be tables of the same rows, one or more"
        )
    if factors.shape[1] != len(factor_names) or not len(factor_names):
        raise ValueError(f"factors have {factors.shape[1]} columns but there are {len(factor_names)} factor names")
    generator = np.random.default_rng(seed)
    rows = generator.permutation(len(codes))[:num_points]
    order = _order(kl, codes.shape[1])[:_MAX_CODES]
    dead = kl[order] < DEAD_NATS if kl is not None else np.zeros(len(order), dtype=bool)
    places = np.arange(len(order)) + generator.uniform(-0.36, 0.36, (len(rows), len(order)))
    heights = codes[np.ix_(rows, order)]
    num_factors = len(factor_names)
    across = num_factors if num_factors < 4 else 2 if num_factors == 4 else 3
    down = -(-num_factors // across)
    panel = max(3.7, 0.8 + 0.24 * len(order))
    figure = Figure(figsize=(panel * across, 3.1 * down), dpi=130, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for axes, name, column in zip(panels, factor_names, factors.T, strict=False):
        style_axes(axes, name, "code" if kl is None else "code, sorted by KL", "mean of the code")
        size = int(column.max()) + 1
        scale = ScalarMappable(Normalize(-0.5, size - 0.5), matplotlib.colormaps["viridis"].resampled(size))
        colours = scale.to_rgba(column[rows], alpha=0.55)
        live = ~dead
        axes.scatter(places[:, dead], heights[:, dead], s=3, color=_PALE, linewidths=0, rasterized=True)
        repeated = np.repeat(colours, int(live.sum()), axis=0)
        axes.scatter(places[:, live], heights[:, live], s=5, c=repeated, linewidths=0, rasterized=True)
        axes.set_xticks(range(len(order)), [f"z{code}" for code in order])
        for tick, is_dead in zip(axes.get_xticklabels(), dead, strict=True):
            tick.set_color(_GREY if is_dead else INK)
        if len(order) > 12:
            axes.tick_params(axis="x", labelsize=7, labelrotation=60)
        axes.tick_params(labelleft=True)
        bar = figure.colorbar(scale, ax=axes, pad=0.02, aspect=28)
        bar.outline.set_visible(False)
        places_on_bar, texts = _ticks((factor_values or {}).get(name, range(size)), size)
        bar.set_ticks(places_on_bar, labels=texts)
        bar.ax.tick_params(labelsize=8, length=2, colors=INK)
    for axes in panels[num_factors:]:
        axes.set_axis_off()
    if codes.shape[1] > len(order):
        figure.suptitle(f"the {len(order)} codes of most KL, of {codes.shape[1]}", fontsize=9, color=_GREY)
    return figure


def kl_per_code(kl: np.ndarray, carries: Sequence[str] = ()) -> Figure:
    """KL divergence of each code from the prior, in nats, as sorted bars; dead codes in grey.

    Args:
        kl: Mean over the data (D,) in nats.
        carries: For each code the factor it carries, "" where it carries none.

    Returns:
        A figure with one bar a code.

    Raises:
        ValueError: There is no code, or `carries` has another length.

    Example:
        >>> figure = kl_per_code(np.array([0.0, 3.1]), ("", "posX"))
        >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        ['z1 · posX', 'z0']
    """
    if np.ndim(kl) != 1 or len(kl) == 0:
        raise ValueError(f"kl has shape {np.shape(kl)}: pass one value for each code")
    order, labels = _order(kl, len(kl)), _labels(len(kl), carries)
    figure = Figure(figsize=(6.2, 1.0 + 0.27 * len(kl)), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    style_axes(axes, f"KL per code: {np.sum(kl):.1f} nats in all", "nats", "")
    colours = [BLUE if kl[code] >= DEAD_NATS else _GREY for code in order]
    bars = axes.barh(range(len(kl)), kl[order], color=colours, height=0.72)
    axes.bar_label(bars, [f"{kl[code]:.2f}" for code in order], padding=3, fontsize=8, color=INK)
    axes.set_yticks(range(len(kl)), [plain(labels[code]) for code in order])
    axes.set_ylim(len(kl) - 0.4, -0.6)
    axes.set_xlim(0, 1.12 * max(float(np.nanmax(kl)), DEAD_NATS))
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=_FAINT, linewidth=0.7)
    return figure


def traverse(decode: Decode, code: np.ndarray, values: np.ndarray, *, batch: int = 256) -> np.ndarray:
    """Images decoded from one image's code with one entry at a time set to other values.

    Args:
        decode: From codes (n, D) float32 to images (n, C, H, W) in [0, 1].
        code: The code of the image (D,).
        values: What to set the entries to, (steps,) for all codes alike or (D, steps).
        batch: Codes decoded at a time.

    Returns:
        Images (D, steps, C, H, W).

    Example:
        >>> decode = lambda codes: codes[:, :1, None, None]
        >>> traverse(decode, np.array([0.5, 0.0]), np.array([0.0, 1.0])).ravel()
        array([0. , 1. , 0.5, 0.5], dtype=float32)
    """
    num_codes = len(code)
    values = np.broadcast_to(values, (num_codes, np.shape(values)[-1]))
    table = np.tile(np.asarray(code, dtype=np.float32), (num_codes, values.shape[1], 1))
    which = np.arange(num_codes)
    table[which, :, which] = values
    flat = table.reshape(-1, num_codes)
    images = np.concatenate([decode(flat[start : start + batch]) for start in range(0, len(flat), batch)])
    return images.reshape(*table.shape[:2], *images.shape[1:])


def traversal_frames(images: np.ndarray, values: np.ndarray, label: str, *, size: int = 192) -> list[Image.Image]:
    """Frames of one code's traversal, there and back without a doubled end, each with a caption.

    Args:
        images: Decoded images (steps, C, H, W) in [0, 1].
        values: The code's value in each (steps,).
        label: Name of the code and of what it carries, such as "z3 · posX".
        size: Width of the frame in pixels, reached as nearly as a whole factor allows.

    Returns:
        2 * steps - 2 palette images (1 where there is one step) for `save_gif`.

    Raises:
        ValueError: There is not one value for each image, or they are not images in [0, 1].

    Example:
        >>> frames = traversal_frames(np.zeros((3, 1, 64, 64)), np.array([-3, 0, 3]), "z0")
        >>> len(frames), frames[0].size
        (4, (192, 230))
    """
    if len(images) != len(values):
        raise ValueError(f"there are {len(images)} images and {len(values)} values: pass one value for each image")
    indices, palette = _indexed(_pixels(images, "images"))
    indices = _enlarge(indices, size)
    width = indices.shape[2]
    places = np.linspace(0, 1, len(values))
    frames = [
        np.vstack([image, len(palette) + _caption(width, label, f"{value:+.2f}".replace("-", "−"), place)])
        for image, value, place in zip(indices, values, places, strict=True)
    ]
    return _there_and_back([_paletted(frame, palette) for frame in frames])


def traversal_animation(
    traversals: np.ndarray,
    *,
    kl: np.ndarray | None = None,
    carries: Sequence[str] = (),
) -> list[Image.Image]:
    """Frames of one animated grid in which every code moves at once, there and back.

    Of more than 20 codes the 20 of most KL are shown.

    Args:
        traversals: Decoded images (D, steps, C, H, W) in [0, 1]; see `traverse`.
        kl: KL of each code (D,) in nats; cells are sorted by it, dead codes have a dim label.
        carries: For each code the factor it carries, "" where it carries none.

    Returns:
        2 * steps - 2 palette images (1 where there is one step) for `save_gif`.

    Raises:
        ValueError: The arrays do not fit together or are not images in [0, 1].

    Example:
        >>> len(traversal_animation(np.zeros((3, 5, 1, 64, 64)), carries=("posX", "", "scale")))
        8
    """
    rows = _traversed(traversals)
    num_codes, steps = rows.shape[:2]
    order, labels = _order(kl, num_codes)[:_MAX_CODES], _labels(num_codes, carries)
    indices, palette = _indexed(rows[order].reshape(-1, *rows.shape[2:]))
    cells = _enlarge(indices, _ANIMATED_PIXELS)
    cells = cells.reshape(len(order), steps, *cells.shape[1:])
    height, width = cells.shape[2:]
    columns = min(_ANIMATED_COLUMNS, len(order))
    gap, strip = 10, _caption(width, "", "", 0.0).shape[0]
    down = -(-len(order) // columns)
    canvas = np.full((gap + down * (height + strip + gap), gap + columns * (width + gap)), len(palette), np.uint8)
    frames = []
    for step in range(steps):
        place = step / (steps - 1) if steps > 1 else 0.5
        for cell, code in enumerate(order):
            dead = kl is not None and kl[code] < DEAD_NATS
            y, x = gap + cell // columns * (height + strip + gap), gap + cell % columns * (width + gap)
            canvas[y : y + height, x : x + width] = cells[cell, step]
            caption = _caption(width, labels[code], "", place, dim=dead)
            canvas[y + height : y + height + strip, x : x + width] = len(palette) + caption
        frames.append(_paletted(canvas.copy(), palette))
    return _there_and_back(frames)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure as PNG, PDF or SVG, by the ending of the path, atomically.

    Figures drawn alike give the same bytes: no date is written; text in a PDF is TrueType, as journals ask.

    Args:
        figure: What to write.
        path: Where to, in a folder that exists; a file there is replaced.

    Returns:
        The path.

    Raises:
        ValueError: The ending is none of .png, .pdf, .svg.

    Example:
        >>> import tempfile
        >>> save_figure(kl_per_code(np.ones(2)), Path(tempfile.mkdtemp()) / "kl.svg").name
        'kl.svg'
    """
    path = Path(path)
    undated = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    if path.suffix not in undated:
        raise ValueError(f"cannot write a figure as {path.name!r}: end the name in one of {', '.join(undated)}")
    memory = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "betavae"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # drawn as a box; the report has the name
        figure.savefig(memory, format=path.suffix[1:], facecolor="white", metadata=undated[path.suffix])
    return write_atomically(path, memory.getvalue())


def save_gif(frames: Sequence[Image.Image], path: str | os.PathLike[str]) -> Path:
    """Writes frames as a GIF that loops for ever, atomically.

    Args:
        frames: Images of one size; palette images, which give the smallest files, must share one palette.
        path: Where to, in a folder that exists; a file there is replaced.

    Returns:
        The path.

    Raises:
        ValueError: There is no frame.

    Example:
        >>> import tempfile
        >>> frames = traversal_frames(np.zeros((3, 1, 8, 8)), np.arange(3), "z0")
        >>> save_gif(frames, Path(tempfile.mkdtemp()) / "z0.gif").name
        'z0.gif'
    """
    if not frames:
        raise ValueError("no frames to write: pass at least one image")
    memory = io.BytesIO()
    first, *rest = frames
    palette = bytes(first.getpalette() or b"") or None  # one for all frames, else each would carry its own
    options = {"duration": _FRAME_MILLISECONDS, "loop": 0, "optimize": True, "palette": palette}
    first.save(memory, "GIF", save_all=True, append_images=rest, **options)
    return write_atomically(path, memory.getvalue())


def draw_all(
    folder: str | os.PathLike[str],
    *,
    decode: Decode,
    seed_images: np.ndarray,
    seed_codes: np.ndarray,
    code_mean: np.ndarray,
    code_std: np.ndarray,
    kl: np.ndarray,
    carries: Sequence[str] = (),
    records: Sequence[Mapping[str, Any]] = (),
    codes: np.ndarray | None = None,
    factors: np.ndarray | None = None,
    factor_names: Sequence[str] = (),
    factor_values: Mapping[str, Sequence[float | str]] | None = None,
    importance: np.ndarray | None = None,
    per_code: Mapping[str, np.ndarray] | None = None,
    per_factor: Mapping[str, np.ndarray] | None = None,
    num_traversed: int = 5,
    steps: int = 21,
    formats: Sequence[str] = ("png",),
) -> list[Path]:
    """Draws all figures of a run into a folder; what has no data (records, factors, importance) is not there.

    Files: `loss_curves`, `reconstructions`, `kl_per_code`, `factor_strips`, `importance`, `traversal_grid_S` for each
    traversed seed image S, `traversals.gif` (all codes of the first seed image in one animation), and
    `traversals/seedS_zD_fixed.gif` (-3 to 3) and `..._fitted.gif` (mean +-2 standard deviations) for each code D, in
    the order of KL.

    Args:
        folder: Where to; made if missing, files of the same names are replaced.
        decode: From codes (n, D) float32 to images (n, C, H, W) in [0, 1].
        seed_images: Images (S, C, H, W) in [0, 1]; all are reconstructed, the first `num_traversed` traversed.
        seed_codes: Their posterior means (S, D).
        code_mean: Mean of each code over the data (D,).
        code_std: Standard deviation of each code over the data (D,).
        kl: KL of each code (D,) in nats.
        carries: For each code the factor it carries, "" where it carries none.
        records: Lines of the curve file; see `loss_curves`.
        codes: Posterior means (N, D) for the strip plots.
        factors: Factor indices (N, K) of the same rows.
        factor_names: K names.
        factor_values: By factor name, the real value of each index.
        importance: (D, K), rows in the order of the codes.
        per_code: Named values (D,) beside the importance.
        per_factor: Named values (K,) beside the importance.
        num_traversed: How many seed images are traversed.
        steps: Values in a traversal.
        formats: Endings of the still figures: any of "png", "pdf", "svg".

    Returns:
        The files written, in the order drawn.

    Raises:
        ValueError: The arrays do not fit together.
    """
    if seed_images.ndim != 4 or len(seed_images) != len(seed_codes) or seed_codes.shape[1:] != kl.shape:
        raise ValueError(
            f"seed images {seed_images.shape}, seed codes {seed_codes.shape} and kl {kl.shape} do not fit together: "
            "pass (S, C, H, W), (S, D) and (D,)"
        )
    if isinstance(formats, str) or not set(formats := tuple(formats)) <= {"png", "pdf", "svg"}:
        raise ValueError(f"formats is {formats!r}; it must be a list of png, pdf and svg")
    folder = Path(folder)
    (folder / "traversals").mkdir(parents=True, exist_ok=True)
    labels, order = _labels(len(kl), carries), _order(kl, len(kl))
    columns = np.linspace(-3, 3, 13)
    fixed = np.tile(np.linspace(-3, 3, steps), (len(kl), 1))
    fitted = code_mean[:, None] + np.linspace(-2, 2, steps) * code_std[:, None]
    rebuilt = decode(seed_codes.astype(np.float32))
    written: list[Path] = []

    def keep(figure: Figure, name: str) -> None:
        written.extend(save_figure(figure, folder / f"{name}.{ending}") for ending in formats)
        gc.collect(1)  # what was drawn on, 13 MB for a grid, is part of a cycle of references

    if records:
        keep(loss_curves(records), "loss_curves")
    keep(reconstructions(seed_images, rebuilt), "reconstructions")
    keep(kl_per_code(kl, carries), "kl_per_code")
    if codes is not None and factors is not None and len(factor_names):
        keep(factor_strips(codes, factors, factor_names, factor_values=factor_values, kl=kl), "factor_strips")
    if importance is not None:
        beside = {name: values[order] for name, values in (per_code or {}).items()}
        ordered = [labels[code] for code in order]
        keep(
            importance_heatmap(importance[order], factor_names, ordered, per_code=beside, per_factor=per_factor),
            "importance",
        )
    for seed in range(min(num_traversed, len(seed_images))):
        for interval, values in (("fitted", fitted), ("fixed", fixed)):
            images = traverse(decode, seed_codes[seed], values)
            for code in order:
                path = folder / "traversals" / f"seed{seed}_z{code}_{interval}.gif"
                written.append(save_gif(traversal_frames(images[code], values[code], labels[code]), path))
            if interval == "fitted" and seed == 0:
                written.append(save_gif(traversal_animation(images, kl=kl, carries=carries), folder / "traversals.gif"))
        images = traverse(decode, seed_codes[seed], columns)
        grid = traversal_grid(seed_images[seed], rebuilt[seed], images, columns, kl=kl, carries=carries)
        keep(grid, f"traversal_grid_{seed}")
    for name in {"loss_curves", "factor_strips", "importance"} - {path.stem for path in written}:
        for ending in ("png", "pdf", "svg"):
            (folder / f"{name}.{ending}").unlink(missing_ok=True)  # of scores or codes that are no more
    return written


def plain(text: str, longest: int = 40) -> str:
    """A name as matplotlib shows it: cut where it is very long, and no formula where it has dollars.

    Example:
        >>> plain("price in $ or US$")
        'price in \\\\$ or US\\\\$'
    """
    cut = text if len(text) <= longest else text[: longest - 1].rstrip(" ·,") + "…"
    return cut.replace("$", r"\$")


def style_axes(
    axes: Axes, title: str, xlabel: str = "", ylabel: str = "", *, grid: Literal["x", "y"] = "y", longest: int = 34
) -> None:
    """Title, labels, ticks and spines as in all figures, and lines across one axis; the title is cut if need be."""
    axes.set_title(plain(title, longest), fontsize=11, color=INK, fontweight="bold", loc="center")
    axes.set_xlabel(xlabel, fontsize=9, color=INK)
    axes.set_ylabel(ylabel, fontsize=9, color=INK)
    axes.tick_params(labelsize=8.5, colors=INK, color=_GREY, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)
    axes.grid(axis=grid, color=_FAINT, linewidth=0.7)
    axes.set_axisbelow(True)


def _series(records: Sequence[Mapping[str, Any]], split: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and finite values of one quantity."""
    pairs = [(r["step"], r[key]) for r in records if r["split"] == split and r.get(key) is not None]
    steps, values = np.array(pairs, dtype=float).reshape(-1, 2).T
    finite = np.isfinite(values)
    return steps[finite], values[finite]


def _moving_average(values: np.ndarray, half: int) -> np.ndarray:
    """Mean over a centred window; narrow at the start, not to bend the first fall, and one-sided at the end."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    before = np.minimum(half, index)
    after = np.minimum(before, len(values) - 1 - index)
    return np.asarray((sums[index + after + 1] - sums[index - before]) / (before + after + 1))


def _loss_axis(axes: Axes, values: np.ndarray) -> None:
    if len(values) == 0:
        return
    if values.min() > 0:
        axes.set_yscale("log")
        axes.set_ylabel(f"{axes.get_ylabel()}, log scale")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
        axes.minorticks_off()
        return
    low, high = values.min(), np.quantile(values, 0.97)
    margin = 0.05 * max(high - low, 1.0)
    axes.set_ylim(low - margin, high + margin)


def _cells(
    axes: Axes,
    matrix: np.ndarray,
    columns: Sequence[str],
    rows: Sequence[str],
    colormap: str,
    top: float,
    slanted: bool = False,
) -> None:
    axes.imshow(matrix, cmap=colormap, vmin=0, vmax=top, aspect="auto")
    for (row, column), value in np.ndenumerate(matrix):
        text = "–" if np.isnan(value) else f"{value:.2f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if value > 0.6 * top else INK)
    axes.set_xticks(range(matrix.shape[1]) if columns else [], [*map(plain, columns)], fontsize=9, color=INK)
    axes.set_yticks(range(matrix.shape[0]) if rows else [], [*map(plain, rows)], fontsize=9, color=INK)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    if slanted:
        for heading in axes.get_xticklabels():
            heading.set(rotation=35, ha="left", rotation_mode="anchor")
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(1, matrix.shape[1]) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, matrix.shape[0]) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)


def _ticks(values: Sequence[float | str], size: int) -> tuple[list[float], list[str]]:
    """Places on a scale of indices, with their labels: all of up to 6 values, else round numbers in their range."""
    if size <= 6 or isinstance(values[0], str):
        indices = np.unique(np.linspace(0, size - 1, min(size, 6)).round().astype(int))
        chosen = [values[index] for index in indices]
        return indices.tolist(), [value if isinstance(value, str) else f"{value:.3g}" for value in chosen]
    numbers = np.asarray(values[:size], dtype=float)
    whole = bool((numbers == np.round(numbers)).all())
    marks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 9, 10], integer=whole).tick_values(numbers.min(), numbers.max())
    marks = marks[(marks >= numbers.min()) & (marks <= numbers.max())]
    order = np.argsort(numbers)
    return np.interp(marks, numbers[order], np.arange(size)[order]).tolist(), [f"{mark:.3g}" for mark in marks]


def _labels(num_codes: int, carries: Sequence[str]) -> list[str]:
    if carries and len(carries) != num_codes:
        raise ValueError(
            f"carries names {len(carries)} codes where there are {num_codes}: pass one text a code, or none"
        )
    return [
        f"z{code} · {carried}" if carried else f"z{code}" for code, carried in enumerate(carries or [""] * num_codes)
    ]


def _order(kl: np.ndarray | None, num_codes: int) -> np.ndarray:
    """Codes sorted by KL, the largest first; in their own order where there is none."""
    if kl is None:
        return np.arange(num_codes)
    if np.shape(kl) != (num_codes,):
        raise ValueError(f"kl has shape {np.shape(kl)} where there are {num_codes} codes: pass one value for each")
    return np.argsort(-np.asarray(kl), kind="stable")


def _pixels(images: np.ndarray, name: str) -> np.ndarray:
    """Images (n, C, H, W) in [0, 1] as bytes (n, H, W, C), checked."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.size == 0:
        raise ValueError(
            f"{name} have shape {images.shape}: pass (n, C, H, W) with 1 or 3 channels and at least 1 image"
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{name} range from {low:.3g} to {high:.3g}: pass values in [0, 1], that is, bytes divided by their maximum"
        )
    return np.moveaxis((images * np.float32(255) + np.float32(0.5)).astype(np.uint8), 1, -1)


def _traversed(traversals: np.ndarray) -> np.ndarray:
    """Traversals (D, steps, C, H, W) in [0, 1] as bytes (D, steps, H, W, C), checked."""
    if traversals.ndim != 5:
        raise ValueError(f"traversals have shape {traversals.shape}: pass (codes, steps, C, H, W)")
    pixels = _pixels(traversals.reshape(-1, *traversals.shape[2:]), "traversals")
    return pixels.reshape(*traversals.shape[:2], *pixels.shape[1:])


def _image_dpi(pixels: np.ndarray) -> float:
    """A resolution at which each pixel of an image covers a whole number of dots, about 128 dots an image."""
    width = pixels.shape[-2]
    return float(max(1, round(128 / width)) * width / _CELL)


def _gap(width: int) -> int:
    """Pixels between two images of a mosaic."""
    return max(1, width // 16)


def _tall(pixels: np.ndarray) -> float:
    """Height of an image of a mosaic in inches, for images (..., H, W, C)."""
    return float(_CELL * pixels.shape[-3] / pixels.shape[-2])


def _pitch(pixels: np.ndarray) -> tuple[float, float]:
    """Inches from one image of a mosaic to the next below and to the next beside it, for images (..., H, W, C)."""
    gap = _CELL * _gap(pixels.shape[-2]) / pixels.shape[-2]
    return _tall(pixels) + gap, _CELL + gap


def _place(figure: Figure, images: np.ndarray, left: float, top: float) -> None:
    """Draws images (rows, columns, H, W, C) as one mosaic, `left` and `top` inches from the figure's upper left."""
    rows, columns, height, width, channels = images.shape
    gap = _gap(width)
    mosaic = np.full((rows, height + gap, columns, width + gap, channels), 255, dtype=np.uint8)
    mosaic[:, :height, :, :width] = images.transpose(0, 2, 1, 3, 4)
    mosaic = mosaic.reshape(rows * (height + gap), columns * (width + gap), channels)[:-gap, :-gap]
    down, across = (_CELL / width * pixels for pixels in mosaic.shape[:2])
    full_width, full_height = figure.get_size_inches()
    axes = figure.add_axes((left / full_width, 1 - (top + down) / full_height, across / full_width, down / full_height))
    # One channel takes less memory than three that are equal; colours ignore the map.
    axes.imshow(mosaic, "gray", aspect="auto", vmin=0, vmax=255, interpolation="nearest", interpolation_stage="data")
    axes.set_axis_off()


def _text(figure: Figure, x: float, y: float, text: str, *, size: float = 9, color: str = INK, **style: Any) -> None:
    """Text at `x`, `y` inches from the figure's upper left corner."""
    width, height = figure.get_size_inches()
    figure.text(x / width, 1 - y / height, plain(text, 80), va="center", fontsize=size, color=color, **style)


def _indexed(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, H, W, C) of bytes as indices (n, H, W) into one palette (colours, 3) of at most 64 colours."""
    if pixels.shape[-1] == 1:
        return pixels[..., 0] >> 3, np.linspace(0, 255, 32).round().astype(np.uint8)[:, None].repeat(3, axis=1)
    tall = Image.fromarray(pixels.reshape(-1, *pixels.shape[2:]))
    reduced = tall.quantize(64, dither=Image.Dither.NONE)
    palette = np.array(reduced.getpalette(), dtype=np.uint8).reshape(-1, 3)[:64]
    return np.asarray(reduced).reshape(pixels.shape[:3]), palette


def _enlarge(indices: np.ndarray, size: int) -> np.ndarray:
    """Every pixel of (n, H, W) repeated so that the width comes near `size`."""
    factor = max(1, round(size / indices.shape[2]))
    return indices.repeat(factor, axis=1).repeat(factor, axis=2)


def _paletted(indices: np.ndarray, palette: np.ndarray) -> Image.Image:
    """A palette image of the image's colours, followed by those of the caption."""
    ramp = np.linspace(_NIGHT, _SNOW, _LEVELS).round().astype(np.uint8)
    frame = Image.fromarray(indices)
    frame.putpalette(np.vstack([palette, ramp, [_TRACK, _ACCENT]]).astype(np.uint8).tobytes())
    return frame


def _caption(width: int, left: str, right: str, place: float, *, dim: bool = False) -> np.ndarray:
    """A strip (38, width) under a frame: label, value, and a slider with its knob at `place` of the way.

    Entries count from the end of the image's colours: 0 to 15 from night to snow, 16 the track, 17 the accent.
    """
    height = 38
    strip = Image.new("L", (width, height))
    draw = ImageDraw.Draw(strip)
    font = _font(14)
    room = width - 8 - (font.getlength(right) + 8 if right else 0)
    draw.text((4, 5), _fitting(left, room, font), fill=110 if dim else 255, font=font)
    draw.text((width - 4, 5), right, fill=200, font=font, anchor="ra")
    entries = np.asarray(strip) >> 4
    entries[29:31, 6 : width - 6] = _LEVELS
    knob = 6 + round(place * (width - 12 - 10))
    entries[26:34, knob : knob + 10] = _LEVELS + (0 if dim else 1)
    return entries


def _fitting(text: str, room: float, font: ImageFont.FreeTypeFont) -> str:
    """The text, cut with an ellipsis where it is too long."""
    for kept in range(len(text), 0, -1):
        cut = text if kept == len(text) else text[:kept].rstrip(" ·") + "…"
        if font.getlength(cut) <= room:
            return cut
    return ""


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _there_and_back(frames: list[Image.Image]) -> list[Image.Image]:
    return frames + frames[-2:0:-1]
