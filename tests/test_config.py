"""Settings: what is written is read back; what is wrong is refused with the cure."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from betavae.config import Config
from betavae.config_files import changed, from_dict, load, read, run_id, to_dict
from betavae.objectives.registry import OBJECTIVES, objective_name, register
from betavae.objectives.settings import TC, Annealed, Beta, Factor, Info, Semi, Vae

RECIPES = Path(__file__).parents[1] / "recipes"

weights = st.floats(0, 1e6)
steps = st.integers(0, 10**7)
objectives = st.one_of(
    st.builds(Vae),
    st.builds(Beta, weights, steps),
    st.builds(Annealed, weights, weights, st.integers(1, 10**7)),
    st.builds(TC, weights, steps, steps),
    st.builds(TC, weights, steps, sampling=st.just("stratified")),
    st.builds(Factor, weights),
    st.builds(Info, st.floats(-10, 1), st.floats(11, 1e6), st.sampled_from(["imq", "rbf"])),
    st.builds(Semi, weights, weights, st.one_of(st.integers(1, 10**7), st.floats(0.01, 1))),
    st.sampled_from([objective.settings() for objective in OBJECTIVES.values()]),
)
configs = st.builds(
    Config,
    objective=objectives,
    data=st.text(min_size=1),
    train_images=st.one_of(st.integers(1, 10**7), st.floats(0.01, 1)),
    model=st.sampled_from(["burgess", "affine", "locatello", "higgins", "residual", "wide"]),
    latent_dim=st.integers(2, 100),
    steps=st.integers(1, 10**7),
    batch_size=st.integers(2, 2048).map(lambda half: 2 * half),
    learning_rate=st.floats(1e-8, 1),
    seed=st.integers(0, 2**31),
)


@given(configs)
def test_what_is_written_is_read_back(config):
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@given(configs)
def test_what_is_changed_says_all(config):
    assert from_dict(changed(config)) == config


def test_run_id_knows_one_image_from_all():
    assert run_id(Config(scored_images=1)) != run_id(Config(scored_images=1.0)) == run_id(Config())


@given(configs, configs)
def test_run_id_tells_settings_apart(one, other):
    assert (run_id(one) == run_id(other)) == (to_dict(one) == to_dict(other))


@pytest.mark.parametrize(
    "path", sorted([*RECIPES.glob("*.toml"), *RECIPES.glob("objectives/*.toml")]), ids=lambda path: path.stem
)
def test_shipped_recipes_load(path):
    assert load(path).steps > 0


def test_every_objective_has_its_recipe_and_its_row_in_the_table():
    folder = RECIPES / "objectives"
    assert {path.stem: objective_name(load(path).objective) for path in folder.glob("*.toml")} == {
        name: name for name in OBJECTIVES
    }
    study = read(RECIPES / "studies" / "objectives.toml")
    assert [table["name"] for table in study["grid"]["objective"]] == list(OBJECTIVES)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 10}, "unknown key 'stepz'; did you mean 'steps'"),
        ({"objective": {"name": "betta"}}, "unknown objective 'betta'; did you mean 'beta'"),
        ({"objective": {"name": "tc", "gamma": 1}}, "objective tc: unknown key 'gamma'"),
        ({"objective": "tc"}, "objective must be a table with a name, one of vae, beta, annealed, tc, factor"),
        ({"objective": {"name": ["tc"]}}, "objective must be a table with a name, one of vae, beta, annealed, tc"),
        ({"objective": {"name": "beta", "beta": -1.0}}, "beta is -1.0; it must be a number of at least 0"),
        ({"objective": {"name": "annealed", "capacity_steps": 0}}, "capacity_steps is 0; it must be .* at least 1"),
        ({"model": "burges"}, "unknown model 'burges'; did you mean 'burgess'"),
        ({"steps": "many"}, "steps is 'many'; it must be a whole number"),
        ({"steps": 1.5}, "steps is 1.5; it must be a whole number"),
        ({"steps": True}, "steps is True; it must be a whole number"),
        ({"steps": 0}, "steps is 0; it must be a number of at least 1"),
        ({"latent_dim": 0}, "latent_dim is 0"),
        (
            {"latent_dim": 1, "objective": {"name": "tc"}},
            "latent_dim is 1; objective tc compares latents .*: give at least 2",
        ),
        ({"seed": -1}, "seed is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"muon_learning_rate": 0.0, "muon_after": 5}, "muon_learning_rate is 0.0; it must be a number above 0"),
        (
            {"muon_learning_rate": 1e-3},
            "muon_learning_rate is 0.001, and Adam trains all parameters: leave it out, or give muon",
        ),
        ({"train_images": 1.5}, "train_images is 1.5; it must be a number of images"),
        ({"train_images": 0}, "train_images is 0; it must be"),
        ({"validation_images": -3}, "validation_images is -3"),
        ({"scored_images": 0}, "scored_images is 0"),
        (
            {"schedule_warmup_steps": 0, "schedule": "one-cycle"},
            "schedule_warmup_steps is 0; it must be a number of at least 1",
        ),
        ({"muon_weight_decay": -0.1, "muon_after": 5}, "muon_weight_decay is -0.1; it must be a number of at least 0"),
        (
            {"muon_weight_decay": 0.1},
            "muon_weight_decay is 0.1, and Adam trains all parameters: leave it out, or give muon",
        ),
        (
            {"schedule_warmup_steps": 5},
            "schedule_warmup_steps is 5, and a constant learning rate has no warm-up: leave it out, or",
        ),
        ({"precision": "fp16"}, "unknown precision 'fp16'.* Known: auto, fp32, bf16"),
        ({"batch_size": 1, "objective": {"name": "tc"}}, "total correlation is estimated within a batch"),
        (
            {"batch_size": 1, "objective": {"name": "dip2"}},
            "covariance is estimated within a batch and needs at least 2",
        ),
        (
            {"batch_size": 2, "objective": {"name": "factor"}},
            "permuted within half a batch and needs at least 4 images",
        ),
        ({"batch_size": 1, "objective": {"name": "info"}}, "MMD is estimated within a batch"),
        (
            {"batch_size": 9, "objective": {"name": "ada-gvae"}},
            "ada-gvae uses the two halves of a batch differently: give an even",
        ),
        ({"objective": {"name": "tc", "sampling": "strat"}}, "unknown sampling 'strat'; did you mean 'stratified'"),
        (
            {"objective": {"name": "tc", "sampling": "stratified", "memory_images": 9}},
            "memory_images is 9; it must be 0 with stratified sampling",
        ),
        ({"objective": {"name": "tc", "anneal_after": 9}}, "anneal_after is 9, .* set final_beta as well"),
        ({"objective": {"name": "tc", "second_warmup_steps": 9}}, "second_warmup_steps is 9, .* set final_beta"),
        ({"objective": {"name": "tc", "final_beta": 7.0}}, "final_beta is 7.0; it must be at most beta, which is 6.0"),
        ({"objective": {"name": "factor", "gamma": -1.0}}, "gamma is -1.0"),
        ({"objective": {"name": "factor", "discriminator_learning_rate": 0.0}}, "must be a number above 0"),
        ({"objective": {"name": "dip1", "off_diagonal": -1.0}}, "off_diagonal is -1.0"),
        ({"objective": {"name": "info", "alpha": 1.5}}, "alpha is 1.5; it must be at most 1"),
        ({"objective": {"name": "info", "divergence": 0.5}}, "sum must be at least 1, .* not be negative"),
        ({"objective": {"name": "info", "kernel": "linear"}}, "unknown kernel 'linear'; Known: imq, rbf"),
        ({"objective": {"name": "control", "integral": -0.001}}, "integral is -0.001"),
        (
            {"objective": {"name": "dynamic", "ramp_steps": 9000}},
            "must be at most rise_steps, which is 6000",
        ),
        ({"objective": {"name": "ada-mlvae", "beta": -1.0}}, "beta is -1.0"),
        ({"objective": {"name": "group", "pairs": "on"}}, "unknown pairs 'on'; did you mean 'one'"),
        ({"objective": {"name": "group", "averaging": "vae"}}, "unknown averaging 'vae'"),
        ({"objective": {"name": "semi", "labelled_images": 0}}, "labelled_images is 0; it must be a number of images"),
        ({"objective": {"name": "semi", "supervision": "mse"}}, "unknown supervision 'mse'"),
        ({"objective": {"name": "hfs", "latent_pairs": 0}}, "latent_pairs is 0"),
        ({"objective": {"name": "qlae", "values_per_latent": 1}}, "values_per_latent is 1; .* at least 2"),
    ],
)
def test_bad_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=f"recipe: .*{message}"):
        from_dict(values, "recipe")


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such recipe"):
        load(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("steps = = 3")
    with pytest.raises(ValueError, match=r"broken\.toml: not valid TOML"):
        load(tmp_path / "broken.toml")
    (tmp_path / "cut.json").write_text('{"steps": 3')
    with pytest.raises(ValueError, match=r"cut\.json is damaged \(.*\); bring it back, or give another recipe"):
        load(tmp_path / "cut.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"list\.json is damaged \(it holds \[1\] where a table should be\)"):
        load(tmp_path / "list.json")


def test_loads_no_torch():
    latent = (
        "import sys, betavae.cli; sys.exit(any(name in sys.modules for name in ('torch', 'sklearn', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", latent], check=False).returncode == 0


def test_no_objective_has_a_setting_of_every_run():
    """Their flags would be one."""
    own = {field.name for field in dataclasses.fields(Config)}
    for name, objective in OBJECTIVES.items():
        assert not own & {field.name for field in dataclasses.fields(objective.settings)}, name


def test_numbers_of_numpy_and_paths_become_plain():
    given = {
        "seed": np.int64(3),
        "train_images": np.float32(0.5),
        "data": Path("a") / "b",
        "rotate_at": np.array([3, 5]),
    }
    config = Config(objective=Beta(np.float32(8)), learning_rate=1, scores=["mig"], **given)
    plain = Config(objective=Beta(8.0), learning_rate=1.0, scores=("mig",), seed=3, train_images=0.5, data="a/b")
    plain = dataclasses.replace(plain, rotate_at=(3, 5))
    assert config == plain
    assert json.dumps(to_dict(config)) == json.dumps(to_dict(plain))
    assert run_id(Config(objective=Beta(8))) == run_id(Config(objective=Beta(8.0)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "tc"}, r"objective is 'tc'; it must be settings of one, such as Beta\(beta=4.0\)"),
        ({"objective": TC}, "objective is <class .*TC'>; it must be settings of one"),
        ({"steps": 20.0}, "steps is 20.0; it must be a whole number"),
        ({"scores": "mig"}, "scores is 'mig'; it must be a list"),
        ({"figures": "no"}, "figures is 'no'; it must be true or false"),
        ({"seed": True}, "seed is True; it must be a whole number"),
    ],
)
def test_wrong_types_are_refused_where_they_are_given(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


@dataclasses.dataclass(frozen=True)
class Own:
    """Settings of several kinds."""

    weights: list[float]
    dial: float = 1
    ends: tuple[float, float] | None = None
    kind: Literal["a", "b"] | None = None
    anything: Any = 0
    all_of_them: tuple = ()
    made: float = dataclasses.field(init=False, default=3.0)


def test_settings_of_ones_own_stay_and_are_read_back(own_entries):
    register("own", Own, lambda settings, model, batch: None)
    config = Config(objective=Own([1, 2.5], ends=(3, 4), kind="a", anything=np.float32(2), all_of_them=(1, "x")))
    assert config.objective == Own([1, 2.5], ends=(3, 4), kind="a", anything=2.0, all_of_them=(1, "x"))
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert "dial" not in str(changed(Config(objective=Own([1]))))
    for wrong, message in (
        ({"weights": [1], "ends": [1, 2, 3]}, r"ends is \[1, 2, 3\]; it must be a list of 2 values or null"),
        ({"weights": ["a"]}, r"weights\[0\] is 'a'; it must be a number"),
        ({"weights": [], "all_of_them": 3}, "all_of_them is 3; it must be a list"),
    ):
        with pytest.raises(ValueError, match=message):
            from_dict({"objective": {"name": "own", **wrong}})
