"""The latents of a run: posterior means and log variances of the scored images."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from betavae.files.arrays import read_npz
from betavae.files.atomic import replacing
from betavae.files.schemas import LATENTS
from betavae.metrics.information import entropy
from betavae.runs.folder import Run, existing_file, open_run


@dataclass(frozen=True)
class Latents:
    """Posteriors of the scored images.

    Attributes:
        rows: Rows of the images in the data (N,).
        mean: Posterior means (N, D).
        log_var: Logarithms of the posterior variances (N, D).
        run: The run that they belong to, for `factors`.
    """

    rows: NDArray[np.int64]
    mean: NDArray[np.float32]
    log_var: NDArray[np.float32]
    run: Run | None = field(default=None, repr=False, compare=False)

    @property
    def factors(self) -> NDArray[np.int32]:
        """Factors of the same images (N, K). The data of the run are loaded for them.

        Raises:
            ValueError: the latents belong to no run, or the data cannot be loaded; see `contents.data_of`.
        """
        if self.run is None:
            raise ValueError("these latents belong to no run, so their factors are unknown; use data.factors[rows]")
        return self.run.data.factors[self.rows]

    @property
    def kl(self) -> NDArray[np.float64]:
        """KL of each latent (D,), averaged over the images, in nats.

        Quantised latents have no variance. Their KL is the entropy of their values.
        """
        if np.isneginf(self.log_var).all():
            return np.array([entropy(np.unique(column, return_counts=True)[1]) for column in self.mean.T])
        return np.array([_kl(*latent) for latent in zip(self.mean.T, self.log_var.T, strict=True)])


def save_latents(run: Run, latents: Latents) -> None:
    """Write latents.npz."""
    with replacing(run.path("latents.npz")) as temporary, temporary.open("wb") as file:
        np.savez(file, rows=latents.rows, mean=latents.mean, log_var=latents.log_var)


def load_latents(run: Run | str | Path) -> Latents:
    """Load the latents of a run.

    Args:
        run: a run, or the path of its folder.

    Raises:
        FileNotFoundError: there is no run in the folder, or it has no latents yet.
        ValueError: the file is damaged, or it does not match the run's settings.
    """
    run = run if isinstance(run, Run) else open_run(run)
    path = existing_file(run, "latents.npz")
    remedy = f"delete it and encode again with `betavae score {shlex.quote(str(run.folder))}`"
    try:
        arrays = read_npz(path, *LATENTS)
    except Exception as error:  # a damaged archive raises any of zipfile's, zlib's and numpy's errors
        raise ValueError(f"{path} is damaged ({error}); {remedy}") from None
    for name, (kinds, axes) in LATENTS.items():
        array = arrays[name]
        if array.dtype.kind not in kinds or array.ndim != axes:
            raise ValueError(f"{path} is damaged ({name} is {array.dtype} with {array.ndim} axes); {remedy}")
    mean, log_var = (arrays[name].astype(np.float32, copy=False) for name in ("mean", "log_var"))
    latents = Latents(arrays["rows"], mean, log_var, run)
    if latents.mean.shape != (len(latents.rows), run.config.latent_dim) or latents.log_var.shape != latents.mean.shape:
        raise ValueError(
            f"{path} holds latents of shape {latents.mean.shape}, which does not match the run's settings; {remedy}"
        )
    valid_rows = len(latents.rows) > 0 and latents.rows.min() >= 0
    kl_is_finite = (abs(latents.mean) < 1e30).all() and (latents.log_var < 700).all()  # larger values overflow
    if not valid_rows or not kl_is_finite:
        raise ValueError(f"{path} holds latents that are not finite, or negative row numbers; {remedy}")
    return latents


def _kl(mean: NDArray[np.float32], log_var: NDArray[np.float32]) -> float:
    """KL of one latent. All latents at once would take 200 MB of doubles for dSprites."""
    mean, log_var = mean.astype(np.float64), log_var.astype(np.float64)
    return float(0.5 * (mean**2 + np.exp(log_var) - log_var - 1).mean())
