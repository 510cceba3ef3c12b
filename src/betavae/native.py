"""What the package has in C, for CPUs with AMX: the .c files beside this one, compiled once, when first needed.

There libraries leave most of the hardware idle on images as small as these. Everything that is computed here has a form
in PyTorch, which runs where this cannot: without bf16, on other hardware, without a C compiler.
"""

import ctypes
import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

_SOURCES = sorted(Path(__file__).parent.glob("*.c"))
_HEADERS = sorted(Path(__file__).parent.glob("*.h"))
_FLAGS = (
    *("-O3", "-std=gnu11", "-shared", "-fPIC", "-fopenmp"),
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
)


def chosen(tensor: Tensor) -> bool:
    """Whether compiled code may take part in what is computed from a tensor: on a CPU, under bf16 autocast."""
    return (
        tensor.is_cpu
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and library() is not None
    )


def address(tensor: Tensor | None) -> int | None:
    """Of the first value; of none where there is no tensor."""
    return None if tensor is None else tensor.data_ptr()


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled code; None where tiles are missing, or a compiler and what one has left."""
    if sys.platform != "linux" or not torch.cpu.get_capabilities().get("amx_bf16"):
        return None
    try:
        found = ctypes.CDLL(str(_compiled()))
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        warnings.warn(
            f"training is several times slower than it could be: C code cannot be compiled ({reason.strip()}); "
            "install a C compiler such as gcc 12",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    if found.allow_tiles():
        return None
    integers, pointers = [ctypes.c_int64] * 3, [ctypes.c_void_p] * 2
    found.forward.argtypes = [ctypes.c_void_p, *integers]
    found.backward.argtypes = [ctypes.c_void_p, *integers, *pointers]
    found.bernoulli.argtypes = [*pointers, *integers, *pointers]
    found.bernoulli.restype = None
    found.muon.argtypes = [ctypes.c_void_p, ctypes.c_int64, *[ctypes.c_float] * 3, *pointers[:1], *integers[:2]]
    return found


def _folders() -> list[Path]:
    """Where compiled code may be kept: beside the sources, or the user's cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [Path(__file__).parent / "__pycache__", home / "betavae"]


def _compiled() -> Path:
    """The shared object of the sources, compiled unless an earlier process has done so."""
    texts = [path.read_bytes() for path in (*_SOURCES, *_HEADERS)]
    digest = hashlib.sha256(b"".join([*texts, repr(_FLAGS).encode()])).hexdigest()
    name = f"native-{digest[:16]}.so"
    for folder in _folders():
        if (folder / name).is_file():
            return folder / name
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            scratch = tempfile.TemporaryDirectory(dir=folder)
        except OSError:
            continue
        with scratch:
            compiled = Path(scratch.name) / name
            command = [*shlex.split(os.environ.get("CC", "cc")), *_FLAGS, *map(str, _SOURCES), "-o", str(compiled)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            return compiled.replace(folder / name)
    raise PermissionError(f"none of {', '.join(map(str, _folders()))} can be written")
