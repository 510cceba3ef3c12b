"""The drawn dSprites: every digest of the original that we have, the published statistics, and the laws of the grid."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from betavae.data.generated import dsprites

GOLDEN = Path(__file__).parent / "golden" / "dsprites_digests.json"

factor_rows = st.tuples(*(st.integers(0, size - 1) for size in dsprites.FACTOR_SIZES))


@pytest.fixture(scope="module")
def images():
    return dsprites.draw_all()


@pytest.fixture(scope="module")
def drawn(images):
    return images[:]


def test_every_known_original_image_is_drawn_exactly():
    images = json.loads(GOLDEN.read_text())["images"]
    packed = dsprites.draw_packed([factors for factors, _ in images])
    digests = [hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest() for row in packed]
    assert len(images) == 280
    assert digests == [digest for _, digest in images]


def test_number_of_white_pixels_in_the_whole_set(drawn):
    assert drawn.shape == (737_280, 512)
    assert drawn.dtype == np.uint8
    assert sum(int(np.bitwise_count(part).sum()) for part in np.array_split(drawn, 60)) == 128_328_864


def test_orientation_39_is_orientation_0(drawn):
    grid = drawn.reshape(*dsprites.FACTOR_SIZES, 512)
    assert np.array_equal(grid[:, :, 39], grid[:, :, 0])


def test_drawn_images_are_indexed_as_an_array_is(images, drawn):
    assert (images.shape, images.dtype, len(images)) == (drawn.shape, drawn.dtype, len(drawn))
    mask = np.zeros(dsprites.NUM_IMAGES, bool)
    mask[[5, 737_279]] = True
    for rows in ([3, -1, 3], [], [[0, 1], [2, 99]], 7, -2, np.uint8([200]), slice(-3, None), slice(9, 2, -3), mask):
        assert np.array_equal(images[rows], drawn[rows])
        assert images[rows].shape == drawn[rows].shape
    for rows in ([737_280], [0.5], np.ones(3, bool)):
        with pytest.raises(IndexError):
            images[rows]


def test_draw_agrees_with_draw_all(drawn):
    rows = np.random.default_rng(0).choice(dsprites.NUM_IMAGES, 2000, replace=False)
    factors = dsprites.factor_table()[rows]
    assert np.array_equal(dsprites.draw_packed(factors), drawn[rows])
    assert np.array_equal(dsprites.draw(factors[:9])[:, 0], np.unpackbits(drawn[rows[:9]], axis=1).reshape(-1, 64, 64))


def test_sprites_reach_from_row_and_column_2_to_61(drawn):
    y, x = np.nonzero(np.unpackbits(np.bitwise_or.reduce(drawn, axis=0)).reshape(64, 64))
    assert (y.min(), y.max(), x.min(), x.max()) == (2, 61, 2, 61)


@pytest.mark.parametrize(("shape", "area"), [(0, 19.2**2), (1, np.pi * 9.6**2), (2, 224.5)])
def test_mean_area_at_scale_1_is_that_of_the_outline(drawn, shape, area):
    white = np.bitwise_count(drawn.reshape(*dsprites.FACTOR_SIZES, 512)[shape, 5]).sum(axis=-1).mean()
    assert white == pytest.approx(area, rel=1e-3)  # measured: 368.7, 289.3, 224.5 pixels


def test_upright_square_covers_the_pixels_worked_out_by_hand():
    # Centre (16, 16), half side 4.8: it spans 11.2 to 20.8, so the pixel centres 11.5 to 20.5 are inside.
    expected = np.zeros((64, 64), np.uint8)
    expected[11:21, 11:21] = 1
    assert np.array_equal(dsprites.draw([[0, 0, 0, 0, 0]])[0, 0], expected)


def test_pos_x_moves_right_and_pos_y_moves_down():
    home, right, down = (
        np.argwhere(image[0]).mean(axis=0)
        for image in dsprites.draw([[1, 2, 3, x, y] for x, y in [(0, 0), (31, 0), (0, 31)]])
    )
    assert right - home == pytest.approx([0, 32])
    assert down - home == pytest.approx([32, 0])


def test_orientation_turns_counter_clockwise_on_the_screen():
    y, x = np.nonzero(dsprites.draw([[1, 5, 4, 15, 15]])[0, 0])
    assert np.cov(x, y)[0, 1] < 0  # the long axis of the ellipse rises to the right: y falls as x grows


def test_polygon_tie_rules():
    # A square with corners on the pixel centres 10.5 and 20.5: left and lower edge in, right and upper edge out.
    x = np.array([10.5, 20.5, 20.5, 10.5, 10.5])
    y = np.array([10.5, 10.5, 20.5, 20.5, 10.5])
    image = np.unpackbits(dsprites._fill(x[None, :, None], y[None]).view(np.uint8)).reshape(64, 64)
    expected = np.zeros((64, 64), np.uint8)
    expected[11:21, 10:20] = 1
    assert np.array_equal(image, expected)


def test_factor_table_is_the_original_order():
    table = dsprites.factor_table()
    assert table.dtype == np.int32
    assert np.array_equal(np.ravel_multi_index(table.T, dsprites.FACTOR_SIZES), np.arange(737_280))


@given(st.lists(factor_rows, min_size=1, max_size=20))
def test_latent_tables_are_those_of_the_original(factors):
    classes, values = dsprites.latent_classes(factors), dsprites.latent_values(factors)
    assert np.array_equal(classes, np.insert(factors, 0, 0, axis=1))
    shape, scale, orientation, pos_x, pos_y = np.array(factors).T
    columns = [shape**0, shape + 1, 0.5 + scale / 10, orientation * 2 * np.pi / 39, pos_x / 31, pos_y / 31]
    assert values == pytest.approx(np.stack(columns, axis=1))


@given(st.lists(factor_rows, min_size=1, max_size=20))
def test_folded_orientation_is_the_angle_up_to_symmetry(factors):
    folded = dsprites.fold_orientation(factors)
    others = [0, 1, 3, 4]
    assert np.array_equal(folded[:, others], np.array(factors)[:, others])
    period = np.array([90.0, 180.0, 360.0])[folded[:, 0]]
    turned = np.degrees(dsprites.ORIENTATIONS[np.array(factors)[:, 2]]) - folded[:, 2] * 360 / 156
    assert np.abs(turned / period - np.rint(turned / period)).max() < 1e-9
    assert ((folded[:, 2] >= 0) & (folded[:, 2] * 360 / 156 < period)).all()


def test_number_of_distinct_images_and_the_ceilings_they_put_on_predicting_orientation(drawn):
    images = [hash(row) for row in map(bytes, drawn)]
    folded = dsprites.fold_orientation(dsprites.factor_table())[:, 2].tolist()
    pairs = set(zip(images, folded, strict=True))
    assert len(set(images)) == 715_706
    assert len(pairs) == 737_280 - 18_432  # the same pixels and folded label: orientations 0 and 39 only
    # Of each distinct image one label can be right; orientations 0 and 39 share their folded label.
    assert round(len(set(images)) / len(images), 4) == 0.9707
    assert round((len(set(images)) + 18_432) / len(images), 4) == 0.9957


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ([[0, 0, 40, 0, 0]], r"factors\[0\] has orientation 40; orientation indices go from 0 to 39\."),
        ([[0, 0, 0, 0, 0], [-1, 0, 0, 0, 0]], r"factors\[1\] has shape -1; shape indices go from 0 to 2\."),
        ([0, 0, 0, 0, 0], r"integers of shape \(B, 5\), columns shape, .* got int64 of shape \(5,\)"),
        ([[0.0] * 5], r"got float64 of shape \(1, 5\)"),
    ],
)
@pytest.mark.parametrize(
    "function", [dsprites.draw, dsprites.latent_values, dsprites.latent_classes, dsprites.fold_orientation]
)
def test_wrong_factors_are_refused(function, factors, message):
    with pytest.raises(ValueError, match=message):
        function(factors)


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is measured with the resource module")
def test_drawing_takes_at_most_120_megabytes():
    program = (
        "import resource; from betavae.data.generated import dsprites\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); dsprites.draw_all(); print(peak() - before)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(run.stdout) * unit < 120e6  # measured: 101e6


def test_images_of_known_factors_are_kept_as_windows(drawn, images):
    factors = dsprites.factor_table()[::97]
    sprites = dsprites.windowed(drawn[::97], factors)
    assert sprites is not None
    assert sprites.shape == (len(factors), 512)
    assert np.array_equal(sprites[:], drawn[::97])


def test_a_pixel_outside_its_window_is_not_lost(drawn):
    factors, packed = dsprites.factor_table()[:5000], drawn[:5000].copy()
    packed[4999, 511] ^= 1  # bottom right
    assert dsprites.windowed(packed, factors) is None
