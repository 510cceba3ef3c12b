"""The package without its compiled code: by BETAVAE_KERNELS, and with the folder `kernels` deleted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import betavae
from betavae.kernels import build
from betavae.kernels.fusion import FusedAffinePicture, FusedSequential
from betavae.model import VAE
from betavae.networks.registry import ARCHITECTURES
from tests.conftest import needs_compiled_fp32

STEPS = """
import importlib.util
import os
import numpy as np
from betavae import VAE, Beta, Config
from betavae.data.generated import dsprites
from betavae.data.factor_data import FactorData
from betavae.runs.provenance import provenance
from betavae.training.loop import train
from betavae.training.state import new_state

factors = dsprites.factor_table()[:64]
packed, names, sizes = dsprites.draw_packed(factors), dsprites.FACTOR_NAMES, dsprites.FACTOR_SIZES
data = FactorData("some", packed, dsprites.IMAGE_SHAPE, 1, factors, names, sizes)
for model in ("burgess", "affine", "residual"):
    config = Config(objective=Beta(1.0), model=model, steps=3, batch_size=8, device="cpu", muon_after=1)
    state = new_state(config, data)
    terms = [record.terms["loss"] for record in train(config, data, np.arange(64), np.arange(0), state)]
    print(model, type(state.model.decoder).__name__, all(np.isfinite(terms)), provenance(config, data)["convolutions"])
print(importlib.util.find_spec("betavae.kernels") is None)

os.environ["BETAVAE_KERNELS"] = "require"
VAE("burgess", (1, 64, 64), 2)
"""


def _run(script: str, folder: Path) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, "-c", script], env=env, cwd=folder, capture_output=True, text=True)


def test_without_its_kernels_the_package_trains(tmp_path):
    source = Path(betavae.__file__).parent
    shutil.copytree(source, tmp_path / "betavae", ignore=shutil.ignore_patterns("kernels", "__pycache__"))
    done = _run(STEPS, tmp_path)
    lines = [f"{model} Sequential True PyTorch" for model in ("burgess", "affine", "residual")]
    assert done.stdout.splitlines() == [*lines, "True"], done.stderr
    assert "BETAVAE_KERNELS is require, and the package has no folder kernels: reinstall" in done.stderr


@pytest.fixture
def mode(monkeypatch):
    """Sets BETAVAE_KERNELS."""

    def choose(value):
        monkeypatch.setenv("BETAVAE_KERNELS", value)
        build.library.cache_clear()

    yield choose
    build.library.cache_clear()


def test_off_never_loads_compiled_code(mode, monkeypatch):
    mode("off")
    monkeypatch.setattr(build, "_loaded", None)  # not to be called
    assert build.library(torch.float32) is None
    model = VAE("burgess", (1, 64, 64), 2)
    assert model.bernoulli_error(torch.zeros(2, 2), torch.zeros(2, 1, 64, 64)).shape == (2,)


@needs_compiled_fp32
@pytest.mark.parametrize("value", ["auto", "require", ""])
def test_auto_and_require_use_compiled_code(value, mode):
    mode(value)
    assert build.library(torch.float32) is not None
    VAE("burgess", (1, 64, 64), 2)


def test_an_unknown_value_is_an_error(mode):
    mode("of")
    with pytest.raises(ValueError, match="unknown BETAVAE_KERNELS 'of'; did you mean 'off'"):
        VAE("burgess", (1, 64, 64), 2)


@pytest.mark.parametrize(
    ("able", "compiler", "sentence"),
    [
        ({}, "cc", "require, and compiled code for float32 needs a CPU with avx512_bw or avx2; set it to auto"),
        (
            {"avx2": True},
            "/none",
            r"require, and C code cannot be compiled \(there is no /none\); install a C compiler",
        ),
    ],
)
def test_require_says_what_is_missing(able, compiler, sentence, mode, monkeypatch, tmp_path):
    mode("require")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(build, "_folders", lambda: [tmp_path])
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(RuntimeError, match=sentence):
        VAE("burgess", (1, 64, 64), 2)


@needs_compiled_fp32
def test_structs_that_differ_are_an_error_after_another_compilation(monkeypatch, capfd):
    build.library.cache_clear()
    compiled = []
    monkeypatch.setattr(
        build, "_loaded", lambda flags, anew=False, load=build._loaded: compiled.append(anew) or load(flags)
    )
    monkeypatch.setattr("betavae.kernels.structs.ABI_VERSION", 0)
    with pytest.raises(
        RuntimeError, match=r"does not belong to this version of betavae: its abi_version is .*reinstall"
    ):
        build.library(torch.float32)
    assert compiled == [False, True]
    build.library.cache_clear()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_fused_networks_have_the_names_parameters_and_hooks_of_the_plain_ones(name):
    torch.manual_seed(0)
    plain = nn.ModuleList(ARCHITECTURES[name]((1, 64, 64), 3))
    torch.manual_seed(0)
    model = VAE(name, (1, 64, 64), 3)
    assert isinstance(model.encoder, FusedSequential)
    fused = nn.ModuleList([model.encoder, model.decoder])
    assert list(fused.state_dict()) == list(plain.state_dict())
    assert all(map(torch.equal, fused.state_dict().values(), plain.state_dict().values()))
    assert [key for key, _ in fused.named_modules()] == [key for key, _ in plain.named_modules()]
    assert not any(type(module) is nn.Sequential for module in fused.modules())
    heard = []
    for module in (model.encoder, model.decoder, model.decoder[-1]):
        module.register_forward_hook(lambda module, given, result: heard.append(module))
    images = torch.rand(2, 1, 64, 64)
    errors = model.bernoulli_error(model.encode(images).mean, images)
    assert heard == [model.encoder, model.decoder[-1], model.decoder]
    means = plain[0](images)[:, :3]
    logits = plain[1](means)
    expected = nn.functional.binary_cross_entropy_with_logits(logits, images, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(errors, expected, rtol=1e-4, atol=1e-2)


def test_pictures_are_placed_by_the_fused_layer():
    model = VAE("affine", (1, 64, 64), 3)
    assert type(model.decoder[-1]) is FusedAffinePicture
    assert type(model.decoder[-1].picture) is FusedSequential
