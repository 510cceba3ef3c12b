"""Compares the combinations of factors that a run was trained on with those that it held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.data.subsets import held_out_mask
from betavae.metrics.dci import fit_trees
from betavae.metrics.protocol import NUM_TEST, NUM_TRAIN
from betavae.model import VAE
from betavae.objectives.terms import decoded_error
from betavae.runs.contents import split_of
from betavae.runs.latents import Latents
from betavae.training.batches import DeviceImages
from betavae.training.devices import autocast
from betavae.training.encoding import evaluation_mode
from betavae.training.seeding import draw_noise

RECONSTRUCTED = 2_048
"""Largest number of images of each kind for the reconstruction loss."""
_BATCH = 256


def compare_combinations(
    config: Config, data: FactorData, model: VAE, latents: Latents, seed: int
) -> dict[str, dict[str, Any]]:
    """Compute reconstruction loss and factor accuracy on seen and on unseen combinations of the factors.

    The accuracies are those of boosted trees, as in `metrics.downstream`. The trees are fitted to the posterior means
    of seen combinations. They cannot predict a value that no seen combination has.

    Source:
        The Role of Disentanglement in Generalisation (Montero et al., 2021). https://openreview.net/forum?id=qbH974jKUVy

    Args:
        config: settings of the run, with conditions in ``hold_out``.
        data: the data of the run.
        model: the trained model.
        latents: latents of the scored images.
        seed: seed of the choice of images.

    Returns:
        For ``"seen"`` and ``"unseen"``: ``images``, the number of images whose factors are predicted;
        ``reconstruction``, in nats; ``accuracy`` of each factor, and their mean ``mean_accuracy``. Accuracies are left
        out if the scored images have too few of a kind.
    """
    rng = np.random.default_rng(seed)
    unseen_images = held_out_mask(data, config.hold_out)
    is_unseen = unseen_images[latents.rows]
    seen, unseen = (rng.permutation(np.flatnonzero(mask)) for mask in (~is_unseen, is_unseen))
    num_train = min(NUM_TRAIN, 2 * len(seen) // 3)
    tests = {"seen": seen[num_train : num_train + NUM_TEST], "unseen": unseen[:NUM_TEST]}
    accuracies: Mapping[str, list[float]] = {}
    if num_train and all(map(len, tests.values())):
        accuracies = _accuracies(data, latents, seen[:num_train], tests, seed)
    validation = split_of(config, data).validation
    reconstructed = {
        "seen": validation if len(validation) else np.flatnonzero(~unseen_images),
        "unseen": np.flatnonzero(unseen_images),
    }
    images = DeviceImages(data, next(model.parameters()).device)
    results: dict[str, dict[str, Any]] = {}
    for kind, rows in reconstructed.items():
        chosen = np.sort(rng.permutation(rows)[:RECONSTRUCTED])
        results[kind] = {"images": len(tests[kind]), "reconstruction": _reconstruction(config, model, images, chosen)}
        if accuracies:
            results[kind]["accuracy"] = dict(zip(data.factor_names, accuracies[kind], strict=True))
            results[kind]["mean_accuracy"] = float(np.mean(accuracies[kind]))
    return results


def _accuracies(
    data: FactorData,
    latents: Latents,
    train: NDArray[np.int64],
    tests: Mapping[str, NDArray[np.int64]],
    seed: int,
) -> dict[str, list[float]]:
    """The accuracy of each factor on each set of test images."""
    factors, test = data.factors[latents.rows].astype(np.int64), np.concatenate(list(tests.values()))
    predicted = fit_trees(latents.mean[train], factors[train], latents.mean[test], seed=seed).predicted
    is_right = predicted == factors[test]
    count = len(tests["seen"])
    return {"seen": is_right[:count].mean(0).tolist(), "unseen": is_right[count:].mean(0).tolist()}


def _reconstruction(config: Config, model: VAE, images: DeviceImages, rows: NDArray[np.int64]) -> float:
    """The mean reconstruction loss of images, in nats, with latents sampled from their posteriors."""
    device = next(model.parameters()).device
    total = 0.0
    with torch.inference_mode(), evaluation_mode(model), autocast(config, device):
        for start in range(0, len(rows), _BATCH):
            batch = images(rows[start : start + _BATCH])
            noise = draw_noise(config, "validation", start, (len(batch), config.latent_dim), device)
            latents = model.represent(model.encode(batch)).sample(noise)
            total += float(decoded_error(model, latents, batch).double().sum())
    return total / len(rows)
