"""Draws the figures of a run from the files in its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from betavae.config import Config
from betavae.data import dsprites
from betavae.data.factor_data import FactorData
from betavae.files import schemas
from betavae.model import VAE
from betavae.report.figures import Importance, LatentStatistics, ScoredImages, SeedImages, draw_all
from betavae.runs.checkpoints import load_model
from betavae.runs.contents import latents_of, same_data, split_of
from betavae.runs.folder import Run, read_curve
from betavae.runs.scores import captured_factors
from betavae.training.encoding import encode

SEED_IMAGES = 20
"""Number of held-out images to reconstruct. The first few of them are traversed."""


def draw_run(run: Run, data: FactorData, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Draw all figures of a trained run into its folder `figures`; returns their paths."""
    data = same_data(run, data)
    scores = schemas.read_scores(run.folder, run.config.latent_dim, data.factors.shape[1])
    latents, model = latents_of(run, data), load_model(run)
    rows = seed_rows(run.config, data, model)
    seed_latents, _ = encode(run.config, data, rows, model)

    def decode(latents: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            images: NDArray[np.float32] = model.mean_images(torch.from_numpy(latents)).numpy()
        return images

    factor_names = data.factor_names
    return draw_all(
        run.path("figures"),
        decode=decode,
        seeds=SeedImages(data.images(rows) / data.max_value, seed_latents),
        statistics=LatentStatistics(
            latents.mean.mean(0),
            latents.mean.std(0),
            latents.kl,
            captured_factors(scores, run.config.latent_dim),
        ),
        records=read_curve(run),
        scored=ScoredImages(latents.mean, data.factors[latents.rows], factor_names, _factor_values(data)),
        importance=_importance(scores.get("arrays", {}), factor_names),
        formats=formats,
    )


def _importance(tables: Mapping[str, Any], factor_names: Sequence[str]) -> Importance | None:
    """The matrices of DCI in scores.json; None if the run has no such score."""
    if "dci.importance" not in tables:
        return None
    matrix, per_latent, per_factor, accuracy = (
        np.array(tables[f"dci.{name}"], float) for name in ("importance", "per_latent", "per_factor", "accuracy")
    )
    return Importance(
        matrix,
        factor_names,
        per_latent={"disentanglement": per_latent},
        per_factor={"completeness": per_factor, "informativeness": accuracy},
    )


def seed_rows(config: Config, data: FactorData, model: VAE) -> NDArray[np.int64]:
    """Choose the images to reconstruct and traverse; returns their rows.

    The images are validation images if there are any. They alternate between the values of the first factor. The first
    image has the last value of the first factor (a heart for dSprites). Among the quarter of these images that is
    furthest from the mean image, i.e. large objects, it has the smallest reconstruction error relative to that
    distance.
    """
    split = split_of(config, data)
    pool = split.validation if len(split.validation) else split.train
    pool = np.random.default_rng(config.seed).permutation(pool)[: 50 * SEED_IMAGES]
    if data.factors.shape[1]:
        first = data.factors[pool, 0]
        rank = np.empty(len(pool), int)  # of an image among those with the same value
        for value in np.unique(first):
            rank[first == value] = np.arange(np.count_nonzero(first == value))
        pool = pool[np.lexsort((-first, rank))]
    same_value = pool[data.factors[pool, :1].ravel() == data.factors[pool[0], :1]] if data.factors.shape[1] else pool
    errors, distances = _reconstruction_errors(config, data, same_value, model)
    errors[distances < np.quantile(distances, 0.75)] = np.inf
    best = same_value[(errors / np.maximum(distances, 1e-12)).argmin()]
    pool[pool == best], pool[0] = pool[0], best
    return pool[:SEED_IMAGES]


def _reconstruction_errors(
    config: Config, data: FactorData, rows: NDArray[np.int64], model: VAE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For each image, the sum of absolute differences to its reconstruction, and to the mean of the given images."""
    images = data.images(rows) / np.float32(data.max_value)
    latents, _ = encode(config, data, rows, model)
    with torch.inference_mode():
        rebuilt = model.mean_images(torch.from_numpy(latents)).numpy()
    return abs(images - rebuilt).sum((1, 2, 3)), abs(images - images.mean(0)).sum((1, 2, 3))


def _factor_values(data: FactorData) -> dict[str, Sequence[float | str]] | None:
    """For each factor, the value of each index; None if indices are values."""
    if not data.is_dsprites:
        values = {name: given.tolist() for name, given in zip(data.factor_names, data.factor_values, strict=False)}
        return values or None
    classes: Sequence[Sequence[int]] = [values.tolist() for values in data.factor_values]
    classes = classes or [range(size) for size in data.factor_sizes]
    values_of_classes: tuple[Sequence[float | str], ...] = (
        dsprites.SHAPES,
        dsprites.SCALES.tolist(),
        dsprites.ORIENTATIONS.tolist(),
        dsprites.POSITIONS.tolist(),
        dsprites.POSITIONS.tolist(),
    )
    return {
        name: [values[index] for index in indices]
        for name, values, indices in zip(dsprites.FACTOR_NAMES, values_of_classes, classes, strict=True)
    }
