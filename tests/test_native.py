"""The compiled code: found, kept, done without."""

import hashlib
import mmap
import os
import tempfile
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import platformdirs
import pytest
import torch
from torch import nn

from betavae.cli.main import main
from betavae.kernels import build, compiler
from betavae.kernels.chain import run_chain
from betavae.model import VAE
from betavae.training.optimisers import Muon
from tests.conftest import needs_compiled, needs_compiled_fp32

ABLE = torch.cpu.get_capabilities()


@pytest.fixture
def capable(monkeypatch):
    """Sets what the CPU says of itself."""

    def says(**able):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
        build.library.cache_clear()

    yield says
    build.library.cache_clear()


@needs_compiled_fp32
def test_without_a_compiler_pytorch_runs_and_a_warning_says_what_to_install(monkeypatch, tmp_path, capfd):
    build.library.cache_clear()
    monkeypatch.setenv("CC", "/does/not/exist")
    monkeypatch.setattr(build, "_folders", lambda: [tmp_path])
    try:
        with pytest.warns(RuntimeWarning, match=r"\(there is no /does/not/exist\); install a C compiler such as gcc"):
            assert run_chain([nn.Conv2d(32, 32, 4, 2, 1)], torch.zeros(1, 32, 16, 16))[1] == 0
    finally:
        build.library.cache_clear()
    assert capfd.readouterr().err == ""  # nothing is compiled


@needs_compiled_fp32
@pytest.mark.parametrize(
    ("hindrance", "sentence"),
    [
        ("no folder", "No usable temporary directory found .*; free some space, or let TMPDIR name a folder that can"),
        ("failure", r"\(No space left on device\); see whether the disk is full; if it is not, install a C compiler"),
    ],
)
def test_what_hinders_a_compiler_is_told_apart_from_its_absence(monkeypatch, tmp_path, hindrance, sentence):
    build.library.cache_clear()
    (tmp_path / "file").touch()
    if hindrance == "no folder":
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
        monkeypatch.setattr(build, "_folders", lambda: [tmp_path / "file" / "below"])
    else:
        (tmp_path / "cc").write_text("#!/bin/sh\necho No space left on device >&2; exit 1\n")
        (tmp_path / "cc").chmod(0o755)
        monkeypatch.setenv("CC", str(tmp_path / "cc"))
        monkeypatch.setattr(build, "_folders", lambda: [tmp_path / "cache"])
    try:
        with pytest.warns(RuntimeWarning, match=sentence):
            assert build.library(torch.float32) is None
    finally:
        build.library.cache_clear()


@needs_compiled_fp32
def test_a_line_says_that_code_is_compiled_and_none_where_it_is_kept(monkeypatch, tmp_path, small_source, capfd):
    monkeypatch.setattr(build, "_folders", lambda: [tmp_path / "cache"])
    monkeypatch.setenv("TMPDIR", "/does/not/exist")  # the compiler writes beside what it makes
    for said in ("betavae: compiling C code for this CPU, which is done once and takes some seconds\n", ""):
        build._loaded(build._VARIANTS[torch.float32]["avx2"])
        assert capfd.readouterr().err == said


@needs_compiled_fp32
def test_the_compiled_code_is_kept_where_it_can_be_written(monkeypatch, tmp_path, small_source):
    folders = [tmp_path / "file" / "below", tmp_path / "cache"]
    (tmp_path / "file").touch()
    monkeypatch.setattr(build, "_folders", lambda: folders)
    found = Path(build._loaded(build._VARIANTS[torch.float32]["avx2"])._name)
    assert found.parent == folders[1]
    assert sorted(path.suffix for path in folders[1].iterdir()) == [".sha256", ".so"]
    assert folders[1].stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("CC", "/does/not/exist")
    assert build._loaded(build._VARIANTS[torch.float32]["avx2"])._name == str(found)


@pytest.fixture
def small_source(monkeypatch, tmp_path):
    """In place of the package's C code, some that takes no time to compile."""
    (tmp_path / "small.c").write_text("int answer(void) { return 42; }\n")
    monkeypatch.setattr(compiler, "SOURCES", [tmp_path / "small.c"])


@needs_compiled_fp32
@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "emptied", "without digest", "pipe", "digest a pipe", "digest a device"]
)
def test_a_damaged_file_is_compiled_anew(monkeypatch, tmp_path, small_source, damage):
    """Loading one whose bits changed can end the process with a bus error."""
    monkeypatch.setattr(build, "_folders", lambda: [tmp_path / "cache"])
    flags = build._VARIANTS[torch.float32]["avx2"]
    library = Path(build._loaded(flags)._name)
    whole = library.read_bytes()
    library.unlink()  # the process has it open
    digest = library.with_suffix(".sha256")
    if "digest" in damage:
        digest.unlink()
    if damage == "digest a device":
        digest.symlink_to("/dev/zero")
    if damage == "pipe":
        os.mkfifo(library)
    else:
        flipped = bytes([whole[0] ^ 1]) + whole[1:]
        library.write_bytes({"cut": whole[:500], "flipped": flipped, "emptied": b""}.get(damage, whole))
    if damage == "digest a pipe":
        os.mkfifo(digest)
    assert build._loaded(flags)._name == str(library)
    assert library.stat().st_size == len(whole)
    assert hashlib.sha256(library.read_bytes()).hexdigest() == library.with_suffix(".sha256").read_text()


@needs_compiled_fp32
@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("open_to_others", ["file", "folder", "folder above", "link"])
def test_what_others_may_write_is_never_loaded(monkeypatch, tmp_path, small_source, open_to_others):
    """Not even read: it is compiled where nobody else may write, or for this process alone."""
    above = tmp_path / "above"
    folder = above / "cache"
    monkeypatch.setattr(build, "_folders", lambda: [folder])
    flags = build._VARIANTS[torch.float32]["avx2"]
    library = Path(build._loaded(flags)._name)
    if open_to_others == "link":
        library.rename(tmp_path / "elsewhere.so")
        library.symlink_to(tmp_path / "elsewhere.so")
    else:
        {"file": library, "folder": folder, "folder above": above}[open_to_others].chmod(0o777)
    taken, compiled = [], build._compile
    monkeypatch.setattr(build, "_compile", lambda *given: (taken.append(given), compiled(*given)))
    found = Path(build._loaded(flags)._name)
    assert len(taken) == 1
    assert (found == library) == (open_to_others in ("file", "link"))
    assert not found.is_symlink()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_others_is_not_ours(tmp_path):
    for path in (tmp_path / "file", tmp_path / "folder" / "file"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert build._ours(path)
    os.chown(tmp_path / "file", 12345, 12345)
    os.chown(tmp_path / "folder", 12345, 12345)
    assert not build._ours(tmp_path / "file")
    assert not build._ours(tmp_path / "folder" / "file")


@needs_compiled
def test_where_the_best_form_does_not_compile_the_next_is_taken(monkeypatch, tmp_path, capable):
    compiler = tmp_path / "old"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-mamx*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setattr(build, "_folders", lambda: [tmp_path])
    capable(amx_bf16=True, **{name: ABLE.get(name, False) for name in ("avx512_bf16", "avx512_bw")})
    with warnings.catch_warnings():
        warnings.simplefilter("error" if ABLE.get("avx512_bf16") else "ignore")
        assert build.hardware(torch.bfloat16) == ("AVX-512" if ABLE.get("avx512_bf16") else "")


def test_without_a_home_code_is_kept_beside_the_sources(monkeypatch):
    def homeless(*given: object, **more: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(platformdirs, "user_cache_path", homeless)
    assert build._folders() == [Path(build.__file__).parent / "__pycache__"]


def _resident() -> float:
    """Memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE / 1e6


def _alone(function):
    """What a function returns in a process of its own, whose memory nothing else uses."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function).result()


def _grown_by_steps() -> float:
    """With more threads than linear layers have blocks of images, two in a batch of 64."""
    model, images, seen = VAE("burgess", (1, 64, 64), 10), torch.rand(64, 1, 64, 64), []
    torch.set_num_threads(4)
    for _ in range(25):
        model.logits(model.encode(images).mean).square().mean().backward()
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
def test_commands_have_waiting_threads_give_their_core_away_soon_unless_told_otherwise(given, found, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(given))
    main(["--version"])
    assert os.environ == {"GOMP_SPINCOUNT": found}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int64])
def test_for_other_types_nothing_is_compiled(dtype, monkeypatch):
    monkeypatch.setattr(build, "library", None)  # not to be called
    assert not build.chosen(torch.zeros(1, dtype=dtype))
    with torch.autocast("cpu", torch.float16):
        assert not build.chosen(torch.zeros(1))


def test_on_other_hardware_pytorch_runs(capable):
    capable()
    assert not build.chosen(torch.zeros(1))
    assert build.hardware(torch.float32) == build.hardware(torch.bfloat16) == ""


@needs_compiled
@pytest.mark.skipif(bool(ABLE.get("amx_bf16")), reason="this CPU has the tiles that are to be refused")
def test_without_leave_to_use_tiles_registers_multiply(capable):
    """As where a hypervisor grants none."""
    capable(amx_bf16=True, avx512_bf16=True)
    assert build.hardware(torch.bfloat16) == "AVX-512"


@pytest.fixture
def tiles(monkeypatch, tmp_path):
    """Where the CPU has no AMX, an imitation in plain C stands for it."""
    if not ABLE.get("amx_bf16"):
        imitated = (
            *compiler.AVX512,
            "-mavx512bf16",
            "-D__AMX_BF16__",
            "-include",
            str(Path(__file__).with_name("amx.h")),
        )
        monkeypatch.setitem(build._VARIANTS, torch.bfloat16, build._VARIANTS[torch.bfloat16] | {"amx_bf16": imitated})
        monkeypatch.setattr(build, "_folders", lambda: [tmp_path])


@pytest.mark.skipif(not ABLE.get("avx2"), reason="this CPU has no AVX2")
@pytest.mark.parametrize(("name", "shape"), [("burgess", (1, 64, 64)), ("burgess", (3, 32, 32)), ("wide", (1, 64, 64))])
def test_avx2_gives_what_pytorch_gives(capable, name, shape):
    """Errors, gradients and steps of Muon in float32, on CPUs with AVX-512 too."""
    found = {}
    for able in ({"avx2": True}, {}):
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
        found[build.hardware(torch.float32)] = results
    apart = [(a - b).norm() / b.norm() for a, b in zip(found["AVX2"], found[""], strict=True)]
    assert max(apart) < 1e-4


@pytest.mark.skipif(not ABLE.get("avx512_bf16"), reason="this CPU has no AVX-512 bf16")
def test_registers_give_what_tiles_give(tiles, capable):
    """Images and gradients of architectures, and Muon's steps."""
    found = {}
    for needed in ("amx_bf16", "avx512_bf16"):
        capable(**{needed: True})
        results = found[build.hardware(torch.bfloat16)] = []
        for name, shape in (("burgess", (1, 64, 64)), ("residual", (3, 32, 32)), ("wide", (1, 64, 64))):
            torch.manual_seed(0)
            model, images = VAE(name, shape, 10), torch.rand(3, *shape)
            with torch.autocast("cpu", torch.bfloat16):
                latents = model.encode(images).mean
                decoded, errors = model.logits(latents), model.bernoulli_error(latents, images)
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
