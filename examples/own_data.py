"""A data set from outside the package: a bright dot at every place.

python examples/own_data.py runs/own [steps], or: betavae --import examples/own_data.py train --data dots
"""

import sys

import numpy as np

from betavae import Config, FactorData
from betavae.data.registry import register
from betavae.experiment import experiment


def dots(side: int = 32, places: int = 28) -> FactorData:
    """Images (1, side, side) with a dot of 5x5 pixels; the factors are its column and its row."""
    y, x = np.divmod(np.arange(places**2), places)
    images = np.zeros((places**2, 1, side, side), np.uint8)
    for number in range(places**2):
        images[number, 0, y[number] : y[number] + 5, x[number] : x[number] + 5] = 1
    factors = np.stack([x, y], 1).astype(np.int32)
    packed = np.packbits(images.reshape(len(images), -1), axis=1)
    return FactorData("dots", packed, (1, side, side), 1, factors, ("x", "y"), (places, places))


register("dots", dots)

if __name__ == "__main__":
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 2_000
    config = Config(data="dots", latent_dim=4, steps=steps, learning_rate=1e-3, validation_images=0.1)
    print(experiment(config, sys.argv[1]).path("report.html"))
