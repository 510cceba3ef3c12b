"""What `evaluate` adds to the metrics: shared work, intervals, chance levels, presets, errors, JSON."""

import inspect
import json
import re
import warnings
from importlib import import_module

import numpy as np
import pytest
from scipy.stats import t

from betavae import metrics
from betavae.runs.scores import score_tables

pytestmark = pytest.mark.filterwarnings(r"ignore:latents \[3\] are left out")  # the inactive one of `tables`

SMALL = {"num_train": 300, "num_test": 150}
CHEAP = ["mig", "irs", "modularity"]


@pytest.fixture(scope="module")
def tables() -> tuple[np.ndarray, np.ndarray]:
    """Ten times each combination of 2, 3 and 4 values; the first latent is mixed, the last one inactive."""
    rng = np.random.default_rng(0)
    factors = np.tile(np.stack(np.meshgrid(range(2), range(3), range(4), indexing="ij"), -1).reshape(-1, 3), (30, 1))
    latents = factors + rng.normal(0, 0.2, factors.shape)
    latents[:, 0] += latents[:, 1]
    return np.column_stack([latents, rng.normal(0, 0.001, len(latents))]), factors


@pytest.fixture(scope="module")
def everything(tables) -> metrics.Scores:
    latents, factors = tables
    return metrics.evaluate(latents, factors, repeats=2, **SMALL)


def test_by_default_every_metric_has_a_score_an_interval_and_a_chance_level(everything):
    ran = {name.split(".")[0] for name in everything.scores}
    assert ran == set(metrics.METRICS) - {"mig_chen", "unibound"}  # which needs sampled latents, and which takes long
    assert set(everything.intervals) == set(everything.scores)
    assert all(metrics.score_info(name).question for name in everything.scores)
    assert all(np.isfinite(value) for value in everything.scores.values())
    assert all(low <= high for low, high in everything.intervals.values())
    blind = {name for name in everything.scores if name.startswith("unsupervised.")}
    assert set(everything.scores) - set(everything.chance) == blind | {"factor_vae.num_active", "dci_es.size"}


def test_scores_that_look_at_factors_stand_above_chance(everything):
    for name in ("dci.disentanglement", "dci.informativeness", "mig", "sap.regression", "irs", "explicitness"):
        assert everything.scores[name] > everything.chance[name] + 0.2, name
    assert everything.chance["mig"] < 0.05
    assert everything.chance["explicitness"] == pytest.approx(0.5, abs=0.08)  # measured: 0.51
    assert everything.chance["dci.informativeness"] == pytest.approx(np.mean([1 / 2, 1 / 3, 1 / 4]), abs=0.1)


def test_shared_work_gives_what_each_metric_gives_alone(tables, everything):
    latents, factors = tables
    alive = latents[:, :3]
    for name in ("dci", "sap", "explicitness", "infomec", "beta_vae"):
        alone = metrics.METRICS[name](alive, factors, seed=0, **SMALL)
        assert alone == {key: everything.scores[f"{name}.{key}".replace(f"{name}.{name}", name)] for key in alone}, name
    for name in ("mig", "mig_sup", "dcimig", "jemmig", "modularity"):
        assert metrics.METRICS[name](alive, factors, seed=0, num_train=300) == {name: everything.scores[name]}
    few = metrics.downstream(alive, factors, seed=0, num_labels=(10, 100, 300), num_test=150)
    assert few == {key: everything.scores[f"downstream.{key}"] for key in few}


def test_an_interval_is_where_one_more_evaluation_falls(tables):
    latents, factors = tables
    found = metrics.evaluate(latents, factors, metrics=["mig"], repeats=4, seed=3, chance=False, **SMALL)
    values = [
        metrics.evaluate(latents, factors, metrics=["mig"], repeats=1, seed=seed, chance=False, **SMALL).scores["mig"]
        for seed in range(3, 7)
    ]
    assert found.scores["mig"] == values[0]
    reach = t.ppf(0.975, 3) * np.std(values, ddof=1) * np.sqrt(1 + 1 / 4)
    assert found.intervals["mig"] == pytest.approx((np.mean(values) - reach, np.mean(values) + reach))


def test_intervals_cover_other_seeds_about_as_often_as_they_say(tables):
    latents, factors = tables
    options = {"metrics": ["mig"], "chance": False, **SMALL}
    low, high = metrics.evaluate(latents, factors, repeats=10, **options).intervals["mig"]
    others = [
        metrics.evaluate(latents, factors, repeats=1, seed=seed, **options).scores["mig"] for seed in range(10, 110)
    ]
    assert np.mean([low <= value <= high for value in others]) >= 0.88


def test_one_evaluation_has_no_intervals(tables):
    found = metrics.evaluate(*tables, metrics=["mig"], repeats=1, chance=False, **SMALL)
    assert found.intervals == {}
    assert found.chance == {}


def test_scores_do_not_depend_on_the_number_of_cores(tables, monkeypatch):
    found = []
    for cores in (1, 3):
        for module in ("betavae.metrics.measuring", "betavae.metrics.dci"):
            monkeypatch.setattr(import_module(module), "num_threads", lambda cores=cores: cores)
        scores = metrics.evaluate(*tables, metrics=["dci", *CHEAP, "explicitness"], repeats=2, **SMALL)
        found.append((scores.scores, scores.intervals, scores.chance))
    assert found[0] == found[1]


def test_same_seed_same_numbers_and_another_seed_others(tables):
    first, again, other = (metrics.evaluate(*tables, metrics=CHEAP, repeats=2, seed=s, **SMALL) for s in (0, 0, 9))
    assert (first.scores, first.intervals, first.chance) == (again.scores, again.intervals, again.chance)
    assert all(first.scores[name] != other.scores[name] for name in CHEAP)


def test_default_leaves_inactive_latents_out_and_dlib_keeps_them(tables):
    corrected = metrics.evaluate(*tables, metrics=["dci", "mig"], repeats=1, chance=False, **SMALL)
    np.testing.assert_array_equal(corrected.arrays["active"], [True, True, True, False])
    assert corrected.arrays["dci.importance"].shape == (4, 3)
    assert (corrected.arrays["dci.importance"][3] == 0).all()
    assert (corrected.arrays["mig.mutual_information"][3] == 0).all()
    whole = metrics.evaluate(*tables, metrics=["dci", "mig"], preset="dlib", repeats=1, chance=False, **SMALL)
    assert (whole.arrays["mig.mutual_information"][3] > 0).all()
    by_kl = metrics.evaluate(*tables, metrics=["mig"], kl=np.array([1, 1, 0.01, 0]), repeats=1, chance=False, **SMALL)
    np.testing.assert_array_equal(by_kl.arrays["active"], [True, True, False, False])


@pytest.mark.parametrize("preset", sorted(metrics.PRESETS))
@pytest.mark.filterwarnings("ignore:mig_chen uses latents instead of samples", "ignore:fairness draws different rows")
def test_a_function_gives_what_an_evaluation_gives(tables, preset):
    """Under the same preset, and also of a table with an inactive latent, which `tables` has."""
    latents, factors = tables
    names = [name for name in metrics.METRICS if name != "unibound"]  # shares nothing, and takes long
    few = {"num_train": 300, "num_test": 100}
    found = metrics.evaluate(latents, factors, metrics=names, preset=preset, repeats=1, chance=False, **few)
    for name in names:
        accepted = inspect.signature(metrics.METRICS[name].function).parameters
        sizes = {key: few[key] for key in few if key in accepted and not name.startswith("z_")}
        alone = metrics.METRICS[name](latents, factors, seed=0, preset=preset, **sizes)
        together = {key: found.scores[key if key == name else f"{name}.{key}"] for key in alone}
        assert alone == pytest.approx(together, abs=1e-9, nan_ok=True), name  # matrix products on one thread or more
    importance = metrics.fit_dci(latents, factors, seed=0, preset=preset, **few).importance
    np.testing.assert_array_equal(importance, found.arrays["dci.importance"])


def test_signatures_are_written_out():
    for name, metric in metrics.METRICS.items():
        kinds = {parameter.kind for parameter in inspect.signature(metric.function).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds, name
        assert inspect.signature(metric.function).parameters["preset"].default == "default", name


def test_dlib_is_the_protocol_with_its_options(tables):
    latents, factors = tables
    own = metrics.Protocol(drop_inactive=False)
    found = metrics.evaluate(latents, factors, preset="dlib", metrics=["mig", "sap", "irs"], repeats=1, **SMALL)
    mig = metrics.mig(latents, factors, seed=0, preset=own, num_train=300, with_replacement=True, bias_correction=False)
    sap = metrics.sap(latents, factors, seed=0, preset=own, with_replacement=True, **SMALL)
    irs = metrics.irs(
        latents,
        factors,
        seed=0,
        preset=own,
        num_train=300,
        with_replacement=True,
        reference_quantile=1.0,
        num_factor_bins=20,
    )
    assert found.scores == mig | irs | {f"sap.{key}": value for key, value in sap.items()}


def test_what_is_left_out_or_inactive_is_said(tables):
    latents, factors = tables
    with pytest.warns(UserWarning, match=r"latents \[1, 2\] are left out: their standard deviation is below 5 %"):
        metrics.evaluate(factors * [100.0, 1, 1], factors, metrics=["mig"], repeats=1, **SMALL)
    with pytest.warns(UserWarning, match="no latent is active, by KL divergence or standard deviation: all latents"):
        metrics.evaluate(latents, factors, metrics=["mig"], kl=np.zeros(4), repeats=1, **SMALL)
    with pytest.raises(ValueError, match="kl must be finite"):
        metrics.evaluate(latents, factors, metrics=["mig"], kl=np.array([1, 1, 1, np.nan]), **SMALL)
    with pytest.warns(UserWarning, match="mig_chen uses latents instead of samples"):
        found = metrics.evaluate(latents[:, :3], factors, metrics=["mig_chen"], repeats=2, **SMALL)
    assert not found.intervals


def test_continuous_factors_have_sap_alone_and_row_numbers_the_unsupervised(tables):
    latents, factors = tables
    measured = factors + np.random.default_rng(0).uniform(0, 0.5, factors.shape)
    with pytest.warns(UserWarning, match="a factor is continuous"):
        found = metrics.evaluate(latents[:, :3], measured, metrics=["sap"], repeats=1, **SMALL)
    assert found.scores["sap.regression"] > 0.3
    assert not found.captures
    rows = np.arange(len(latents))[:, None]
    assert metrics.evaluate(latents[:, :3], rows, metrics=["unsupervised"], repeats=1, **SMALL).captures == ()


def test_sampled_latents_go_to_chens_mig_alone(tables):
    latents, factors = tables
    noise = np.random.default_rng(1).normal(size=latents.shape)
    with_noise = metrics.evaluate(
        latents, factors, metrics=["mig", "mig_chen"], sampled=noise, repeats=1, **SMALL
    ).scores
    with pytest.warns(UserWarning, match="mig_chen uses latents instead of samples"):
        without = metrics.evaluate(latents, factors, metrics=["mig", "mig_chen"], repeats=1, **SMALL).scores
    assert with_noise["mig"] == without["mig"]
    assert with_noise["mig_chen"] < 0.1 < without["mig_chen"]
    with pytest.raises(ValueError, match=r"sampled must have the shape of latents, \(720, 4\), got \(720, 3\)"):
        metrics.evaluate(latents, factors, sampled=noise[:, :3])


def test_ceilings_come_with_image_numbers(tables):
    latents, factors = tables
    images = factors[:, 1] * 4 + factors[:, 2]  # the first factor does not show: a coin flip, and no information
    found = metrics.evaluate(latents, factors, metrics=["dci", "mig", "irs"], images=images, repeats=1, **SMALL)
    assert found.ceilings["dci.informativeness"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert found.ceilings["mig"] == pytest.approx(2 / 3)
    assert "irs" not in found.ceilings


def test_intervals_stay_in_range_whatever_the_number_of_labels(tables):
    latents, factors = tables
    found = metrics.evaluate(latents[:60], factors[:60], metrics=["downstream"], num_train=40, num_test=20, repeats=3)
    assert {"downstream.accuracy_10", "downstream.accuracy_40"} <= found.intervals.keys()
    assert all(0 <= low <= high <= 1 for name, (low, high) in found.intervals.items() if ".accuracy" in name)


def test_progress_counts_every_metric_of_every_evaluation(tables):
    calls: list[tuple[str, int, int]] = []
    metrics.evaluate(*tables, metrics=CHEAP, repeats=2, progress=lambda *call: calls.append(call), **SMALL)
    assert {total for _, _, total in calls} == {9}  # three metrics, two evaluations and the shuffled one
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
    assert calls[-1][1] == 9
    assert {"mig (evaluation 2 of 2)", "irs (shuffled)"} <= {doing for doing, _, _ in calls}


def test_what_a_table_cannot_serve_is_left_out_with_one_warning(tables):
    latents, factors = tables
    singles = factors.copy()
    singles[0, 2] = 99  # one row of its own: nothing to compare it with
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = metrics.evaluate(latents, singles, repeats=2, **SMALL)
    messages = [str(warning.message) for warning in caught]
    assert sum(message.startswith("beta_vae is left out: the BetaVAE score compares rows") for message in messages) == 1
    assert len(messages) == len(set(messages))
    for scores in (found.scores, found.intervals, found.chance):
        assert not any(name.startswith(("beta_vae", "factor_vae", "z_m")) for name in scores)
        assert "mig" in scores
    with pytest.raises(ValueError, match="the BetaVAE score compares rows"):
        metrics.evaluate(latents, singles, metrics=["mig", "beta_vae"], repeats=2, **SMALL)


def test_too_few_rows_for_anything_is_an_error(tables):
    latents, factors = tables
    with pytest.raises(ValueError, match=r"10,000 \+ 5,000 different rows are needed, got 720"):
        metrics.evaluate(latents, factors, num_train=10_000, num_test=5_000)


def test_an_undefined_score_is_nan_in_the_interval_and_warns_once(tables):
    latents, factors = tables
    with pytest.warns(UserWarning, match="is undefined") as caught:
        found = metrics.evaluate(latents[:, :3], factors[:, :1], metrics=["modularity"], repeats=3, **SMALL)
    assert len(caught) == 1
    assert np.isnan(found.scores["modularity"])
    assert np.isnan(found.intervals["modularity"]).all()
    assert found.to_json()["intervals"]["modularity"] == [None, None]


def test_json_holds_everything_and_reads_back(everything):
    plain = everything.to_json()
    back = json.loads(json.dumps(plain, allow_nan=False))
    assert back == plain
    assert back["scores"]["mig"] == everything.scores["mig"]
    assert back["intervals"]["mig"] == list(everything.intervals["mig"])
    assert back["arrays"]["active"] == [True, True, True, False]
    assert back["captures"][2]["latents"] == [2]
    assert (back["preset"], back["seed"], back["num_rows"]) == ("default", 0, 720)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["migg"]}, "unknown metric 'migg'; did you mean 'mig'. Known: dci, mig, "),
        ({"metrics": ["zzz"]}, "unknown metric 'zzz'; Known: .*unsupervised; if it is your own, name"),
        ({"metrics": "mig"}, "metrics must list at least one metric of dci, .*, got 'mig'"),
        ({"metrics": []}, r"metrics must list at least one metric of dci, .*, got \[\]"),
        ({"preset": "dblib"}, "unknown preset 'dblib'; did you mean 'dlib'. Known: default, dlib"),
        ({"repeats": 0}, "repeats is 0; it must be a whole number of at least 1"),
        ({"seed": -1}, "seed is -1; it must be a whole number of at least 0"),
        ({"seed": None}, "seed is None; it must be a whole number"),
        ({"num_train": 1e3}, "num_train is 1000.0; it must be a whole number of at least 1"),
        ({"factor_names": ["shape"]}, r"one name for each of the 3 factors, got 1: \['shape'\]"),
        ({"kl": np.ones(3)}, r"kl must have one number for each of the 4 latents, got the shape \(3,\)"),
    ],
)
def test_wrong_options_are_named(tables, options, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        metrics.evaluate(*tables, **options)


def test_nan_latents_are_counted_and_located(tables):
    latents, factors = (table.copy() for table in tables)
    latents[[5, 7], 2] = np.nan
    latents[9, 0] = np.inf
    message = (
        "latents must be finite, got 2 NaN and 1 infinite values in columns [0, 2]; the first is in row 5, column 2"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        metrics.evaluate(latents, factors)


def test_metrics_of_ones_own(own_entries):
    """Numbers of any library; what goes wrong is told with the metric's name, and where all are asked for, left out."""
    latents, factors = (
        np.random.default_rng(0).normal(size=(600, 3)),
        np.random.default_rng(1).integers(3, size=(600, 2)),
    )
    metrics.register(
        metrics.Metric("mine", lambda latents, factors, *, seed: {"mine": np.float32(0.5), "part": np.int64(seed)})
    )
    found = metrics.evaluate(latents, factors, metrics=["mine"], seed=7, repeats=1)
    assert found.scores == {"mine": 0.5, "mine.part": 7.0}
    assert {type(value) for value in found.scores.values()} == {float}
    metrics.register(
        metrics.Metric("mine", lambda latents, factors, *, seed: {"counted": np.bincount(factors[:, 0]).max()})
    )
    metrics.evaluate(
        latents, factors.astype(np.float32), metrics=["mine"], repeats=1
    )  # classes are int64, however given
    for wrong, reason in (
        (lambda latents, factors, *, seed: 0.5, "AttributeError: 'float' object has no attribute 'items'"),
        (lambda latents, factors, *, seed: {"x": 1 / 0}, "ZeroDivisionError: division by zero"),
    ):
        metrics.register(metrics.Metric("mine", wrong))
        with pytest.raises(ValueError, match=rf"metric mine failed \({reason}\); it is called with latents \(N, D\)"):
            metrics.evaluate(latents, factors, metrics=["mine"])
    with pytest.raises(TypeError, match=r"metric 'mine' cannot be called as \(latents, factors, seed=0\)"):
        metrics.register(metrics.Metric("mine", lambda latents, factors: {}))


def test_tables_of_fewer_rows_are_scored_alike_from_python_and_as_a_command():
    factors = np.random.default_rng(0).integers(4, size=(3000, 2))
    latents = factors + np.random.default_rng(1).normal(0, 0.1, factors.shape)
    found = metrics.evaluate(latents, factors, metrics=["mig", "dci"], repeats=1, chance=False)
    values = score_tables(latents, factors, ["mig", "dci"], repeats=1)
    assert found.scores == values["scores"]
    assert (values["protocol"]["num_train"], values["protocol"]["num_test"]) == (2000, 1000)
    assert values["notes"][0] == "2,000 training rows and 1,000 test rows: the table has no more"
    chosen = score_tables(latents, factors, ["mig"], repeats=1, num_train=500, num_test=100)
    assert (chosen["protocol"]["num_train"], chosen["protocol"]["num_test"]) == (500, 100)
    assert chosen["notes"] == []
    with pytest.raises(ValueError, match="num_train is 0; it must be a whole number"):
        score_tables(latents, factors, ["mig"], num_train=0)
