"""Pictures made of images: what stands where, exact animations, bad input in words."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageSequence

from betavae.report.figures import charts, pictures
from tests.conftest import bright_column


@pytest.mark.parametrize(("channels", "kept"), [(1, ()), (3, (3,))])
def test_reconstructions_stand_below_their_originals(channels, kept):
    originals, rebuilt = np.zeros((3, channels, 16, 16)), np.full((3, channels, 16, 16), 0.4)
    figure = pictures.reconstructions(originals, rebuilt, columns=2)
    mosaic = figure.axes[0].images[0].get_array()
    assert len(figure.axes) == 2  # two blocks: two images and one
    assert mosaic.shape == (33, 33, *kept)  # 2 x 16 pixels and a gap of 1
    assert (mosaic[:16, :16] == 0).all()
    assert (mosaic[16] == 255).all()
    assert (mosaic[17:, :16] == 102).all()
    drawn = FigureCanvasAgg(figure)
    drawn.draw()
    greys = {tuple(colour) for colour in np.asarray(drawn.buffer_rgba()).reshape(-1, 4)[:, :3].tolist()}
    assert {(0, 0, 0), (102, 102, 102)} < greys


def test_traversal_grid_sorts_rows_by_kl_and_names_them():
    traversals = np.stack([np.full((3, 1, 16, 16), latent / 5) for latent in range(3)])
    figure = pictures.traversal_grid(
        traversals[0, 0],
        traversals[0, 0],
        traversals,
        np.array([-1.5, 0, 1.5]),
        kl=np.array([0.01, 3, 1]),
        captures=["", "posX", ""],
    )
    grid = figure.axes[2].images[0].get_array()
    assert [int(grid[row * 17, 0]) for row in range(3)] == [51, 102, 0]
    texts = {text.get_text(): text for text in figure.texts}
    assert list(texts)[2:8] == ["z1 · posX", "3.00 nats", "z2", "1.00 nats", "z0", "0.01 nats"]
    assert texts["z0"].get_color() == charts.GREY  # inactive
    assert {"−1.5", "0", "+1.5"} <= set(texts)


def test_traversal_grid_shows_at_most_20_latents_and_says_so():
    image = np.zeros((1, 8, 8))
    figure = pictures.traversal_grid(image, image, np.zeros((23, 2, 1, 8, 8)), np.array([-1, 1]), kl=np.arange(23.0))
    texts = [text.get_text() for text in figure.texts]
    assert "3 latents of less KL are not shown" in texts[-1]
    assert "z22" in texts
    assert "z2" not in texts


@pytest.mark.parametrize("width", [32, 64, 128, 96])
def test_every_pixel_of_a_mosaic_covers_a_whole_number_of_dots(width):
    figure = pictures.reconstructions(np.zeros((2, 3, width, width)), np.zeros((2, 3, width, width)))
    dots = figure.axes[0].get_window_extent().width / figure.axes[0].images[0].get_array().shape[1]
    assert dots == pytest.approx(round(dots))


def test_traverse_changes_one_latent_and_keeps_the_others():
    seen = []

    def remember(latents):
        seen.append(latents)
        return latents[:, :, None, None]

    images = pictures.traverse(remember, np.array([10.0, 20.0]), np.array([[1, 2, 3], [4, 5, 6]]), batch=4)
    assert [len(latents) for latents in seen] == [4, 2]
    assert seen[0].dtype == np.float32
    np.testing.assert_array_equal(images[0, :, :, 0, 0], [[1, 20], [2, 20], [3, 20]])
    np.testing.assert_array_equal(images[1, :, :, 0, 0], [[10, 4], [10, 5], [10, 6]])


def test_frames_go_there_and_back_without_doubled_ends():
    frames = pictures.traversal_frames(
        bright_column(np.array([[-3.0, 9], [0, 9], [1, 9], [3, 9]])), np.array([-3.0, 0, 1, 3]), "z0"
    )
    assert len(frames) == 6
    pixels = [np.asarray(frame.convert("L"))[:192] for frame in frames]
    assert [int(image[0].argmax()) // 12 for image in pixels] == [0, 8, 10, 15, 10, 8]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gif_holds_exactly_its_frames_and_loops_for_ever(tmp_path, channels):
    images = np.random.default_rng(0).uniform(size=(2, 4, channels, 16, 16)).round(1)
    frames = pictures.traversal_animation(images, kl=np.array([0.0, 2.0]), captures=["", "posX"])
    with Image.open(pictures.save_gif(frames, tmp_path / "all.gif")) as gif:
        assert gif.info["loop"] == 0
        shown = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
    assert len(shown) == len(frames) == 6
    for image, frame in zip(shown, frames, strict=True):
        np.testing.assert_array_equal(image, np.asarray(frame.convert("RGB")))


def test_grey_images_keep_32_levels_in_a_gif():
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 1, 16, 16)
    frame = np.asarray(pictures.traversal_frames(ramp, np.zeros(1), "z0", size=16)[0].convert("L"))[:16]
    assert np.abs(frame - ramp[0, 0] * 255).max() <= 8
    assert frame.min() == 0
    assert frame.max() == 255


def test_a_label_too_long_for_its_frame_is_cut():
    font = pictures._font(14)
    assert pictures._fitting("z0 · posX", 1_000, font) == "z0 · posX"
    cut = pictures._fitting("z0 · orientation", 60, font)
    assert cut.startswith("z0 · o")
    assert cut.endswith("…")
    assert font.getlength(cut) <= 60
    assert pictures._fitting("z0", 1, font) == ""


@pytest.mark.parametrize("shape", [(64, 32), (32, 64)])
def test_images_that_are_not_square_keep_clear_of_each_other(shape):
    images = np.ones((4, 1, *shape))
    pairs = pictures.reconstructions(images, images, columns=2)
    grid = pictures.traversal_grid(images[0], images[1], np.ones((3, 5, 1, *shape)), np.arange(5.0), kl=np.ones(3))
    for figure in (pairs, grid):
        boxes = [axes.get_position() for axes in figure.axes]
        boxes += [text.get_window_extent().transformed(figure.transFigure.inverted()) for text in figure.texts]
        for number, one in enumerate(boxes):
            assert 0 <= one.x0 < one.x1 <= 1
            assert 0 <= one.y0 < one.y1 <= 1
            for other in boxes[:number]:
                assert one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0


IMAGE = np.zeros((1, 8, 8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: pictures.reconstructions(np.zeros((2, 1, 8, 8)), np.zeros((3, 1, 8, 8))),
            r"originals have shape \(2, 1, 8, 8\) and reconstructions \(3, 1, 8, 8\)",
        ),
        (
            lambda: pictures.reconstructions(np.full((1, 1, 8, 8), 255), np.zeros((1, 1, 8, 8))),
            r"originals range from 255 to 255: pass values in \[0, 1\]",
        ),
        (
            lambda: pictures.reconstructions(np.full((1, 1, 8, 8), np.nan), np.zeros((1, 1, 8, 8))),
            "originals range from nan",
        ),
        (lambda: pictures.traversal_frames(np.zeros((1, 2, 8, 8)), np.zeros(1), "z0"), "with 1 or 3 channels"),
        (lambda: pictures.traversal_frames(np.zeros((2, 1, 8, 8)), np.zeros(1), "z0"), "2 images and 1 values"),
        (lambda: pictures.traversal_animation(np.zeros((2, 1, 8, 8))), r"pass \(latents, steps, C, H, W\)"),
        (
            lambda: pictures.traversal_animation(np.zeros((2, 1, 1, 8, 8)), captures=["posX"]),
            "captures names 1 latents where there are 2",
        ),
        (
            lambda: pictures.traversal_grid(IMAGE, IMAGE, np.zeros((2, 3, 1, 8, 8)), np.zeros(2)),
            "3 steps but there are 2 values",
        ),
        (
            lambda: pictures.traversal_grid(IMAGE, IMAGE, np.zeros((2, 1, 1, 8, 8)), np.zeros(1), kl=np.zeros(3)),
            r"kl has shape \(3,\) where there are 2 latents",
        ),
        (lambda: pictures.save_gif([], "none.gif"), "no frames to write"),
    ],
)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not Path("nowhere").exists()
