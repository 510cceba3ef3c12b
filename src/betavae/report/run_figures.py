"""Draws the figures of a run from its folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from betavae.config import Config
from betavae.data import dsprites
from betavae.data.factor_data import FactorData
from betavae.files import schemas
from betavae.model import VAE
from betavae.report.figures import draw_all
from betavae.runs.checkpoints import load_model
from betavae.runs.contents import check_same_data, latents_of, split_of
from betavae.runs.folder import Run, read_curve
from betavae.runs.scores import captured_factors
from betavae.training.encoding import encode

SEED_IMAGES = 20
"""Held-out images to reconstruct; the first few of them are traversed."""


def draw_run(run: Run, data: FactorData, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Draw all figures of a trained run into its folder `figures`."""
    check_same_data(run, data)
    scores = schemas.read_scores(run.folder, run.config.latent_dim, data.factors.shape[1])
    latents, model = latents_of(run, data), load_model(run)
    rows = seed_rows(run.config, data, model)
    seed_latents, _ = encode(run.config, data, rows, model)

    def decode(latents: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            images: NDArray[np.float32] = model.mean_images(torch.from_numpy(latents)).numpy()
        return images

    tables = scores.get("arrays", {})
    arrays = {name: np.array(tables[name], float) for name in tables if name in schemas.DRAWN}
    scored = "dci.importance" in arrays
    return draw_all(
        run.path("figures"),
        decode=decode,
        seed_images=data.images(rows) / data.max_value,
        seed_latents=seed_latents,
        latent_mean=latents.mean.mean(0),
        latent_std=latents.mean.std(0),
        kl=latents.kl,
        captures=captured_factors(scores, run.config.latent_dim),
        records=read_curve(run),
        latents=latents.mean,
        factors=data.factors[latents.rows],
        factor_names=data.factor_names,
        factor_values=_factor_values(data),
        importance=arrays.get("dci.importance"),
        per_latent={"disentanglement": arrays["dci.per_latent"]} if scored else None,
        per_factor={"completeness": arrays["dci.per_factor"], "informativeness": arrays["dci.accuracy"]}
        if scored
        else None,
        formats=formats,
    )


def seed_rows(config: Config, data: FactorData, model: VAE) -> NDArray[np.int64]:
    """Rows of the images to reconstruct and traverse: held out where any are, the first factor's values in turn.

    The first image is the one that the model reconstructs best, among the quarter of those with the last value of the
    first factor (on dSprites hearts) that are furthest from the mean image: large objects. Errors count relative to
    that distance.
    """
    split = split_of(config, data)
    pool = split.validation if len(split.validation) else split.train
    pool = np.random.default_rng(config.seed).permutation(pool)[: 50 * SEED_IMAGES]
    if data.factors.shape[1]:
        first = data.factors[pool, 0]
        turn = np.empty(len(pool), int)
        for value in np.unique(first):
            turn[first == value] = np.arange(np.count_nonzero(first == value))
        pool = pool[np.lexsort((-first, turn))]
    alike = pool[data.factors[pool, :1].ravel() == data.factors[pool[0], :1]] if data.factors.shape[1] else pool
    errors, distances = _reconstruction_errors(config, data, alike, model)
    errors[distances < np.quantile(distances, 0.75)] = np.inf
    best = alike[(errors / np.maximum(distances, 1e-12)).argmin()]
    pool[pool == best], pool[0] = pool[0], best
    return pool[:SEED_IMAGES]


def _reconstruction_errors(
    config: Config, data: FactorData, rows: NDArray[np.int64], model: VAE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of each image the sums of absolute differences to its reconstruction, and to the mean of all these images."""
    images = data.images(rows) / np.float32(data.max_value)
    latents, _ = encode(config, data, rows, model)
    with torch.inference_mode():
        rebuilt = model.mean_images(torch.from_numpy(latents)).numpy()
    return abs(images - rebuilt).sum((1, 2, 3)), abs(images - images.mean(0)).sum((1, 2, 3))


def _factor_values(data: FactorData) -> dict[str, Sequence[float | str]] | None:
    """What the indices of dSprites' factors stand for; unknown for other data."""
    if not data.is_dsprites:
        return None
    occurring: Sequence[Sequence[int]] = [values.tolist() for values in data.factor_values]
    occurring = occurring or [range(size) for size in data.factor_sizes]
    meanings: tuple[Sequence[float | str], ...] = (
        dsprites.SHAPES,
        dsprites.SCALES.tolist(),
        dsprites.ORIENTATIONS.tolist(),
        dsprites.POSITIONS.tolist(),
        dsprites.POSITIONS.tolist(),
    )
    return {
        name: [values[index] for index in classes]
        for name, values, classes in zip(dsprites.FACTOR_NAMES, meanings, occurring, strict=True)
    }
