"""Less than the full grid: conditions, combinations held out, correlated factors."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from betavae import experiment as story
from betavae.config import Config
from betavae.config_files import from_dict, to_dict
from betavae.data.factor_data import FactorData
from betavae.data.generated import dsprites, rooms
from betavae.data.generated.grids import factor_table
from betavae.data.subsets import correlation_weights, held_out_mask, seen_rows
from betavae.experiment import experiment
from betavae.files.conditions import Combined, Comparison, parse_condition, parse_correlation
from betavae.objectives.settings import AdaGvae, Semi
from betavae.report.run_page import report_run
from betavae.runs.contents import split_of
from betavae.runs.folder import open_run, read_json
from betavae.scoring import score_run
from betavae.studies.results import measurements
from betavae.training.batches import StepRows


@pytest.fixture(scope="module")
def full():
    """The factors of dSprites, with images that nobody looks at."""
    factors = dsprites.factor_table()
    packed = np.lib.stride_tricks.as_strided(np.zeros(512, np.uint8), (len(factors), 512), (0, 1))
    names, sizes = dsprites.FACTOR_NAMES, dsprites.FACTOR_SIZES
    return FactorData("dsprites", packed, dsprites.IMAGE_SHAPE, 1, factors, names, sizes)


# Conditions


def test_and_binds_stronger_than_or():
    a, b, c = (Comparison(name, "=", "1") for name in "abc")
    assert parse_condition("a=1 | b=1 & c == 1") == Combined((a, Combined((b, c), True)), False)
    assert parse_condition("(a = 1 | b=1) & c=1") == Combined((Combined((a, b), False), c), True)
    assert parse_condition("index(a) != 3") == Comparison("a", "!=", "3", by_index=True)
    assert parse_condition("\"floor hue\" >= -0.5 & index = 'a b'") == Combined(
        (Comparison("floor hue", ">=", "-0.5"), Comparison("index", "=", "a b")), True
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a factor, found the end in the condition ''; write, for example, shape = heart & posX > 0.5"),
        ("shape", "expected one of = != < <= > >=, found the end"),
        ("shape = ", "expected a value, found the end"),
        ("shape = heart and posX > 1", "expected & or |, found 'and'"),
        ("(shape = heart", "expected a closing parenthesis, found the end"),
        ("shape = heart)", "expected & or |, found ')'"),
        ("a = 1 &", "expected a factor, found the end"),
        ("a = 'open", 'cannot read "\'open" in the condition'),
        ("a ! b", "cannot read '! b' in the condition"),
        ("(" * 60 + "a = 1" + ")" * 60, "nested more than 50 levels deep"),
        ("a = 1 & " * 2_000, "has 16,000 characters; at most 10,000 are allowed"),
    ],
)
def test_text_that_is_no_condition_is_refused(text, message):
    with pytest.raises(ValueError, match="condition") as refused:
        Config(hold_out=(text,))
    assert message in str(refused.value)


@given(st.text(alphabet="ab1 .&|()=<>!'\"-~:", max_size=30))
def test_any_text_is_parsed_or_refused(text):
    for parse in (parse_condition, parse_correlation):
        with suppress(ValueError):
            parse(text)


@pytest.mark.parametrize("text", ["shape", "shape~posX", "shape~posX:", "shape~posX:0", "~posX:1", "a~b:nan", "a~b:-1"])
def test_text_that_is_no_correlation_is_refused(text):
    with pytest.raises(
        ValueError, match=r"is not two factors and a positive width; write, for example, shape~posX:0\.1"
    ):
        Config(correlate=(text,))
    with pytest.raises(ValueError, match="names shape twice; give two different factors"):
        Config(correlate=("shape ~ shape:0.1",))


# Combinations held out


@pytest.mark.parametrize(
    ("condition", "share"),
    [
        ("shape = heart", 1 / 3),
        ("shape = 2", 1 / 3),
        ("shape != heart", 2 / 3),
        ("shape >= 1", 2 / 3),
        ("posX > 0.5", 1 / 2),
        ("index(posX) < 8", 1 / 4),
        ("scale = 0.7", 1 / 6),
        ("scale <= 0.7", 3 / 6),
        ("scale < 0.7", 2 / 6),
        ("orientation = 0 | orientation >= 6.283185", 2 / 40),
        ("shape = heart & posX > 0.5", 1 / 6),
        ("shape = square | shape = heart & posX > 0.5", 1 / 2),
        ("(shape = square | shape = heart) & posX > 0.5", 1 / 3),
    ],
)
def test_conditions_select_as_many_as_they_say(condition, share, full):
    assert held_out_mask(full, [condition]).mean() == pytest.approx(share)


def test_several_conditions_are_alternatives(full):
    one, two = "shape = heart & posX > 0.5", "scale = 1"
    both = held_out_mask(full, [one, two])
    assert np.array_equal(both, held_out_mask(full, [one]) | held_out_mask(full, [two]))
    assert np.array_equal(seen_rows(full, [one, two]), np.flatnonzero(~both))
    assert seen_rows(full, []) is None


def test_rooms_have_the_values_of_shapes3d():
    factors = factor_table(rooms.FACTOR_SIZES)
    data = replace(rooms.load(), factors=factors)
    assert held_out_mask(data, ["shape = capsule & object_hue >= 0.5"]).mean() == pytest.approx(1 / 8)
    assert held_out_mask(data, ["scale >= 1.1 & orientation > 20"]).mean() == pytest.approx(3 / 8 * 3 / 15)


def test_classes_of_other_data_are_their_values():
    values = (np.array([3, 7]), np.array([0, 5]))
    data = FactorData(
        *("dots", np.zeros((4, 1), np.uint8), (1, 2, 2), 1, factor_table((2, 2)), ("at", "to"), (2, 2), values)
    )
    assert held_out_mask(data, ["at = 7"]).tolist() == [False, False, True, True]
    assert held_out_mask(data, ["index(at) = 1 & to < 5"]).tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("shap = heart", "dsprites has no factor 'shap'; did you mean 'shape'? its factors: shape, scale, orientation"),
        ("shape = hart", "dsprites has no shape 'hart'; did you mean 'heart'? its values: square, ellipse, heart"),
        ("shape = 3", "dsprites has no shape '3'; its values: square, ellipse, heart"),
        ("scale = 0.65", "has no scale '0.65'"),
        ("scale = big", "has no scale 'big'; its values: 0.5, 0.6, 0.7, 0.8, 0.9, 1"),
        ("index(scale) = 6", "has no index(scale) 6; it goes from 0 to 5"),
        ("shape > ellipse", "shape has names, which have no order, so > ellipse says nothing; use = or !=, or the"),
        (
            "posX > 2",
            "hold_out 'posX > 2' matches no image of dsprites; its factors: shape square, ellipse, heart; sca",
        ),
        ("posX >= 0", "hold_out 'posX >= 0' matches all 737,280 images of dsprites, so none remain for training"),
    ],
)
def test_conditions_that_do_not_fit_the_data_are_refused(condition, message, full):
    with pytest.raises(ValueError, match=r"dsprites|order") as refused:
        held_out_mask(full, [condition])
    assert message in str(refused.value)


CONFIG = Config(
    validation_images=50,
    model="tiny",
    latent_dim=4,
    steps=4,
    batch_size=16,
    scores=("mig",),
    evaluations=1,
    precision="fp32",
    device="cpu",
    figures=False,
)
HELD_OUT = "shape = 2 & posX >= 5"


def test_splits_have_seen_combinations_alone(grid):
    config = replace(CONFIG, hold_out=(HELD_OUT,), train_images=0.5, test_images=30)
    unseen = held_out_mask(grid, config.hold_out)
    split = split_of(config, grid)
    rows = np.concatenate([split.train, split.validation, split.test])
    assert not unseen[rows].any()
    assert len(set(rows.tolist())) == len(rows)
    assert [len(split.train), len(split.validation), len(split.test)] == [375, 50, 30]  # half of 750


@pytest.mark.parametrize("objective", [AdaGvae(), Semi(labelled_images=100)])
def test_pairs_and_labels_have_seen_combinations_alone(objective, grid):
    config = replace(CONFIG, objective=objective, hold_out=(HELD_OUT,), latent_dim=5)
    unseen = held_out_mask(grid, config.hold_out)
    rows = StepRows(config, grid, split_of(config, grid).train)
    assert not any(unseen[rows(step)].any() for step in range(50))


@pytest.fixture(scope="module")
def coarse(grid):
    """Every third position of the grid: 3 shapes, 3 scales, 4 positions each way."""
    rows = np.flatnonzero((grid.factors[:, 2:] % 3 == 0).all(1))
    factors = grid.factors[rows] // np.array([1, 1, 3, 3], np.int32)
    return replace(grid, packed=grid.packed[rows], factors=factors, factor_sizes=(3, 3, 4, 4))


@pytest.fixture(scope="module")
def run(coarse, tmp_path_factory):
    config = replace(CONFIG, hold_out=("shape = 2 & posX >= 2",), correlate=("scale~posY:0.3",), validation_images=20)
    return experiment(config, tmp_path_factory.mktemp("runs") / "run", data=coarse)


def test_scores_compare_seen_and_unseen_combinations(run, coarse):
    scores = read_json(run, "scores.json")
    seen, unseen = (scores["combinations"][kind] for kind in ("seen", "unseen"))
    assert (seen["images"], unseen["images"]) == (40, 24)
    assert scores["protocol"]["rows"] == 144  # the scores themselves stay on all images
    for part in (seen, unseen):
        assert part["reconstruction"] > 0
        assert part["accuracy"].keys() == set(coarse.factor_names)
        assert part["mean_accuracy"] == pytest.approx(np.mean(list(part["accuracy"].values())))
    table = {row["metric"]: row["value"] for row in measurements(run.folder, 4)}
    assert table["unseen_combinations.accuracy"] == unseen["mean_accuracy"]
    assert table["seen_combinations.reconstruction"] == seen["reconstruction"]


def test_the_report_shows_both(run, coarse):
    page = report_run(run, coarse).read_text()
    assert "of lattice without shape = 2 &amp; posX &gt;= 2 with correlated factors (scale~posY:0.3)" in page
    assert "accuracy of posX" in page


def test_settings_survive_the_file(run):
    assert open_run(run.folder).config == from_dict(to_dict(run.config)) == run.config


def test_few_scored_images_give_no_accuracy(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(story, "report_run", lambda *_: None)
    config = replace(CONFIG, hold_out=("shape = 2 & scale = 2 & posX = 9 & posY = 9",), scored_images=40)
    run = experiment(config, tmp_path / "run", data=grid)
    parts = read_json(run, "scores.json")["combinations"]
    assert "accuracy" not in parts["seen"]
    assert parts["unseen"]["reconstruction"] > 0
    assert score_run(run, grid, ["mig"])["combinations"] == parts


def test_a_run_is_refused_before_anything_is_written(grid, tmp_path):
    for wrong in ({"hold_out": ("shape = cube",)}, {"correlate": ("shape~colour:0.1",)}):
        with pytest.raises(ValueError, match="lattice has no"):
            experiment(replace(CONFIG, **wrong), tmp_path / "run", data=grid)
    assert not (tmp_path / "run").exists()


# Correlated factors


def test_weights_are_those_of_the_paper(full):
    rows = np.random.default_rng(0).choice(len(full), 200)
    values = dsprites.latent_values(full.factors[rows])[:, 1:]
    shape, scale, x, y = (values[:, 0] - 1) / 2, (values[:, 1] - 0.5) / 0.5, values[:, 3], values[:, 4]
    expected = np.exp(-((shape - x) ** 2) / (2 * 0.1**2)) * np.exp(-((scale - y) ** 2) / (2 * 0.4**2))
    weights = correlation_weights(full, ["shape~posX:0.1", "scale~posY:0.4"], rows)
    np.testing.assert_allclose(weights, expected, rtol=1e-9)
    assert correlation_weights(full, [], rows) is None


def test_images_are_drawn_with_their_weights(grid):
    config = replace(CONFIG, correlate=("posX~posY:0.2",), batch_size=400)
    train = np.arange(900)
    rows = StepRows(config, grid, train)
    drawn = np.concatenate([rows(step) for step in range(100)])
    weights = correlation_weights(grid, config.correlate, train)
    counts = np.bincount(drawn, minlength=900) / len(drawn)
    np.testing.assert_allclose(counts, weights / weights.sum(), atol=6 * np.sqrt(weights.max() / weights.sum() / 4e4))
    x, y = grid.factors[drawn, 2], grid.factors[drawn, 3]
    assert np.corrcoef(x, y)[0, 1] > 0.7
    assert np.corrcoef(*grid.factors[rows.first(4_000)].T[2:])[0, 1] > 0.7


def test_a_step_has_the_same_rows_in_any_order(grid):
    for objective in (CONFIG.objective, AdaGvae(), Semi(labelled_images=100)):
        config = replace(CONFIG, objective=objective, correlate=("posX~posY:0.2",), latent_dim=5)
        one, other = (StepRows(config, grid, np.arange(900)) for _ in range(2))
        steps = {step: one(step) for step in range(6)}
        for step in reversed(range(6)):
            assert np.array_equal(other(step), steps[step])
        assert len(steps[0]) == 16


def test_weights_that_are_all_0_are_refused(grid):
    rows = np.flatnonzero(grid.factors[:, 2] != grid.factors[:, 3])
    with pytest.raises(ValueError, match="the weights of all 810 training images are 0; increase the widths"):
        correlation_weights(grid, ["posX~posY:0.001"], rows)
