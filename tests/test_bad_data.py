"""Damaged and wrong data files: each ends in one sentence that names the file and the cure."""

import gzip
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from betavae.data.loading import load_data
from tests import layouts


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("shapes3d", "3dshapes.h5"),
        ("cars3d", "nips2015-analogy-data.tar.gz"),
        ("small_norb", "smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat.gz"),
        ("small_norb", "smallnorb-5x01235x9x18x6x2x96x96-testing-info.mat.gz"),
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("mnist", "t10k-labels-idx1-ubyte.gz"),
        ("ident3d", "train/raw_latents.npy"),
        ("celeba", "img_align_celeba.zip"),
        ("parquet", "train-00001.parquet"),
        ("npz", "my.npz"),
        ("npy", "my.npy"),
        ("image_folder", "07.png"),
    ],
)
def test_truncated_files_are_named(tmp_path, kind, file):
    source = getattr(layouts, kind)(tmp_path)
    halved(tmp_path / file)
    with pytest.raises(ValueError, match=rf"{Path(file).name}.*(download it again|replace it)"):
        load_data(source)


@pytest.mark.parametrize("name", ["img_align_celeba.zip", "3dshapes.h5", "my.npz", "cars.tar.gz", "x.parquet"])
def test_web_pages_are_recognised(tmp_path, name):
    (tmp_path / name).write_text("<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>")
    with pytest.raises(ValueError, match=rf"{name} is a web page, not data: .* quota .*; download it again"):
        load_data(tmp_path / name)


def test_web_pages_in_a_folder_are_recognised(tmp_path):
    source = layouts.celeba(tmp_path)
    (tmp_path / "img_align_celeba.zip").write_text("<!DOCTYPE html><html><title>Quota exceeded</title>")
    with pytest.raises(ValueError, match=r"img_align_celeba\.zip is a web page, not data"):
        load_data(source)


def test_formats_that_are_not_known_are_named(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"something else entirely")
    with pytest.raises(ValueError, match=r"x\.bin has no format that betavae reads: npz and npy arrays, HDF5"):
        load_data(tmp_path / "x.bin")
    (tmp_path / "y.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"y\.h5 is empty; copy or download it again"):
        load_data(tmp_path / "y.h5")
    Image.new("L", (4, 4)).save(tmp_path / "z.png")
    with pytest.raises(ValueError, match=r"z\.png is a single file of a data set; give the folder"):
        load_data(tmp_path / "z.png")


def test_wrong_magic_numbers_are_named(tmp_path):
    source = layouts.small_norb(tmp_path)
    file = tmp_path / "smallnorb-5x46789x9x18x6x2x96x96-training-cat.mat.gz"
    file.write_bytes(gzip.compress(b"\0\0\0\0" + gzip.decompress(file.read_bytes())[4:]))
    with pytest.raises(ValueError, match=r"training-cat\.mat\.gz: it starts with 0x0, which is no magic number"):
        load_data(source)
    file.unlink()
    with pytest.raises(ValueError, match=r"has no file \*-training-cat\.mat\.gz; download all six"):
        load_data(source)


def test_cars_without_their_list_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"list\.txt is missing, which has the order of the cars"):
        load_data(layouts.cars3d(tmp_path, packed=False, listed=False))
    (tmp_path / "data" / "cars" / "list.txt").write_text("\n".join([*layouts.CARS, "car_999_mesh"]))
    with pytest.raises(ValueError, match=r"1 cars of list\.txt are missing, such as car_999_mesh\.mat"):
        load_data(tmp_path)
    with tarfile.open(tmp_path / "no-list.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "data" / "cars" / "car_001_mesh.mat", "data/cars/car_001_mesh.mat")
    with pytest.raises(ValueError, match=r"no-list\.tar\.gz: list\.txt is missing"):
        load_data(tmp_path / "no-list.tar.gz")


def test_labels_of_another_length_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=layouts.pixels(6), labels=np.arange(5))
    with pytest.raises(ValueError, match=r"a\.npz: labels has 5 rows for 6 images; it must have one for each image"):
        load_data(tmp_path / "a.npz")
    source = layouts.mnist(tmp_path)
    labels = np.array([2049, 3], ">u4").tobytes() + bytes(3)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte\.gz: it has 3 rows for 40 images"):
        load_data(source)


def test_tables_beside_a_folder_must_fit(tmp_path):
    source = layouts.image_folder(tmp_path)
    table = tmp_path / "factors.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"factors\.csv: it has 23 lines after the header for 24 images"):
        load_data(source)
    names = [f"{number:02}.png,{number % 2}" for number in reversed(range(24))]
    table.write_text("\n".join(["file,odd", *names]))
    assert load_data(source).factors[[3, 4], 0].tolist() == [1, 0]
    table.write_text("\n".join(["file,odd", *names[1:]]))
    with pytest.raises(ValueError, match=r"factors\.csv: it has no line for 23\.png; each image needs one"):
        load_data(source)
    table.write_text("\n".join(["size", *(str(number / 7) for number in range(24))]))
    with pytest.raises(ValueError, match=r"factor size has 24 different values for 24 images.* with --bins 20"):
        load_data(source)
    assert load_data(source, bins=4).factor_sizes == (4,)


def test_images_of_different_sizes_are_named_or_resized(tmp_path):
    layouts.image_folder(tmp_path)
    Image.new("RGB", (20, 12)).save(tmp_path / "05.png")
    message = r"00\.png has 16x16 pixels and .*05\.png has 20x12; all images must have one size: resize them"
    with pytest.raises(ValueError, match=message):
        load_data(tmp_path)
    assert load_data(tmp_path, image_size=8).image_shape == (3, 8, 8)


def test_arrays_in_hdf5_must_be_in_the_file(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        external = [(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("images", (4, 8, 8, 3), "u1", external=external)
    with pytest.raises(ValueError, match=r"x\.h5: images is stored in another file"):
        load_data(tmp_path / "x.h5")
