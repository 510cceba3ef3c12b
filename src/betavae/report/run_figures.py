"""Draws the figures of a run from the files in its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.files import schemas
from betavae.model import VAE
from betavae.report.figures.all_figures import Importance, LatentStatistics, ScoredImages, SeedImages, draw_all
from betavae.report.latent_meaning import Kind, kind_of, signs
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
            images: NDArray[np.float32] = model.decode(torch.from_numpy(latents)).numpy()
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
            shown_signs(latents.mean, data, latents.rows),
        ),
        records=read_curve(run),
        scored=ScoredImages(
            latents.mean,
            data.factors[latents.rows],
            factor_names,
            dict(zip(data.factor_names, data.value_labels(), strict=True)),
        ),
        importance=_importance(scores.get("arrays", {}), factor_names),
        formats=formats,
    )


def kinds_of(data: FactorData) -> list[Kind]:
    """Whether each factor is a number, a class or an angle."""
    return [kind_of(name, labels) for name, labels in zip(data.factor_names, data.value_labels(), strict=True)]


def shown_signs(mean: NDArray[np.float32], data: FactorData, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sign with which pages and figures show each latent (D,), so that its factor grows to the right."""
    return signs(mean, data.factors[rows], kinds_of(data))


def label_texts(data: FactorData) -> list[list[str]]:
    """For each factor, the value of each index as text."""
    return [[label if isinstance(label, str) else f"{label:.3g}" for label in labels] for labels in data.value_labels()]


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

    The images are validation images if there are any. The first image is typical and reconstructed well: among the
    fifth of the images whose object is closest to the median size, it has the smallest reconstruction error for its
    contrast. The size of an object is the distance of its image to the mean image. The other images alternate between
    the values of the first factor, the last value first.
    """
    split = split_of(config, data)
    pool = split.validation if len(split.validation) else split.train
    pool = np.random.default_rng(config.seed).permutation(pool)[: 50 * SEED_IMAGES]
    errors, sizes = _reconstruction_errors(config, data, pool, model)
    typical = np.argsort(abs(sizes - np.median(sizes)), kind="stable")[: max(1, len(pool) // 5)]
    best = pool[typical[errors[typical].argmin()]]
    if data.factors.shape[1]:
        first = data.factors[pool, 0]
        rank = np.empty(len(pool), int)  # of an image among those with the same value
        for value in np.unique(first):
            rank[first == value] = np.arange(np.count_nonzero(first == value))
        pool = pool[np.lexsort((-first, rank))]
    return np.concatenate([[best], pool[pool != best]])[:SEED_IMAGES]


def _reconstruction_errors(
    config: Config, data: FactorData, rows: NDArray[np.int64], model: VAE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For each image, its distances to its reconstruction, in units of its contrast, and to the mean image.

    A distance is a sum of absolute differences. The contrast is the standard deviation over the pixels, the mean of the
    channels: without it, an image of one colour is reconstructed best.
    """
    images = data.images(rows) / np.float32(data.max_value)
    latents, _ = encode(config, data, rows, model)
    with torch.inference_mode():
        rebuilt = model.decode(torch.from_numpy(latents)).numpy()
    contrasts = np.maximum(images.std((2, 3)).mean(1), 1e-3)
    return abs(images - rebuilt).sum((1, 2, 3)) / contrasts, abs(images - images.mean(0)).sum((1, 2, 3))
