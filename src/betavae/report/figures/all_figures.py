"""Draws all figures of a run from arrays and writes them to files: charts, image grids and animations."""

import gc
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from betavae.report.figures.charts import (
    by_kl,
    factor_strips,
    importance_heatmap,
    kl_per_latent,
    labels_of,
    loss_curves,
    save_figure,
)
from betavae.report.figures.pictures import (
    Decode,
    reconstructions,
    save_gif,
    traversal_animation,
    traversal_frames,
    traversal_grid,
    traverse,
)


@dataclass(frozen=True, eq=False)
class SeedImages:
    """Images to reconstruct and traverse.

    Attributes:
        images: Images (S, C, H, W) in [0, 1].
        latents: Their posterior means (S, D).
    """

    images: np.ndarray
    latents: np.ndarray


@dataclass(frozen=True, eq=False)
class LatentStatistics:
    """Statistics of the latents over the data.

    Attributes:
        mean: Mean of the posterior means of each latent (D,).
        std: Standard deviation of the posterior means of each latent (D,).
        kl: KL of each latent (D,) in nats.
        captures: For each latent, the factor that it captures; "" if it captures none.
        signs: For each latent, -1 if traversals show its negative, so that its factor grows to the right; otherwise 1
            (D,). None for 1.
    """

    mean: np.ndarray
    std: np.ndarray
    kl: np.ndarray
    captures: Sequence[str] = ()
    signs: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """Latents and factors of the scored images, for the strip plots.

    Attributes:
        latents: Posterior means (N, D).
        factors: Factor indices (N, K).
        factor_names: Names of the K factors.
        factor_values: For each factor name, the value of each index.
    """

    latents: np.ndarray
    factors: np.ndarray
    factor_names: Sequence[str]
    factor_values: Mapping[str, Sequence[float | str]] | None = None


@dataclass(frozen=True, eq=False)
class Importance:
    """The matrices of DCI.

    Attributes:
        matrix: Importance of each latent for each factor (D, K).
        factor_names: Names of the K factors.
        per_latent: Named values of each latent (D,), such as its disentanglement.
        per_factor: Named values of each factor (K,), such as its completeness.
    """

    matrix: np.ndarray
    factor_names: Sequence[str]
    per_latent: Mapping[str, np.ndarray] = field(default_factory=dict)
    per_factor: Mapping[str, np.ndarray] = field(default_factory=dict)


def draw_all(
    folder: str | os.PathLike[str],
    *,
    decode: Decode,
    seeds: SeedImages,
    statistics: LatentStatistics,
    records: Sequence[Mapping[str, Any]] = (),
    scored: ScoredImages | None = None,
    importance: Importance | None = None,
    num_traversed: int = 5,
    steps: int = 21,
    formats: Sequence[str] = ("png",),
) -> list[Path]:
    """Draw all figures of a run. Figures without data (records, scored images, importance) are left out.

    Files: `loss_curves`, `reconstructions`, `kl_per_latent`, `factor_strips`, `importance`, `traversal_grid_S` for each
    traversed seed image S, `traversals.gif` (all latents of the first seed image in one animation), and
    `traversals/seedS_zD_fixed.gif` (-3 to 3) and `..._fitted.gif` (mean ± 2 standard deviations) for each latent D, in
    the order of KL.

    Args:
        folder: Folder of the figures; created if it does not exist. Existing files are replaced.
        decode: Function from latents (n, D) float32 to images (n, C, H, W) in [0, 1].
        seeds: Images to reconstruct. The first `num_traversed` are traversed.
        statistics: Statistics of the latents over the data.
        records: Records of the loss curves; see `loss_curves`.
        scored: Latents and factors of the scored images.
        importance: The matrices of DCI.
        num_traversed: Number of traversed seed images.
        steps: Number of values in a traversal.
        formats: File formats of the static figures: any of "png", "pdf", "svg".

    Returns:
        The paths of the files, in the order in which they are drawn.

    Raises:
        ValueError: The shapes of the arrays do not match, or a format is unknown.
    """
    kl, captures = statistics.kl, statistics.captures
    _check_shapes(seeds, kl)
    if isinstance(formats, str) or not set(formats := tuple(formats)) <= {"png", "pdf", "svg"}:
        raise ValueError(f"formats is {formats!r}; it must be a list of png, pdf and svg")
    folder = Path(folder)
    (folder / "traversals").mkdir(parents=True, exist_ok=True)
    rebuilt = decode(seeds.latents.astype(np.float32))
    written: list[Path] = []

    def save(figure: Figure, name: str) -> None:
        written.extend(save_figure(figure, folder / f"{name}.{ending}") for ending in formats)
        gc.collect(1)  # a canvas of 13 MB is part of a reference cycle

    if records:
        save(loss_curves(records), "loss_curves")
    save(reconstructions(seeds.images, rebuilt), "reconstructions")
    save(kl_per_latent(kl, captures), "kl_per_latent")
    if scored is not None and len(scored.factor_names):
        strips = factor_strips(
            scored.latents, scored.factors, scored.factor_names, factor_values=scored.factor_values, kl=kl
        )
        save(strips, "factor_strips")
    if importance is not None:
        save(_importance_figure(importance, statistics), "importance")
    columns = np.linspace(-3, 3, 13)
    for seed in range(min(num_traversed, len(seeds.images))):
        written += _animate(folder, decode, seed, seeds.latents[seed], statistics, steps)
        images = traverse(decode, seeds.latents[seed], columns * _signs(statistics)[:, None])
        grid = traversal_grid(
            seeds.images[seed], rebuilt[seed], images, columns, kl=kl, captures=captures, signs=statistics.signs
        )
        save(grid, f"traversal_grid_{seed}")
    for name in {"loss_curves", "factor_strips", "importance"} - {path.stem for path in written}:
        for ending in ("png", "pdf", "svg"):
            (folder / f"{name}.{ending}").unlink(missing_ok=True)  # an old figure whose data no longer exist
    return written


def _check_shapes(seeds: SeedImages, kl: np.ndarray) -> None:
    images, latents = seeds.images, seeds.latents
    if images.ndim != 4 or len(images) != len(latents) or latents.shape[1:] != kl.shape:
        raise ValueError(
            f"the shapes of seed images {images.shape}, seed latents {latents.shape} and kl {kl.shape} do not match: "
            "pass (S, C, H, W), (S, D) and (D,)"
        )


def _signs(statistics: LatentStatistics) -> np.ndarray:
    return np.ones(len(statistics.kl)) if statistics.signs is None else statistics.signs


def _importance_figure(importance: Importance, statistics: LatentStatistics) -> Figure:
    """The importance matrix with its latents sorted by KL."""
    order = by_kl(statistics.kl, len(statistics.kl))
    labels = labels_of(len(statistics.kl), statistics.captures)
    return importance_heatmap(
        importance.matrix[order],
        importance.factor_names,
        [labels[latent] for latent in order],
        per_latent={name: values[order] for name, values in importance.per_latent.items()},
        per_factor=importance.per_factor,
    )


def _animate(
    folder: Path, decode: Decode, seed: int, latent: np.ndarray, statistics: LatentStatistics, steps: int
) -> list[Path]:
    """Write the animations of one seed image: one per latent and range and, for the first image, one of all latents."""
    kl, captures, signs = statistics.kl, statistics.captures, _signs(statistics)[:, None]
    labels, order = labels_of(len(kl), captures, statistics.signs), by_kl(kl, len(kl))
    fitted = signs * statistics.mean[:, None] + np.linspace(-2, 2, steps) * statistics.std[:, None]
    fixed = np.tile(np.linspace(-3, 3, steps), (len(kl), 1))
    written = []
    for interval, values in (("fitted", fitted), ("fixed", fixed)):
        images = traverse(decode, latent, signs * values)
        for z in order:
            path = folder / "traversals" / f"seed{seed}_z{z}_{interval}.gif"
            written.append(save_gif(traversal_frames(images[z], values[z], labels[z]), path))
        if interval == "fitted" and seed == 0:
            animation = traversal_animation(images, kl=kl, captures=captures, signs=statistics.signs)
            written.append(save_gif(animation, folder / "traversals.gif"))
    return written
