"""Tells the layouts and types of image arrays apart: NHWC, NCHW or NHW; uint8, booleans or floats in [0, 1]."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from betavae.files.images import possible_layouts

Layout = Literal["NHWC", "NCHW", "NHW"]


def layout_of(shape: tuple[int, ...]) -> Layout:
    """The layout of an array of images.

    Raises:
        ValueError: the array has no images, or no layout or two layouts fit.

    Example:
        >>> layout_of((9, 64, 64)), layout_of((9, 64, 64, 3)), layout_of((9, 1, 64, 64))
        ('NHW', 'NHWC', 'NCHW')
    """
    if len(shape) not in (3, 4) or 0 in shape:
        raise ValueError(
            f"images have the shape {shape}; it must be (N, H, W), (N, H, W, C) or (N, C, H, W) with at least one "
            "image and one pixel"
        )
    if len(shape) == 3:
        return "NHW"
    fitting = possible_layouts(shape)
    if len(fitting) == 2 and shape[1:] != (1, 1, 1):
        raise ValueError(
            f"images have the shape {shape}, which can be (N, C, H, W) or (N, H, W, C); say which with "
            "layout='NCHW' or layout='NHWC'"
        )
    if "NHWC" in fitting:
        return "NHWC"
    if "NCHW" in fitting:
        return "NCHW"
    alpha = "; drop the transparency, for example images[..., :3]" if 4 in (shape[1], shape[3]) else ""
    raise ValueError(
        f"images have the shape {shape}, and neither the second nor the last axis has 1 or 3 channels{alpha}"
    )


def check_pixel_type(dtype: np.dtype[Any]) -> None:
    """Refuse element types other than uint8, booleans and floats."""
    if dtype != np.uint8 and dtype.kind not in "bf":
        raise ValueError(
            f"images are {dtype}; they must be uint8 from 0 to 255, booleans, or floats from 0 to 1: for integers "
            "from 0 to 255, convert them with images.astype(numpy.uint8)"
        )


def as_bytes(images: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], int]:
    """Convert pixels to uint8; returns them and the value of a white pixel, 255 or (for booleans) 1.

    Raises:
        ValueError: a pixel is not in [0, 1], or of another type.

    Example:
        >>> as_bytes(np.array([0.0, 0.5, 1.0]))[0].tolist()
        [0, 128, 255]
    """
    check_pixel_type(images.dtype)
    if images.dtype == np.uint8:
        return images, 255
    if images.dtype.kind == "b":
        return images.view(np.uint8), 1
    low, high = float(images.min()), float(images.max())  # NaN if a pixel is NaN
    if not (low >= 0 and high <= 1):
        advice = "divide them by 255" if low >= 0 and 1 < high <= 255 else "scale them to [0, 1]"
        raise ValueError(f"images are floats from {low:g} to {high:g}; floats must be from 0 to 1: {advice}")
    return np.rint(255 * images.astype(np.float64)).astype(np.uint8), 255


def channels_last(images: npt.NDArray[Any], layout: Layout) -> npt.NDArray[Any]:
    """A view (N, H, W, C) of images of any layout."""
    if layout == "NHW":
        return images[..., None]
    return images if layout == "NHWC" else np.moveaxis(images, 1, -1)


def pixels_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, int, int]:
    """Height, width and channels of images of a layout."""
    if layout == "NCHW":
        return shape[2], shape[3], shape[1]
    return shape[1], shape[2], shape[3] if layout == "NHWC" else 1
