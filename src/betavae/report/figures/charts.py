"""Draws charts: functions from arrays to a matplotlib `Figure`.

The functions do not depend on a model, a data set or a run. Latents are (N, D), and KL divergences are in nats. Latents
are named z0, z1, ... by their index and sorted by KL, the largest first. A latent whose KL is below `INACTIVE_NATS` is
inactive and grey.

All charts use the colour-blind safe palette of Okabe and Ito for lines, and viridis for ordered values. They are built
with matplotlib's object interface, so they change neither pyplot's state nor the user's rcParams.
"""

import io
import os
import warnings
from collections.abc import Mapping, Sequence
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

from betavae.files.atomic import write_atomically
from betavae.metrics.inputs import INACTIVE_NATS
from betavae.report.latent_meaning import latent_name
from betavae.report.pages.line_chart import moving_average, series

BLUE, VERMILLION, _PURPLE = "#0072B2", "#D55E00", "#CC79A7"
INK, GREY, _PALE, _FAINT = "#24292F", "#7A838D", "#C6CCD3", "#E4E7EB"
_DPI = 160
MAX_LATENTS = 20  # shown in a traversal grid, an animation or a strip plot; beyond that it is unreadable
_LEVEL_HEADING = 11  # letters that stand above a column of a matrix without touching the next


def loss_curves(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the loss, the reconstruction loss and the KL (rate) against the training step.

    The training curve is thin, and its moving average over a fiftieth of the run is thick. Loss and reconstruction loss
    have a logarithmic axis, because they fall from thousands of nats to tens. If a value is not positive, as a Gaussian
    likelihood allows, the axis is linear and leaves out the first steps.

    Args:
        records: Records of a curve file: `step`, `split` ("train" or "validation"), `loss`, `reconstruction` and `rate`
            in nats; optionally `capacity_nats` and `total_correlation`, which are drawn with the rate.

    Returns:
        A figure with three panels.

    Raises:
        ValueError: There are no records.

    Example:
        >>> line = {"split": "train", "loss": 90.0, "reconstruction": 75.0, "rate": 15.0}
        >>> figure = loss_curves([{"step": step, **line} for step in range(3)])
        >>> [axes.get_title() for axes in figure.axes]
        ['Loss', 'Reconstruction', 'Rate']
    """
    if not records:
        raise ValueError("there are no training records: pass at least one record of a curve file")
    figure = Figure(figsize=(11, 3.4), dpi=_DPI, layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, title in zip(panels, ("Loss", "Reconstruction", "Rate"), strict=True):
        style_axes(axes, title, "step", "nats")
        key = title.lower()
        drawn = []
        for split, colour in (("train", BLUE), ("validation", VERMILLION)):
            steps, values = series(records, split, key)
            if split == "train" and len(values) > 20:
                smooth = moving_average(values, len(values) // 50)
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
                steps, values = series(records, "train", extra)
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


def importance_heatmap(
    importance: np.ndarray,
    factor_names: Sequence[str],
    latent_labels: Sequence[str] = (),
    *,
    per_latent: Mapping[str, np.ndarray] | None = None,
    per_factor: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """Draw a matrix of latents and factors as a heat map with the number in each cell.

    Args:
        importance: Matrix (D, K) of values of at least 0. NaN is drawn as a dash.
        factor_names: Names of the K factors.
        latent_labels: Labels of the D rows; "z0", "z1", ... if empty.
        per_latent: Named columns (D,) to the right of the matrix, in [0, 1], such as the disentanglement of each
            latent.
        per_factor: Named rows (K,) below the matrix, in [0, 1], such as the completeness of each factor.

    Returns:
        A figure with one row per latent and one column per factor.

    Raises:
        ValueError: The sizes do not match.

    Example:
        >>> figure = importance_heatmap(np.eye(2), ("scale", "posX"), per_factor={"completeness": np.ones(2)})
        >>> [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
        ['scale', 'posX']
    """
    matrix = np.asarray(importance, dtype=float)
    if matrix.ndim != 2 or matrix.shape[1] != len(factor_names):
        raise ValueError(
            f"the matrix has shape {matrix.shape} but there are {len(factor_names)} factor names: "
            "pass (latents, factors)"
        )
    rows, columns = matrix.shape
    labels = list(latent_labels) or labels_of(rows, ())
    right, below = per_latent or {}, per_factor or {}
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
    figure.suptitle("Importance of each latent for each factor", fontsize=11, color=INK, fontweight="bold")
    return figure


def factor_strips(
    latents: np.ndarray,
    factors: np.ndarray,
    factor_names: Sequence[str],
    *,
    factor_values: Mapping[str, Sequence[float | str]] | None = None,
    kl: np.ndarray | None = None,
    num_points: int = 2_500,
    seed: int = 0,
) -> Figure:
    """Draw the values of every latent, coloured by the factor's value, with one panel per factor.

    A latent that captures the factor shows a colour gradient from bottom to top. A latent that does not capture it
    shows mixed colours.

    Args:
        latents: Posterior means (N, D).
        factors: Factor indices (N, K).
        factor_names: Names of the K factors.
        factor_values: For each factor name, the value or the label of each index, for the colour bar.
        kl: KL of each latent (D,) in nats. If given, latents are sorted by it, and inactive latents are grey.
        num_points: Number of rows to draw, sampled without replacement.
        seed: Seed of the sample and of the horizontal jitter.

    Returns:
        A figure with one panel per factor. The points are rasterised in PDF and SVG.

    Raises:
        ValueError: The shapes of the tables do not match, or there are no rows or no factors.

    Example:
        >>> figure = factor_strips(np.zeros((4, 2)), np.array([[0], [1], [0], [1]]), ["scale"])
        >>> figure.axes[0].get_title()
        'scale'
    """
    if latents.ndim != 2 or factors.ndim != 2 or len(latents) != len(factors) or len(latents) == 0:
        raise ValueError(
            f"latents {latents.shape} and factors {factors.shape} must be tables of the same rows, one or more"
        )
    if factors.shape[1] != len(factor_names) or not len(factor_names):
        raise ValueError(f"factors have {factors.shape[1]} columns but there are {len(factor_names)} factor names")
    generator = np.random.default_rng(seed)
    rows = generator.permutation(len(latents))[:num_points]
    order = by_kl(kl, latents.shape[1])[:MAX_LATENTS]
    inactive = kl[order] < INACTIVE_NATS if kl is not None else np.zeros(len(order), dtype=bool)
    places = np.arange(len(order)) + generator.uniform(-0.36, 0.36, (len(rows), len(order)))
    heights = latents[np.ix_(rows, order)]
    num_factors = len(factor_names)
    across = num_factors if num_factors < 4 else 2 if num_factors == 4 else 3
    down = -(-num_factors // across)
    panel = max(3.7, 0.8 + 0.24 * len(order))
    figure = Figure(figsize=(panel * across, 3.1 * down), dpi=130, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for axes, name, column in zip(panels, factor_names, factors.T, strict=False):
        style_axes(axes, name, "latent" if kl is None else "latent, sorted by KL", "mean of the latent")
        size = int(column.max()) + 1
        scale = ScalarMappable(Normalize(-0.5, size - 0.5), matplotlib.colormaps["viridis"].resampled(min(size, 256)))
        colours = scale.to_rgba(column[rows], alpha=0.55)
        active = ~inactive
        axes.scatter(places[:, inactive], heights[:, inactive], s=3, color=_PALE, linewidths=0, rasterized=True)
        repeated = np.repeat(colours, int(active.sum()), axis=0)
        axes.scatter(places[:, active], heights[:, active], s=5, c=repeated, linewidths=0, rasterized=True)
        axes.set_xticks(range(len(order)), [f"z{latent}" for latent in order])
        for tick, is_inactive in zip(axes.get_xticklabels(), inactive, strict=True):
            tick.set_color(GREY if is_inactive else INK)
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
    if latents.shape[1] > len(order):
        figure.suptitle(f"the {len(order)} latents with the largest KL, of {latents.shape[1]}", fontsize=9, color=GREY)
    return figure


def kl_per_latent(kl: np.ndarray, captures: Sequence[str] = ()) -> Figure:
    """Draw the KL of each latent as sorted bars. Inactive latents are grey.

    Args:
        kl: KL of each latent, averaged over the data (D,), in nats.
        captures: For each latent, the factor that it captures; "" if it captures none.

    Returns:
        A figure with one bar per latent.

    Raises:
        ValueError: There are no latents, or `captures` has another length.

    Example:
        >>> figure = kl_per_latent(np.array([0.0, 3.1]), ("", "posX"))
        >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        ['z1 · posX', 'z0']
    """
    if np.ndim(kl) != 1 or len(kl) == 0:
        raise ValueError(f"kl has shape {np.shape(kl)}: pass one value for each latent")
    order, labels = by_kl(kl, len(kl)), labels_of(len(kl), captures)
    figure = Figure(figsize=(6.2, 1.0 + 0.27 * len(kl)), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    style_axes(axes, f"KL per latent: {np.sum(kl):.1f} nats in total", "nats", "")
    colours = [BLUE if kl[latent] >= INACTIVE_NATS else GREY for latent in order]
    bars = axes.barh(range(len(kl)), kl[order], color=colours, height=0.72)
    axes.bar_label(bars, [f"{kl[latent]:.2f}" for latent in order], padding=3, fontsize=8, color=INK)
    axes.set_yticks(range(len(kl)), [plain(labels[latent]) for latent in order])
    axes.set_ylim(len(kl) - 0.4, -0.6)
    axes.set_xlim(0, 1.12 * max(float(np.nanmax(kl)), INACTIVE_NATS))
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=_FAINT, linewidth=0.7)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, PDF or SVG, according to the suffix of the path, atomically.

    Equal figures give equal bytes, because no date is written. Text in a PDF is TrueType, as journals require.

    Args:
        figure: Figure to write.
        path: File to write or replace. Its folder must exist.

    Returns:
        The path.

    Raises:
        ValueError: The suffix is not .png, .pdf or .svg.

    Example:
        >>> import tempfile
        >>> save_figure(kl_per_latent(np.ones(2)), Path(tempfile.mkdtemp()) / "kl.svg").name
        'kl.svg'
    """
    path = Path(path)
    undated = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    if path.suffix not in undated:
        raise ValueError(f"cannot write a figure as {path.name!r}: end the name in one of {', '.join(undated)}")
    memory = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "betavae"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # drawn as a box; the report shows the name
        figure.savefig(memory, format=path.suffix[1:], facecolor="white", metadata=undated[path.suffix])
    return write_atomically(path, memory.getvalue())


def plain(text: str, longest: int = 40) -> str:
    """Prepare a name for matplotlib: cut it if it is long, and escape dollar signs, which would start a formula.

    Example:
        >>> plain("price in $ or US$")
        'price in \\\\$ or US\\\\$'
    """
    cut = text if len(text) <= longest else text[: longest - 1].rstrip(" ·,") + "…"
    return cut.replace("$", r"\$")


def style_axes(
    axes: Axes, title: str, xlabel: str = "", ylabel: str = "", *, grid: Literal["x", "y"] = "y", longest: int = 34
) -> None:
    """Apply the common style: title, labels, ticks, spines and grid lines for one axis. A long title is cut."""
    axes.set_title(plain(title, longest), fontsize=11, color=INK, fontweight="bold", loc="center")
    axes.set_xlabel(xlabel, fontsize=9, color=INK)
    axes.set_ylabel(ylabel, fontsize=9, color=INK)
    axes.tick_params(labelsize=8.5, colors=INK, color=GREY, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis=grid, color=_FAINT, linewidth=0.7)
    axes.set_axisbelow(True)


def labels_of(latent_dim: int, captures: Sequence[str], signs: np.ndarray | None = None) -> list[str]:
    """The labels of all latents: "z3 · posX", or "−z3 · posX" where the sign is -1."""
    if captures and len(captures) != latent_dim:
        raise ValueError(
            f"captures names {len(captures)} latents where there are {latent_dim}: pass one text a latent, or none"
        )
    names = [latent_name(latent, 1 if signs is None else signs[latent]) for latent in range(latent_dim)]
    return [
        f"{name} · {captured}" if captured else name
        for name, captured in zip(names, captures or [""] * latent_dim, strict=True)
    ]


def by_kl(kl: np.ndarray | None, latent_dim: int) -> np.ndarray:
    """The indices of the latents sorted by KL, the largest first; in ascending order if `kl` is None."""
    if kl is None:
        return np.arange(latent_dim)
    if np.shape(kl) != (latent_dim,):
        raise ValueError(f"kl has shape {np.shape(kl)} where there are {latent_dim} latents: pass one value for each")
    return np.argsort(-np.asarray(kl), kind="stable")


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
    """Ticks of a scale of indices, with their labels: all values if there are up to 6, otherwise round numbers."""
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
