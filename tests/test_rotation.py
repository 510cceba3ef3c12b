"""Rotations of codes: sources come apart, images stay, labels stay with their codes, runs go on as if uninterrupted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from betavae import model as models
from betavae.config import AdaGvae, Beta, Config, Group, Qlae, Semi, from_dict
from betavae.data import split_rows
from betavae.model import VAE
from betavae.rotation import independent_axes, rotate
from betavae.run import create_run, load_checkpoint, save_checkpoint
from betavae.train import new_state, train
from tests.golden_curves import tiny_config


def turned(sources, seed=1):
    """Sources mixed by a rotation, and the rotation."""
    mixing, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((sources.shape[1],) * 2))
    return sources @ mixing.T, mixing


@pytest.mark.parametrize("num_codes", [2, 3, 6])
def test_turned_sources_come_apart(num_codes):
    """Up to order and sign."""
    sources = np.random.default_rng(0).uniform(-1.7, 1.7, (4096, num_codes))
    codes, mixing = turned(sources)
    rotation = independent_axes(codes)
    assert rotation @ rotation.T == pytest.approx(np.eye(num_codes), abs=1e-9)
    parted = np.abs(rotation @ mixing)
    assert parted.max(0) == pytest.approx(np.ones(num_codes), abs=0.02)
    assert sorted(parted.argmax(0)) == list(range(num_codes))


def test_positions_seen_with_noise_come_apart():
    """What a VAE has learnt of dSprites early: two codes of 32 places in a square, turned by half a right angle."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, 32, (4096, 2)) / 31 * 3.4 - 1.7
    diamond = places @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2) + 0.15 * rng.standard_normal((4096, 2))
    found = np.abs(np.corrcoef(np.c_[diamond @ independent_axes(diamond).T, places].T)[:2, 2:])
    assert found.max(0).min() > 0.98  # 0.989 is what the noise leaves


def test_independent_codes_stay_where_they_are():
    sources = np.random.default_rng(0).uniform(-1, 1, (4096, 4)) * [1, 2, 0.5, 1]
    assert np.array_equal(independent_axes(sources), np.eye(4))
    assert np.array_equal(independent_axes(np.zeros((100, 3))), np.eye(3))


@pytest.mark.parametrize("name", ["burgess", "higgins", "residual", "wide"])
def test_images_of_means_and_their_rate_stay(name):
    torch.manual_seed(0)
    vae, images = VAE(name, (1, 64, 64), 3).eval(), torch.rand(20, 1, 64, 64)
    nn.init.normal_(vae.encoder[-1].bias)  # a log variance each
    sources = np.random.default_rng(0).uniform(-1, 1, (2000, 3))
    with torch.no_grad():
        before = vae.encode(images)
        decoded = vae.decode(before.mean)
        rotate(vae, torch.from_numpy(turned(sources)[0]))
        after = vae.encode(images)
        assert torch.allclose(vae.decode(after.mean), decoded, atol=1e-4)
    assert not torch.allclose(after.mean, before.mean, atol=0.01)
    for old, new in zip((before.mean**2, before.log_var), (after.mean**2, after.log_var), strict=True):
        assert torch.allclose(old.sum(1), new.sum(1), atol=1e-4)


def test_rotated_runs_go_on_where_they_stopped(grid, tmp_path):
    """From before a rotation, from the very step of one, from after it."""
    config, split = tiny_config(Beta(), steps=200, rotate_at=(0, 75, 100)), split_rows(len(grid), 700, 100, seed=0)
    whole, runs = new_state(config, grid), {}
    for record in train(config, grid, split.train, split.validation, whole):
        if record.split == "train" and record.step < 200:
            runs[record.step] = create_run(tmp_path / str(record.step), config)
            save_checkpoint(runs[record.step], whole)
    assert list(runs) == [50, 100, 150]
    for run in runs.values():
        broken = new_state(config, grid)
        load_checkpoint(run, broken)
        list(train(config, grid, split.train, split.validation, broken))
        for one, other in zip(whole.model.parameters(), broken.model.parameters(), strict=True):
            assert torch.equal(one, other)
    plain = new_state(replace(config, rotate_at=()), grid)
    list(train(replace(config, rotate_at=()), grid, split.train, split.validation, plain))
    assert not torch.equal(plain.model.encoder[-1].weight, whole.model.encoder[-1].weight)


def test_what_cannot_be_rotated_is_refused(grid, monkeypatch):
    assert Config(objective=AdaGvae(), rotate_at=(5,)).rotate_at == from_dict({"rotate_at": [5]}).rotate_at
    for settings, tie in ((Semi(), "factors"), (Group(), "factors"), (Qlae(), "values")):
        with pytest.raises(ValueError, match=rf"rotate_at is \[5\], and objective .* ties codes to {tie}"):
            tiny_config(settings, rotate_at=(5,))
    with pytest.raises(ValueError, match="rotate_at is -1; it must be"):
        Config(rotate_at=(-1,))

    def bare(image_shape, num_codes):
        return nn.Flatten(), nn.Sequential(nn.Linear(num_codes, 4096), nn.Unflatten(1, image_shape))

    monkeypatch.setitem(models.ARCHITECTURES, "wide", bare)
    with pytest.raises(ValueError, match=r"ends with nn.Linear .* this architecture's do not: leave it out"):
        new_state(tiny_config(Beta(), model="wide", rotate_at=(5,)), grid)
