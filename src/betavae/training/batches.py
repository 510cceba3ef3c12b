"""Training batches: the rows of each step, their labels, and their images on the device."""

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from betavae.config import Config
from betavae.data.factor_data import FactorData, PackedImages, iterate_blocks
from betavae.data.pairs import Partners
from betavae.data.subsets import correlation_weights
from betavae.objectives.needs import needs_of
from betavae.objectives.registry import objective_name
from betavae.training.devices import to_device
from betavae.training.seeding import derive_seed


class DeviceImages:
    """Images of a data set on a device. They stay packed and are unpacked batch by batch."""

    def __init__(self, data: FactorData, device: torch.device) -> None:
        self._packed: PackedImages | Tensor = data.packed
        if isinstance(data.packed, np.ndarray) and data.packed.flags.writeable:  # PyTorch warns of others
            self._packed = torch.from_numpy(data.packed).to(device)
        elif device.type != "cpu":  # on a CPU, `PackedImages` needs less memory
            self._packed = torch.empty(data.packed.shape, dtype=torch.uint8, device=device)
            for block_rows, block in iterate_blocks(data.packed):
                self._packed[block_rows] = torch.from_numpy(block).to(device)
        self._shape, self._max_value = data.image_shape, data.max_value
        self._channels_last = data.channels_last
        bits = torch.arange(256, device=device)[:, None] >> torch.arange(7, -1, -1, device=device)
        self._bits = (bits & 1).float()  # the eight bits of each byte value, most significant bit first

    def __call__(self, rows: NDArray[np.integer] | Tensor) -> Tensor:
        """Return the pixels of the rows in [0, 1], (B, C, H, W) float32."""
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
        channels, height, width = self._shape
        if self._channels_last:
            images = pixels.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        else:
            images = pixels.reshape(-1, channels, height, width)
        return images.contiguous(memory_format=torch.channels_last)


class _BatchOrder:
    """Rows of each batch: the training images in shuffled order, reshuffled in each epoch.

    A batch may extend over the end of an epoch.
    """

    def __init__(
        self, config: Config, rows: NDArray[np.int64], count: int | None = None, purpose: str = "order"
    ) -> None:
        self._config, self._rows, self._epoch, self._shuffled = config, rows, -1, rows
        self._count, self._purpose = count or config.batch_size, purpose

    def __call__(self, step: int) -> NDArray[np.int64]:
        first = step * self._count
        return np.concatenate([self._part(start, stop) for start, stop in self._split_by_epoch(first)])

    def _split_by_epoch(self, first: int) -> Iterator[tuple[int, int]]:
        last = first + self._count
        while first < last:
            stop = min(last, (first // len(self._rows) + 1) * len(self._rows))
            yield first, stop
            first = stop

    def _part(self, start: int, stop: int) -> NDArray[np.int64]:
        epoch, offset = divmod(start, len(self._rows))
        if epoch != self._epoch:
            generator = np.random.default_rng(derive_seed(self._config, self._purpose, epoch))
            self._epoch, self._shuffled = epoch, generator.permutation(self._rows)
        return self._shuffled[offset : offset + stop - start]


class _WeightedOrder:
    """Rows of each batch, drawn with weights and with replacement."""

    def __init__(
        self,
        config: Config,
        rows: NDArray[np.int64],
        weights: NDArray[np.float64],
        count: int | None = None,
        purpose: str = "correlated",
    ) -> None:
        self._config, self._rows, self._purpose = config, rows, purpose
        self._count = count or config.batch_size
        self._cumulative = np.cumsum(weights)

    def __call__(self, step: int) -> NDArray[np.int64]:
        generator = np.random.default_rng(derive_seed(self._config, self._purpose, step))
        return self.draw(generator, self._count)

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw rows."""
        places = generator.random(count) * self._cumulative[-1]
        drawn: NDArray[np.int64] = self._rows[np.searchsorted(self._cumulative[:-1], places, side="right")]
        return drawn


class StepRows:
    """Rows of each step and their labels, as required by the objective.

    Usually, a batch consists of consecutive images of the shuffled order. For objectives that use pairs or labels, only
    the first half does; the second half consists of the partners of the first half, or of labelled images. With
    correlated factors, images are drawn with weights instead, but partners are not.

    Args:
        config: settings.
        data: images and factors.
        rows: training rows. The first of them are labelled.

    Raises:
        ValueError: The data does not meet the requirements of the objective, or has fewer images than a batch.
    """

    def __init__(self, config: Config, data: FactorData, rows: NDArray[np.int64]) -> None:
        needs, name = needs_of(config.objective), objective_name(config.objective)
        num_factors = data.factors.shape[1]
        if (needs.pairs or needs.labelled_images) and not num_factors:
            raise ValueError(
                f"objective {name} needs images with known factors, but {data.name} has none; "
                "use data with factors, or an objective without labels such as beta"
            )
        if needs.labelled_images and config.latent_dim < num_factors:
            raise ValueError(
                f"latent_dim is {config.latent_dim}; objective {name} assigns a latent to each of the {num_factors} "
                f"factors ({', '.join(data.factor_names)}): set latent_dim to at least {num_factors}"
            )
        if config.batch_size > len(rows):
            raise ValueError(
                f"batch_size is {config.batch_size}, but there are only {len(rows):,} training images: set batch_size "
                f"to at most {len(rows)}"
            )
        self._config, self._data, self._rows = config, data, rows
        self._partners = Partners(data, needs.pairs, rows) if needs.pairs else None
        self._known: NDArray[np.bool_] | None = None
        self._labelled: _BatchOrder | _WeightedOrder | None = None
        weights = correlation_weights(data, config.correlate, rows)
        if needs.labelled_images:
            labelled = rows[: self._labelled_count(needs.labelled_images)]
            self._known = np.zeros(len(data), bool)
            self._known[labelled] = True
            if not needs.pairs:
                half = config.batch_size // 2
                self._labelled = (
                    _BatchOrder(config, labelled, half, "labelled")
                    if weights is None
                    else _WeightedOrder(config, labelled, weights[: len(labelled)], half, "correlated labels")
                )
        count = config.batch_size // 2 if self._partners or self._labelled else None
        self._order = (
            _BatchOrder(config, rows, count) if weights is None else _WeightedOrder(config, rows, weights, count)
        )

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Return the (batch_size,) rows of a step."""
        rows = self._order(step)
        if self._partners:
            generator = np.random.default_rng(derive_seed(self._config, "pairs", step))
            return np.concatenate([rows, self._partners(rows, generator)])
        return np.concatenate([rows, self._labelled(step)]) if self._labelled else rows

    def first(self, count: int) -> NDArray[np.int64]:
        """Return rows that are distributed like those of the batches: the first ones, or a weighted draw."""
        if isinstance(self._order, _BatchOrder):
            return self._rows[:count]
        return self._order.draw(np.random.default_rng(derive_seed(self._config, "correlated sample")), count)

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return factors scaled to [0, 1], -1 for unlabelled images; `None` if the objective needs no labels."""
        if self._known is None:
            return None
        return np.where(self._known[rows, None], scaled_factors(self._data, rows), np.float32(-1))

    def _labelled_count(self, setting: int | float) -> int:
        count = math.floor(setting * len(self._rows) + 1e-9) if isinstance(setting, float) else setting
        if not 1 <= count <= len(self._rows):
            raise ValueError(
                f"labelled_images is {setting}, which is {count} images; it must be between 1 and the number of "
                f"training images, {len(self._rows)}"
            )
        return count


def scaled_factors(data: FactorData, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (len(rows), K) factors, scaled so that the first value of each factor is 0 and the last is 1."""
    last = np.maximum(np.array(data.factor_sizes, np.float32) - 1, 1)
    return (data.factors[rows] / last).astype(np.float32)
