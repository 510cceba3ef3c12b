"""The compiled code: found, kept, done without."""

import subprocess

import pytest
import torch
from torch import nn

from betavae import native
from betavae.convolution import chain, convolve
from tests.conftest import needs_compiled

ABLE = torch.cpu.get_capabilities()


@needs_compiled
def test_without_a_compiler_pytorch_runs_and_a_warning_says_what_to_install(monkeypatch, tmp_path):
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("No such file or directory: 'cc'")

    native.library.cache_clear()
    monkeypatch.setattr(subprocess, "run", missing)
    monkeypatch.setattr(native, "_folders", lambda: [tmp_path])
    try:
        with (
            torch.autocast("cpu", torch.bfloat16),
            pytest.warns(RuntimeWarning, match="install a C compiler such as gcc"),
        ):
            assert chain([nn.Conv2d(32, 32, 4, 2, 1)], torch.zeros(1, 32, 16, 16)) == 0
    finally:
        native.library.cache_clear()


@needs_compiled
def test_the_compiled_code_is_kept_where_it_can_be_written(monkeypatch, tmp_path):
    folders = [tmp_path / "file" / "below", tmp_path / "cache"]
    (tmp_path / "file").touch()
    monkeypatch.setattr(native, "_folders", lambda: folders)
    found = native._compiled(native._FORMS[torch.float32]["avx512_bw"])
    assert found.parent == folders[1]
    assert [path.name for path in folders[1].iterdir()] == [found.name]
    monkeypatch.setenv("CC", "/does/not/exist")
    assert native._compiled(native._FORMS[torch.float32]["avx512_bw"]) == found


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int64])
def test_for_other_types_nothing_is_compiled(dtype, monkeypatch):
    monkeypatch.setattr(native, "library", None)  # not to be called
    assert not native.chosen(torch.zeros(1, dtype=dtype))
    with torch.autocast("cpu", torch.float16):
        assert not native.chosen(torch.zeros(1))


@pytest.fixture
def capable(monkeypatch):
    """Sets what the CPU says of itself."""

    def says(**able):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
        native.library.cache_clear()

    yield says
    native.library.cache_clear()


def test_on_other_hardware_pytorch_runs(capable):
    capable()
    assert not native.chosen(torch.zeros(1))
    assert native.hardware(torch.float32) == native.hardware(torch.bfloat16) == ""


@needs_compiled
@pytest.mark.skipif(bool(ABLE.get("amx_bf16")), reason="this CPU has the tiles that are to be refused")
def test_without_leave_to_use_tiles_registers_multiply(capable):
    """As where a hypervisor grants none."""
    capable(amx_bf16=True, avx512_bf16=True)
    assert native.hardware(torch.bfloat16) == "AVX-512"


@needs_compiled
@pytest.mark.skipif(not ABLE.get("amx_bf16"), reason="this CPU has no AMX")
def test_registers_give_what_tiles_give(capable):
    torch.manual_seed(0)
    layers, images = [nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1)], torch.rand(3, 1, 64, 64)
    found = {}
    for needed in ("amx_bf16", "avx512_bf16"):
        capable(**{needed: True})
        with torch.autocast("cpu", torch.bfloat16):
            result = convolve(layers, images)
        gradients = torch.autograd.grad(result.float().square().sum(), [layer.weight for layer in layers[::2]])
        found[native.hardware(torch.bfloat16)] = [result.float(), *gradients]
    for one, other in zip(found["AMX"], found["AVX-512"], strict=True):
        assert (one - other).norm() < 1e-2 * other.norm()
