"""Shared by all tests: shapes and types of annotated functions are checked, and one small data set."""

import math
import os
from contextlib import contextmanager
from functools import partial

os.environ["OMP_NUM_THREADS"] = "1"  # of the tests' processes and their children: batches here are too small to share

import numpy as np
import pytest
import torch  # within the hook, Python finds no bytecode and would compile all of its modules
import torch._dynamo
from hypothesis import settings
from jaxtyping import install_import_hook
from torch import nn

import betavae.config  # whose settings check themselves, with better messages

with install_import_hook(["betavae.model", "betavae.networks", "betavae.objectives"], "beartype.beartype"):
    import betavae.networks.architectures
    import betavae.objectives.aggregate
    import betavae.objectives.controlled
    import betavae.objectives.elbo
    import betavae.objectives.factor
    import betavae.objectives.quantised
    import betavae.objectives.supervised
    import betavae.objectives.tc  # noqa: F401


from betavae.data.factor_data import FactorData
from betavae.data.generated import dsprites
from betavae.data.registry import DATASETS
from betavae.kernels import build, fuse
from betavae.metrics import METRICS
from betavae.networks.registry import ARCHITECTURES, register
from betavae.objectives.registry import OBJECTIVES
from betavae.report import run_figures

settings.register_profile("untimed", deadline=None, max_examples=40)  # machines differ, and tests do not measure time
settings.load_profile("untimed")

LONG = ("test_train", "test_experiment", "test_cluster", "test_cli", "test_soak")
"""Files of tests that take longest."""


def pytest_collection_modifyitems(items):
    """Begin with the longest files: a worker has a file to itself, and none is left with a long one at the end."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """The folder of prepared data, apart from the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["BETAVAE_CACHE"] = str(folder)
    return folder


def tiny(image_shape, latent_dim):
    """Two linear layers each side: an architecture from outside the package, and a fast one."""
    pixels = math.prod(image_shape)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 48), nn.ReLU(), nn.Linear(48, 2 * latent_dim))
    decoder = nn.Sequential(
        nn.Linear(latent_dim, 48), nn.ReLU(), nn.Linear(48, pixels), nn.Unflatten(1, tuple(image_shape))
    )
    return encoder, decoder


register("tiny", tiny)


def _needs(dtype, what):
    """Runs where the hardware is there; code that then does not compile is a failure."""
    able = torch.cpu.get_capabilities()
    return pytest.mark.skipif(not any(able.get(needed) for needed in build._VARIANTS[dtype]), reason=f"no {what} here")


needs_compiled = _needs(torch.bfloat16, "AMX, nor AVX-512 bf16,")
needs_compiled_fp32 = _needs(torch.float32, "AVX-512, nor AVX2,")
each_type = pytest.mark.parametrize(
    "dtype",
    [pytest.param(torch.bfloat16, marks=needs_compiled), pytest.param(torch.float32, marks=needs_compiled_fp32)],
)
"""What compiled code multiplies in."""


def multiplying(dtype):
    """The context in which networks multiply in a type."""
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)


def fused(module):
    """A sequence, or one of a single layer, that runs in C where that can be."""
    sequence = module if isinstance(module, nn.Sequential) else nn.Sequential(module)
    fuse(sequence)
    return sequence


@contextmanager
def using(threads):
    """So many threads of PyTorch, and of what is compiled."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


@pytest.fixture(scope="module")
def few_pictures():
    """Runs draw traversals of two images with three steps: drawing takes longer than the rest of a small run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_figures, "draw_all", partial(run_figures.draw_all, num_traversed=2, steps=3))
        yield


def lattice() -> FactorData:
    """A part of dSprites with all combinations of its factors: 3 shapes, 3 scales, 10 positions each way."""
    names, sizes = ("shape", "scale", "posX", "posY"), (3, 3, 10, 10)
    factors = np.stack(np.unravel_index(np.arange(900), sizes), 1).astype(np.int32)
    zeros = np.zeros(900, np.int32)
    drawn = np.stack([factors[:, 0], 2 * factors[:, 1] + 1, zeros, 3 * factors[:, 2] + 2, 3 * factors[:, 3] + 2], 1)
    return FactorData("lattice", dsprites.draw_packed(drawn), dsprites.IMAGE_SHAPE, 1, factors, names, sizes)


@pytest.fixture
def own_entries():
    """Lets a test register entries. Called, and in the end, it restores the registries."""
    registries = [OBJECTIVES, ARCHITECTURES, METRICS, DATASETS]
    before = [dict(registry) for registry in registries]

    def put_back():
        for registry, entries in zip(registries, before, strict=True):
            registry._entries = dict(entries)

    yield put_back
    put_back()


@pytest.fixture(scope="session")
def grid() -> FactorData:
    return lattice()


@pytest.fixture(scope="session")
def small() -> FactorData:
    return sprites(900)


@pytest.fixture
def members():
    """The members of a valid file: 12 images of 5 x 7 pixels and two factors of 3 and 4 values."""
    classes = np.stack(np.unravel_index(np.arange(12), (3, 4)), axis=1)
    imgs = np.random.default_rng(0).integers(0, 2, (12, 5, 7), dtype=np.uint8)
    return {"imgs": imgs, "latents_classes": classes, "latents_values": classes / 2}


def saved(path, members):
    np.savez_compressed(path, **members)
    return path


def bright_column(latents: np.ndarray) -> np.ndarray:
    """A bright column whose place is latent 0 and whose brightness is latent 1."""
    place = np.clip((latents[:, 0] + 3) / 6 * 15, 0, 15).round().astype(int)
    images = np.zeros((len(latents), 1, 16, 16), np.float32)
    images[np.arange(len(latents)), :, :, place] = (1 / (1 + np.exp(-latents[:, 1])))[:, None, None]
    return images


def same(one, other):
    """Two data sets hold the same."""
    assert np.array_equal(one.images(slice(None)), other.images(slice(None)))
    assert one.digest == other.digest
    assert np.array_equal(one.factors, other.factors)
    for name in ("image_shape", "max_value", "factor_names", "factor_sizes"):
        assert getattr(one, name) == getattr(other, name)


def line(step: int, split: str = "train", **terms: float) -> dict[str, object]:
    """A line of a curve file."""
    return {"step": step, "split": split, "loss": 100.0, "reconstruction": 90.0, "rate": 10.0, **terms}
