"""The loop: deterministic, continued to the bit, every image once a pass, records where they should be."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from betavae.data.factor_data import FactorData
from betavae.data.loading import load_data
from betavae.data.splits import split_rows
from betavae.networks.registry import ARCHITECTURES, Architecture
from betavae.objectives.settings import TC, AdaGvae, Beta, Factor, Group, Semi, Vae
from betavae.runs.checkpoints import load_checkpoint, save_checkpoint
from betavae.runs.folder import create_run
from betavae.training import batches, steps
from betavae.training.batches import DeviceImages, StepRows, scaled_factors
from betavae.training.devices import choose_device, choose_precision
from betavae.training.encoding import encode
from betavae.training.loop import train
from betavae.training.schedule import learning_rate_factor
from betavae.training.state import new_state
from betavae.training.validation import held_out_terms
from tests.conftest import each_type, tiny
from tests.golden_curves import FILE, GRID, SMALL, config_of, curve_of, tiny_config, trained


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def assert_golden(name, records):
    """A refactor may not move the curve; the tolerance is that of another processor's arithmetic."""
    curve = curve_of(records)
    golden = json.loads(FILE.read_text())[name][: len(curve)]
    assert [entry[:2] for entry in curve] == [entry[:2] for entry in golden]
    for (*_, ours), (*_, theirs) in zip(curve, golden, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-2, abs=2e-2)


@pytest.mark.parametrize("name", SMALL)
def test_golden_curves(name, small):
    """One to its end, the others to step 50, where all their schedules have begun."""
    split = split_rows(len(small), 700, 100, seed=0)
    records = train(SMALL[name], small, split.train, split.validation, new_state(SMALL[name], small))
    assert_golden(name, list(itertools.islice(records, None if name == "tc-memory" else 3)))


@each_type
@pytest.mark.parametrize("model", ["burgess", "affine", "residual"])
def test_compiled_networks_go_on_where_they_stopped(model, dtype, small, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "RECORD_STEPS", 10)
    precision = {torch.bfloat16: "bf16", torch.float32: "fp32"}[dtype]
    config = config_of(objective=Beta(4.0), model=model, precision=precision, batch_size=16, steps=20)
    split = split_rows(len(small), 700, 100, seed=0)
    run, whole, resumed = create_run(tmp_path / "run", config), new_state(config, small), new_state(config, small)
    for record in train(config, small, split.train, split.validation, whole):
        if record.split == "train" and record.step == 10:
            save_checkpoint(run, whole)
    load_checkpoint(run, resumed)
    assert resumed.step == 10
    list(train(config, small, split.train, split.validation, resumed))
    assert (whole.step, resumed.step) == (20, 20)
    assert same_weights(whole.model, resumed.model)


@pytest.mark.parametrize("name", GRID)
def test_other_objectives_learn_and_go_on_where_they_stopped(name, grid, tmp_path):
    """The golden curve to step 50; the loss falls; from the checkpoint of step 50 on, the very same numbers again."""
    config, split = replace(GRID[name], steps=100 if name == "qlae" else 60), split_rows(len(grid), 700, 100, seed=0)
    run, whole, records = create_run(tmp_path / "run", config), new_state(config, grid), []
    for record in train(config, grid, split.train, split.validation, whole):
        records.append(record)
        if record.split == "train" and record.step == 50:
            save_checkpoint(run, whole)
    assert_golden(name, [record for record in records if record.step <= 50])
    held_out = [record.terms["loss"] for record in records if record.split == "validation"]
    assert held_out[-1] < 0.8 * held_out[0]
    broken = new_state(config, grid)
    load_checkpoint(run, broken)
    again = list(train(config, grid, split.train, split.validation, broken))
    assert [record.terms for record in again] == [record.terms for record in records if record.step > 50]
    assert same_weights(whole.model, broken.model)
    assert whole.memory.keys() == broken.memory.keys()
    assert all(torch.equal(whole.memory[key], broken.memory[key]) for key in whole.memory)
    if whole.network:
        assert same_weights(whole.network, broken.network)


def test_weights_decay_and_biases_and_latent_values_do_not(grid):
    state = new_state(GRID["qlae"], grid)
    decays = {id(p): group["weight_decay"] for group in state.optimisers[0].param_groups for p in group["params"]}
    for name, parameter in state.model.named_parameters():
        assert decays[id(parameter)] == (0.1 if name.endswith("weight") else 0), name


@pytest.mark.parametrize(("name", "decays"), [("vae-grid", (0.3, 0.0)), ("qlae", (0.4, 0.1))])
def test_decay_by_muon_comes_to_what_the_objective_asks_for(grid, name, decays):
    state = new_state(replace(GRID[name], muon_after=1, muon_weight_decay=0.3), grid)
    assert tuple(optimiser.param_groups[0]["weight_decay"] for optimiser in state.optimisers) == decays


def test_a_quantised_latent_is_one_of_its_values(grid):
    state = new_state(GRID["qlae"], grid)
    mean, log_var = encode(GRID["qlae"], grid, np.arange(50), state.model)
    assert np.isin(mean, state.model.transform.values.detach().numpy()).all()
    assert np.isneginf(log_var).all()


def test_the_discriminators_rate_follows_the_schedule(grid):
    settings = Factor(discriminator_layers=1, discriminator_width=8, discriminator_learning_rate=0.5)
    config = tiny_config(settings, schedule="one-cycle", steps=20, learning_rate=0.1)
    state, _ = trained(config, grid, held_out=0)
    rate, own = (optimiser.param_groups[0]["lr"] for optimiser in (state.optimisers[0], state.network_optimiser))
    assert rate == 0.1 * learning_rate_factor(config, 19)
    assert own == 0.5 * learning_rate_factor(config, 19)
    assert state.network_optimiser.param_groups[0]["betas"] == (0.5, 0.9)


def test_rows_in_pairs(grid):
    rows = np.arange(900)[::-1]
    step_rows = StepRows(tiny_config(AdaGvae()), grid, rows)
    seen = np.concatenate([step_rows(step)[:8] for step in range(112)])
    assert len(set(seen)) == len(seen) == 896  # every image comes first in a pair once a pass
    one, other = np.split(step_rows(3), 2)
    assert (grid.factors[one] == grid.factors[other]).any(1).all()
    assert step_rows.labels(one) is None
    assert np.array_equal(StepRows(tiny_config(AdaGvae()), grid, rows)(3), step_rows(3))


def test_labels_are_of_the_labelled_images(grid):
    rows = np.random.default_rng(0).permutation(900)
    step_rows = StepRows(tiny_config(Semi(labelled_images=30)), grid, rows)
    for step in range(20):
        drawn = step_rows(step)
        labels = step_rows.labels(drawn)
        assert np.isin(drawn[8:], rows[:30]).all()
        assert np.array_equal((labels >= 0).all(1), np.isin(drawn, rows[:30]))
        assert np.array_equal(labels[8:], scaled_factors(grid, drawn[8:]))
    assert StepRows(tiny_config(Group()), grid, rows).labels(rows).min() == 0


@pytest.mark.parametrize(
    ("objective", "settings", "message"),
    [
        (AdaGvae(), {"bare": True}, "objective ada-gvae needs images with known factors, but lattice has none"),
        (Semi(), {"bare": True}, "objective semi needs images with known factors, but lattice has none"),
        (Semi(), {}, "labelled_images is 1000, which is 1000 images; .* number of training images, 700"),
        (Semi(labelled_images=0.0001), {}, "labelled_images is 0.0001, which is 0 images"),
        (
            Semi(labelled_images=9),
            {"latent_dim": 3},
            r"latent_dim is 3; .* each of the 4 factors \(shape, scale, posX, posY\)",
        ),
    ],
)
def test_data_that_cannot_serve_are_refused(objective, settings, message, grid):
    bare = replace(grid, factors=grid.factors[:, :0], factor_names=(), factor_sizes=())
    data = bare if settings.pop("bare", False) else grid
    with pytest.raises(ValueError, match=message):
        StepRows(tiny_config(objective, **settings), data, np.arange(700))


@pytest.mark.parametrize("model", ["burgess", "affine", "residual"])
def test_training_is_deterministic(model, small):
    config = config_of(model=model, objective=TC(), steps=8)
    (one, first), (other, second) = trained(config, small), trained(config, small)
    assert same_weights(one.model, other.model)
    assert [record.terms for record in first] == [record.terms for record in second]


def test_seeds_differ(small):
    one, other = (trained(config_of(steps=3, seed=seed), small, held_out=0)[0] for seed in (0, 1))
    assert not same_weights(one.model, other.model)


def test_it_learns(small):
    _, records = trained(config_of(objective=Beta(1.0), steps=100), small)
    validation = [record.terms["reconstruction"] for record in records if record.split == "validation"]
    assert validation[-1] < 0.35 * validation[0]


def test_records_are_means_of_their_steps_and_come_in_order(small):
    _, records = trained(config_of(model="tiny", steps=120), small)
    assert [(record.split, record.step) for record in records] == [
        ("validation", 0),
        ("validation", 50),
        ("train", 50),
        ("validation", 100),
        ("train", 100),
        ("validation", 120),
        ("train", 120),
    ]
    assert list(records[2].to_dict())[:3] == ["step", "wall_seconds", "split"]
    for record in records:
        total = record.terms["reconstruction"] + 4 * record.terms["rate"]
        assert record.terms["loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(("images", "batch"), [(10, 4), (3, 8), (8, 4)])
def test_every_pass_sees_every_image_once(images, batch):
    rows = np.arange(100, 100 + images)
    order = batches._BatchOrder(config_of(batch_size=batch), rows)
    seen = np.concatenate([order(step) for step in range(images)]).reshape(batch, images)
    for one in seen:
        assert sorted(one) == list(rows)
    assert len({tuple(one) for one in seen}) > 1
    again = batches._BatchOrder(config_of(batch_size=batch), rows)
    assert np.array_equal(order(0), again(0))


def test_nan_stops_with_the_step(small):
    config = config_of(learning_rate=1e30, objective=Vae(), steps=50)
    with pytest.raises(RuntimeError, match=r"the loss is (nan|inf) at step \d+"):
        trained(config, small)


@pytest.mark.parametrize(("given", "rise"), [(None, 100), (20, 20)])
def test_share_of_one_cycle(given, rise):
    config = config_of(schedule="one-cycle", steps=1000, schedule_warmup_steps=given)
    shares = [learning_rate_factor(config, step) for step in range(1000)]
    assert max(shares) == shares[rise - 1] == 1.0
    assert shares[0] == pytest.approx(1 / rise)
    assert shares[-1] < 1e-4
    assert all(later <= earlier for earlier, later in itertools.pairwise(shares[rise - 1 :]))


@pytest.mark.parametrize(("given", "after"), [(None, 0.1), (0.01, 0.01)])
def test_the_learning_rate_of_muons_steps(small, monkeypatch, given, after):
    rates = []
    monkeypatch.setattr(
        steps, "update_parameters", lambda optimisers, loss, rate: rates.append((len(optimisers), rate))
    )
    settings = {"learning_rate": 0.1, "muon_learning_rate": given, "schedule": "one-cycle", "schedule_warmup_steps": 2}
    config = config_of(steps=8, muon_after=4, objective=Factor(1, discriminator_layers=1), **settings)
    trained(config, small)
    shares = [learning_rate_factor(config, step) for step in range(8)]
    own = [(1, config.objective.discriminator_learning_rate * share) for share in shares]
    assert rates[1::2] == own
    assert rates[::2] == [(1, 0.1 * share) for share in shares[:4]] + [(2, after * share) for share in shares[4:]]


def test_images_on_a_device_are_the_data(small):
    rows = np.array([3, 0, 3])
    for data, given in itertools.product((small, load_data("dsprites")), (rows, torch.from_numpy(rows))):
        unpacked = DeviceImages(data, torch.device("cpu"))(given)
        assert np.array_equal(unpacked.numpy(), data.images(rows))
    grey = FactorData(
        "grey", np.array([[0, 51, 255, 102]], np.uint8), (1, 2, 2), 255, np.zeros((1, 1), np.int32), ("x",), (1,)
    )
    pixels = DeviceImages(grey, torch.device("cpu"))(np.array([0]))
    torch.testing.assert_close(pixels, torch.tensor([[[[0, 0.2], [1, 0.4]]]]))


def test_encoding_does_not_depend_on_the_batch(small):
    config = config_of()
    state = new_state(config, small)
    mean, log_var = encode(config, small, np.arange(50), state.model)
    assert mean.shape == log_var.shape == (50, 10)
    again, _ = encode(config, small, np.arange(50), state.model, batch_size=7)
    np.testing.assert_allclose(mean, again, atol=1e-5)


def test_layers_that_draw_random_numbers_follow_seed_and_step(small, monkeypatch):
    drawn = []

    class Dropout(nn.Dropout):
        def forward(self, features):
            if self.training:
                drawn.append(features.new_empty(1).uniform_().item())
            return super().forward(features)

    def with_dropout(image_shape, latent_dim):
        encoder, decoder = tiny(image_shape, latent_dim)
        return encoder.insert(2, Dropout(0.5)), decoder

    monkeypatch.setitem(ARCHITECTURES._entries, "tiny", Architecture("tiny", with_dropout))
    states, draws = [], []
    for ambient, seed in ((1, 0), (2, 0), (1, 5)):
        torch.manual_seed(ambient)  # PyTorch's generator, which stays where it is
        before = torch.get_rng_state()
        states.append(trained(config_of(model="tiny", steps=20, seed=seed), small, held_out=0)[0])
        assert torch.equal(torch.get_rng_state(), before)
        draws.append(drawn.copy())
        drawn.clear()
    assert same_weights(states[0].model, states[1].model)
    assert draws[0] == draws[1]
    assert len(set(draws[0]) | set(draws[2])) == 40
    late = new_state(config_of(model="tiny", steps=20), small)
    late.step = 15  # as from a checkpoint
    split = split_rows(len(small), 700, 100, seed=0)
    list(train(config_of(model="tiny", steps=20), small, split.train, split.validation, late))
    assert drawn == draws[0][15:]


@pytest.mark.parametrize(
    ("networks", "sentence"),
    [
        (nn.Flatten(), "model tiny gives Flatten; it must give an encoder and a decoder, two"),
        (
            (nn.Flatten(), nn.Identity()),
            r"its encoder returns the shape \(2, 4096\) .*\(2, 1, 64, 64\); it must be \(2, 20\)",
        ),
        (
            (nn.Linear(3, 3), nn.Identity()),
            "its encoder fails for a batch .*: mat1 and mat2 shapes cannot be multiplied",
        ),
        (
            (nn.Sequential(nn.Flatten(), nn.Linear(4096, 20)), nn.Linear(10, 4096)),
            r"its decoder returns the shape \(2, 4096\) .*\(2, 10\); it must be \(2, 1, 64, 64\)",
        ),
    ],
)
def test_networks_that_do_not_fit_are_refused(networks, sentence, small, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES._entries, "tiny", Architecture("tiny", lambda image_shape, latent_dim: networks))
    with pytest.raises(ValueError, match=sentence):
        new_state(config_of(model="tiny"), small)


def test_defaults_of_pytorch_that_do_not_fit(small):
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ValueError, match=r"networks are float32 here, and PyTorch's default is torch.float64"):
            new_state(config_of(), small)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        state, _ = trained(config_of(model="tiny", steps=5, device="cpu"), small)
    assert {parameter.device.type for parameter in state.model.parameters()} == {"cpu"}


@pytest.mark.parametrize("training", [True, False])
def test_looking_at_images_leaves_the_mode(small, training):
    """What is decoded afterwards would depend on what else is in its batch otherwise, with `residual`."""
    config = config_of(model="residual")
    state = new_state(config, small)
    state.model.train(training)
    encode(config, small, np.arange(10), state.model)
    held_out_terms(config, small, np.arange(64), 500, state)
    assert {module.training for module in state.model.modules()} == {training}
    state.model.encoder[0].eval()  # one that its owner holds still
    encode(config, small, np.arange(10), state.model)
    assert not any(module.training for module in state.model.encoder[0].modules())
    assert state.model.decoder.training == training


def test_held_out_terms_leave_the_state_alone(small):
    config = config_of(model="residual")
    state = new_state(config, small)
    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    one, other = (held_out_terms(config, small, np.arange(40), len(small), state) for _ in range(2))
    assert one == other
    assert all(torch.equal(before[name], tensor) for name, tensor in state.model.state_dict().items())
    assert state.model.training


def test_bf16_trains_like_fp32(small):
    results = []
    for precision in ("fp32", "bf16"):
        _, records = trained(config_of(model="tiny", objective=Beta(1.0), precision=precision, steps=50), small)
        results.append(records[-1].terms["loss"])
    assert results[1] == pytest.approx(results[0], rel=0.1)  # measured: 0.01


def test_hardware_is_chosen():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_precision("fp32", torch.device("cpu")) == "fp32"
    assert choose_precision("auto", torch.device("cpu")) in ("fp32", "bf16")
    assert choose_precision("auto", torch.device("mps")) == "fp32"
    for name in ("cuda:99", "gpu"):
        with pytest.raises(ValueError, match=f"device '{name}' cannot be used here .*; use auto, cpu, cuda or mps"):
            choose_device(name)


def test_a_model_that_cannot_take_the_images(small):
    tiny = replace(small, packed=small.packed[:, :2], image_shape=(1, 4, 4))
    with pytest.raises(ValueError, match="model burgess takes square images of 32, 64 or 128 pixels, not 4x4"):
        new_state(config_of(), tiny)
