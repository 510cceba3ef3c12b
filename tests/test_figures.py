"""Figures: what is drawn where, exact animations, safe files, bad input."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from PIL import Image, ImageSequence

from betavae import figures
from betavae.files import write_atomically


def decode(codes: np.ndarray) -> np.ndarray:
    """A bright column whose place is code 0 and whose brightness is code 1."""
    place = np.clip((codes[:, 0] + 3) / 6 * 15, 0, 15).round().astype(int)
    images = np.zeros((len(codes), 1, 16, 16), np.float32)
    images[np.arange(len(codes)), :, :, place] = (1 / (1 + np.exp(-codes[:, 1])))[:, None, None]
    return images


def line(step: int, split: str = "train", **terms: float) -> dict[str, object]:
    return {"step": step, "split": split, "loss": 100.0, "reconstruction": 90.0, "rate": 10.0, **terms}


# Curves


def test_loss_curves_draw_the_records_given():
    records = [line(step, loss=3000.0 / (step + 1), capacity_nats=step / 2) for step in range(10)]
    records += [line(0, "validation", rate=7.0), line(9, "validation", rate=8.0)]
    figure = figures.loss_curves(records)
    loss, _, rate = figure.axes
    assert loss.get_yscale() == "log"
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [3000.0 / (step + 1) for step in range(10)])
    drawn = {curve.get_label(): curve.get_ydata() for curve in rate.lines}
    np.testing.assert_allclose(drawn["validation"], [7, 8])
    np.testing.assert_allclose(drawn["capacity"], np.arange(10) / 2)


def test_loss_curves_leave_out_values_that_are_missing_or_not_finite():
    values = [120.0, None, float("nan"), float("inf"), 80.0]
    figure = figures.loss_curves([line(step, loss=value) for step, value in enumerate(values)])
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), [[0, 120], [4, 80]])


def test_negative_losses_get_a_linear_axis_that_shows_the_end():
    figure = figures.loss_curves([line(step, reconstruction=9e6 if step == 0 else -float(step)) for step in range(100)])
    axes = figure.axes[1]
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "linear"
    assert low < -99
    assert high < 100


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_moving_average_stays_between_least_and_most_and_keeps_the_first(values, half):
    smooth = figures._moving_average(np.array(values), half)
    assert smooth[0] == pytest.approx(values[0], abs=1e-9)
    assert smooth.min() >= min(values) - 1e-6
    assert smooth.max() <= max(values) + 1e-6


def test_moving_average_by_hand():
    np.testing.assert_allclose(figures._moving_average(np.array([6.0, 0, 3, 9]), 1), [6, 3, 4, 6])


# Images


@pytest.mark.parametrize(("channels", "kept"), [(1, ()), (3, (3,))])
def test_reconstructions_stand_below_their_originals(channels, kept):
    originals, rebuilt = np.zeros((3, channels, 16, 16)), np.full((3, channels, 16, 16), 0.4)
    figure = figures.reconstructions(originals, rebuilt, columns=2)
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
    traversals = np.stack([np.full((3, 1, 16, 16), code / 5) for code in range(3)])
    figure = figures.traversal_grid(
        traversals[0, 0],
        traversals[0, 0],
        traversals,
        np.array([-1.5, 0, 1.5]),
        kl=np.array([0.01, 3, 1]),
        carries=["", "posX", ""],
    )
    grid = figure.axes[2].images[0].get_array()
    assert [int(grid[row * 17, 0]) for row in range(3)] == [51, 102, 0]
    texts = {text.get_text(): text for text in figure.texts}
    assert list(texts)[2:8] == ["z1 · posX", "3.00 nats", "z2", "1.00 nats", "z0", "0.01 nats"]
    assert texts["z0"].get_color() == figures._GREY  # dead
    assert {"−1.5", "0", "+1.5"} <= set(texts)


def test_traversal_grid_shows_at_most_20_codes_and_says_so():
    image = np.zeros((1, 8, 8))
    figure = figures.traversal_grid(image, image, np.zeros((23, 2, 1, 8, 8)), np.array([-1, 1]), kl=np.arange(23.0))
    texts = [text.get_text() for text in figure.texts]
    assert "3 codes of less KL are not shown" in texts[-1]
    assert "z22" in texts
    assert "z2" not in texts


@pytest.mark.parametrize("width", [32, 64, 128, 96])
def test_every_pixel_of_a_mosaic_covers_a_whole_number_of_dots(width):
    figure = figures.reconstructions(np.zeros((2, 3, width, width)), np.zeros((2, 3, width, width)))
    dots = figure.axes[0].get_window_extent().width / figure.axes[0].images[0].get_array().shape[1]
    assert dots == pytest.approx(round(dots))


# Animations


def test_traverse_changes_one_code_and_keeps_the_others():
    seen = []

    def remember(codes):
        seen.append(codes)
        return codes[:, :, None, None]

    images = figures.traverse(remember, np.array([10.0, 20.0]), np.array([[1, 2, 3], [4, 5, 6]]), batch=4)
    assert [len(codes) for codes in seen] == [4, 2]
    assert seen[0].dtype == np.float32
    np.testing.assert_array_equal(images[0, :, :, 0, 0], [[1, 20], [2, 20], [3, 20]])
    np.testing.assert_array_equal(images[1, :, :, 0, 0], [[10, 4], [10, 5], [10, 6]])


def test_frames_go_there_and_back_without_doubled_ends():
    frames = figures.traversal_frames(
        decode(np.array([[-3.0, 9], [0, 9], [1, 9], [3, 9]])), np.array([-3.0, 0, 1, 3]), "z0"
    )
    assert len(frames) == 6
    pixels = [np.asarray(frame.convert("L"))[:192] for frame in frames]
    assert [int(image[0].argmax()) // 12 for image in pixels] == [0, 8, 10, 15, 10, 8]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gif_holds_exactly_its_frames_and_loops_for_ever(tmp_path, channels):
    images = np.random.default_rng(0).uniform(size=(2, 4, channels, 16, 16)).round(1)
    frames = figures.traversal_animation(images, kl=np.array([0.0, 2.0]), carries=["", "posX"])
    with Image.open(figures.save_gif(frames, tmp_path / "all.gif")) as gif:
        assert gif.info["loop"] == 0
        shown = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
    assert len(shown) == len(frames) == 6
    for image, frame in zip(shown, frames, strict=True):
        np.testing.assert_array_equal(image, np.asarray(frame.convert("RGB")))


def test_grey_images_keep_32_levels_in_a_gif():
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 1, 16, 16)
    frame = np.asarray(figures.traversal_frames(ramp, np.zeros(1), "z0", size=16)[0].convert("L"))[:16]
    assert np.abs(frame - ramp[0, 0] * 255).max() <= 8
    assert frame.min() == 0
    assert frame.max() == 255


def test_a_label_too_long_for_its_frame_is_cut():
    font = figures._font(14)
    assert figures._fitting("z0 · posX", 1_000, font) == "z0 · posX"
    cut = figures._fitting("z0 · orientation", 60, font)
    assert cut.startswith("z0 · o")
    assert cut.endswith("…")
    assert font.getlength(cut) <= 60
    assert figures._fitting("z0", 1, font) == ""


# Charts


def test_importance_cells_carry_their_numbers():
    matrix = np.array([[0.25, 1.0], [np.nan, 0.0]])
    figure = figures.importance_heatmap(
        matrix, ("scale", "posX"), per_code={"disentanglement": np.array([0.1, 0.2])}, per_factor={"mig": np.ones(2)}
    )
    cells = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert cells == [["0.25", "1.00", "–", "0.00"], ["0.10", "0.20"], ["1.00", "1.00"]]


def test_names_are_no_formulas_and_do_not_touch(tmp_path):
    names = ["background_color", r"a$\frac{$ price", "horizontal_axis"]
    figure = figures.importance_heatmap(np.eye(3), names, per_code={"disentanglement": np.ones(3)})
    figures.save_figure(figure, tmp_path / "importance.png")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    headings = figure.axes[0].get_xticklabels()
    assert [heading.get_rotation() for heading in headings] == [35, 35, 35]
    assert [heading.get_text().replace("\\$", "$") for heading in headings] == names
    page = figure.bbox
    for axes in figure.axes:
        for text in axes.get_xticklabels() + axes.get_yticklabels():
            box = text.get_window_extent()
            assert page.x0 <= box.x0 <= box.x1 <= page.x1
            assert page.y0 <= box.y0 <= box.y1 <= page.y1
    strips = figures.factor_strips(np.zeros((4, 2)), np.zeros((4, 3), int), names)
    figures.save_figure(strips, tmp_path / "strips.png")  # raises where a name is read as a formula
    assert [axes.get_title().replace("\\$", "$") for axes in strips.axes[:3]] == names


@pytest.mark.parametrize("shape", [(64, 32), (32, 64)])
def test_images_that_are_not_square_keep_clear_of_each_other(shape):
    images = np.ones((4, 1, *shape))
    pairs = figures.reconstructions(images, images, columns=2)
    grid = figures.traversal_grid(images[0], images[1], np.ones((3, 5, 1, *shape)), np.arange(5.0), kl=np.ones(3))
    for figure in (pairs, grid):
        boxes = [axes.get_position() for axes in figure.axes]
        boxes += [text.get_window_extent().transformed(figure.transFigure.inverted()) for text in figure.texts]
        for number, one in enumerate(boxes):
            assert 0 <= one.x0 < one.x1 <= 1
            assert 0 <= one.y0 < one.y1 <= 1
            for other in boxes[:number]:
                assert one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0


def test_ticks_of_indices_are_whole():
    strips = figures.factor_strips(np.zeros((11, 1)), np.arange(11)[:, None], ["age"])
    assert all("." not in label.get_text() for label in strips.axes[1].get_yticklabels())


def test_strips_colour_live_codes_by_factor_and_grey_the_dead():
    codes = np.array([[0.0, -1.0], [0.0, 1.0]])
    figure = figures.factor_strips(codes, np.array([[0], [1]]), ["shape"], kl=np.array([0.0, 2.0]))
    dead, live = figure.axes[0].collections
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["z1", "z0"]
    np.testing.assert_allclose(dead.get_facecolor()[0], to_rgba(figures._PALE))
    viridis = matplotlib.colormaps["viridis"].resampled(2)
    for (_, height), colour in zip(live.get_offsets(), live.get_facecolor(), strict=True):
        np.testing.assert_allclose(colour[:3], viridis(int(height > 0))[:3])


def test_strips_are_the_same_for_the_same_seed():
    codes = np.random.default_rng(0).normal(size=(50, 2))
    factors = np.arange(50)[:, None] % 5
    first, second = (figures.factor_strips(codes, factors, ["scale"], num_points=20, seed=4) for _ in range(2))
    offsets = [figure.axes[0].collections[1].get_offsets() for figure in (first, second)]
    assert len(offsets[0]) == 40
    np.testing.assert_array_equal(*offsets)


def test_colour_bar_ticks_are_real_values():
    assert figures._ticks(["square", "ellipse", "heart"], 3) == ([0, 1, 2], ["square", "ellipse", "heart"])
    assert figures._ticks([0.5, 0.75, 1.0], 3) == ([0, 1, 2], ["0.5", "0.75", "1"])
    places, texts = figures._ticks(np.linspace(0, 360, 40).tolist(), 40)
    assert texts == ["0", "90", "180", "270", "360"]
    np.testing.assert_allclose(places, [0, 9.75, 19.5, 29.25, 39])


def test_kl_bars_are_sorted_and_dead_codes_grey():
    axes = figures.kl_per_code(np.array([0.01, 2.0, 1.0]), ["", "", "scale"]).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2.0, 1.0, 0.01]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["z1", "z2 · scale", "z0"]
    assert axes.patches[2].get_facecolor() == to_rgba(figures._GREY)
    assert axes.get_title() == "KL per code: 3.0 nats in all"


# Files


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_a_figure_is_written_the_same_twice(tmp_path, ending, start):
    first, second = (figures.save_figure(figures.kl_per_code(np.ones(2)), tmp_path / f"{n}.{ending}") for n in "ab")
    assert first.read_bytes().startswith(start)
    assert first.read_bytes() == second.read_bytes()


def test_a_failed_write_keeps_what_was_there_and_leaves_nothing(tmp_path, monkeypatch):
    target = tmp_path / "note.txt"
    target.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
    assert target.read_text() == "old"


def test_importing_figures_loads_neither_pyplot_nor_torch():
    code = "import sys, betavae.figures; print({'matplotlib.pyplot', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def arguments(num_codes: int = 2) -> dict[str, object]:
    generator = np.random.default_rng(0)
    codes = generator.normal(size=(40, num_codes)).astype(np.float32)
    seeds = np.column_stack([codes[:2], np.zeros((2, 2))])[:, :2]
    return {
        "decode": lambda batch: decode(np.column_stack([batch, np.zeros((len(batch), 2))])),
        "seed_images": decode(seeds),
        "seed_codes": codes[:2],
        "code_mean": codes.mean(0),
        "code_std": codes.std(0),
        "kl": np.linspace(0, 2, num_codes + 1)[1:],
        "codes": codes,
        "factors": generator.integers(0, 3, (40, 2)),
        "factor_names": ("scale", "posX"),
        "importance": np.full((num_codes, 2), 1 / num_codes),
        "records": [line(0), line(1)],
    }


@pytest.mark.parametrize("num_codes", [1, 2])
def test_draw_all_writes_what_it_says_and_nothing_else(tmp_path, num_codes):
    style = dict(matplotlib.rcParams)
    files = figures.draw_all(tmp_path / "figures", **arguments(num_codes), steps=3, num_traversed=1)
    assert dict(matplotlib.rcParams) == style
    names = sorted(path.relative_to(tmp_path / "figures").as_posix() for path in files)
    assert names == sorted(p.relative_to(tmp_path / "figures").as_posix() for p in tmp_path.rglob("*.*"))
    charts = ["factor_strips", "importance", "kl_per_code", "loss_curves", "reconstructions", "traversal_grid_0"]
    singles = [f"traversals/seed0_z{code}_{kind}.gif" for code in range(num_codes) for kind in ("fitted", "fixed")]
    assert names == sorted([f"{chart}.png" for chart in charts] + ["traversals.gif", *singles])


def test_draw_all_leaves_out_what_has_no_data(tmp_path):
    given = arguments()
    for name in ("codes", "factors", "factor_names", "importance", "records"):
        del given[name]
    for name in ("importance.png", "mine.png"):  # of scores that are no more; the user's own
        (tmp_path / name).touch()
    files = figures.draw_all(tmp_path, **given, steps=2, num_traversed=0, formats=("svg",))
    assert [path.name for path in files] == ["reconstructions.svg", "kl_per_code.svg"]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["mine.png"]


# Bad input

IMAGE = np.zeros((1, 8, 8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: figures.loss_curves([]), "no training records to draw"),
        (
            lambda: figures.reconstructions(np.zeros((2, 1, 8, 8)), np.zeros((3, 1, 8, 8))),
            r"originals have shape \(2, 1, 8, 8\) and reconstructions \(3, 1, 8, 8\)",
        ),
        (
            lambda: figures.reconstructions(np.full((1, 1, 8, 8), 255), np.zeros((1, 1, 8, 8))),
            r"originals range from 255 to 255: pass values in \[0, 1\]",
        ),
        (
            lambda: figures.reconstructions(np.full((1, 1, 8, 8), np.nan), np.zeros((1, 1, 8, 8))),
            "originals range from nan",
        ),
        (lambda: figures.traversal_frames(np.zeros((1, 2, 8, 8)), np.zeros(1), "z0"), "with 1 or 3 channels"),
        (lambda: figures.traversal_frames(np.zeros((2, 1, 8, 8)), np.zeros(1), "z0"), "2 images and 1 values"),
        (lambda: figures.traversal_animation(np.zeros((2, 1, 8, 8))), r"pass \(codes, steps, C, H, W\)"),
        (
            lambda: figures.traversal_animation(np.zeros((2, 1, 1, 8, 8)), carries=["posX"]),
            "carries names 1 codes where there are 2",
        ),
        (
            lambda: figures.traversal_grid(IMAGE, IMAGE, np.zeros((2, 3, 1, 8, 8)), np.zeros(2)),
            "3 steps but there are 2 values",
        ),
        (
            lambda: figures.traversal_grid(IMAGE, IMAGE, np.zeros((2, 1, 1, 8, 8)), np.zeros(1), kl=np.zeros(3)),
            r"kl has shape \(3,\) where there are 2 codes",
        ),
        (lambda: figures.importance_heatmap(np.zeros((2, 3)), ["scale"]), r"shape \(2, 3\) but there are 1 factor"),
        (
            lambda: figures.importance_heatmap(np.zeros((2, 1)), ["scale"], per_code={"mass": np.zeros(3)}),
            "'mass' has 3 values where the matrix has 2",
        ),
        (lambda: figures.factor_strips(np.zeros((2, 1)), np.zeros((3, 1), int), ["a"]), "tables of the same rows"),
        (lambda: figures.factor_strips(np.zeros((2, 1)), np.zeros((2, 2), int), ["a"]), "2 columns but there are 1"),
        (lambda: figures.kl_per_code(np.zeros((2, 2))), r"kl has shape \(2, 2\): pass one value for each code"),
        (lambda: figures.save_gif([], "none.gif"), "no frames to write"),
        (lambda: figures.save_figure(figures.kl_per_code(np.ones(1)), "kl.jpg"), "end the name in one of .png, .pdf"),
        (
            lambda: figures.draw_all("nowhere", **{**arguments(), "seed_codes": np.zeros((1, 2))}),
            r"seed images \(2, 1, 16, 16\), seed codes \(1, 2\) and kl \(2,\) do not fit together",
        ),
        (
            lambda: figures.draw_all("nowhere", **{**arguments(), "formats": "pdf"}),
            "formats is 'pdf'; it must be a list of png, pdf and svg",
        ),
    ],
)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not Path("nowhere").exists()
