"""Encode images to posterior means and log variances."""

import numpy as np
import torch
from numpy.typing import NDArray

from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.model import VAE
from betavae.networks.building import evaluation_mode
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

    A model with quantised latents returns the quantised latents, with a log variance of minus infinity. If ``images``
    is `None`, the images of the data are copied to the device.
    """
    device = next(model.parameters()).device
    images = images or DeviceImages(data, device)
    mean = np.empty((len(rows), config.latent_dim), np.float32)
    log_var = np.empty_like(mean)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode(), evaluation_mode(model), autocast(config, device):
        for start in range(0, len(rows), batch_size):
            part = slice(start, start + batch_size)
            latents = model.represent(model.encode(images(rows[part])))
            mean[part], log_var[part] = latents.mean.cpu().numpy(), latents.log_var.cpu().numpy()
    return mean, log_var
