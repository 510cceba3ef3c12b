"""Data sets in their original layouts: pixels and factors at named places, and runs on each of them."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from betavae import config_files
from betavae.config import Config
from betavae.data.generated import dsprites
from betavae.data.loading import load_data
from betavae.data.readers import grid_folder, mpi3d
from betavae.experiment import experiment
from betavae.runs.contents import data_of
from betavae.runs.folder import read_curve, read_json
from betavae.scoring import score_run
from tests import layouts


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Callable[[str], str]:
    """Writes a layout once; returns what to load."""
    sources: dict[str, str] = {}

    def write(name: str) -> str:
        if name not in sources:
            sources[name] = getattr(layouts, name)(tmp_path_factory.mktemp(name))
        return sources[name]

    return write


def test_shapes3d_has_the_values_of_the_file(written):
    data = load_data(written("shapes3d"))
    assert data.factor_names == ("floor hue", "scale", "orientation")
    assert [values.tolist() for values in data.factor_values] == [[0, 0.1], [0.75, 1, 1.25], [-30, -10, 10, 30]]
    assert np.array_equal(data.images(slice(None)).transpose(0, 2, 3, 1), layouts.pixels(24))
    assert data.factors[13].tolist() == [1, 0, 1]
    assert np.array_equal(data.images(data.rows([[1, 2, 3]]))[0].transpose(1, 2, 0), layouts.pixels(24)[23])


def test_dsprites_of_both_formats_are_the_generated_ones(written):
    data = load_data(written("dsprites_hdf5"))
    assert data.is_dsprites
    assert np.array_equal(data.images(slice(None)), dsprites.draw(dsprites.factor_table()[::9_973]))
    assert isinstance(data.packed, dsprites.Sprites)


@pytest.mark.parametrize("packed", [True, False])
def test_cars3d_follows_list_txt(tmp_path, packed):
    data = load_data(layouts.cars3d(tmp_path, packed))
    assert (data.name, data.factor_names, data.factor_sizes) == (
        "cars3d",
        ("elevation", "azimuth", "object type"),
        (4, 24, 3),
    )
    assert data.factor_values[2].tolist() == list(layouts.CARS)
    for elevation, azimuth, car in ((0, 0, 0), (3, 5, 1), (2, 23, 2)):
        image = data.images(data.rows([[elevation, azimuth, car]]))[0].transpose(1, 2, 0)
        name = layouts.CARS[car]
        assert np.array_equal(image, layouts.car(name)[..., azimuth, elevation])
        assert image[0, 0].tolist() == [int(name[4:7]), azimuth, elevation]


def test_small_norb_has_both_halves_and_one_camera(written):
    data = load_data(written("small_norb"))
    assert data.factor_names == ("category", "elevation", "azimuth", "lighting")
    assert data.factors[17, 2] == 17  # 34 in the file
    assert data.factor_values[2][17] == 340
    assert data.factor_values[0][data.factors[24, 0]] == "car"
    assert np.array_equal(data.images([3, 20])[0, 0], layouts.pixels(20, 1, seed=0)[3, ..., 0])
    assert np.array_equal(data.images([3, 20])[1, 0], layouts.pixels(20, 1, seed=1)[0, ..., 0])
    assert data.labels["half"][[19, 20]].tolist() == ["training", "testing"]
    assert len(data.labels["instance"]) == 40
    both = load_data(f"smallnorb-stereo:{written('small_norb')}")
    assert both.factor_names[-1] == "camera"
    assert np.array_equal(both.images([7])[0, 0], layouts.pixels(20, 1, seed=9)[3, ..., 0])


def test_mnist_has_both_halves_and_its_classes(written):
    data = load_data(written("mnist"))
    assert (len(data), data.factor_names, data.factor_sizes) == (50, ("class",), (10,))
    assert np.array_equal(data.images([40])[0, 0], layouts.pixels(10, 1, seed=10)[0, ..., 0])
    assert data.factors[[7, 43], 0].tolist() == [7, 3]
    named = load_data(f"fashionmnist:{written('mnist')}")
    assert named.factor_values[0][9] == "ankle boot"
    assert named.factors[[7, 43], 0].tolist() == [7, 3]


def test_mpi3d_follows_the_number_of_images(written):
    path = written("mpi3d")
    with pytest.raises(ValueError, match=r"mpi3d-complex and mpi3d-toy-first both have 460,800 images.*mpi3d-complex:"):
        load_data(path)
    with pytest.raises(ValueError, match=r"it has 460,800 images, and mpi3d-toy has 1,036,800"):
        load_data(f"mpi3d-toy:{path}")
    data = load_data(f"mpi3d-complex:{path}")
    assert data.factor_sizes == (4, 4, 2, 3, 3, 40, 40)
    assert data.factor_values[1].tolist() == ["coffee cup", "tennis ball", "croissant", "beer cup"]
    row = ((((2 * 4 + 3) * 2 + 1) * 3 + 2) * 3 + 1) * 1600 + 5 * 40 + 7
    assert data.rows([[2, 3, 1, 2, 1, 5, 7]]).tolist() == [row]
    assert data.images([row]).ravel().tolist() == [row % 256, row // 256 % 256, 7]
    assert mpi3d.num_images("mpi3d-real") == 1_036_800


def test_numbered_images_are_a_grid(tmp_path, monkeypatch):
    monkeypatch.setitem(grid_folder.GRIDS, "isaac3d", {"object shape": 3, "robot x": 2, "wall color": 4})
    data = load_data(layouts.numbered_pngs(tmp_path, 24))
    assert (data.name, data.factor_sizes) == ("isaac3d", (3, 2, 4))
    assert data.factor_values[0].tolist() == [0, 0.5, 1]
    assert np.array_equal(data.images(data.rows([[2, 0, 3]]))[0].transpose(1, 2, 0), layouts.pixels(24)[19])
    (tmp_path / "images" / "000007.png").unlink()
    with pytest.raises(ValueError, match=r"has 23 of the 24 images of isaac3d; 000007\.png is missing"):
        load_data(f"isaac3d:{tmp_path}")


def test_ident3d_stays_continuous(written):
    data = load_data(written("ident3d"))
    raw = np.random.default_rng(0).uniform(-1, 1, (40, 10))
    assert np.array_equal(data.scored_factors(), raw)
    assert data.continuous == (True,) * 10
    merged = load_data(written("ident3d"), bins=5)
    assert max(merged.factor_sizes) == 5
    assert not any(merged.continuous)


@pytest.mark.parametrize("packed", [True, False])
def test_celeba_has_its_attributes_and_crops(tmp_path, packed):
    data = load_data(layouts.celeba(tmp_path, packed), crop=16, image_size=8, channels=1)
    assert data.image_shape == (1, 8, 8)
    assert data.factor_names == ("Bald", "Smiling", "Young")
    attributes = np.where(np.random.default_rng(0).random((30, 3)) < 0.5, -1, 1)
    assert np.array_equal(data.classes(), attributes)
    assert data.labels["person"][5] == 1
    whole = load_data(str(tmp_path)).images([4])[0].transpose(1, 2, 0)
    assert whole.shape == (24, 20, 3)
    cut = Image.fromarray(np.ascontiguousarray(whole[4:20, 2:18])).resize((8, 8), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(cut.convert("L")).astype(int) - data.images([4])[0, 0]).max() <= 1


def test_parquet_columns_get_the_order_of_the_grid(written):
    data = load_data(written("parquet"))
    assert data.factor_names == ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    assert data.factor_values[5].tolist() == [-1, -0.5, 0, 0.5]
    assert data.factors[13].tolist() == [1, 1, 1, 0, 1, 1]
    assert np.array_equal(data.images([13])[0].transpose(1, 2, 0), layouts.pixels(24)[13])


def test_a_folder_takes_factors_beside_it(written):
    data = load_data(written("image_folder"))
    assert data.factor_names == ("hue", "size", "kind")
    assert [values.tolist() for values in data.factor_values] == [[0, 1, 2], [0, 0.5, 1, 1.5], ["a", "b"]]
    assert np.array_equal(data.images([9])[0].transpose(1, 2, 0), layouts.pixels(24)[9])


def test_arrays_are_told_apart(written):
    data, floats = load_data(written("npz")), load_data(written("npy"))
    assert data.factor_names == ("size", "kind")
    assert data.factor_values[0].tolist() == [0, 0.25, 0.5, 0.75]
    assert np.array_equal(data.images(slice(None)), floats.images(slice(None)))
    assert data.digest == floats.digest


def test_images_of_other_modes_become_eight_bits(tmp_path):
    deep = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(deep).save(tmp_path / "a.png")
    clear = np.full((16, 16, 4), 9, np.uint8)
    Image.fromarray(clear).save(tmp_path / "b.png")
    data = load_data(tmp_path)
    assert data.image_shape == (3, 16, 16)
    assert data.images([0])[0, 1].tolist() == (deep // 257).tolist()
    assert data.images([1]).max() == 9


KINDS = ("shapes3d", "cars3d", "small_norb", "mnist", "ident3d", "parquet", "image_folder", "npz", "dsprites_hdf5")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_trains_and_scores_on_each_kind(written, tmp_path, kind):
    continuous = kind == "ident3d"
    config = Config(
        data=written(kind),
        image_size=8,
        bins=None if continuous else 10,
        model="tiny",
        latent_dim=3,
        steps=3,
        batch_size=8,
        validation_images=4,
        scores=("mcc",) if continuous else ("mig",),
        evaluations=1,
        figures=False,
        device="cpu",
    )
    run = experiment(config, tmp_path / "run")
    scores = read_json(run, "scores.json")["scores"]
    assert any(name.startswith("mcc" if continuous else "mig") for name in scores)
    assert (tmp_path / "run" / "report.html").exists()
    assert data_of(run).image_shape[1:] == (8, 8)
    if kind == "image_folder":
        again = experiment(config_files.load(run.path("config.json")), tmp_path / "again")
        assert [point["loss"] for point in read_curve(again)] == [point["loss"] for point in read_curve(run)]
        assert score_run(run, data_of(run), ["mig"])["scores"]["mig"] == scores["mig"]
        with pytest.raises(ValueError, match="holds other images than those"):
            score_run(run, 255 - load_data(written("npz")).images(slice(None)))
        with pytest.raises(ValueError, match="were prepared with crop 12, image_size 8, and the settings say"):
            score_run(run, load_data(written("npz"), image_size=8, crop=12))


def test_arrays_alone_are_data(tmp_path):
    images = layouts.pixels(40, side=20)
    settings = {"image_size": 8, "model": "tiny", "latent_dim": 2, "batch_size": 8, "steps": 2, "figures": False}
    config = Config(**settings, validation_images=4, device="cpu")
    run = experiment(config, tmp_path / "run", data=images)
    assert run.config.data == "in memory"
    assert run.config.image_size == 8
    assert score_run(run, images)["kl"] == read_json(run, "scores.json")["kl"]


def test_continuous_factors_are_refused_where_classes_are_needed(written, tmp_path):
    config = Config(data=written("ident3d"), model="tiny", steps=1, batch_size=8, validation_images=4, scores=("mig",))
    with pytest.raises(ValueError, match=r"which need classes, and 3dident has continuous factors.*bins 20"):
        experiment(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
