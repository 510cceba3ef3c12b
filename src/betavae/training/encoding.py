"""Encodes images to posterior means and log variances."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.model import VAE
from betavae.training.batches import DeviceImages
from betavae.training.devices import autocast


def encode(
    config: Config,
    data: FactorData,
    rows: NDArray[np.int64],
    model: VAE,
    batch_size: int = 256,
    images: DeviceImages | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Posterior means and log variances of images, each (len(rows), latents) float32, in the order of the rows.

    Of a model that rounds its latents: the rounded latents, and the log variance of what has no variance, minus
    infinity. The data's images are put on the device where they are not given.
    """
    device = next(model.parameters()).device
    images = images or DeviceImages(data, device)
    mean = np.empty((len(rows), config.latent_dim), np.float32)
    log_var = np.empty_like(mean)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode(), evaluation_mode(model), autocast(config, device):
        for start in range(0, len(rows), batch_size):
            span = slice(start, start + batch_size)
            latents = model.represent(model.encode(images(rows[span])))
            mean[span], log_var[span] = latents.mean.cpu().numpy(), latents.log_var.cpu().numpy()
    return mean, log_var


@contextmanager
def evaluation_mode(model: VAE) -> Iterator[None]:
    """What it gives for an image depends on that alone meanwhile; then each layer is as it was, in training or not."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training
