"""What generated data sets share: the table of a grid of factors, and random numbers that depend on the row alone."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from betavae.data.factor_data import FactorData


def factor_table(sizes: Sequence[int]) -> npt.NDArray[np.int32]:
    """Factor indices (N, K) of all combinations in C order: the last factor changes fastest.

    Example:
        >>> factor_table((2, 3)).tolist()
        [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    """
    return np.stack(np.unravel_index(np.arange(math.prod(sizes)), tuple(sizes)), axis=1).astype(np.int32)


def random_words(keys: npt.NDArray[np.integer], count: int, seed: int) -> npt.NDArray[np.uint64]:
    """Random numbers (B, count) of 64 bits. They depend only on the key of each line and on the seed.

    Source:
        Fast Splittable Pseudorandom Number Generators (Steele, Lea & Flood, 2014), the generator SplitMix64.
        https://doi.org/10.1145/2660193.2660195

    Example:
        >>> words = random_words(np.array([7, 8]), 3, seed=0)
        >>> np.array_equal(words[1], random_words(np.array([8]), 3, seed=0)[0])
        True
    """
    start = _mix(_mix(np.array([seed], np.uint64)) ^ keys.astype(np.uint64))
    return _mix(start[:, None] + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64))


def _mix(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    words = words ^ (words >> np.uint64(30))
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def random_bytes(keys: npt.NDArray[np.integer], count: int, seed: int) -> npt.NDArray[np.uint8]:
    """Random bytes (B, count), as `random_words`; the same on machines of either byte order."""
    words = random_words(keys, -(-count // 8), seed)
    return words.astype("<u8", copy=False).view(np.uint8)[:, :count]


class DrawnImages:
    """Images that are drawn from their factors when they are asked for. All of them must be distinct.

    They behave as a read-only array (N, pixels).

    Args:
        draw: function from factor indices (B, K) to images with ``num_pixels`` pixels each.
        factors: factor indices of all images (N, K).
        num_pixels: number of pixels of an image, channels counted.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        draw: Callable[[npt.NDArray[np.int32]], npt.NDArray[np.uint8]],
        factors: npt.NDArray[np.int32],
        num_pixels: int,
    ) -> None:
        self.shape = len(factors), num_pixels
        self._draw, self._factors = draw, factors

    nbytes = 0
    """Bytes in memory: none."""

    def __len__(self) -> int:
        return len(self._factors)

    def __getitem__(self, rows: Any) -> npt.NDArray[np.uint8]:
        """Pixels (B, num_pixels) of indices, a mask or a slice."""
        factors = self._factors[rows]
        drawn = self._draw(factors.reshape(-1, self._factors.shape[1]))
        return drawn.reshape(*factors.shape[:-1], self.shape[1])

    def digest(self) -> str:
        """SHA-256 of about a thousand images."""
        return hashlib.sha256(self[:: max(1, len(self) // 1_000)].tobytes()).hexdigest()

    def image_numbers(self) -> npt.NDArray[np.int64]:
        """A number for each distinct image (N,)."""
        return np.arange(len(self))


def drawn_data(
    name: str,
    draw: Callable[[npt.NDArray[np.int32]], npt.NDArray[np.uint8]],
    factors: Mapping[str, int],
    image_shape: tuple[int, int, int],
    factor_labels: tuple[tuple[float | str, ...], ...] = (),
) -> FactorData:
    """A data set of all combinations of factors, each drawn when it is asked for.

    Args:
        name: name of the data set.
        draw: see `DrawnImages`.
        factors: number of values of each factor.
        image_shape: (C, H, W).
        factor_labels: see `FactorData`.
    """
    sizes = tuple(factors.values())
    table = factor_table(sizes)
    return FactorData(
        name=name,
        packed=DrawnImages(draw, table, math.prod(image_shape)),
        image_shape=image_shape,
        max_value=255,
        factors=table,
        factor_names=tuple(factors),
        factor_sizes=sizes,
        factor_labels=factor_labels,
    )
