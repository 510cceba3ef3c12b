"""Layouts and number types of image arrays are told apart, or refused in a sentence."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from betavae.files.images import find_layout, mosaic, to_batch, to_unit_range

GREY, COLOUR = (1, 8, 6), (3, 8, 6)
LAYOUTS = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 2, 3, 1)}


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
@pytest.mark.parametrize(
    ("image_shape", "layout"),
    [
        *((GREY, layout) for layout in ("NCHW", "NHWC", "CHW", "HWC", "NHW", "HW")),
        *((COLOUR, layout) for layout in ("NCHW", "NHWC", "CHW", "HWC")),
    ],
)
def test_every_layout_gives_the_same_batch(kind, image_shape, layout):
    images = np.random.default_rng(0).random((4 if "N" in layout else 1, *image_shape), np.float32)
    given = images.transpose(LAYOUTS["NHWC"] if layout.endswith("C") else LAYOUTS["NCHW"])
    given = given if "N" in layout else given[0]
    given = given if "C" in layout else given.squeeze(-3)
    assert find_layout(given.shape, image_shape) == ("NHW" if given.shape == GREY else layout)
    assert np.array_equal(np.asarray(to_batch(kind(np.ascontiguousarray(given)), image_shape)), images)


@pytest.mark.parametrize(
    ("shape", "image_shape", "message"),
    [
        ((4, 28, 28), (3, 64, 64), r"\(4, 28, 28\); it must be \(N, 3, 64, 64\) or \(N, 64, 64, 3\), or one such"),
        ((4, 28, 28, 1), (1, 64, 64), r"it must be .* or \(N, 64, 64\), or one such image without N"),
        ((3, 3, 3), (3, 3, 3), r"\(3, 3, 3\) can be CHW or HWC"),
        ((4,), GREY, "it must be"),
        ((), GREY, "there is no image"),
        ((0, 8, 6), GREY, "there is no image"),
        ((9, 3, 64, 3), None, "can be NCHW or NHWC, .*with another number of images"),
        ((9, 4, 64, 64), None, "with 1 or 3 channels"),
    ],
)
def test_other_shapes_are_refused(shape, image_shape, message):
    with pytest.raises(ValueError, match=message):
        find_layout(shape, image_shape)


def test_without_a_size_channels_decide():
    assert [find_layout(shape) for shape in ((9, 64, 64), (9, 1, 64, 64), (9, 64, 64, 3))] == ["NHW", "NCHW", "NHWC"]


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([0, 255], np.uint8), [0, 1]),
        (np.array([0, 1], np.uint8), [0, 1]),
        (np.array([0, 2], np.uint8), [0, 2 / 255]),
        (np.array([False, True]), [0, 1]),
        (np.array([0.25, 1 + 1e-7]), [0.25, 1]),
        (np.array([0.5, 0], np.float16), [0.5, 0]),
    ],
)
def test_numbers_become_floats(kind, pixels, expected):
    found = to_unit_range(kind(pixels))
    assert str(found.dtype).removeprefix("torch.") == "float32"
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("pixels", "error", "message"),
    [
        (np.array([0, 200], np.int64), TypeError, "images are int64; they must be floats in .* or bool: divide"),
        (np.array([0.0, 255.0]), ValueError, "float64 from 0 to 255; floats must be in .* such as 255"),
        (np.array([0.0, np.nan]), ValueError, "from nan to nan"),
        (np.array([-1.0, 1.0]), ValueError, "from -1 to 1"),
    ],
)
def test_other_numbers_are_refused(pixels, error, message):
    for images in (pixels, torch.from_numpy(pixels)):
        with pytest.raises(error, match=message):
            to_unit_range(images)


@pytest.mark.parametrize("images", ["abc", [np.zeros((2, 2)), np.zeros((3, 3))], None, object()])
def test_what_is_no_array_is_refused(images):
    with pytest.raises(TypeError, match="images must be an array of numbers, got"):
        to_batch(images, GREY)


def test_gradients_of_a_tensor_are_kept():
    images = torch.rand(2, 8, 6, 3, requires_grad=True)
    to_batch(images, COLOUR).sum().backward()
    assert images.grad is not None


@given(st.integers(1, 4), st.integers(1, 5), st.integers(2, 20), st.integers(1, 20), st.sampled_from([1, 3]))
def test_a_mosaic_has_every_image_at_its_place(rows, columns, height, width, channels):
    images = np.random.default_rng(0).random((rows, columns, channels, height, width), np.float32)
    whole, gap = mosaic(images), max(1, width // 16)
    assert whole.shape == (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    last = whole[(rows - 1) * (height + gap) :, (columns - 1) * (width + gap) :]
    assert np.array_equal(last.transpose(2, 0, 1), np.floor(images[-1, -1] * np.float32(255) + np.float32(0.5)))
