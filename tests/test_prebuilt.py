"""Compiled code that comes with a wheel is loaded before anything is compiled."""

from pathlib import Path

import pytest

from betavae.kernels import build, compiler
from tests.conftest import needs_compiled_fp32

AVX2 = compiler.VARIANTS["float32"]["avx2"]


@pytest.fixture
def package(monkeypatch, tmp_path):
    """The folder of an installed package, built as setup.py does it, from a source that takes no time to compile."""
    (tmp_path / "small.c").write_text("int answer(void) { return 42; }\n")
    monkeypatch.setattr(compiler, "SOURCES", [tmp_path / "small.c"])
    monkeypatch.setattr(build, "_PREBUILT", tmp_path / "prebuilt")
    monkeypatch.setattr(build, "_folders", lambda: [tmp_path / "cache"])
    return tmp_path / "prebuilt"


@needs_compiled_fp32
def test_a_wheel_has_the_code_of_every_kind_of_cpu_and_needs_no_compiler(package, monkeypatch, capfd):
    assert compiler.prebuild(package) == []
    names = [compiler.library_name(flags) for kind in compiler.VARIANTS.values() for flags in kind.values()]
    assert sorted(path.name for path in package.glob("*.so")) == sorted(names)
    monkeypatch.setenv("CC", "/does/not/exist")
    package.chmod(0o777)  # as in an installation that a group shares: the code is trusted as the package's Python is
    assert Path(build._loaded(AVX2)._name) == package / compiler.library_name(AVX2)
    assert capfd.readouterr().err == ""


@needs_compiled_fp32
def test_damaged_code_of_a_wheel_is_compiled_anew(package, tmp_path):
    compiler.prebuild(package)
    library = package / compiler.library_name(AVX2)
    library.write_bytes(library.read_bytes()[:500])
    assert Path(build._loaded(AVX2)._name).parent == tmp_path / "cache"


@needs_compiled_fp32
def test_code_of_other_sources_is_not_loaded(package, tmp_path):
    compiler.prebuild(package)
    (tmp_path / "small.c").write_text("int answer(void) { return 43; }\n")
    assert Path(build._loaded(AVX2)._name).parent == tmp_path / "cache"


def test_what_the_compiler_cannot_make_is_left_out_with_the_reason(package, monkeypatch, tmp_path):
    script = tmp_path / "old"
    script.write_text("#!/bin/sh\necho unknown flag >&2; exit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    failed = compiler.prebuild(package)
    assert failed[0] == "amx_bf16: unknown flag"
    assert len(failed) == len(compiler.VARIANTS["bf16"] | compiler.VARIANTS["float32"])
    assert not list(package.iterdir())
