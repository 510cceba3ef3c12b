"""The golden curves: `python -m tests.golden_curves` writes those that are missing, and terms missing in others.

With names, `python -m tests.golden_curves NAME ...`, these are written anew: only where the arithmetic was meant to
change, and the commit says why.
"""

import json
import sys
from pathlib import Path

from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.data.splits import split_rows
from betavae.objectives.settings import (
    TC,
    AdaGvae,
    AdaMlvae,
    Annealed,
    Beta,
    Control,
    Dip1,
    Dip2,
    Dynamic,
    Factor,
    Group,
    Hfs,
    Info,
    Qlae,
    Semi,
    Vae,
)
from betavae.training.loop import Record, train
from betavae.training.state import State, new_state
from tests.conftest import lattice, sprites

FILE = Path(__file__).parent / "golden" / "curves.json"


def config_of(**settings):
    values = {"steps": 100, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32", "device": "cpu"}
    return Config(**(values | settings))


def tiny_config(objective, **settings):
    values = {"model": "tiny", "steps": 200, "batch_size": 16, "latent_dim": 6, "objective": objective}
    return config_of(**(values | settings))


SMALL = {
    "vae": config_of(objective=Vae()),
    "beta": config_of(objective=Beta(4.0, 50)),
    "annealed": config_of(objective=Annealed(100.0, 10.0, 100)),
    "tc": config_of(objective=TC(6.0, 50)),
    "tc-memory": config_of(objective=TC(6.0, 50, memory_images=64)),
}
"""Of 900 random images."""

GRID = {
    "vae-grid": tiny_config(Vae()),
    "beta-grid": tiny_config(Beta(4.0, 50)),
    "annealed-grid": tiny_config(Annealed(100.0, 10.0, 100)),
    "tc-grid": tiny_config(TC(6.0, 50)),
    "tc-stratified": tiny_config(TC(6.0, 50, sampling="stratified")),
    "factor": tiny_config(Factor(discriminator_layers=3, discriminator_width=32, discriminator_learning_rate=1e-3)),
    "dip1": tiny_config(Dip1()),
    "dip2": tiny_config(Dip2()),
    "info": tiny_config(Info()),
    "info-rbf": tiny_config(Info(0.5, 100.0, kernel="rbf")),
    "control": tiny_config(Control(4.0, 0.5, 0.5, 20)),
    "dynamic": tiny_config(Dynamic(4.0, 0.5, 0.5, 20, 10)),
    "ada-gvae": tiny_config(AdaGvae()),
    "ada-mlvae": tiny_config(AdaMlvae(pairs="uniform")),
    "group": tiny_config(Group()),
    "semi": tiny_config(Semi(labelled_images=50)),
    "semi-l2": tiny_config(Semi(labelled_images=0.1, supervision="l2")),
    "hfs": tiny_config(Hfs(10.0, latent_pairs=5)),
    "qlae": tiny_config(Qlae(quantisation=41.0, commitment=41.0)),
}
"""Of 900 images with all combinations of their factors."""


def trained(config: Config, data: FactorData, held_out: int = 100) -> tuple[State, list[Record]]:
    split = split_rows(len(data), 700, 100, seed=0)
    state = new_state(config, data)
    return state, list(train(config, data, split.train, split.validation[:held_out], state))


def curve_of(records):
    return [
        [record.split, record.step, {name: round(value, 4) for name, value in record.terms.items()}]
        for record in records
    ]


def merged(old, new):
    """The old curve with terms that only the new one has."""
    return [[split, step, {**theirs, **ours}] for (split, step, ours), (*_, theirs) in zip(old, new, strict=True)]


if __name__ == "__main__":
    golden = json.loads(FILE.read_text())
    for configs, data in ((SMALL, sprites(900)), (GRID, lattice())):
        for name, config in configs.items():
            curve = curve_of(trained(config, data)[1])
            golden[name] = curve if name in sys.argv[1:] or name not in golden else merged(golden[name], curve)
    FILE.write_text(json.dumps(golden, indent=1) + "\n")
