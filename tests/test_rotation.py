"""Rotations of latents: sources come apart, images stay, labels stay with their latents, runs resume exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from betavae.config import Config
from betavae.config_files import from_dict
from betavae.data.splits import split_rows
from betavae.model import VAE, Posterior
from betavae.networks.registry import ARCHITECTURES, Architecture
from betavae.objectives.settings import TC, AdaGvae, Beta, Factor, Group, Qlae, Semi
from betavae.runs.checkpoints import load_checkpoint, save_checkpoint
from betavae.runs.folder import create_run
from betavae.training import steps
from betavae.training.batches import DeviceImages
from betavae.training.loop import train
from betavae.training.rotation import independent_axes, rotate
from betavae.training.state import new_state
from betavae.training.steps import StepRunner
from tests.golden_curves import tiny_config, trained


def turned(sources, seed=1):
    """Sources mixed by a rotation, and the rotation."""
    mixing, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((sources.shape[1],) * 2))
    return sources @ mixing.T, mixing


@pytest.mark.parametrize("latent_dim", [2, 3, 6])
def test_turned_sources_come_apart(latent_dim):
    """Up to order and sign."""
    sources = np.random.default_rng(0).uniform(-1.7, 1.7, (4096, latent_dim))
    latents, mixing = turned(sources)
    rotation = independent_axes(latents, np.zeros(latent_dim))
    assert rotation @ rotation.T == pytest.approx(np.eye(latent_dim), abs=1e-9)
    parted = np.abs(rotation @ mixing)
    assert parted.max(0) == pytest.approx(np.ones(latent_dim), abs=0.02)
    assert sorted(parted.argmax(0)) == list(range(latent_dim))


def test_positions_seen_with_noise_come_apart():
    """What a VAE has learnt of dSprites early: two latents of 32 places in a square, turned by half a right angle."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, 32, (4096, 2)) / 31 * 3.4 - 1.7
    diamond = places @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2) + 0.15 * rng.standard_normal((4096, 2))
    found = np.abs(np.corrcoef(np.c_[diamond @ independent_axes(diamond, np.zeros(2)).T, places].T)[:2, 2:])
    assert found.max(0).min() > 0.98  # 0.989 is what the noise leaves


def test_what_gains_nothing_stays_where_it_is():
    """Independent latents, Gaussian ones, latents that do not move, and a turned pair that turning back would blur."""
    rng = np.random.default_rng(0)
    sources = rng.uniform(-1, 1, (8192, 4)) * [1, 2, 0.5, 1]
    sources[:, 2:] = rng.standard_normal((8192, 2))
    assert np.array_equal(independent_axes(sources, np.zeros(4)), np.eye(4))
    assert np.array_equal(independent_axes(np.zeros((100, 3)), np.zeros(3)), np.eye(3))
    latents, _ = turned(sources[:, :2])
    assert not np.array_equal(independent_axes(latents, np.full(2, -4.0)), np.eye(2))
    assert np.array_equal(independent_axes(latents, np.array([-4.0, 0.0])), np.eye(2))


@pytest.mark.parametrize("samples", [256, 1024, 8192])
def test_gaussian_pairs_seldom_turn_however_many_samples(samples):
    turns = 0
    for seed in range(100):
        latents = np.random.default_rng(seed).standard_normal((samples, 2))
        turns += not np.array_equal(independent_axes(latents, np.zeros(2)), np.eye(2))
    assert turns <= 5  # measured: 3, 4, 1


def test_posteriors_turn_as_their_latents_do():
    generator = torch.Generator().manual_seed(0)
    mean, noise = torch.randn(2, 50_000, 3, generator=generator)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    sharp = Posterior(mean, torch.full((50_000, 3), -3.0))  # equally sharp, so that the turned one has no covariance
    new = sharp.rotated(rotation)
    assert torch.allclose(new.log_var, sharp.log_var)
    sampled, expected = (sharp.sample(noise) - mean) @ rotation.T, new.sample(noise) - new.mean
    assert torch.allclose(torch.cov(sampled.T), torch.cov(expected.T), atol=2e-3)
    swapped = Posterior(mean, torch.tensor([[-1.0, -2.0, -3.0]])).rotated(torch.eye(3)[[1, 2, 0]])
    assert torch.equal(swapped.mean, mean[:, [1, 2, 0]])
    assert torch.equal(swapped.log_var, torch.tensor([[-2.0, -3.0, -1.0]]))


@pytest.mark.parametrize("name", ["burgess", "affine", "higgins", "residual", "wide"])
def test_the_model_turns_as_its_posterior_does_and_keeps_its_images(name):
    torch.manual_seed(0)
    vae, images = VAE(name, (1, 64, 64), 3).eval(), torch.rand(20, 1, 64, 64)
    nn.init.normal_(vae.encoder[-1].bias)  # a log variance each
    latents = torch.from_numpy(turned(np.random.default_rng(0).uniform(-1, 1, (4096, 3)))[0])
    with torch.no_grad():
        before = vae.encode(images)
        decoded = vae.logits(before.mean)
        rotation = rotate(vae, Posterior(latents, torch.full((4096, 3), -9.0)), torch.zeros(4096, 3))
        after, expected = vae.encode(images), before.rotated(rotation)
        assert torch.allclose(vae.logits(after.mean), decoded, atol=1e-4)
    assert not torch.allclose(after.mean, before.mean, atol=0.01)
    assert torch.allclose(after.mean, expected.mean, atol=1e-4)
    assert torch.allclose(after.log_var, expected.log_var, atol=1e-4)


def test_what_tc_remembers_turns_too(grid):
    config = tiny_config(TC(memory_images=20), steps=60)
    images = DeviceImages(grid, torch.device("cpu"))(np.arange(300))
    state, _ = trained(config, grid)
    memory, before = {**state.memory}, state.model.encode(images).mean
    StepRunner(config, grid, np.arange(700), state, None).rotate()
    after = state.model.encode(images).mean
    rotation = torch.linalg.lstsq(before, after).solution.T
    assert not torch.allclose(rotation, torch.eye(config.latent_dim), atol=0.1)
    expected = Posterior(memory["mean"], memory["log_var"]).rotated(rotation)
    assert torch.allclose(state.memory["mean"], expected.mean, atol=1e-3)
    assert torch.allclose(state.memory["log_var"], expected.log_var, atol=1e-3)


def test_rotated_runs_go_on_where_they_stopped(grid, tmp_path, monkeypatch):
    """From before a rotation, from the very step of one, from after it; what the objective remembers turns with it."""
    monkeypatch.setattr(steps, "RECORD_STEPS", 10)
    remembering = TC(2.0, memory_images=40)
    config, split = tiny_config(remembering, steps=40, rotate_at=(0, 15, 20)), split_rows(len(grid), 700, 100, seed=0)
    whole, runs = new_state(config, grid), {}
    for record in train(config, grid, split.train, split.validation, whole):
        if record.split == "train" and record.step < 40:
            runs[record.step] = create_run(tmp_path / str(record.step), config)
            save_checkpoint(runs[record.step], whole)
    assert list(runs) == [10, 20, 30]
    for run in runs.values():
        broken = new_state(config, grid)
        load_checkpoint(run, broken)
        assert all(value.data_ptr() % 64 == 0 for value in broken.memory.values())  # elsewhere products round otherwise
        list(train(config, grid, split.train, split.validation, broken))
        for one, other in zip(whole.model.parameters(), broken.model.parameters(), strict=True):
            assert torch.equal(one, other)
    plain = new_state(replace(config, rotate_at=()), grid)
    list(train(replace(config, rotate_at=()), grid, split.train, split.validation, plain))
    assert not torch.equal(plain.model.encoder[-1].weight, whole.model.encoder[-1].weight)


def test_what_cannot_be_rotated_is_refused(grid, monkeypatch):
    assert Config(objective=AdaGvae(), rotate_at=(5,)).rotate_at == from_dict({"rotate_at": [5]}).rotate_at
    tied = {"factors": Semi(), "values": Qlae(), "a network of its own": Factor()}
    for tie, settings in [*tied.items(), ("factors", Group())]:
        with pytest.raises(ValueError, match=rf"rotate_at is \[5\], and objective .* ties latents to {tie}"):
            tiny_config(settings, rotate_at=(5,))
    for rotations in ((-1,), (5, 5), (9, 7)):
        with pytest.raises(ValueError, match=r"rotate_at is \[.*\]; it must be rising steps, such as 700 1400"):
            Config(rotate_at=rotations)
    with pytest.raises(ValueError, match=r"rotate_at\[0\] is True; it must be a whole number"):
        from_dict({"rotate_at": [True]})

    def bare(image_shape, latent_dim):
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(4096, 2 * latent_dim), nn.Identity())
        return encoder, nn.Sequential(nn.Linear(latent_dim, 4096), nn.Unflatten(1, image_shape))

    monkeypatch.setitem(ARCHITECTURES._entries, "wide", Architecture("wide", bare))
    with pytest.raises(
        ValueError, match=r"rotate_at needs an nn.Sequential encoder .* this architecture has other layers"
    ):
        new_state(tiny_config(Beta(), model="wide", rotate_at=(5,)), grid)
