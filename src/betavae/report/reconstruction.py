"""How well a model reconstructs images, as one number that needs no knowledge of nats."""

import numpy as np
from numpy.typing import NDArray


def explained_pixels(images: NDArray[np.uint8], rebuilt: NDArray[np.uint8]) -> float:
    """The share of the pixels' variance that the reconstructions explain (R²), 0 to 1; nan if the images are equal.

    0 is what the mean image achieves.

    Args:
        images: images (N, C, H, W).
        rebuilt: their reconstructions, likewise.

    Example:
        >>> images = np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2)
        >>> explained_pixels(images, images), explained_pixels(images, np.full_like(images, 4))
        (1.0, 0.0)
    """
    mean = images.mean(0, dtype=np.float32)
    total = ((images - mean) ** 2).sum(dtype=np.float64)
    missed = ((images - rebuilt.astype(np.float32)) ** 2).sum(dtype=np.float64)
    return float(max(0.0, 1 - missed / total)) if total > 0 else float("nan")
