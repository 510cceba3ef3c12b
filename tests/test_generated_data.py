"""Generated data sets: a row always has the same image, and factors do what they say."""

import hashlib

import numpy as np
import pytest
import torch

from betavae.config import Config
from betavae.data.factor_data import DigestedImages, FactorData
from betavae.data.generated import dsprites, dsprites_variants, room_geometry, xyobject
from betavae.data.loading import load_data
from betavae.data.registry import DATASETS
from betavae.experiment import experiment
from betavae.report.figures import pictures
from betavae.training.batches import DeviceImages

ROWS = [0, 1, 17, 4_711, 31_415, 74_999]
DIGESTS = {
    "rooms": "8c8245e74cdae53a4bc2efd87a42ecd849f99eef1e7c6ef0fbf3a84625d5118d",
    "dsprites-color": "3535bd8d2614d0887316ac5041c1715744b605a5314cc5f69ec5bcbff542fbdb",
    "dsprites-noise": "629d12a24284b040c33def51dab775b21c50a48201ba5cee18870e8ec11ce0b1",
    "dsprites-scene": "70bef66db77e5ca2b9ed79a6a4c0bd90f6cb44fa057737ab3e0275907cc731e6",
    "xysquares": "1c0f6c19395a5da9493b89d24495882d191c3901f0777e0f01d0849a145204e6",
    "xyobject": "3982e9a729c6d84f21f2985c7c2f844024a97c86734253973ecee29a73005027",
}
"""SHA-256 of the pixels of `ROWS`, as uint8 (B, 3, 64, 64)."""


@pytest.fixture(scope="module")
def sprites():
    return dsprites.draw_all()


@pytest.fixture(scope="module")
def load(sprites):
    """Load a data set; the sprites of dSprites are drawn once for all tests."""
    loaded = {}

    def load(name):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dsprites, "draw_all", lambda: sprites)
            return loaded.setdefault(name, load_data(name))

    return load


each = pytest.mark.parametrize("name", DIGESTS)


def test_all_of_them_have_a_name():
    assert {"dsprites", *DIGESTS} == {name for name in DATASETS if DATASETS.is_shipped(name)}


@each
def test_pixels_never_change(name, load):
    data = load(name)
    images = data.images(ROWS)
    assert (data.max_value, images.shape, images.dtype) == (255, (len(ROWS), 3, 64, 64), np.uint8)
    assert hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest() == DIGESTS[name]


@each
def test_a_row_has_the_same_image_in_any_order_and_subset(name, load):
    data = load(name)
    rows = np.random.default_rng(0).choice(len(data), 40, replace=False)
    images = data.packed[rows]
    order = np.random.default_rng(1).permutation(40)
    assert np.array_equal(data.packed[rows[order]], images[order])
    mask = np.zeros(len(data), bool)
    mask[rows] = True
    assert np.array_equal(data.packed[mask], images[np.argsort(rows)])
    assert np.array_equal(data.packed[int(rows[3])], images[3])
    assert np.array_equal(data.packed[-5:], data.packed[np.arange(len(data) - 5, len(data))])
    assert data.packed[:0].shape == (0, 3 * 64 * 64)
    with pytest.raises(IndexError):
        data.packed[[len(data)]]


@each
def test_they_are_grids_with_a_label_for_each_value(name, load):
    data = load(name)
    assert np.array_equal(data.find(data.factors[ROWS]), ROWS)
    assert [len(labels) for labels in data.value_labels()] == list(data.factor_sizes)
    assert data.source == name


@each
def test_digest_and_image_numbers_need_few_images(name, load):
    data = load(name)
    assert isinstance(data.packed, DigestedImages)
    assert len(data.digest) == 64
    if not name.startswith("dsprites"):
        assert len(set(data.packed.image_numbers()[ROWS])) == len({image.tobytes() for image in data.packed[ROWS]})


def neighbours(data, factor, count=12):
    """Random images, and the same with the next value of a factor."""
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, size, count) for size in data.factor_sizes], 1)
    factors[:, factor] = rng.integers(0, data.factor_sizes[factor] - 1, count)
    changed = factors.copy()
    changed[:, factor] += 1
    return (data.images(data.rows(table)).astype(int) for table in (factors, changed))


@pytest.mark.parametrize(("factor", "material"), [("floor_hue", 0), ("wall_hue", 1), ("object_hue", 2)])
def test_a_hue_of_a_room_changes_its_surface_alone(factor, material, load):
    data = load("rooms")
    views = room_geometry.draw_views().reshape(8, 4, 15, 4, 64, 64)
    factors = np.array([[1, 2, 3, 5, shape, 7] for shape in range(4)])
    changed = factors.copy()
    changed[:, data.factor_names.index(factor)] += 4
    before, after = (data.images(data.rows(table)) for table in (factors, changed))
    differs = (before != after).any(1)
    surface = views[5, np.arange(4), 7, material] > 0
    assert not (differs & ~surface).any()
    assert differs[views[5, np.arange(4), 7, material] > 100].all()


@pytest.mark.parametrize("factor", range(6))
def test_each_factor_of_a_room_is_visible(factor, load):
    before, after = neighbours(load("rooms"), factor)
    assert ((abs(before - after).max(1) > 8).sum((1, 2)) >= 8).all()


def test_views_of_rooms_are_distinct_weights():
    views = room_geometry.draw_views()
    assert views.astype(int).sum(1).max() <= 255
    assert len({view.tobytes() for view in views}) == len(views) == 480


def test_a_larger_object_covers_more(load):
    views = room_geometry.draw_views().reshape(8, 4, 15, 4, 64, 64)
    covered = (views[..., 2, :, :] > 0).sum((-1, -2))
    assert (np.diff(covered, axis=0) > 0).all()
    assert covered.max() < 64 * 64 / 3


def test_coloured_sprites_show_dsprites(load, sprites):
    rows = np.arange(5, 700_000, 70_001)
    shapes = np.unpackbits(sprites[rows], axis=1).astype(bool).reshape(-1, 64, 64)
    color, noise, scene = (load(f"dsprites-{variant}").images(rows) for variant in dsprites_variants.VARIANTS)
    assert np.array_equal((color > 0).all(1), shapes)
    for image, shape in zip(color, shapes, strict=True):
        (colour,) = np.unique(image[:, shape], axis=1).T
        assert colour.min() >= 128
    assert (noise.transpose(0, 2, 3, 1)[shapes] == 255).all()
    background = noise.transpose(0, 2, 3, 1)[~shapes] / 255
    assert abs(background.mean() - 0.5) < 0.01
    assert abs(background.std() - np.sqrt(1 / 12)) < 0.01
    restored = np.where(shapes[:, None], 255 - scene, scene).astype(int)
    assert abs(np.diff(restored, axis=-1)).max() < 40  # the picture is smooth, and the sprite is inverted


def test_other_seeds_give_other_colours(sprites):
    one, two = (dsprites_variants.ColouredSprites(sprites, "noise", seed)[ROWS] for seed in (0, 1))
    assert np.mean(one == two) < 0.1
    with pytest.raises(ValueError, match="variant is 'colour'; it must be one of color, noise, scene"):
        dsprites_variants.load("colour")


def test_equally_ambiguous_as_dsprites():
    """Orientations 0 and 39 show the same sprite, whatever its colour."""
    factors = np.array([[2, 3, 0, 4, 5], [2, 3, 39, 4, 5], [2, 3, 38, 4, 5]])
    images = dsprites_variants.ColouredSprites(
        dsprites.windowed(dsprites.draw_packed(factors), factors), "color", seed=0
    )
    first, same, other = images.image_numbers()
    assert first == same != other


def test_squares_are_where_the_factors_say(load):
    data = load("xysquares")
    image = data.images(data.rows([[1, 2, 3, 4, 5, 6]]))[0]
    for channel, (x, y) in enumerate(((1, 2), (3, 4), (5, 6))):
        assert image[channel, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].min() == 255
        assert image[channel].sum() == 64 * 255
    before, after = neighbours(data, 2)
    assert (abs(before - after).sum((1, 2, 3)) == 2 * 64 * 255).all()


def test_an_object_is_where_the_factors_say(load):
    data = load("xyobject")
    images = data.images(data.rows([[0, 24, 0, 0], [24, 0, 4, 7]]))
    assert [int((image.max(0) > 0).sum()) for image in images] == [7 * 7, 15 * 15]
    assert images[0][:, 55, 7].tolist() == [64, 0, 0]
    assert images[1][:, 7, 55].tolist() == [255, 255, 0]
    assert xyobject.FACTOR_LABELS[3][7] == "yellow_255"


def test_labels_must_fit_the_factors():
    with pytest.raises(ValueError, match=r"factor_labels has \[1\] values, but factor_sizes is \[2\]"):
        FactorData(
            *("dots", np.zeros((1, 1), np.uint8), (1, 2, 2), 1, np.zeros((1, 1), np.int32), ("at",), (2,)),
            factor_labels=(("left",),),
        )


def test_batches_are_pixels_from_0_to_1(load):
    data = load("rooms")
    batch = DeviceImages(data, torch.device("cpu"))(np.array([3, 1]))
    assert np.array_equal(batch.numpy(), data.images([3, 1]).astype(np.float32) / np.float32(255))


def test_rooms_train_and_are_scored(load, tmp_path):
    config = Config(
        data="rooms",
        train_images=500,
        validation_images=64,
        scored_images=200,
        model="tiny",
        latent_dim=4,
        steps=4,
        batch_size=16,
        scores=("mig",),
        evaluations=1,
        figures=False,
        precision="fp32",
    )
    run = experiment(config, tmp_path / "run", data=load("rooms"))
    assert run.done


def test_animations_keep_the_colours_of_rooms(load):
    pixels = load("rooms").images(np.random.default_rng(0).choice(480_000, 30)).transpose(0, 2, 3, 1)
    indices, palette = pictures._indexed(pixels)
    assert len(palette) <= 256 - 18
    assert abs(palette[indices].astype(int) - pixels).mean() < 4
