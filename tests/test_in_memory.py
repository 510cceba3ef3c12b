"""Data sets made of arrays, PyTorch data sets and Hugging Face data sets; factors of any kind and number."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch.utils.data import TensorDataset

from betavae import FactorData
from betavae.data.loading import load_data
from betavae.training.batches import DeviceImages
from tests import layouts

PIXELS = layouts.pixels(12)
LABELS = np.stack([layouts.grid(3, 4)[:, 0] / 4, layouts.grid(3, 4)[:, 1]], 1)


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        PIXELS.transpose(0, 3, 1, 2),
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32),
        torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255,
    ],
)
def test_layouts_and_types_give_the_same_data(images):
    data = FactorData.from_arrays(images, LABELS, ["size", "kind"])
    assert np.array_equal(data.images(slice(None)), PIXELS.transpose(0, 3, 1, 2))
    assert data.digest == FactorData.from_arrays(PIXELS).digest
    assert data.factor_values[0].tolist() == [0, 0.25, 0.5]
    batch = DeviceImages(data, torch.device("cpu"))(np.array([3, 5]))
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal((255 * batch).round().numpy(), PIXELS[[3, 5]].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("convert", [lambda bits: bits, lambda bits: bits.astype(np.uint8), lambda bits: bits * 1.0])
@pytest.mark.parametrize("channels", [0, 1, 3])
def test_images_of_two_values_are_packed(convert, channels):
    bits = np.random.default_rng(0).random((5, 8, 7, channels) if channels else (5, 8, 7)) < 0.5
    data = FactorData.from_arrays(convert(bits))
    assert (data.max_value, data.packed.shape) == (1, (5, -(-8 * 7 * max(channels, 1) // 8)))
    expected = bits[..., None] if not channels else bits
    assert np.array_equal(data.images([1, 4]), expected[[1, 4]].transpose(0, 3, 1, 2))
    batch = DeviceImages(data, torch.device("cpu"))(np.array([1, 4]))
    assert np.array_equal(batch.numpy(), expected[[1, 4]].transpose(0, 3, 1, 2))


def test_arrays_on_disk_are_not_copied(tmp_path):
    np.save(tmp_path / "a.npy", PIXELS)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    data = FactorData.from_arrays(mapped)
    assert np.shares_memory(data.packed, mapped)
    DeviceImages(data, torch.device("cpu"))(np.array([0]))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 9, 3), np.uint8), r"can be \(N, C, H, W\) or \(N, H, W, C\); say which with layout='NCHW'"),
        (np.zeros((2, 9, 9, 4), np.uint8), r"neither the second nor the last axis has 1 or 3 channels; drop the trans"),
        (np.zeros((9, 9), np.uint8), r"images have the shape \(9, 9\); it must be \(N, H, W\)"),
        (np.zeros((0, 9, 9), np.uint8), r"with at least one image and one pixel"),
        (np.full((2, 9, 9), 200.0), r"floats from 200 to 200; floats must be from 0 to 1: divide them by 255"),
        (np.full((2, 9, 9), -0.5), r"floats from -0\.5 to -0\.5; .* scale them to \[0, 1\]"),
        (np.full((2, 9, 9), np.nan), r"floats from nan to nan"),
        (np.zeros((2, 9, 9), np.int64), r"images are int64; they must be uint8 .*astype\(numpy\.uint8\)"),
        (np.full((2, 9, 9), None), r"images are object"),
    ],
)
def test_unclear_arrays_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        FactorData.from_arrays(images)


def test_layout_decides_between_two():
    images = np.zeros((2, 3, 9, 3), np.uint8)
    assert FactorData.from_arrays(images, layout="NHWC").image_shape == (3, 3, 9)
    assert FactorData.from_arrays(images, layout="NCHW").image_shape == (3, 9, 3)


def test_factors_come_in_any_form():
    columns = {"size": LABELS[:, 0], "kind": np.array(["ab"[int(k) % 2] for k in LABELS[:, 1]])}
    one = FactorData.from_arrays(PIXELS, columns)
    other = FactorData.from_arrays(PIXELS, pd.DataFrame(columns))
    assert one.factor_names == other.factor_names == ("size", "kind")
    assert np.array_equal(one.factors, other.factors)
    assert other.factor_values[1].tolist() == ["a", "b"]
    assert FactorData.from_arrays(PIXELS, [0, 1] * 6, ["odd"]).factor_sizes == (2,)
    for wrong, message in (
        ([0] * 11, "has 11 labels for 12 images"),
        (np.full(12, np.nan), "has NaN or infinity in row 0"),
        (np.zeros((12, 2, 2)), r"factors have the shape \(12, 2, 2\)"),
        (np.arange(12) / 7, r"has 12 different values for 12 images.*bins=20"),
    ):
        with pytest.raises(ValueError, match=message):
            FactorData.from_arrays(PIXELS, wrong)
    with pytest.raises(ValueError, match=r"names are \['a'\] for 2 factors"):
        FactorData.from_arrays(PIXELS, LABELS, ["a"])
    assert FactorData.from_arrays(PIXELS, np.arange(12) / 7, bins=4).factor_sizes == (4,)
    assert FactorData.from_arrays(PIXELS, np.arange(12) / 7, continuous=True).continuous == (True,)


def test_text_cannot_be_merged():
    with pytest.raises(ValueError, match=r"factor_0 has 12 different texts, such as 'a', which cannot be merged"):
        FactorData.from_arrays(PIXELS, list("abcdefghijkl"), bins=4)


def test_many_factors_of_many_values_do_not_overflow():
    rng = np.random.default_rng(0)
    factors = np.stack([rng.permutation(3_000) for _ in range(10)], 1)
    data = FactorData.from_arrays(np.zeros((3_000, 2, 2), np.uint8), factors)
    rows = np.array([5, 2_999, 0])
    assert np.array_equal(data.rows(data.factors[rows]), rows)
    absent = data.factors[rows].copy()
    absent[:, 9] = (absent[:, 9] + 1) % 3_000
    assert data.find(absent).tolist() == [-1, -1, -1]
    absent[:, 0] = (absent[:, 0] + 1) % 3_000
    assert data.find(absent).tolist() == [-1, -1, -1]
    few = FactorData.from_arrays(PIXELS, LABELS)
    assert few.keys(few.factors).tolist() == np.ravel_multi_index(tuple(few.factors.T), few.factor_sizes).tolist()


def test_pytorch_data_sets_are_read():
    tensors = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    data = FactorData.from_dataset(TensorDataset(tensors, torch.from_numpy(LABELS)), ["size", "kind"])
    assert np.array_equal(data.images(slice(None)), tensors.numpy())
    assert data.factor_sizes == (3, 4)
    assert FactorData.from_dataset(TensorDataset(tensors, torch.arange(12) % 2)).factor_names == ("label",)
    assert FactorData.from_dataset(TensorDataset(tensors)).factor_names == ()
    with pytest.raises(ValueError, match=r"image 0 has the shape \(4, 4, 1\) and image 1 \(5, 4, 1\)"):
        FactorData.from_dataset([np.zeros((4, 4), np.uint8), np.zeros((5, 4), np.uint8)])
    with pytest.raises(ValueError, match="it must have a length and items by index"):
        FactorData.from_dataset(iter(PIXELS))


class Rows:
    """What `datasets.Dataset` offers of itself as Arrow tables."""

    def __init__(self, table):
        self._table = table

    def with_format(self, kind):
        assert kind == "arrow"
        return self

    def __len__(self):
        return len(self._table)

    def __getitem__(self, rows):
        return self._table[rows]


def test_hugging_face_data_sets_are_read_like_parquet(tmp_path):
    layouts.parquet(tmp_path)
    table = pa.parquet.read_table(tmp_path)
    data, expected = FactorData.from_hf(Rows(table)), load_data(tmp_path)
    assert np.array_equal(data.images(slice(None)), expected.images(slice(None)))
    assert np.array_equal(data.factors, expected.factors)
    assert data.factor_names == expected.factor_names
    with pytest.raises(ValueError, match=r"this is a dict, not a datasets\.Dataset; pass one of its splits: train"):
        FactorData.from_hf({"train": Rows(table)})
