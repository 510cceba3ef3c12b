"""Loss terms of images that are not trained on."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.data.pairs import Partners
from betavae.data.subsets import seen_rows
from betavae.networks.building import evaluation_mode
from betavae.objectives.api import Batch
from betavae.objectives.needs import needs_of, schedule_of
from betavae.training.batches import DeviceImages, scaled_factors
from betavae.training.devices import autocast, to_device
from betavae.training.losses import compute_loss, mean_terms
from betavae.training.seeding import derive_seed, draw_noise
from betavae.training.state import State


def held_out_terms(
    config: Config,
    data: FactorData,
    rows: NDArray[np.int64],
    num_train: int,
    state: State,
    images: DeviceImages | None = None,
) -> dict[str, float]:
    """Compute the loss and its terms on validation images, in nats, with the same noise in each call.

    For objectives with pairs, partners are drawn from all data that are not held out. For objectives with labels, the
    labels of all images are known.

    Args:
        config, data, state, images: see `train`.
        rows: rows of the images.
        num_train: number of training images, which some estimates use.
    """
    device, needs = next(state.model.parameters()).device, needs_of(config.objective)
    images, means = images or DeviceImages(data, device), []
    partners = Partners(data, needs.pairs, seen_rows(data, config.hold_out)) if needs.pairs else None
    count = config.batch_size // 2 if partners else config.batch_size
    schedule = schedule_of(config.objective, state.step)
    if needs.halves:
        rows = rows[: max(len(rows) - len(rows) % 2, 2)]
    with torch.no_grad(), evaluation_mode(state.model):
        for start in range(0, len(rows), count):
            batch = rows[start : start + count]
            if len(batch) < count and start:
                break  # images of a smaller batch would have more weight, and some estimates depend on the batch size
            if partners:
                generator = np.random.default_rng(derive_seed(config, "validation pairs", start))
                batch = np.concatenate([batch, partners(batch, generator)])
            shape = (len(batch), config.latent_dim)
            noise = draw_noise(config, "validation", start, shape, device)
            more_noise = draw_noise(config, "more validation", start, shape, device) if needs.more_noise else None
            labels = to_device(scaled_factors(data, batch), device) if needs.labelled_images else None
            inputs = Batch(images(batch), noise, schedule, state.memory, more_noise, labels, num_train, state.network)
            with autocast(config, device):
                loss = compute_loss(config.objective, state.model, inputs)
            means.append(mean_terms([loss], state.step))  # as numbers: small tensors would fragment the memory
    return {name: math.fsum(terms[name] for terms in means) / len(means) for name in means[0]}
