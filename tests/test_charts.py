"""Charts: what is drawn where, names that are no formulas, files that are the same twice, bad input in words."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba

from betavae.report.figures import charts
from betavae.report.pages import line_chart
from tests.conftest import line


def test_loss_curves_draw_the_records_given():
    records = [line(step, loss=3000.0 / (step + 1), capacity_nats=step / 2) for step in range(10)]
    records += [line(0, "validation", rate=7.0), line(9, "validation", rate=8.0)]
    figure = charts.loss_curves(records)
    loss, _, rate = figure.axes
    assert loss.get_yscale() == "log"
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [3000.0 / (step + 1) for step in range(10)])
    drawn = {curve.get_label(): curve.get_ydata() for curve in rate.lines}
    np.testing.assert_allclose(drawn["validation"], [7, 8])
    np.testing.assert_allclose(drawn["capacity"], np.arange(10) / 2)


def test_loss_curves_leave_out_values_that_are_missing_or_not_finite():
    values = [120.0, None, float("nan"), float("inf"), 80.0]
    figure = charts.loss_curves([line(step, loss=value) for step, value in enumerate(values)])
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), [[0, 120], [4, 80]])


def test_negative_losses_get_a_linear_axis_that_shows_the_end():
    figure = charts.loss_curves([line(step, reconstruction=9e6 if step == 0 else -float(step)) for step in range(100)])
    axes = figure.axes[1]
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "linear"
    assert low < -99
    assert high < 100


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_moving_average_stays_between_least_and_most_and_keeps_the_first(values, half):
    smooth = line_chart.moving_average(np.array(values), half)
    assert smooth[0] == pytest.approx(values[0], abs=1e-9)
    assert smooth.min() >= min(values) - 1e-6
    assert smooth.max() <= max(values) + 1e-6


def test_moving_average_by_hand():
    np.testing.assert_allclose(line_chart.moving_average(np.array([6.0, 0, 3, 9]), 1), [6, 3, 4, 6])


def test_importance_cells_carry_their_numbers():
    matrix = np.array([[0.25, 1.0], [np.nan, 0.0]])
    figure = charts.importance_heatmap(
        matrix, ("scale", "posX"), per_latent={"disentanglement": np.array([0.1, 0.2])}, per_factor={"mig": np.ones(2)}
    )
    cells = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert cells == [["0.25", "1.00", "–", "0.00"], ["0.10", "0.20"], ["1.00", "1.00"]]


def test_names_are_no_formulas_and_do_not_touch(tmp_path):
    names = ["background_color", r"a$\frac{$ price", "horizontal_axis"]
    figure = charts.importance_heatmap(np.eye(3), names, per_latent={"disentanglement": np.ones(3)})
    charts.save_figure(figure, tmp_path / "importance.png")
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
    strips = charts.factor_strips(np.zeros((4, 2)), np.zeros((4, 3), int), names)
    charts.save_figure(strips, tmp_path / "strips.png")  # raises where a name is read as a formula
    assert [axes.get_title().replace("\\$", "$") for axes in strips.axes[:3]] == names


def test_ticks_of_indices_are_whole():
    strips = charts.factor_strips(np.zeros((11, 1)), np.arange(11)[:, None], ["age"])
    assert all("." not in label.get_text() for label in strips.axes[1].get_yticklabels())


def test_strips_colour_active_latents_by_factor_and_grey_the_inactive():
    latents = np.array([[0.0, -1.0], [0.0, 1.0]])
    figure = charts.factor_strips(latents, np.array([[0], [1]]), ["shape"], kl=np.array([0.0, 2.0]))
    inactive, active = figure.axes[0].collections
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["z1", "z0"]
    np.testing.assert_allclose(inactive.get_facecolor()[0], to_rgba(charts._PALE))
    viridis = matplotlib.colormaps["viridis"].resampled(2)
    for (_, height), colour in zip(active.get_offsets(), active.get_facecolor(), strict=True):
        np.testing.assert_allclose(colour[:3], viridis(int(height > 0))[:3])


def test_strips_are_the_same_for_the_same_seed():
    latents = np.random.default_rng(0).normal(size=(50, 2))
    factors = np.arange(50)[:, None] % 5
    first, second = (charts.factor_strips(latents, factors, ["scale"], num_points=20, seed=4) for _ in range(2))
    offsets = [figure.axes[0].collections[1].get_offsets() for figure in (first, second)]
    assert len(offsets[0]) == 40
    np.testing.assert_array_equal(*offsets)


def test_colour_bar_ticks_are_real_values():
    assert charts._ticks(["square", "ellipse", "heart"], 3) == ([0, 1, 2], ["square", "ellipse", "heart"])
    assert charts._ticks([0.5, 0.75, 1.0], 3) == ([0, 1, 2], ["0.5", "0.75", "1"])
    places, texts = charts._ticks(np.linspace(0, 360, 40).tolist(), 40)
    assert texts == ["0", "90", "180", "270", "360"]
    np.testing.assert_allclose(places, [0, 9.75, 19.5, 29.25, 39])


def test_kl_bars_are_sorted_and_inactive_latents_grey():
    axes = charts.kl_per_latent(np.array([0.01, 2.0, 1.0]), ["", "", "scale"]).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2.0, 1.0, 0.01]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["z1", "z2 · scale", "z0"]
    assert axes.patches[2].get_facecolor() == to_rgba(charts.GREY)
    assert axes.get_title() == "KL per latent: 3.0 nats in total"


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_a_figure_is_written_the_same_twice(tmp_path, ending, start):
    first, second = (charts.save_figure(charts.kl_per_latent(np.ones(2)), tmp_path / f"{n}.{ending}") for n in "ab")
    assert first.read_bytes().startswith(start)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: charts.loss_curves([]), "there are no training records"),
        (lambda: charts.importance_heatmap(np.zeros((2, 3)), ["scale"]), r"shape \(2, 3\) but there are 1 factor"),
        (
            lambda: charts.importance_heatmap(np.zeros((2, 1)), ["scale"], per_latent={"mass": np.zeros(3)}),
            "'mass' has 3 values where the matrix has 2",
        ),
        (lambda: charts.factor_strips(np.zeros((2, 1)), np.zeros((3, 1), int), ["a"]), "tables of the same rows"),
        (lambda: charts.factor_strips(np.zeros((2, 1)), np.zeros((2, 2), int), ["a"]), "2 columns but there are 1"),
        (lambda: charts.kl_per_latent(np.zeros((2, 2))), r"kl has shape \(2, 2\): pass one value for each latent"),
        (lambda: charts.save_figure(charts.kl_per_latent(np.ones(1)), "kl.jpg"), "end the name in one of .png, .pdf"),
    ],
)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not Path("nowhere").exists()
