"""All figures of a run, from arrays to files: charts, mosaics of images and animations."""

import gc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from betavae.report.charts import (
    by_kl,
    factor_strips,
    importance_heatmap,
    kl_per_latent,
    labels_of,
    loss_curves,
    save_figure,
)
from betavae.report.pictures import (
    Decode,
    reconstructions,
    save_gif,
    traversal_animation,
    traversal_frames,
    traversal_grid,
    traverse,
)


def draw_all(
    folder: str | os.PathLike[str],
    *,
    decode: Decode,
    seed_images: np.ndarray,
    seed_latents: np.ndarray,
    latent_mean: np.ndarray,
    latent_std: np.ndarray,
    kl: np.ndarray,
    captures: Sequence[str] = (),
    records: Sequence[Mapping[str, Any]] = (),
    latents: np.ndarray | None = None,
    factors: np.ndarray | None = None,
    factor_names: Sequence[str] = (),
    factor_values: Mapping[str, Sequence[float | str]] | None = None,
    importance: np.ndarray | None = None,
    per_latent: Mapping[str, np.ndarray] | None = None,
    per_factor: Mapping[str, np.ndarray] | None = None,
    num_traversed: int = 5,
    steps: int = 21,
    formats: Sequence[str] = ("png",),
) -> list[Path]:
    """Draws all figures of a run into a folder; what has no data (records, factors, importance) is not there.

    Files: `loss_curves`, `reconstructions`, `kl_per_latent`, `factor_strips`, `importance`, `traversal_grid_S` for each
    traversed seed image S, `traversals.gif` (all latents of the first seed image in one animation), and
    `traversals/seedS_zD_fixed.gif` (-3 to 3) and `..._fitted.gif` (mean +-2 standard deviations) for each latent D, in
    the order of KL.

    Args:
        folder: Where to; made if missing, files of the same names are replaced.
        decode: From latents (n, D) float32 to images (n, C, H, W) in [0, 1].
        seed_images: Images (S, C, H, W) in [0, 1]; all are reconstructed, the first `num_traversed` traversed.
        seed_latents: Their posterior means (S, D).
        latent_mean: Mean of each latent over the data (D,).
        latent_std: Standard deviation of each latent over the data (D,).
        kl: KL of each latent (D,) in nats.
        captures: For each latent the factor it captures, "" where it captures none.
        records: Lines of the curve file; see `loss_curves`.
        latents: Posterior means (N, D) for the strip plots.
        factors: Factor indices (N, K) of the same rows.
        factor_names: K names.
        factor_values: By factor name, the real value of each index.
        importance: (D, K), rows in the order of the latents.
        per_latent: Named values (D,) beside the importance.
        per_factor: Named values (K,) beside the importance.
        num_traversed: How many seed images are traversed.
        steps: Values in a traversal.
        formats: Endings of the still figures: any of "png", "pdf", "svg".

    Returns:
        The files written, in the order drawn.

    Raises:
        ValueError: The arrays do not fit together.
    """
    if seed_images.ndim != 4 or len(seed_images) != len(seed_latents) or seed_latents.shape[1:] != kl.shape:
        raise ValueError(
            f"seed images {seed_images.shape}, seed latents {seed_latents.shape} and kl {kl.shape} do not fit "
            "together: pass (S, C, H, W), (S, D) and (D,)"
        )
    if isinstance(formats, str) or not set(formats := tuple(formats)) <= {"png", "pdf", "svg"}:
        raise ValueError(f"formats is {formats!r}; it must be a list of png, pdf and svg")
    folder = Path(folder)
    (folder / "traversals").mkdir(parents=True, exist_ok=True)
    labels, order = labels_of(len(kl), captures), by_kl(kl, len(kl))
    columns = np.linspace(-3, 3, 13)
    fixed = np.tile(np.linspace(-3, 3, steps), (len(kl), 1))
    fitted = latent_mean[:, None] + np.linspace(-2, 2, steps) * latent_std[:, None]
    rebuilt = decode(seed_latents.astype(np.float32))
    written: list[Path] = []

    def keep(figure: Figure, name: str) -> None:
        written.extend(save_figure(figure, folder / f"{name}.{ending}") for ending in formats)
        gc.collect(1)  # what was drawn on, 13 MB for a grid, is part of a cycle of references

    if records:
        keep(loss_curves(records), "loss_curves")
    keep(reconstructions(seed_images, rebuilt), "reconstructions")
    keep(kl_per_latent(kl, captures), "kl_per_latent")
    if latents is not None and factors is not None and len(factor_names):
        keep(factor_strips(latents, factors, factor_names, factor_values=factor_values, kl=kl), "factor_strips")
    if importance is not None:
        beside = {name: values[order] for name, values in (per_latent or {}).items()}
        ordered = [labels[latent] for latent in order]
        keep(
            importance_heatmap(importance[order], factor_names, ordered, per_latent=beside, per_factor=per_factor),
            "importance",
        )
    for seed in range(min(num_traversed, len(seed_images))):
        for interval, values in (("fitted", fitted), ("fixed", fixed)):
            images = traverse(decode, seed_latents[seed], values)
            for latent in order:
                path = folder / "traversals" / f"seed{seed}_z{latent}_{interval}.gif"
                written.append(save_gif(traversal_frames(images[latent], values[latent], labels[latent]), path))
            if interval == "fitted" and seed == 0:
                written.append(
                    save_gif(traversal_animation(images, kl=kl, captures=captures), folder / "traversals.gif")
                )
        images = traverse(decode, seed_latents[seed], columns)
        grid = traversal_grid(seed_images[seed], rebuilt[seed], images, columns, kl=kl, captures=captures)
        keep(grid, f"traversal_grid_{seed}")
    for name in {"loss_curves", "factor_strips", "importance"} - {path.stem for path in written}:
        for ending in ("png", "pdf", "svg"):
            (folder / f"{name}.{ending}").unlink(missing_ok=True)  # of scores or latents that are no more
    return written
