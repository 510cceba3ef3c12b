"""Tells apart the layouts and number types of image arrays, NumPy or PyTorch. Imports no torch.

Layouts: H x W for one grey image, N x H x W for several, with channels first (C x H x W) or last (H x W x C).
Numbers: floats in [0, 1], booleans, or bytes. Bytes of 0 and 1 only are black and white; other bytes go up to 255.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS = (1, 3)
"""Numbers of channels of an image: grey or colour."""
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_ROUNDING = 1e-5
"""How far floats may lie outside [0, 1], e.g. after resizing."""


def find_layout(shape: tuple[int, ...], image_shape: tuple[int, int, int] | None = None) -> str:
    """Find the layout of an array of images: HW, NHW, CHW, HWC, NCHW or NHWC.

    Args:
        shape: shape of the array.
        image_shape: (C, H, W) of each image, such as the shape that a model takes. If None, the array must have three
            axes (N, H, W) or four axes with 1 or 3 channels.

    Raises:
        ValueError: no layout fits, or two layouts fit. The message names the shape and what is allowed.

    Example:
        >>> find_layout((20, 64, 64, 3)), find_layout((64, 64), (1, 64, 64)), find_layout((3, 32, 32), (3, 32, 32))
        ('NHWC', 'HW', 'CHW')
    """
    if image_shape is None:
        fitting = possible_layouts(shape)
        allowed = "(N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels"
    else:
        fitting = _layouts_of_size(shape, image_shape)
        channels, height, width = image_shape
        allowed = f"(N, {channels}, {height}, {width}) or (N, {height}, {width}, {channels})"
        allowed += f" or (N, {height}, {width})" if channels == 1 else ""
        allowed += ", or one such image without N"
    if not shape or math.prod(shape) == 0:
        raise ValueError(f"images have the shape {shape}, so there is no image; give {allowed}")
    if not fitting:
        raise ValueError(f"images have the shape {shape}; it must be {allowed}")
    if len(fitting) > 1:
        raise ValueError(
            f"images of the shape {shape} can be {' or '.join(fitting)}, where N counts images and C is channels; "
            "give them as (N, C, H, W)" + (" with another number of images" if image_shape is None else "")
        )
    return fitting[0]


def possible_layouts(shape: tuple[int, ...]) -> list[str]:
    """Layouts of several images whose size is not known: NHW, or NCHW and NHWC, whichever have 1 or 3 channels."""
    if len(shape) == 3:
        return ["NHW"]
    if len(shape) != 4:
        return []
    return [layout for layout, axis in (("NCHW", 1), ("NHWC", 3)) if shape[axis] in CHANNELS]


def _layouts_of_size(shape: tuple[int, ...], image_shape: tuple[int, int, int]) -> list[str]:
    channels, height, width = image_shape
    sizes = {"C": channels, "H": height, "W": width}
    layouts = [layout for layout in ("NCHW", "NHWC", "CHW", "HWC", "NHW", "HW") if channels == 1 or "C" in layout]
    fitting = [
        layout
        for layout in layouts
        if len(layout) == len(shape)
        and all(sizes.get(axis, size) == size for axis, size in zip(layout, shape, strict=True))
    ]
    return ["NHW"] if set(fitting) == {"CHW", "NHW"} else fitting  # (1, H, W) is one grey image either way


def with_layout(images: Any, layout: str) -> Any:
    """Rearrange an array of a known layout, NumPy or PyTorch, to (N, C, H, W). Values are not copied if possible.

    Example:
        >>> with_layout(np.zeros((5, 64, 32, 3)), "NHWC").shape, with_layout(np.zeros((64, 32)), "HW").shape
        ((5, 3, 64, 32), (1, 1, 64, 32))
    """
    if "N" not in layout:
        images, layout = images[None], f"N{layout}"
    if layout == "NHWC":
        return np.moveaxis(images, 3, 1) if isinstance(images, np.ndarray) else images.movedim(3, 1)
    return images[:, None] if layout == "NHW" else images


def to_unit_range(images: Any) -> Any:
    """Convert pixels to float32 in [0, 1], as NumPy or PyTorch as given.

    Booleans are 0 and 1. Bytes are divided by 255, unless all of them are 0 or 1. Floats must be in [0, 1].

    Raises:
        TypeError: another number type.
        ValueError: floats outside [0, 1], or not finite.

    Example:
        >>> to_unit_range(np.array([0, 51, 255], np.uint8)), to_unit_range(np.array([0, 1, 1], np.uint8))
        (array([0. , 0.2, 1. ], dtype=float32), array([0., 1., 1.], dtype=float32))
    """
    kind = str(images.dtype).removeprefix("torch.")
    if kind not in ("bool", "uint8", *_FLOATS):
        raise TypeError(
            f"images are {kind}; they must be floats in [0, 1], bytes (uint8) or bool: divide them by their largest "
            "possible value"
        )
    low, high = images.min().item(), images.max().item()
    if kind in _FLOATS and not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise ValueError(
            f"images are {kind} from {low:.4g} to {high:.4g}; floats must be in [0, 1]: divide them by their largest "
            "possible value, such as 255, or pass bytes (uint8)"
        )
    single = images.astype(np.float32) if isinstance(images, np.ndarray) else images.float()
    if kind == "uint8" and high > 1:
        return single / 255
    return single.clip(0, 1)


def to_batch(images: Any, image_shape: tuple[int, int, int]) -> Any:
    """Convert images of any layout and number type to (N, C, H, W) float32 in [0, 1].

    Args:
        images: one image or several: a NumPy array, a PyTorch tensor, a Pillow image, or nested lists.
        image_shape: (C, H, W) of each image.

    Returns:
        A tensor if a tensor is given, on its device and with its gradients; else a NumPy array.

    Raises:
        TypeError: the images are not numbers, or have another number type.
        ValueError: the shape fits no layout, or more than one; floats outside [0, 1].

    Example:
        >>> to_batch(np.full((28, 28), 255, np.uint8), (1, 28, 28)).shape
        (1, 1, 28, 28)
    """
    images = to_array(images)
    return to_unit_range(with_layout(images, find_layout(tuple(images.shape), image_shape)))


def to_array(images: Any) -> Any:
    """Return tensors as they are, and everything else as a NumPy array.

    Raises:
        TypeError: the images are not one array of numbers, e.g. because they differ in size.
    """
    if hasattr(images, "movedim"):
        return images
    try:
        array: NDArray[Any] = np.asarray(images)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"images must be an array of numbers, got {type(images).__name__}: pass one array, with images of one size"
        )
    return array


def mosaic(images: NDArray[np.float32], gap: int | None = None) -> NDArray[np.uint8]:
    """Place images (R, K, C, H, W) in [0, 1] in R rows and K columns on a white ground; returns bytes (H', W', C).

    Args:
        images: the images.
        gap: pixels between two images. If None, a sixteenth of their width.

    Example:
        >>> mosaic(np.zeros((2, 3, 1, 64, 64), np.float32)).shape
        (132, 200, 1)
    """
    rows, columns, channels, height, width = images.shape
    gap = max(1, width // 16) if gap is None else gap
    ground = np.full((rows, height + gap, columns, width + gap, channels), 255, np.uint8)
    pixels = (images * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    ground[:, :height, :, :width] = pixels.transpose(0, 3, 1, 4, 2)
    whole = ground.reshape(rows * (height + gap), columns * (width + gap), channels)
    return whole[: whole.shape[0] - gap, : whole.shape[1] - gap]
