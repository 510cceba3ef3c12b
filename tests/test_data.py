"""Data sets in memory and on disk: rows and factors, splits, files written and compared."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from betavae.data import exporting, npz
from betavae.data.exporting import compare_npz, export_npz
from betavae.data.factor_data import FactorData
from betavae.data.generated import dsprites
from betavae.data.loading import load_data
from betavae.data.splits import split_rows
from tests.conftest import same, saved


@pytest.fixture(scope="module")
def full():
    return load_data("dsprites")


@pytest.fixture
def small():
    """Sixty dSprites images, with the factor tables of the whole set."""
    factors = dsprites.factor_table()[np.random.default_rng(0).choice(dsprites.NUM_IMAGES, 60, replace=False)]
    return FactorData(
        "small",
        dsprites.draw_packed(factors),
        dsprites.IMAGE_SHAPE,
        1,
        factors,
        dsprites.FACTOR_NAMES,
        dsprites.FACTOR_SIZES,
    )


# In memory


def test_dsprites_is_complete(full):
    assert (len(full), full.image_shape, full.max_value) == (737_280, (1, 64, 64), 1)
    assert full.factor_names == ("shape", "scale", "orientation", "posX", "posY")
    assert full.factor_sizes == (3, 6, 40, 32, 32)
    assert full.factors.dtype == np.int32


@given(st.lists(st.integers(0, 737_279), min_size=1, max_size=30))
@settings(deadline=None)
def test_rows_to_factors_to_rows_is_the_identity(full, rows):
    assert full.rows(full.factors[rows]).tolist() == rows


def test_images_are_those_of_the_rows(full):
    rows = [3, 700_000, 3]
    images = full.images(rows)
    assert (images.shape, images.dtype) == ((3, 1, 64, 64), np.uint8)
    assert np.array_equal(images, dsprites.draw(full.factors[rows]))
    mask = np.zeros(len(full), bool)
    mask[10:12] = True
    for ten_and_eleven in (slice(10, 12), mask, np.array([10, 11], np.int32)):
        assert np.array_equal(full.images(ten_and_eleven), full.images([10, 11]))
    assert full.images([]).shape == (0, 1, 64, 64)


def test_equal_images_have_equal_numbers(small):
    assert len(set(small.image_numbers())) == len({row.tobytes() for row in small.packed})
    packed = np.array([[1, 2], [1, 2], [2, 1], [5, 6], [5, 6], [5, 7]], np.uint8)
    pairs = FactorData("pairs", packed, (1, 4, 4), 1, np.empty((6, 0), np.int32), (), ())
    numbers = pairs.image_numbers()
    assert sorted(set(numbers.tolist())) == [0, 1, 2, 3]
    same = numbers[:, None] == numbers
    assert np.array_equal(same, (packed[:, None] == packed).all(axis=2))


@given(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_images_are_unpacked_whatever_their_size(num_images, channels, height, width, seed):
    bits = np.random.default_rng(seed).integers(0, 2, (num_images, channels, height, width), dtype=np.uint8)
    packed = np.packbits(bits.reshape(num_images, -1), axis=1)
    data = FactorData("bits", packed, bits.shape[1:], 1, np.empty((num_images, 0), np.int32), (), ())
    assert np.array_equal(data.images(np.arange(num_images)), bits)


def test_rows_of_data_that_are_no_grid(small):
    order = np.random.default_rng(1).permutation(60)
    assert np.array_equal(small.rows(small.factors[order]), order)
    twice = FactorData("twice", np.zeros((3, 1), np.uint8), (1, 2, 2), 1, np.array([[1], [0], [1]]), ("at",), (2,))
    assert twice.rows([[1], [0]]).tolist() == [0, 1]


def test_rows_refuses_factors_that_no_image_has(small):
    absent = next(row for row in dsprites.factor_table() if not (small.factors == row).all(axis=1).any())
    with pytest.raises(ValueError, match=r"no image of 'small' has the factors \[0, 0, 0, 0, 0\]\."):
        small.rows([absent])
    with pytest.raises(ValueError, match=r"factors\[1\] has scale 6; scale indices of 'small' go from 0 to 5\."):
        small.rows([[0, 0, 0, 0, 0], [0, 6, 0, 0, 0]])
    with pytest.raises(ValueError, match=r"must have shape \(B, 5\).*shape, scale.*got shape \(5,\)\."):
        small.rows([0, 0, 0, 0, 0])
    bare = FactorData("bare", np.zeros((3, 1), np.uint8), (1, 2, 2), 1, np.empty((3, 0), np.int32), (), ())
    with pytest.raises(ValueError, match="it has none"):
        bare.rows(np.empty((3, 0), np.int32))


def test_factor_data_refuses_arrays_that_do_not_fit():
    factors = np.zeros((3, 1), np.int32)
    with pytest.raises(
        ValueError, match=r"packed is uint8 of shape \(3, 4\); for 3 images \(1, 2, 2\).*shape \(3, 1\)\."
    ):
        FactorData("wrong", np.zeros((3, 4), np.uint8), (1, 2, 2), 1, factors, ("at",), (2,))
    with pytest.raises(ValueError, match="with 2 names and 1 sizes; give one name and one size for each column"):
        FactorData("wrong", np.zeros((3, 4), np.uint8), (1, 2, 2), 255, factors, ("at", "on"), (2,))
    for wrong, message in (
        (factors + 2, r"factors\[0\] has at 2; it must be from 0 to 1"),
        (factors - 1, r"factors\[0\] has at -1; it must be from 0 to 1"),
        (factors.astype(float), "factors is float64; it must contain integers, such as int32"),
    ):
        with pytest.raises(ValueError, match=message):
            FactorData("wrong", np.zeros((3, 4), np.uint8), (1, 2, 2), 255, wrong, ("at",), (2,))
    assert len(FactorData("bare", np.zeros((3, 4), np.uint8), (1, 2, 2), 255, np.zeros((3, 0)), (), ())) == 3


# Splits


@given(st.integers(1, 60), st.integers(0, 40), st.integers(0, 40), st.integers(0, 99))
def test_splits_are_disjoint_and_deterministic(train, validation, test, seed):
    split, again = (split_rows(140, train, validation, test, seed) for _ in range(2))
    assert (len(split.train), len(split.validation), len(split.test)) == (train, validation, test)
    rows = np.concatenate([split.train, split.validation, split.test])
    assert rows.dtype == np.int64
    assert len(set(rows.tolist())) == len(rows)
    assert set(rows.tolist()) <= set(range(140))
    assert all(np.array_equal(getattr(split, name), getattr(again, name)) for name in vars(split))


def test_held_out_rows_do_not_depend_on_how_many_rows_are_trained_on():
    few, many = split_rows(1000, 10, 50, 0.1, seed=3), split_rows(1000, 800, 50, 0.1, seed=3)
    assert np.array_equal(few.validation, many.validation)
    assert np.array_equal(few.test, many.test)
    assert not np.array_equal(few.test, split_rows(1000, 10, 50, 0.1, seed=4).test)


@given(st.integers(10, 10**6))
def test_fractions_that_sum_to_one_fit(num_rows):
    split = split_rows(num_rows, 0.8, 0.1, 0.1)
    assert 0 <= num_rows - sum(map(len, vars(split).values())) <= 2


def test_all_rows():
    assert sorted(split_rows(100, train=1.0).train) == list(range(100))
    assert len(split_rows(100, train=1).train) == 1
    assert len(split_rows(100, train=1.0, validation=20, test=0.1).train) == 70


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((150, 15, 0), r"needs train 150 \+ validation 15 = 165 rows, but the data have 100; reduce the sizes\."),
        ((0.95, 0.1, 0), r"train 95 \+ validation 10 = 105 rows, but the data have 100"),
        (
            (1.0, 70, 40),
            r"of 100 images, train is 1\.0, validation is 70 and test is 40, so no images remain for training",
        ),
        ((-5, 0, 0), r"train is -5; it must be a number of rows .* or a fraction of them \(between 0\.0 and 1\.0\)\."),
        ((1.5, 0, 0), r"train is 1\.5; it must be"),
        ((float("nan"), 0, 0), r"train is nan; it must be"),
        ((10, True, 0), r"validation is True; it must be"),
        ((0.5, 0.001, 0), r"validation is 0\.001, which is less than one of the 100 rows; use 0 for none\."),
        ((0, 10, 0), r"train is 0, .* so no images remain for training"),
    ],
)
def test_impossible_splits_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        split_rows(100, *shares)


# Files


def test_export_has_the_layout_of_the_original(small, tmp_path):
    calls = []
    export_npz(small, tmp_path / "small.npz", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(60, 60)]
    with np.load(tmp_path / "small.npz", allow_pickle=False) as file:
        assert sorted(file) == ["imgs", "latents_classes", "latents_values"]
        imgs, classes, values = file["imgs"], file["latents_classes"], file["latents_values"]
    assert (imgs.shape, imgs.dtype) == ((60, 64, 64), np.uint8)
    assert (classes.shape, classes.dtype) == ((60, 6), np.int64)
    assert (values.shape, values.dtype) == ((60, 6), np.float64)
    assert np.array_equal(imgs, dsprites.draw(small.factors)[:, 0])
    assert np.array_equal(classes[:, 1:], small.factors)
    assert np.array_equal(values, dsprites.latent_values(small.factors))
    assert [path.name for path in tmp_path.iterdir()] == ["small.npz"]


def test_dsprites_layout_gets_the_names_of_dsprites_and_loses_the_colour(small, tmp_path):
    export_npz(small, tmp_path / "small.npz")
    loaded = load_data(tmp_path / "small.npz")
    assert loaded.name == "small"
    assert loaded.factor_names == dsprites.FACTOR_NAMES
    assert isinstance(loaded.packed, dsprites.Sprites)
    assert np.array_equal(loaded.packed, small.packed)
    for column, size, original in zip(loaded.factors.T, loaded.factor_sizes, small.factors.T, strict=True):
        values = np.unique(original)  # classes that do not occur are left out of the numbering
        assert size == len(values)
        assert np.array_equal(values[column], original)


@pytest.mark.parametrize("max_value", [1, 255])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_any_data_set_survives_a_round_trip(tmp_path, monkeypatch, max_value, channels, chunk):
    monkeypatch.setattr(npz, "CHUNK_BYTES", chunk)
    images = np.random.default_rng(0).integers(0, max_value + 1, (12, channels * 35), dtype=np.uint8)
    factors = np.stack(np.unravel_index(np.arange(12), (3, 4)), axis=1).astype(np.int32)
    packed = np.packbits(images, axis=1) if max_value == 1 else images
    data = FactorData("any", packed, (channels, 5, 7), max_value, factors, ("hue", "Größe"), (3, 4))
    export_npz(data, tmp_path / "any.npz")
    same(load_data(tmp_path / "any.npz"), data)


def test_data_without_factors_survive_a_round_trip(tmp_path):
    data = FactorData("bare", np.zeros((3, 1), np.uint8), (1, 2, 2), 1, np.empty((3, 0), np.int32), (), ())
    export_npz(data, tmp_path / "bare.npz")
    same(load_data(tmp_path / "bare.npz"), data)
    same(load_data(saved(tmp_path / "only.npz", {"imgs": np.zeros((3, 2, 2), np.uint8)})), data)


def test_constant_factors_are_dropped_and_classes_are_renumbered(tmp_path, members):
    classes = members["latents_classes"]
    wide = np.stack([classes[:, 0] * 10 - 10, np.full(12, 7), classes[:, 1] ** 2], axis=1)  # -10 0 10 · 7 · 0 1 4 9
    members |= {"latents_classes": np.asfortranarray(wide), "latents_values": wide.astype(np.float32)}
    loaded = load_data(saved(tmp_path / "odd.npz", members))
    assert (loaded.factor_names, loaded.factor_sizes) == (("factor_0", "factor_2"), (3, 4))
    assert np.array_equal(loaded.factors, classes)
    members["factor_names"] = ["hue", "light", "size"]
    assert load_data(saved(tmp_path / "odd.npz", members)).factor_names == ("hue", "size")


def test_export_replaces_nothing_unless_told(small, tmp_path):
    path = tmp_path / "mine.npz"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"mine\.npz exists; give another name, or replace it"):
        export_npz(small, path)
    assert path.read_text() == "precious"
    export_npz(small, path, overwrite=True)
    assert len(load_data(path)) == 60


def test_a_failed_export_names_the_file_and_leaves_nothing_behind(small, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*absent/small\.npz'"):
        export_npz(small, tmp_path / "absent" / "small.npz")
    (tmp_path / "small.npz").write_text("precious")
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # stands for a full disk; the file needs 4 kB
    try:
        with pytest.raises(OSError, match=r"File too large: '.*small\.npz'"):
            export_npz(small, tmp_path / "small.npz", overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["small.npz"]
    assert (tmp_path / "small.npz").read_text() == "precious"


def test_an_interrupted_export_leaves_nothing_behind(small, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_npz(small, tmp_path / "small.npz", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


# Comparison with the drawn images


@pytest.fixture
def drawn_once(full, monkeypatch):
    monkeypatch.setattr(dsprites, "draw_all", lambda: full.packed)


@pytest.mark.usefixtures("drawn_once")
def test_compare_finds_the_pixels_that_differ(small, tmp_path):
    small.packed[7, 100] ^= 0b0110_0000
    small.packed[31, 511] ^= 1
    export_npz(small, tmp_path / "small.npz")
    comparison = compare_npz(tmp_path / "small.npz")
    assert (comparison.num_images, comparison.num_different) == (60, 2)
    assert comparison.rows.tolist() == [7, 31]
    assert comparison.wrong_pixels.tolist() == [2, 1]
    assert np.array_equal(comparison.factors, small.factors[[7, 31]])
    assert not comparison.tables_agree
    seventh = ", ".join(f"{name} {index}" for name, index in zip(small.factor_names, small.factors[7], strict=True))
    assert comparison.summary(limit=1).splitlines() == [
        "2 of 60 images differ from the generated ones, by 3 pixels in total.",
        "The factor tables differ from those of the original, which has 737,280 images.",
        f"  row 7: 2 wrong pixels ({seventh})",
        "  and 1 more",
    ]


@pytest.mark.usefixtures("drawn_once")
def test_compare_agrees_with_the_whole_set(full, tmp_path, monkeypatch):
    classes, values = dsprites.latent_classes(full.factors), dsprites.latent_values(full.factors)
    path = tmp_path / "stand-in.npz"
    contents = npz.described(path, (737_280, 64, 64), classes, values, None, lambda: iter(()))
    monkeypatch.setattr(exporting, "read_file", lambda path: contents)
    monkeypatch.setattr(exporting, "pack_bits", lambda source, progress: full.packed)
    comparison = compare_npz(path)
    assert (comparison.num_images, comparison.num_different, comparison.tables_agree) == (737_280, 0, True)
    assert comparison.summary().splitlines() == [
        "0 of 737,280 images differ from the generated ones.",
        "The factor tables are those of the original.",
    ]
    values[5, 3] += 0.1
    assert not compare_npz(path).tables_agree


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.parametrize("missing", ["none", "latents_classes"])
def test_compare_refuses_other_data(tmp_path, members, missing):
    path = saved(tmp_path / "other.npz", {name: table for name, table in members.items() if name != missing})
    with pytest.raises(ValueError, match=r"other\.npz is not dSprites, so it cannot be compared"):
        compare_npz(path)


def test_a_part_of_dsprites_keeps_the_classes_of_the_whole(full, tmp_path):
    """Without squares, and of every second orientation: indices begin at 0, classes stay, also in files."""
    rows = np.flatnonzero((full.factors[:, 0] > 0) & (full.factors[:, 2] % 2 == 1) & (full.factors[:, 3] < 2))
    rows = rows[full.factors[rows, 4] < 2]
    part = replace(full, packed=full.packed[rows], factors=full.factors[rows])
    export_npz(part, tmp_path / "part.npz")
    read = load_data(tmp_path / "part.npz")
    assert read.factor_sizes == (2, 6, 20, 2, 2)
    np.testing.assert_array_equal(read.classes(), part.factors)
    np.testing.assert_array_equal(dsprites.fold_orientation(read.classes()), dsprites.fold_orientation(part.factors))
    assert read.is_dsprites
    export_npz(read, tmp_path / "again.npz")
    for name in ("latents_classes", "latents_values"):
        with np.load(tmp_path / "part.npz") as one, np.load(tmp_path / "again.npz") as other:
            np.testing.assert_array_equal(one[name], other[name])


def test_data_with_the_names_of_dsprites_but_other_classes_are_not_dsprites():
    dots = np.zeros((2, 512), np.uint8)
    factors = np.array([[0] * 5, [1] * 5], np.int32)
    values = tuple(np.array([0, 9]) for _ in range(5))
    data = FactorData("dots", dots, (1, 64, 64), 1, factors, dsprites.FACTOR_NAMES, (2,) * 5, values)
    assert not data.is_dsprites
    with pytest.raises(ValueError, match=r"factor_values has \[2, 2, 2, 2, 1\] values, but factor_sizes is"):
        replace(data, factor_values=(*values[:4], np.array([0])))
