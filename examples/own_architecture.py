"""An architecture from outside the package: one hidden layer each side.

python examples/own_architecture.py runs/own [steps]
"""

import math
import sys

from torch import nn

from betavae.config import Config
from betavae.experiment import experiment
from betavae.networks.registry import register


def shallow(image_shape, latent_dim):
    """Encoder: images to means and log variances of latents. Decoder: latents to logits of pixels."""
    pixels = math.prod(image_shape)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 400), nn.ReLU(), nn.Linear(400, 2 * latent_dim))
    decoder = nn.Sequential(
        nn.Linear(latent_dim, 400), nn.ReLU(), nn.Linear(400, pixels), nn.Unflatten(1, tuple(image_shape))
    )
    return encoder, decoder


register("shallow", shallow)

if __name__ == "__main__":
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 5_000
    config = Config(model="shallow", steps=steps, learning_rate=1e-3, schedule="one-cycle", validation_images=0.02)
    print(experiment(config, sys.argv[1]).path("report.html"))
