"""The latents of a run: posterior means and log variances of the images that are scored."""

import shlex
from dataclasses import dataclass
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
    """Posteriors of images, encoded once and shared by all that comes after training."""

    rows: NDArray[np.int64]
    mean: NDArray[np.float32]
    log_var: NDArray[np.float32]

    @property
    def kl(self) -> NDArray[np.float64]:
        """KL of each latent from the prior, averaged over images, in nats (D,).

        Of latents without variance, which are rounded: the entropy of their values, which is what they can tell.
        """
        if np.isneginf(self.log_var).all():
            return np.array([entropy(np.unique(column, return_counts=True)[1]) for column in self.mean.T])
        return np.array([_kl(*latent) for latent in zip(self.mean.T, self.log_var.T, strict=True)])


def save_latents(run: Run, latents: Latents) -> None:
    """Save encoded posteriors."""
    with replacing(run.path("latents.npz")) as temporary, temporary.open("wb") as file:
        np.savez(file, rows=latents.rows, mean=latents.mean, log_var=latents.log_var)


def load_latents(run: Run | str | Path) -> Latents:
    """Encoded posteriors of a run or in its folder.

    Raises:
        FileNotFoundError: there is no run, or no latents yet.
        ValueError: the file is damaged or does not fit the run's settings.
    """
    run = run if isinstance(run, Run) else open_run(run)
    path = existing_file(run, "latents.npz")
    again = f"delete it and encode again with `betavae score {shlex.quote(str(run.folder))}`"
    try:
        arrays = read_npz(path, *LATENTS)
    except Exception as error:  # a damaged archive raises any of zipfile's, zlib's and numpy's errors
        raise ValueError(f"{path} is damaged ({error}); {again}") from None
    for name, (kinds, axes) in LATENTS.items():
        if arrays[name].dtype.kind not in kinds or arrays[name].ndim != axes:
            raise ValueError(f"{path} is damaged ({name} is {arrays[name].dtype} of {axes} axes); {again}")
    latents = Latents(**arrays)
    if latents.mean.shape != (len(latents.rows), run.config.latent_dim) or latents.log_var.shape != latents.mean.shape:
        raise ValueError(f"{path} holds latents of shape {latents.mean.shape}, not those of this run; {again}")
    whole = len(latents.rows) > 0 and latents.rows.min() >= 0
    if (
        not whole or not (abs(latents.mean) < 1e30).all() or not (latents.log_var < 700).all()
    ):  # else their KL overflows
        raise ValueError(f"{path} holds latents that are not finite, or rows that are no numbers of images; {again}")
    return latents


def _kl(mean: NDArray[np.float32], log_var: NDArray[np.float32]) -> float:
    """Of one latent: of all at once, doubles of dSprites would take 200 MB."""
    mean, log_var = mean.astype(np.float64), log_var.astype(np.float64)
    return float(0.5 * (mean**2 + np.exp(log_var) - log_var - 1).mean())
