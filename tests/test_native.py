"""The compiled code: found, kept, done without."""

import subprocess

import pytest
import torch
from torch import nn

from betavae import native
from betavae.convolution import chain
from tests.conftest import needs_tiles


@needs_tiles
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


@needs_tiles
def test_the_compiled_code_is_kept_where_it_can_be_written(monkeypatch, tmp_path):
    folders = [tmp_path / "file" / "below", tmp_path / "cache"]
    (tmp_path / "file").touch()
    monkeypatch.setattr(native, "_folders", lambda: folders)
    found = native._compiled()
    assert found.parent == folders[1]
    assert [path.name for path in folders[1].iterdir()] == [found.name]
    monkeypatch.setenv("CC", "/does/not/exist")
    assert native._compiled() == found


def test_without_bf16_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(native, "library", None)  # not to be called
    assert not native.chosen(torch.zeros(1))
    with torch.autocast("cpu", torch.float16):
        assert not native.chosen(torch.zeros(1))
