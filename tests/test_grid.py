"""Recipes of studies: what they expand to, and what is refused before anything runs."""

from dataclasses import dataclass

import pytest

from betavae.config import Config
from betavae.config_files import run_id
from betavae.objectives.registry import register
from betavae.objectives.settings import TC, Annealed, Beta
from betavae.studies import sweep
from betavae.studies.sweep import differences, expand, flat, label, varied


def test_a_grid_is_every_combination_seeds_outermost():
    runs = expand({"seeds": 2, "steps": 7, "grid": {"latent_dim": [4, 6], "objective": {"name": "tc", "beta": [1, 8]}}})
    found = [(c.seed, c.latent_dim, c.objective.beta) for c in runs.values()]
    assert found == [(s, latents, beta) for s in (0, 1) for latents in (4, 6) for beta in (1.0, 8.0)]
    assert all(config.steps == 7 for config in runs.values())
    assert all(run == run_id(config) for run, config in runs.items())


def test_without_a_grid_one_setting():
    assert list(expand({"seeds": [3, 7]}).values()) == [Config(seed=3), Config(seed=7)]


def test_settings_that_are_lists(own_entries):
    """Of a run, and of an objective from elsewhere: a list is one value, a list of lists has several."""

    @dataclass(frozen=True)
    class Weighted:
        weights: tuple[float, ...] = (1.0, 4.0)

    register("weighted", Weighted, lambda settings, model, batch: None)
    tables = {"objective": {"name": "weighted", "weights": [[], [1.0, 2.5]]}, "rotate_at": [[], [1, 2]]}
    found = expand({"steps": 9, "grid": tables})
    pairs = [(config.objective.weights, config.rotate_at) for config in found.values()]
    assert pairs == [((), ()), ((), (1, 2)), ((1.0, 2.5), ()), ((1.0, 2.5), (1, 2))]
    keys = ["objective.weights", "rotate_at"]
    assert [label(config, keys) for config in (*found.values(),)[1:3]] == [
        "weights not given, rotate_at 1 2",
        "weights 1.0 2.5, rotate_at not given",
    ]
    one = expand({"steps": 9, "grid": {"objective": {"name": "weighted", "weights": [1.0, 2.5]}}})
    assert [config.objective.weights for config in one.values()] == [(1.0, 2.5)]


def test_several_grids_and_lists_of_objectives():
    several = [
        {"objective": {"name": "beta", "beta": [1, 2]}},
        {"objective": [{"name": "annealed", "capacity_nats": 5}, {"name": "tc", "beta": [6]}]},
    ]
    objectives = [config.objective for config in expand({"grid": several}).values()]
    assert objectives == [Beta(1), Beta(2), Annealed(capacity_nats=5), TC(6)]


def test_an_objective_of_the_shared_name_keeps_the_shared_settings_another_does_not():
    shared = {"name": "tc", "beta": 3, "warmup_steps": 9}
    runs = expand({"objective": shared, "grid": {"objective": [{"beta": 4}, {"name": "beta"}]}})
    assert [config.objective for config in runs.values()] == [TC(4, warmup_steps=9), Beta()]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"stepz": 3}, r"r.toml: unknown key 'stepz'; did you mean 'steps'"),
        ({"grid": {"model": ["burgess", "burges"]}}, r"r.toml: grid, model = burges: unknown model 'burges'; did"),
        (
            {"grid": [{}, {"objective": {"name": ["beta", "tc"], "gamma": [1]}}]},
            r"r.toml: grid 2, objective.name = beta, objective.gamma = 1: objective beta: unknown key 'gamma'",
        ),
        (
            {"grid": {"objective": {"beta": [1, -1]}}},
            r"grid, objective.beta = -1: objective beta: beta is -1.0; it must",
        ),
        (
            {"objective": {"name": "tc"}, "grid": {"batch_size": [64, 1]}},
            r"grid, batch_size = 1: batch_size is 1; total correlation is estimated within a batch",
        ),
        (
            {"grid": {"latent_dim": [3, 4, 3]}},
            r"grid, latent_dim = 3: the same run as r.toml: grid, latent_dim = 3; leave one",
        ),
        (
            {"grid": [{"latent_dim": 3}, {"latent_dim": 3}]},
            r"grid 2, latent_dim = 3: the same run as r.toml: grid 1, latent_dim = 3",
        ),
        ({"grid": {"latent_dim": []}}, r"r.toml: grid: latent_dim is an empty list, so the grid has no runs"),
        ({"grid": []}, r"r.toml: the recipe has no runs; leave \[grid\] out"),
        ({"grid": 3}, r"grid is 3; it must be a table \[grid\]"),
        ({"seeds": 0}, r"seeds is 0, so the recipe has no runs"),
        ({"seeds": []}, r"seeds is \[\], so the recipe has no runs"),
        ({"seeds": [1, 1]}, r"seeds is \[1, 1\]; it must be a number of seeds \(10\) or a list of different seeds"),
        ({"seeds": [-1]}, r"seeds is \[-1\]; it must .* each at least 0"),
        ({"seeds": "ten"}, r"seeds is 'ten'; it must be a number of seeds"),
        ({"seeds": True}, r"seeds is True; it must be"),
        ({"seeds": 10**9}, r"r.toml: that is 1,000,000,000 runs, and 20,000 are allowed; give fewer seeds or values"),
        ({"seeds": 10**400}, r"r.toml: that is 10¹² or more runs, and 20,000 are allowed; give fewer"),
        (
            {
                "seeds": 5,
                "grid": [{"latent_dim": 3}, {"latent_dim": [*range(1, 4001)], "objective": [{"beta": [1, 2]}, {}]}],
            },
            r"r.toml: that is 60,005 runs, and 20,000 are allowed; give fewer",
        ),
        (
            {"grid": {key: [*range(1, 1000)] for key in ("latent_dim", "steps", "batch_size", "evaluations")}},
            r"r.toml: that is 996,005,996,001 runs, and 20,000 are allowed; give fewer",
        ),
        ({"seed": 4}, r"r.toml: a study has no seed; write seeds = 10"),
        ({"grid": {"seed": [4]}}, r"r.toml: grid 1: a study has no seed"),
    ],
)
def test_refused(recipe, message):
    with pytest.raises(ValueError, match=message):
        expand(recipe, "r.toml")


def test_a_grid_of_12600_runs():
    assert (
        len(expand({"seeds": 50, "grid": {"latent_dim": list(range(2, 44)), "batch_size": [16, 32, 48, 64, 80, 96]}}))
        == 12600
    )


def test_settings_that_are_lists_are_varied_by_lists_of_lists():
    runs = list(expand({"grid": {"rotate_at": [[], [7, 9]], "scores": ["mig", "dci"]}}).values())
    assert [config.rotate_at for config in runs] == [(), (7, 9)]
    assert {config.scores for config in runs} == {("mig", "dci")}
    assert [label(config, varied(runs)) for config in runs] == ["rotate_at not given", "rotate_at 7 9"]
    (one,) = expand({"grid": {"rotate_at": [7, 9]}}).values()
    assert one.rotate_at == (7, 9)


def test_what_differs():
    runs = [Config(Beta(1)), Config(Beta(4)), Config(TC(4), seed=1)]
    assert varied(runs) == ["objective", "objective.beta"]
    assert label(runs[1], varied(runs)) == "beta, beta 4"
    assert flat(runs[2])["objective"] == "tc"
    changes = differences(runs[:1], runs)
    assert "objective: beta → beta, tc" in changes
    assert "objective.memory_images: nothing → 0" in changes
    assert differences(runs[:1], [runs[0], Config(Beta(1), muon_after=5)]) == ["muon_after: None → 5, None"]
    assert label(Config(learning_rate=1.0000001e-4), ["learning_rate"]) == "learning_rate 0.00010000001"


def test_one_image_is_not_all_of_them():
    runs = expand({"grid": {"scored_images": [1, 1.0]}})
    assert len(runs) == 2
    configs = list(runs.values())
    assert varied(configs) == ["scored_images"]
    assert [label(config, ["scored_images"]) for config in configs] == ["scored_images 1", "scored_images 1.0"]
    assert differences(configs[:1], configs[1:]) == ["scored_images: 1 → 1.0"]


def test_runs_of_one_name_are_refused(monkeypatch):
    names = iter("abb")
    monkeypatch.setattr(sweep.config_files, "run_id", lambda config: next(names))
    with pytest.raises(ValueError, match="two runs have the same id"):
        expand({"seeds": 2, "steps": 9})
