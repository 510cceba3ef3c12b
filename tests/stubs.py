"""Runs for the tests of studies that take milliseconds; importable, as spawned workers need."""

import json
import os
import signal
import time

import numpy as np

from betavae.config_files import to_dict
from betavae.networks.registry import ARCHITECTURES


def quick(config, folder, share):
    """A run with made-up scores that depend on its settings alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(to_dict(config)))
    with (folder / "attempts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    share(0.0)
    share(0.5)
    made_up = np.random.default_rng([config.seed, config.latent_dim]).random(3).tolist()
    scores = {
        "scores": {"dci.disentanglement": made_up[0], "mig": config.latent_dim / 100 + made_up[1] / 100, "sap": None},
        "chance": {"mig": 0.01},
        "kl": [1.0] * (config.latent_dim - 1) + [0.01],
        "held_out": {"loss": 30.0 + made_up[2], "reconstruction": 20.0, "rate": 10.0 + made_up[2]},
    }
    (folder / "scores.json").write_text(json.dumps(scores))
    data = {"name": "made up", "images": 900, "sha256": "0" * 64}
    facts = {"format": 1, "data": data, "train_seconds": 2.0, "versions": {"betavae": "0.1.0"}}
    (folder / "provenance.json").write_text(json.dumps(facts))
    (folder / "DONE").touch()


def two_fail(config, folder, share):
    """Every run of seed 1 fails until somebody writes `repaired` beside the runs."""
    if config.seed == 1 and not (folder.parent / "repaired").exists():
        raise RuntimeError(f"loss is not finite with {config.latent_dim} latents")
    quick(config, folder, share)


def killed_once(config, folder, share):
    """The worker of each run of seed 1 is killed on its first attempt, half-way."""
    if config.seed == 1 and not (folder / "config.json").exists():
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(to_dict(config)))
        os.kill(os.getpid(), signal.SIGKILL)
    quick(config, folder, share)


def stopped_once(config, folder, share):
    """The worker of each run of seed 1 is told to stop on its first attempt."""
    if config.seed == 1 and not (folder / "config.json").exists():
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(to_dict(config)))
        raise KeyboardInterrupt
    quick(config, folder, share)


def needs_shapely(config, folder, share):
    """Works where a file of one's own was imported."""
    assert "shapely" in ARCHITECTURES
    quick(config, folder, share)


def killed_always(config, folder, share):
    """The worker of seed 1 never survives."""
    if config.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    quick(config, folder, share)


def slow(config, folder, share):
    """Takes longer than any test waits."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(to_dict(config)))
    time.sleep(600)


def sleepy(config, folder, share):
    """Takes a moment, so that something can happen to its machine meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "started").touch()
    time.sleep(0.5)
    quick(config, folder, share)
