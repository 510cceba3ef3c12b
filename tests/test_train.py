"""The loop: deterministic, continued to the bit, every image once a pass, records where they should be."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from betavae import train as module
from betavae.config import TC, Annealed, Beta, Config, Vae
from betavae.data import FactorData, split_rows
from betavae.train import (
    DeviceImages,
    choose_device,
    choose_precision,
    encode,
    held_out_terms,
    learning_rate,
    new_state,
    train,
)

GOLDEN = Path(__file__).parent / "golden" / "curves.json"

OBJECTIVES = {
    "vae": Vae(),
    "beta": Beta(4.0, 50),
    "annealed": Annealed(100.0, 10.0, 100),
    "tc": TC(6.0, 50),
    "tc-memory": TC(6.0, 50, memory_images=64),
}


def config_of(**settings):
    values = {"steps": 100, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32", "device": "cpu"}
    return Config(**(values | settings))


def trained(config, data):
    split = split_rows(len(data), 700, 100, seed=0)
    state = new_state(config, data)
    return state, list(train(config, data, split.train, split.validation, state))


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_golden_curves(name, small):
    """A refactor may not move the curve of 100 steps; the tolerance is that of another processor's arithmetic."""
    _, records = trained(config_of(objective=OBJECTIVES[name]), small)
    curve = [[record.split, record.step, record.terms] for record in records]
    golden = json.loads(GOLDEN.read_text())[name]
    assert [entry[:2] for entry in curve] == [entry[:2] for entry in golden]
    for (*_, ours), (*_, theirs) in zip(curve, golden, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-2, abs=2e-2)


@pytest.mark.parametrize("model", ["burgess", "residual"])
def test_training_is_deterministic(model, small):
    config = config_of(model=model, objective=TC(), steps=20)
    (one, first), (other, second) = trained(config, small), trained(config, small)
    assert same_weights(one.model, other.model)
    assert [record.terms for record in first] == [record.terms for record in second]


def test_seeds_differ(small):
    one, other = (trained(config_of(steps=3, seed=seed), small)[0] for seed in (0, 1))
    assert not same_weights(one.model, other.model)


def test_it_learns(small):
    _, records = trained(config_of(objective=Beta(1.0), steps=150), small)
    validation = [record.terms["reconstruction"] for record in records if record.split == "validation"]
    assert validation[-1] < 0.35 * validation[0]  # measured: 0.21


def test_records_are_means_of_their_steps_and_come_in_order(small):
    _, records = trained(config_of(steps=120), small)
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
    order = module._Order(config_of(batch_size=batch), rows)
    seen = np.concatenate([order(step) for step in range(images)]).reshape(batch, images)
    for one in seen:
        assert sorted(one) == list(rows)
    assert len({tuple(one) for one in seen}) > 1
    again = module._Order(config_of(batch_size=batch), rows)
    assert np.array_equal(order(0), again(0))


def test_nan_stops_with_the_step(small):
    config = config_of(learning_rate=1e30, objective=Vae(), steps=50)
    with pytest.raises(RuntimeError, match=r"the loss is (nan|inf) at step \d+"):
        trained(config, small)


def test_learning_rate_of_one_cycle():
    config = config_of(schedule="one-cycle", steps=1000, learning_rate=2.0)
    rates = [learning_rate(config, step) for step in range(1000)]
    assert max(rates) == rates[99] == 2.0
    assert rates[0] == pytest.approx(0.02)
    assert rates[-1] < 1e-4
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[99:]))


def test_images_on_a_device_are_the_data(small):
    rows = np.array([3, 0, 3])
    unpacked = DeviceImages(small, torch.device("cpu"))(rows)
    assert np.array_equal(unpacked.numpy(), small.images(rows))
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


def test_held_out_terms_leave_the_state_alone(small):
    state = new_state(config_of(model="residual"), small)
    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    one, other = (held_out_terms(config_of(model="residual"), small, np.arange(40), state) for _ in range(2))
    assert one == other
    assert all(torch.equal(before[name], tensor) for name, tensor in state.model.state_dict().items())
    assert state.model.training


def test_bf16_trains_like_fp32(small):
    results = []
    for precision in ("fp32", "bf16"):
        _, records = trained(config_of(objective=Beta(1.0), precision=precision), small)
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
