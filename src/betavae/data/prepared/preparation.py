"""What is done to images and factors before training: crop, resize, change of channels, merged values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from betavae.data.readers.images import in_threads

if TYPE_CHECKING:
    from betavae.config import Config

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Preparation:
    """Changes of images and factors, in this order. None leaves as is.

    Attributes:
        crop: side of the square that is cut from the centre, in pixels.
        image_size: side of the square to which images are resized, by a Lanczos filter.
        channels: 1 for grey, 3 for colour.
        bins: intervals into which the values of a factor are merged, if it has more.
    """

    crop: int | None = None
    image_size: int | None = None
    channels: int | None = None
    bins: int | None = None

    def __str__(self) -> str:
        """The settings that are given, such as "crop 148, image_size 64"; "none" if none is."""
        return ", ".join(f"{name} {value}" for name, value in asdict(self).items() if value is not None) or "none"

    def changes(self, shape: Shape) -> bool:
        """Whether images of this height, width and number of channels are changed."""
        return self.shape_of(shape) != shape

    def shape_of(self, shape: Shape) -> Shape:
        """Height, width and channels of prepared images.

        Raises:
            ValueError: the images are smaller than the crop.

        Example:
            >>> Preparation(crop=148, image_size=64).shape_of((218, 178, 3))
            (64, 64, 3)
        """
        height, width, channels = shape
        if self.crop is not None:
            if self.crop > min(height, width):
                raise ValueError(
                    f"crop is {self.crop}, and an image has {width}x{height} pixels: crop at most {min(height, width)}"
                )
            height = width = self.crop
        if self.image_size is not None:
            height = width = self.image_size
        return height, width, channels if self.channels is None else self.channels

    def apply(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Prepare images (B, H, W, C) of 0 to 255.

        Example:
            >>> Preparation(crop=4, image_size=2, channels=3).apply(np.full((1, 6, 5, 1), 7, np.uint8)).shape
            (1, 2, 2, 3)
        """
        shape = self.shape_of(images.shape[1:])
        if self.crop is not None:
            top, left = (images.shape[1] - self.crop) // 2, (images.shape[2] - self.crop) // 2
            images = images[:, top : top + self.crop, left : left + self.crop]
        if images.shape[1:3] != shape[:2]:
            images = np.stack([*in_threads(lambda image: _resized(image, shape[0]), images)])
        if images.shape[3] == shape[2]:
            return images
        if shape[2] == 3:
            return np.repeat(images, 3, axis=3)
        # The weights of ITU-R BT.601, which Pillow's mode L has as well.
        grey = images.astype(np.uint32) @ np.array([19_595, 38_470, 7_471], np.uint32) + 0x8000 >> 16
        return grey.astype(np.uint8)[..., None]


NOTHING = Preparation()
"""Images and factors stay as they are."""


def preparation_of(config: Config) -> Preparation:
    """The preparation in the settings of a run."""
    return Preparation(config.crop, config.image_size, config.channels, config.bins)


def _resized(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    pixels = Image.fromarray(np.ascontiguousarray(image[:, :, 0] if image.shape[2] == 1 else image))
    return np.asarray(pixels.resize((side, side), Image.Resampling.LANCZOS)).reshape(side, side, image.shape[2])
