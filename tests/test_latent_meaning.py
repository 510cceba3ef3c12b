"""What latents stand for, the gallery, and the sentences of the report."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from betavae.report.explorer import gallery
from betavae.report.explorer.gallery import Gallery, choose_rows, pack_gallery
from betavae.report.latent_meaning import motion, predict_factors, prediction_ceilings, signs
from betavae.report.pages.line_chart import Line, line_chart


def tables():
    rng = np.random.default_rng(0)
    factors = rng.integers(0, (8, 3, 40), (4000, 3))
    angle = 2 * np.pi * factors[:, 2] / 39
    latents = np.stack(
        [
            -factors[:, 0] + 0.1 * rng.normal(size=4000),
            factors[:, 1] * 5.0,
            np.cos(2 * angle) + 0.02 * rng.normal(size=4000),
        ],
        1,
    )
    return latents, factors


def test_each_kind_of_factor_is_predicted_and_others_are_not():
    latents, factors = tables()
    found = predict_factors(latents, factors, ["number", "class", "angle"])
    assert found.values[0, 0] > 0.95
    assert found.values[1, 1] > 0.99
    assert 0.4 < found.values[2, 2] < 0.6  # the cosine alone has half of the point on the circle
    assert found.chance[1] == pytest.approx(1 / 3, abs=0.03)
    assert (found.gain()[~np.eye(3, dtype=bool)] < 0.1).all()


def test_a_latent_that_falls_while_its_number_grows_has_a_minus():
    latents, factors = tables()
    assert signs(latents, factors, ["number", "class", "angle"]).tolist() == [-1, 1, 1]
    assert signs(latents, factors[:, 1:], ["class", "angle"]).tolist() == [1, 1, 1]


def test_no_latent_tells_equal_images_apart():
    turns = np.arange(9)  # the last value is the first one
    factors = np.stack([np.arange(9), turns, np.arange(9) % 2], 1)
    kinds = ["number", "angle", "class"]
    assert prediction_ceilings(factors, np.arange(9), kinds).tolist() == [1, 1, 1]
    halves = np.append(np.arange(4), [0, 1, 2, 3, 0])  # looks the same after a half turn
    number, angle, accuracy = prediction_ceilings(factors, halves, kinds)
    assert (number < 0.6, angle, accuracy) == (True, 1, 1)
    assert prediction_ceilings(factors, np.zeros(9, int), kinds) == pytest.approx([0, 0, 5 / 9], abs=1e-9)


def test_tables_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"latents \(3, 2\), factors \(4, 1\) and 1 kinds do not fit"):
        predict_factors(np.zeros((3, 2)), np.zeros((4, 1), int), ["number"])


def test_motion_up_is_towards_the_first_row():
    images = np.zeros((6, 1, 6, 6), np.uint8)
    images[np.arange(6), 0, np.arange(6), 2] = 255
    found = motion(np.arange(6.0)[:, None], images)
    assert (found.across.tolist(), found.up.tolist()) == ([0], [-1])


def test_a_gallery_has_every_combination_or_is_a_sample(small, monkeypatch):
    rows, levels = choose_rows(small, 40)
    assert len(rows) <= 40
    assert not levels or len(rows) == np.prod([len(level) for level in levels])
    images = np.zeros((5, 1, 4, 4), np.uint8)
    images[3] = 255
    packed = pack_gallery(Gallery(images, np.full((5, 2), 1.5, np.float32), np.zeros((5, 1), np.int32)))
    with Image.open(io.BytesIO(base64.b64decode(packed["sheet"].split(",")[1]))) as sheet:
        assert (sheet.mode, sheet.size, sheet.getpixel((13, 0))) == ("1", (20, 4), 255)
    assert np.frombuffer(base64.b64decode(packed["latents"]), "<i2").tolist() == [1500] * 10
    noise = np.random.default_rng(0).integers(0, 256, (60, 3, 64, 64)).astype(np.uint8)
    noisy = Gallery(noise, np.zeros((60, 1), np.float32), np.zeros((60, 0), np.int32))
    assert pack_gallery(noisy)["sheet"].startswith("data:image/webp")
    monkeypatch.setattr(gallery, "_SHEET_BYTES", 10_000)
    assert pack_gallery(noisy) is None


def test_line_charts_keep_their_ends_and_leave_out_nothing_else():
    line = Line("loss", np.arange(5000.0), np.linspace(100, 1, 5000))
    chart = line_chart("Loss", [line, Line("none", np.zeros(0), np.zeros(0))])
    assert (chart["lines"][0]["x"][-1], chart["lines"][0]["y"][-1]) == (4999, 1)
    assert len(chart["lines"][0]["x"]) <= 501
    assert line_chart("Loss", [Line("none", np.zeros(0), np.zeros(0))]) is None
    assert not line_chart("Loss", [Line("negative", np.arange(3.0), np.array([1.0, -1, -2]))])["log"]
