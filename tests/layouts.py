"""Writes tiny data sets in the original layouts. Each function returns what to give as `--data`."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import scipy.io
from PIL import Image

SIDE = 16
CARS = ("car_002_mesh", "car_010_mesh", "car_001_mesh")  # not in alphabetical order


def pixels(count, channels=3, side=SIDE, seed=0):
    """Images (count, side, side, channels): a bright square whose place and brightness follow the number."""
    images = np.random.default_rng(seed).integers(0, 60, (count, side, side, channels), dtype=np.uint8)
    for number in range(count):
        top, left = 2 * (number % 5), 2 * (number // 5 % 5)
        images[number, top : top + 6, left : left + 6] = 120 + number % 120
    return images


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(stream, "png")
    return stream.getvalue()


def grid(*sizes):
    return np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), 1)


def shapes3d(folder: Path) -> str:
    """Two floor hues, three scales and four orientations."""
    floor, scale, turn = grid(2, 3, 4).T
    values = np.array([0.75, 1.0, 1.25]), np.linspace(-30, 30, 4)
    zero = np.zeros(24)
    labels = np.stack([floor / 10, zero, zero, values[0][scale], zero, values[1][turn]], 1)
    with h5py.File(folder / "3dshapes.h5", "w") as file:
        file.create_dataset("images", data=pixels(24), chunks=(7, 8, 8, 3), compression="gzip")
        file.create_dataset("labels", data=labels)
    return str(folder / "3dshapes.h5")


def dsprites_hdf5(folder: Path) -> str:
    from betavae.data.generated import dsprites

    factors = dsprites.factor_table()[::9_973]
    with h5py.File(folder / "sprites.hdf5", "w") as file:
        file["imgs"] = dsprites.draw(factors)[:, 0]
        file["latents/classes"] = dsprites.latent_classes(factors)
        file["latents/values"] = dsprites.latent_values(factors)
    return str(folder / "sprites.hdf5")


def cars3d(folder: Path, packed: bool = True, listed: bool = True) -> str:
    """Three cars of 24 azimuths and 4 elevations; the archive lists them in another order than list.txt."""
    inside = folder / "data" / "cars"
    inside.mkdir(parents=True)
    for name in sorted(CARS):
        scipy.io.savemat(inside / f"{name}.mat", {"im": car(name), "mask": np.zeros((2, 2))}, do_compression=True)
    if listed:
        (inside / "list.txt").write_text("\n".join(CARS) + "\n")
    if not packed:
        return str(folder)
    with tarfile.open(folder / "nips2015-analogy-data.tar.gz", "w:gz") as archive:
        for file in sorted(inside.iterdir()):
            archive.add(file, f"data/cars/{file.name}")
        archive.add(inside / f"{CARS[0]}.mat", "data/sprites/other.mat")
    return str(folder / "nips2015-analogy-data.tar.gz")


def car(name):
    """im (height, width, 3, azimuth, elevation) of a car."""
    images = pixels(96, seed=int(name[4:7]))
    images[:, 0, 0, 0] = int(name[4:7])
    images[:, 0, 0, 1] = np.arange(96) // 4  # azimuth
    images[:, 0, 0, 2] = np.arange(96) % 4  # elevation
    return images.reshape(24, 4, SIDE, SIDE, 3).transpose(2, 3, 4, 0, 1)


def norb_bytes(array, magic):
    sizes = [*array.shape, 1, 1][: max(3, array.ndim)]
    return np.array([magic, array.ndim, *sizes], "<i4").tobytes() + np.ascontiguousarray(array).tobytes()


def small_norb(folder: Path) -> str:
    """Ten images of each half."""
    for half, seed in (("5x46789x9x18x6x2x96x96-training", 0), ("5x01235x9x18x6x2x96x96-testing", 1)):
        rng = np.random.default_rng(seed)
        images = np.stack([pixels(20, 1, seed=seed)[..., 0], pixels(20, 1, seed=seed + 9)[..., 0]], 1)
        info = np.stack([rng.integers(0, 9, 20), np.arange(20) % 9, 2 * (np.arange(20) % 18), np.arange(20) % 6], 1)
        tables = {"dat": (images, 0x1E3D4C55), "cat": (np.arange(20, dtype="<i4") % 5, 0x1E3D4C54)}
        tables["info"] = info.astype("<i4"), 0x1E3D4C54
        for name, (array, magic) in tables.items():
            (folder / f"smallnorb-{half}-{name}.mat.gz").write_bytes(gzip.compress(norb_bytes(array, magic)))
    return str(folder)


def mnist(folder: Path) -> str:
    for half, count in (("train", 40), ("t10k", 10)):
        images = pixels(count, 1, seed=count)[..., 0]
        header = np.array([2051, count, SIDE, SIDE], ">u4").tobytes()
        (folder / f"{half}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        labels = np.array([2049, count], ">u4").tobytes() + (np.arange(count) % 10).astype(np.uint8).tobytes()
        (folder / f"{half}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return str(folder)


def numbered_pngs(folder: Path, count: int) -> str:
    (folder / "images").mkdir()
    for number, image in enumerate(pixels(count)):
        (folder / "images" / f"{number:06}.png").write_bytes(png(image))
    return str(folder)


def ident3d(folder: Path) -> str:
    (folder / "train" / "images").mkdir(parents=True)
    for number, image in enumerate(pixels(40)):
        (folder / "train" / "images" / f"{number:06}.png").write_bytes(png(image))
    np.save(folder / "train" / "raw_latents.npy", np.random.default_rng(0).uniform(-1, 1, (40, 10)))
    return str(folder)


def celeba(folder: Path, packed: bool = True) -> str:
    names = [f"{number:06}.jpg" for number in range(1, 31)]
    attributes = np.where(np.random.default_rng(0).random((30, 3)) < 0.5, -1, 1)
    lines = [f"{name} {' '.join(f'{value:2}' for value in row)}" for name, row in zip(names, attributes, strict=True)]
    (folder / "list_attr_celeba.txt").write_text("\n".join(["30", "Bald Smiling Young ", *lines]) + "\n")
    (folder / "identity_CelebA.txt").write_text("".join(f"{name} {k % 4}\n" for k, name in enumerate(names)))
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for name, image in zip(names, pixels(30, side=24), strict=True):
            stream = io.BytesIO()
            Image.fromarray(image[:, :20]).save(stream, "jpeg", quality=95)
            archive.writestr(f"img_align_celeba/{name}", stream.getvalue())
    if not packed:
        with zipfile.ZipFile(folder / "img_align_celeba.zip") as archive:
            archive.extractall(folder)
        (folder / "img_align_celeba.zip").unlink()
    return str(folder)


def image_folder(folder: Path) -> str:
    for number, image in enumerate(pixels(24)):
        (folder / f"{number:02}.png").write_bytes(png(image))
    rows = [f"{hue},{size / 2},{'ab'[kind]}" for hue, size, kind in grid(3, 4, 2)]
    (folder / "factors.csv").write_text("\n".join(["hue,size,kind", *rows]) + "\n")
    return str(folder)


def parquet(folder: Path) -> str:
    """Shapes3D as on the hub, with columns in alphabetical order, in two files."""
    floor, scale, turn = grid(2, 3, 4).T
    classes = {"floor_hue": floor, "object_hue": floor, "orientation": turn, "scale": scale, "shape": floor}
    classes["wall_hue"] = floor
    columns = {f"label_{name}": column for name, column in classes.items()}
    columns |= {f"value_{name}": column / 2 - 1 for name, column in classes.items()}
    cells = [{"bytes": png(image), "path": None} for image in pixels(24)]
    for part, rows in enumerate((slice(0, 10), slice(10, 24))):
        table = {"image": cells[rows]} | {name: column[rows] for name, column in columns.items()}
        pa.parquet.write_table(pa.table(table), folder / f"train-0000{part}.parquet")
    return str(folder)


def npz(folder: Path) -> str:
    labels = np.stack([grid(4, 6)[:, 0] / 4, grid(4, 6)[:, 1]], 1)
    np.savez(folder / "my.npz", images=pixels(24), labels=labels, factor_names=["size", "kind"])
    return str(folder / "my.npz")


def npy(folder: Path) -> str:
    np.save(folder / "my.npy", pixels(24).transpose(0, 3, 1, 2) / 255)
    return str(folder / "my.npy")


def mpi3d(folder: Path, count: int = 460_800) -> str:
    """Images of one pixel: position modulo 256, twice, and 7."""
    images = np.zeros((count, 1, 1, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1], images[:, 0, 0, 2] = (
        np.arange(count) % 256,
        np.arange(count) // 256 % 256,
        7,
    )
    np.savez_compressed(folder / "mpi3d.npz", images=images)
    return str(folder / "mpi3d.npz")
