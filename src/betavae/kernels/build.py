"""What the package has in C, for CPUs with AVX2 or AVX-512: the .c files beside this one, compiled when first needed.

There libraries leave most of the hardware idle on images as small as these. Everything that is computed here has a form
in PyTorch, which runs where this cannot: on other hardware, without a C compiler.
"""

import ctypes
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import platformdirs
import torch
from torch import Tensor, nn

from betavae.files.atomic import replacing, write_atomically

_SOURCES = sorted(Path(__file__).parent.joinpath("csrc").glob("*.c"))
_HEADERS = sorted(Path(__file__).parent.joinpath("csrc").glob("*.h"))
_FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-fopenmp")
_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl")
_FORMS: dict[torch.dtype, dict[str, tuple[str, ...]]] = {
    torch.bfloat16: {
        "amx_bf16": (*_AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
        "avx512_bf16": (*_AVX512, "-mavx512bf16"),
    },
    torch.float32: {"avx512_bw": (*_AVX512, "-DFP32"), "avx2": ("-mavx2", "-mfma", "-DFP32")},
}
"""What a CPU must have to multiply values of a type, the best first, and what else compiles for it."""


def chosen(tensor: Tensor) -> torch.dtype | None:
    """Which type compiled code may multiply in where a network is given a tensor; None where it may not take part.

    On a CPU bf16 under bf16 autocast, and float32 without autocast.
    """
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.is_cpu  # others may have no values in memory
    if not plain or traced():
        return None
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else tensor.dtype
    rounded = torch.is_autocast_enabled("cpu") == (dtype == torch.bfloat16)
    return dtype if dtype in _FORMS and rounded and library(dtype) is not None else None


def traced() -> bool:
    """Whether PyTorch compiles or transforms what runs, and must see its own operations only."""
    return torch.compiler.is_compiling() or bool(torch._C._are_functorch_transforms_active())


def alike(*tensors: Tensor) -> bool:
    """Whether tensors are float32 on a CPU and lie in memory alike, value after value."""
    return all(tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors) and any(
        all(tensor.is_contiguous(memory_format=layout) for tensor in tensors)
        for layout in (torch.contiguous_format, torch.channels_last)
    )


def address(tensor: Tensor | None) -> int | None:
    """Of the first value; of none where there is no tensor."""
    return None if tensor is None else tensor.data_ptr()


def derived(result: Tensor, towards: Tensor, ctx: Any, given: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Gradients of a result by autograd, with gradients of their own where these are wanted."""
    asked = ctx.needs_input_grad
    wanted = [tensor for tensor, needed in zip(given, asked, strict=True) if needed]
    found = iter(torch.autograd.grad(result, wanted, towards, create_graph=torch.is_grad_enabled()))  # type: ignore[arg-type]
    return tuple(next(found) if needed else None for needed in asked)


@lru_cache(maxsize=len(_FORMS))
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled code that multiplies in a type; None without the hardware, or a compiler and what one has left."""
    able = torch.cpu.get_capabilities() if sys.platform == "linux" else {}
    problem: Exception | None = None
    for needed, flags in _FORMS.get(dtype, {}).items():
        if able.get(needed):
            try:
                found = _loaded(flags)
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                problem = problem or error
                continue
            found.hardware.restype = ctypes.c_char_p
            if found.hardware():
                return _declared(found)
    if problem:
        _warn(problem)
    return None


def hardware(dtype: torch.dtype) -> str:
    """What multiplies in compiled code: "AMX", "AVX-512", "AVX2", or "" where there is none."""
    found = library(dtype)
    return found.hardware().decode() if found else ""


def _warn(error: Exception) -> None:
    reason = (getattr(error, "stderr", None) or str(error)).strip()
    cure = "free some space, or let TMPDIR name a folder that can be written to"
    if isinstance(error, subprocess.CalledProcessError):
        cure = "see whether the disk is full; if it is not, install a C compiler such as gcc 12"
    elif isinstance(error, subprocess.SubprocessError):
        cure = "install a C compiler such as gcc 12"
    warnings.warn(
        f"training is several times slower than it could be: C code cannot be compiled ({reason}); {cure}",
        RuntimeWarning,
        stacklevel=3,
    )


def _declared(found: ctypes.CDLL) -> ctypes.CDLL:
    integers, pointers = [ctypes.c_int64] * 3, [ctypes.c_void_p] * 2
    found.forward.argtypes = [ctypes.c_void_p, *integers[:2]]
    found.backward.argtypes = [*found.forward.argtypes, *pointers]
    found.likelihood.argtypes = [*found.forward.argtypes, ctypes.c_void_p, ctypes.c_float, *pointers]
    found.bernoulli.argtypes = [*pointers, *integers, *pointers]
    found.bernoulli.restype = None
    found.place_pictures.argtypes = [*pointers[:1], *integers[:2], *pointers * 2]
    found.place_pictures_backward.argtypes = [*pointers[:1], *integers[:2], *pointers * 3]
    found.adam.argtypes = [ctypes.c_void_p, *integers[:2], *[ctypes.c_double] * 5]
    found.adam.restype = None
    found.muon.argtypes = [ctypes.c_void_p, ctypes.c_int64, *[ctypes.c_float] * 3, *pointers[:1], *integers[:2]]
    return found


def _folders() -> list[Path]:
    """Where compiled code may be kept: beside the sources, or in the user's cache where there is a home."""
    folders = [Path(__file__).parent / "__pycache__"]
    with suppress(RuntimeError):  # a user without a home
        folders.append(platformdirs.user_cache_path("betavae", appauthor=False))
    return folders


def _loaded(flags: Sequence[str]) -> ctypes.CDLL:
    """The library of the sources, compiled unless an earlier process has left it whole where nobody else could write.

    Where no folder is safe to keep it in, it is compiled for this process alone.
    """
    texts = [path.read_bytes() for path in (*_SOURCES, *_HEADERS)]
    flags = [*_FLAGS, *flags]
    digest = hashlib.sha256(b"".join([*texts, repr(flags).encode()])).hexdigest()
    name = f"native-{digest[:16]}.so"
    for folder in filter(_ours, _folders()):
        if _whole(folder / name):
            with suppress(OSError):  # of a machine with other libraries
                return ctypes.CDLL(str(folder / name))
    for folder in _folders():
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _ours(folder):
                scratch = tempfile.TemporaryDirectory(dir=folder)
                break
    else:
        with tempfile.TemporaryDirectory(prefix="betavae-") as place:
            _compile(flags, Path(place) / name)
            return ctypes.CDLL(str(Path(place) / name))
    with scratch:
        compiled = Path(scratch.name) / name
        _compile(flags, compiled)
        write_atomically(_digest_of(folder / name), hashlib.sha256(compiled.read_bytes()).hexdigest().encode())
        with replacing(folder / name) as temporary:
            compiled.replace(temporary)
        return ctypes.CDLL(str(folder / name))


def _compile(flags: Sequence[str], target: Path) -> None:
    """Compile the sources; what the compiler writes on the way lies beside the target, where there is room.

    Raises:
        subprocess.SubprocessError: there is no compiler, or it fails.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(compiler[0]) is None:
        raise subprocess.SubprocessError(f"there is no {compiler[0]}")
    print("betavae: compiling C code for this CPU, which is done once and takes some seconds", file=sys.stderr)
    command = [*compiler, *flags, *map(str, _SOURCES), "-lm", "-o", str(target)]
    place = os.environ | {"TMPDIR": str(target.parent)}
    subprocess.run(command, check=True, capture_output=True, encoding="utf-8", errors="replace", env=place)


def _digest_of(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _whole(library: Path) -> bool:
    """Whether a file is there as it was compiled, and ours; loading damaged code would end the process."""
    digest = _digest_of(library)
    if not all(path.is_file() and _ours(path) for path in (library, digest)):  # first: a pipe or a device has no end
        return False
    try:
        return hashlib.sha256(library.read_bytes()).hexdigest() == digest.read_text(encoding="ascii")
    except (OSError, ValueError):
        return False


def _ours(path: Path) -> bool:
    """Whether nobody but this user and root can write to a file or folder, or put another in its place.

    A folder above it may be open to all if it is sticky, as /tmp is.
    """
    if os.name != "posix":
        return path.exists()
    trusted, path = (0, os.geteuid()), path.absolute()
    try:
        own, above = path.lstat(), [folder.stat() for folder in path.parents]
    except OSError:
        return False
    if own.st_uid not in trusted or own.st_mode & 0o022 or stat.S_ISLNK(own.st_mode):
        return False
    return all(
        found.st_uid in trusted and (not found.st_mode & stat.S_IWOTH or found.st_mode & stat.S_ISVTX)
        for found in above
    )
