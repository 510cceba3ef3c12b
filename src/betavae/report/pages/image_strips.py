"""Small images for pages: reconstructions in pairs, and one strip of decoded images for each active latent."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from betavae.metrics.inputs import INACTIVE_NATS
from betavae.model import VAE
from betavae.report.explorer.latents import Explorer, LatentSummary
from betavae.report.pages.image_uri import picture_uri

STEPS = 11
"""Number of images in a strip."""
_MOST_STRIPS = 12


@dataclass(frozen=True)
class TraversalStrip:
    """The traversal of one latent, as one image with its frames side by side.

    Attributes:
        latent: the traversed latent.
        uri: the strip as a data URI.
    """

    latent: LatentSummary
    uri: str


def decode(model: VAE, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Decode latents (N, D) to images (N, C, H, W) from 0 to 255."""
    with torch.inference_mode():
        images = model.decode(torch.from_numpy(latents)).nan_to_num(0).clamp(0, 1).mul(255).round().byte()
    return np.asarray(images.numpy())


def reconstruction_pairs(explorer: Explorer) -> list[tuple[str, str]]:
    """The start images and their reconstructions as data URIs."""
    rebuilt = decode(explorer.model, explorer.seed_latents.astype(np.float32))
    return [
        (picture_uri(image), picture_uri(other)) for image, other in zip(explorer.seed_images, rebuilt, strict=True)
    ]


def traversal_strips(explorer: Explorer) -> list[TraversalStrip]:
    """Traversals of the first start image along the active latents, the largest KL first, over the slider's range."""
    strips = []
    for latent in [latent for latent in explorer.latents if latent.kl >= INACTIVE_NATS][:_MOST_STRIPS]:
        strips.append(TraversalStrip(latent, join(traversal(explorer.model, explorer.seed_latents[0], latent))))
    return strips


def traversal(model: VAE, start: NDArray[np.floating], latent: LatentSummary) -> NDArray[np.uint8]:
    """Decode the latents of one image (D,) while one latent moves through its range, with its shown sign."""
    moved = np.tile(start.astype(np.float32), (STEPS, 1))
    moved[:, latent.index] = latent.sign * np.linspace(*latent.shown_range, STEPS)
    return decode(model, moved)


def join(images: NDArray[np.uint8]) -> str:
    """Images (N, C, H, W) side by side, with a grey line of one pixel between them, as a data URI."""
    padded = np.pad(images, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=128)
    return picture_uri(np.concatenate(list(padded), axis=-1)[..., :-1])
