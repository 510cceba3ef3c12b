"""Shared by all tests: shapes and types of annotated functions are checked, and one small data set."""

import os
from importlib import import_module

from jaxtyping import install_import_hook

os.environ["OMP_NUM_THREADS"] = "1"  # of the tests' processes and their children: batches here are too small to share

with install_import_hook(["betavae.model", "betavae.objective"], "beartype.beartype"):
    import betavae.objective  # noqa: F401

import numpy as np
import pytest

from betavae import dsprites
from betavae.data import FactorData


def sprites(count: int, seed: int = 0) -> FactorData:
    """A random part of dSprites."""
    rows = np.random.default_rng(seed).choice(dsprites.NUM_IMAGES, count, replace=False)
    factors = dsprites.factor_table()[rows]
    return FactorData(
        name="sprites",
        packed=dsprites.draw_packed(factors),
        image_shape=dsprites.IMAGE_SHAPE,
        max_value=1,
        factors=factors,
        factor_names=dsprites.FACTOR_NAMES,
        factor_sizes=dsprites.FACTOR_SIZES,
    )


@pytest.fixture(autouse=True, scope="session")
def few_scores():
    """Runs in tests are scored by two metrics, twice; the whole suite has tests of its own."""
    story = import_module("betavae.experiment")  # the attribute of that name is a function
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(story, "SCORES", ("dci", "mig"))
        patch.setattr(story, "EVALUATIONS", 2)
        yield


@pytest.fixture(scope="session")
def small() -> FactorData:
    return sprites(900)
