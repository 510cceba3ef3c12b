"""Compiles what the first run and the first scores would compile: the C kernels, and the boosted trees by numba.

`make` calls it when it sets up the environment. Without a C compiler, only the trees are compiled.
"""

import warnings

import numpy as np
import torch

from betavae import metrics
from betavae.kernels import build


def main() -> None:
    """Load the kernels for both types, and fit trees to classes and to continuous factors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the commands say themselves what is missing
        for dtype in (torch.float32, torch.bfloat16):
            build.library(dtype)
    rng = np.random.default_rng(0)
    classes = rng.integers((2, 3), size=(300, 2))
    latents = classes + rng.normal(size=(300, 2))
    metrics.dci(latents, classes, seed=0)
    metrics.dci(latents, latents, seed=0)


if __name__ == "__main__":
    main()
