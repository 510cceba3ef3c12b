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
    kl_per_code,
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
    labels, order = labels_of(len(kl), carries), by_kl(kl, len(kl))
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
