"""The batches of a training: which rows each step takes, their labels, and their images on the device."""

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from betavae.config import Config
from betavae.data.factor_data import FactorData, PackedImages
from betavae.data.pairs import Partners
from betavae.objectives.registry import objective_name
from betavae.objectives.settings import needs_of
from betavae.training.devices import to_device
from betavae.training.seeding import derive_seed


class DeviceImages:
    """A data set's images on a device, packed as they are, unpacked a batch at a time."""

    def __init__(self, data: FactorData, device: torch.device) -> None:
        self._packed: PackedImages | Tensor = data.packed
        if device.type != "cpu" or isinstance(data.packed, np.ndarray):  # otherwise it is smaller than its array
            self._packed = torch.from_numpy(data.packed[:]).to(device)
        self._shape, self._max_value = data.image_shape, data.max_value
        bits = torch.arange(256, device=device)[:, None] >> torch.arange(7, -1, -1, device=device)
        self._bits = (bits & 1).float()  # of each byte, the first bit first

    def __call__(self, rows: NDArray[np.integer] | Tensor) -> Tensor:
        """Pixels in [0, 1], (B, C, H, W) float32."""
        if isinstance(self._packed, Tensor):
            if not isinstance(rows, Tensor):
                rows = to_device(np.asarray(rows, np.int64), self._packed.device)
            pixels = self._packed[rows]
        else:
            pixels = torch.from_numpy(self._packed[np.asarray(rows)])
        if self._max_value == 1:
            pixels = F.embedding(pixels.int(), self._bits).flatten(1)[:, : math.prod(self._shape)]
        else:
            pixels = pixels.float() / self._max_value
        images = pixels.reshape(-1, *self._shape)
        return images.contiguous(memory_format=torch.channels_last)


class _BatchOrder:
    """The rows of each batch: one shuffled pass over the training images after another, cut into batches."""

    def __init__(
        self, config: Config, rows: NDArray[np.int64], count: int | None = None, purpose: str = "order"
    ) -> None:
        self._config, self._rows, self._pass, self._shuffled = config, rows, -1, rows
        self._count, self._purpose = count or config.batch_size, purpose

    def __call__(self, step: int) -> NDArray[np.int64]:
        first = step * self._count
        return np.concatenate([self._span(start, stop) for start, stop in self._cuts(first)])

    def _cuts(self, first: int) -> Iterator[tuple[int, int]]:
        last = first + self._count
        while first < last:
            stop = min(last, (first // len(self._rows) + 1) * len(self._rows))
            yield first, stop
            first = stop

    def _span(self, start: int, stop: int) -> NDArray[np.int64]:
        number, offset = divmod(start, len(self._rows))
        if number != self._pass:
            generator = np.random.default_rng(derive_seed(self._config, self._purpose, number))
            self._pass, self._shuffled = number, generator.permutation(self._rows)
        return self._shuffled[offset : offset + stop - start]


class StepRows:
    """The rows of each step and the labels of their images, as the objective needs them.

    All of a batch is drawn in order; or its first half, and the second half is partners of the first, or labelled.

    Args:
        config: settings.
        data: images and factors.
        rows: those to train on. The first of them are the labelled ones.

    Raises:
        ValueError: the data cannot give what the objective needs, or not so many images as a batch has.
    """

    def __init__(self, config: Config, data: FactorData, rows: NDArray[np.int64]) -> None:
        needs, name = needs_of(config.objective), objective_name(config.objective)
        num_factors = data.factors.shape[1]
        if (needs.pairs or needs.labelled_images) and not num_factors:
            raise ValueError(
                f"objective {name} takes images with known factors, and {data.name} has none; "
                "give data with latents_classes, or take an objective such as beta"
            )
        if needs.labelled_images and config.latent_dim < num_factors:
            raise ValueError(
                f"latents is {config.latent_dim}; objective {name} ties a latent to each of the {num_factors} factors "
                f"({', '.join(data.factor_names)}): give at least {num_factors}"
            )
        if config.batch_size > len(rows):
            raise ValueError(
                f"batch_size is {config.batch_size}, and there are {len(rows):,} images to train on: give that many or "
                "fewer"
            )
        self._config, self._data, self._rows = config, data, rows
        self._partners = Partners(data, needs.pairs, rows) if needs.pairs else None
        self._known: NDArray[np.bool_] | None = None
        self._labelled: _BatchOrder | None = None
        if needs.labelled_images:
            labelled = rows[: self._labelled_count(needs.labelled_images)]
            self._known = np.zeros(len(data), bool)
            self._known[labelled] = True
            if not needs.pairs:
                self._labelled = _BatchOrder(config, labelled, config.batch_size // 2, "labelled")
        halved = self._partners or self._labelled
        self._order = _BatchOrder(config, rows, config.batch_size // 2 if halved else None)

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Rows of a step's images, `config.batch_size` of them."""
        rows = self._order(step)
        if self._partners:
            generator = np.random.default_rng(derive_seed(self._config, "pairs", step))
            return np.concatenate([rows, self._partners(rows, generator)])
        return np.concatenate([rows, self._labelled(step)]) if self._labelled else rows

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Factors of images scaled to [0, 1], -1 where not known; None where the objective needs no labels."""
        if self._known is None:
            return None
        return np.where(self._known[rows, None], scaled_factors(self._data, rows), np.float32(-1))

    def _labelled_count(self, wanted: int | float) -> int:
        count = math.floor(wanted * len(self._rows) + 1e-9) if isinstance(wanted, float) else wanted
        if not 1 <= count <= len(self._rows):
            raise ValueError(
                f"labelled_images is {wanted}, which is {count} images; there are {len(self._rows)} to train on: "
                "label at least 1 and no more than these"
            )
        return count


def scaled_factors(data: FactorData, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Factors of images, the first value of each as 0 and the last as 1, (len(rows), K)."""
    last = np.maximum(np.array(data.factor_sizes, np.float32) - 1, 1)
    return (data.factors[rows] / last).astype(np.float32)
