"""Settings: what is written is read back; what is wrong is refused with the cure."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betavae.config import TC, Annealed, Beta, Config, Vae, from_dict, load, run_id, to_dict

RECIPES = Path(__file__).parents[1] / "recipes"

weights = st.floats(0, 1e6)
steps = st.integers(0, 10**7)
objectives = st.one_of(
    st.builds(Vae),
    st.builds(Beta, weights, steps),
    st.builds(Annealed, weights, weights, st.integers(1, 10**7)),
    st.builds(TC, weights, steps, steps),
)
configs = st.builds(
    Config,
    objective=objectives,
    data=st.text(min_size=1),
    train_images=st.one_of(st.integers(1, 10**7), st.floats(0.01, 1)),
    model=st.sampled_from(["burgess", "locatello", "higgins", "residual", "wide"]),
    codes=st.integers(1, 100),
    steps=st.integers(1, 10**7),
    batch_size=st.integers(2, 4096),
    learning_rate=st.floats(1e-8, 1),
    seed=st.integers(0, 2**31),
)


@given(configs)
def test_what_is_written_is_read_back(config):
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@given(configs, configs)
def test_run_id_tells_settings_apart(one, other):
    assert (run_id(one) == run_id(other)) == (to_dict(one) == to_dict(other))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipes_load(path):
    assert load(path).steps > 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 10}, "unknown key 'stepz'; did you mean 'steps'"),
        ({"objective": {"name": "betta"}}, "unknown objective 'betta'; did you mean 'beta'"),
        ({"objective": {"name": "tc", "gamma": 1}}, "objective tc: unknown key 'gamma'"),
        ({"objective": "tc"}, "objective must be a table with a name, one of vae, beta, annealed, tc"),
        ({"objective": {"name": "beta", "beta": -1.0}}, "beta is -1.0; it must be a number of at least 0"),
        ({"objective": {"name": "annealed", "capacity_steps": 0}}, "capacity_steps is 0; it must be .* at least 1"),
        ({"model": "burges"}, "unknown model 'burges'; did you mean 'burgess'"),
        ({"steps": "many"}, "steps is 'many'; it must be of type int"),
        ({"steps": 1.5}, "steps is 1.5; it must be of type int"),
        ({"steps": True}, "steps is True; it must be a number"),
        ({"steps": 0}, "steps is 0; it must be a number of at least 1"),
        ({"codes": 0}, "codes is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be a positive number such as 1e-4"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"train_images": 1.5}, "train_images is 1.5; it must be a number of images"),
        ({"train_images": 0}, "train_images is 0; it must be"),
        ({"validation_images": -3}, "validation_images is -3"),
        ({"scored_images": 0}, "scored_images is 0"),
        ({"precision": "fp16"}, "unknown precision 'fp16'.* Known: auto, fp32, bf16"),
        ({"batch_size": 1, "objective": {"name": "tc"}}, "total correlation is estimated within a batch"),
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
    with pytest.raises(ValueError, match=r"cut\.json: not valid JSON"):
        load(tmp_path / "cut.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"list\.json: holds no table"):
        load(tmp_path / "list.json")


def test_loads_no_torch():
    code = "import sys, betavae.cli; sys.exit(any(name in sys.modules for name in ('torch', 'sklearn', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
