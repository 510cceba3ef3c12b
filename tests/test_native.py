"""The compiled code: found, kept, done without."""

import os
import resource
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from torch import nn

from betavae import native
from betavae.convolution import convolve
from betavae.model import VAE
from betavae.optimiser import Muon
from tests.conftest import needs_compiled, needs_compiled_fp32

ABLE = torch.cpu.get_capabilities()


@pytest.fixture
def capable(monkeypatch):
    """Sets what the CPU says of itself."""

    def says(**able):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
        native.library.cache_clear()

    yield says
    native.library.cache_clear()


@needs_compiled_fp32
def test_without_a_compiler_pytorch_runs_and_a_warning_says_what_to_install(monkeypatch, tmp_path):
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("No such file or directory: 'cc'")

    native.library.cache_clear()
    monkeypatch.setattr(subprocess, "run", missing)
    monkeypatch.setattr(native, "_folders", lambda: [tmp_path])
    try:
        with pytest.warns(RuntimeWarning, match="install a C compiler such as gcc"):
            assert convolve([nn.Conv2d(32, 32, 4, 2, 1)], torch.zeros(1, 32, 16, 16))[1] == 0
    finally:
        native.library.cache_clear()


@needs_compiled_fp32
def test_the_compiled_code_is_kept_where_it_can_be_written(monkeypatch, tmp_path):
    folders = [tmp_path / "file" / "below", tmp_path / "cache"]
    (tmp_path / "file").touch()
    monkeypatch.setattr(native, "_folders", lambda: folders)
    found = Path(native._loaded(native._FORMS[torch.float32]["fma3"])._name)
    assert found.parent == folders[1]
    assert [path.name for path in folders[1].iterdir()] == [found.name]
    monkeypatch.setenv("CC", "/does/not/exist")
    assert native._loaded(native._FORMS[torch.float32]["fma3"])._name == str(found)


@needs_compiled_fp32
def test_a_file_that_cannot_be_loaded_is_compiled_anew(monkeypatch, tmp_path):
    folders = [tmp_path / "one"]
    monkeypatch.setattr(native, "_folders", lambda: folders)
    flags = native._FORMS[torch.float32]["fma3"]
    damaged = tmp_path / "other" / Path(native._loaded(flags)._name).name
    damaged.parent.mkdir()
    damaged.write_bytes(b"of another machine")
    folders[:] = [damaged.parent]
    assert native._loaded(flags)._name == str(damaged)
    assert damaged.stat().st_size > 1000


@needs_compiled
def test_where_the_best_form_does_not_compile_the_next_is_taken(monkeypatch, tmp_path, capable):
    compiler = tmp_path / "old"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-mamx*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setattr(native, "_folders", lambda: [tmp_path])
    capable(amx_bf16=True, **{name: ABLE.get(name, False) for name in ("avx512_bf16", "avx512_bw")})
    with warnings.catch_warnings():
        warnings.simplefilter("error" if ABLE.get("avx512_bf16") else "ignore")
        assert native.hardware(torch.bfloat16) == ("AVX-512" if ABLE.get("avx512_bf16") else "")


def test_without_a_home_code_is_kept_beside_the_sources(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it is for users without an entry
    assert native._folders() == [Path(native.__file__).parent / "__pycache__"]


def _resident() -> float:
    """Memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def _alone(function):
    """What a function returns in a process of its own, whose memory nothing else uses."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function).result()


def _grown_by_steps() -> float:
    """With more threads than linear layers have blocks of images, two in a batch of 64."""
    model, images, seen = VAE("burgess", (1, 64, 64), 10), torch.rand(64, 1, 64, 64), []
    torch.set_num_threads(4)
    for _ in range(25):
        model.decode(model.encode(images).mean).square().mean().backward()
        seen.append(_resident())
    return seen[-1] - seen[4]


def _grown_by_threads() -> float:
    def step():
        weight = nn.Parameter(torch.ones(512, 512))
        weight.grad = torch.ones_like(weight)
        Muon([weight], lr=0.1).step()

    seen = []
    for _ in range(30):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
        seen.append(_resident())
    return seen[-1] - seen[4]


@needs_compiled
def test_memory_does_not_grow_from_step_to_step():
    assert _alone(_grown_by_steps) < 40  # MB; it was 8 a step


@needs_compiled
def test_memory_of_a_thread_ends_with_it():
    assert _alone(_grown_by_threads) < 40  # MB; it was 5 a thread


@pytest.mark.parametrize(("given", "found"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_threads_that_wait_give_their_core_away_soon_unless_told_otherwise(given, found):
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | given
    script = "import os, betavae; print(os.environ['GOMP_SPINCOUNT'])"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int64])
def test_for_other_types_nothing_is_compiled(dtype, monkeypatch):
    monkeypatch.setattr(native, "library", None)  # not to be called
    assert not native.chosen(torch.zeros(1, dtype=dtype))
    with torch.autocast("cpu", torch.float16):
        assert not native.chosen(torch.zeros(1))


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


@pytest.fixture
def tiles(monkeypatch, tmp_path):
    """Where the CPU has no AMX, an imitation in plain C stands for it."""
    if not ABLE.get("amx_bf16"):
        imitated = (
            *native._AVX512,
            "-mavx512bf16",
            "-D__AMX_BF16__",
            "-include",
            str(Path(__file__).with_name("amx.h")),
        )
        monkeypatch.setitem(native._FORMS, torch.bfloat16, native._FORMS[torch.bfloat16] | {"amx_bf16": imitated})
        monkeypatch.setattr(native, "_folders", lambda: [tmp_path])


@pytest.mark.skipif(not ABLE.get("fma3"), reason="this CPU has no AVX2")
@pytest.mark.parametrize(("name", "shape"), [("burgess", (1, 64, 64)), ("burgess", (3, 32, 32)), ("wide", (1, 64, 64))])
def test_avx2_gives_what_pytorch_gives(capable, name, shape):
    """Errors, gradients and steps of Muon in float32, on CPUs with AVX-512 too."""
    found = {}
    for able in ({"fma3": True}, {}):
        capable(**able)
        torch.manual_seed(0)
        model, images, noise = VAE(name, shape, 10), torch.rand(6, *shape), torch.randn(6, 10)
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
        errors = model.bernoulli_error(model.encode(images).sample(noise), images)
        errors.mean().backward()
        kernels = [weight for weight in model.parameters() if weight.dim() > 1]
        results = [errors.detach(), *(parameter.grad.clone() for parameter in model.parameters())]
        before = [weight.detach().clone() for weight in kernels]
        for weight in kernels:
            weight.grad = torch.randn_like(weight)
        Muon(kernels, lr=0.1).step()
        results += [weight.detach() - was for weight, was in zip(kernels, before, strict=True)]
        found[native.hardware(torch.float32)] = results
    apart = [(a - b).norm() / b.norm() for a, b in zip(found["AVX2"], found[""], strict=True)]
    assert max(apart) < 1e-4


@pytest.mark.skipif(not ABLE.get("avx512_bf16"), reason="this CPU has no AVX-512 bf16")
def test_registers_give_what_tiles_give(tiles, capable):
    """Images and gradients of architectures, and Muon's steps."""
    found = {}
    for needed in ("amx_bf16", "avx512_bf16"):
        capable(**{needed: True})
        results = found[native.hardware(torch.bfloat16)] = []
        for name, shape in (("burgess", (1, 64, 64)), ("residual", (3, 32, 32)), ("wide", (1, 64, 64))):
            torch.manual_seed(0)
            model, images = VAE(name, shape, 10), torch.rand(3, *shape)
            with torch.autocast("cpu", torch.bfloat16):
                codes = model.encode(images).mean
                decoded, errors = model.decode(codes), model.bernoulli_error(codes, images)
            (decoded.square().mean() + 1e-4 * errors.mean()).backward()
            results.append(errors.detach())
            kernels = [weight for weight in model.parameters() if weight.dim() > 1]
            results += [decoded.detach(), *(weight.grad for weight in kernels)]
            before = [weight.detach().clone() for weight in kernels]
            for weight in kernels:  # gradients of low rank would make steps of their rounding errors
                weight.grad = torch.randn_like(weight)
            Muon(kernels, lr=0.1, dtype=torch.bfloat16).step()
            results += [weight.detach() - was for weight, was in zip(kernels, before, strict=True)]
    apart = [(a - b).norm() / b.norm() for a, b in zip(found["AMX"], found["AVX-512"], strict=True)]
    assert max(apart) < 0.02  # 0.006
