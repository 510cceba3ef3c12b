"""Finds, compiles, keeps and loads the C code in `csrc/`, for CPUs with AVX2 or AVX-512.

Wheels for Linux on x86-64 have it compiled. Otherwise it is compiled when first needed, for the CPU at hand. Where that
cannot be, PyTorch computes the same: on other hardware, and without a C compiler.
"""

import ctypes
import os
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import platformdirs
import torch
from torch import Tensor, nn

from betavae.files.atomic import replacing, write_atomically
from betavae.files.validation import check_name
from betavae.kernels.compiler import VARIANTS, checksum, checksum_file, compile_library, find_compiler, library_name
from betavae.kernels.structs import disagreement

_VARIANTS = {torch.bfloat16: VARIANTS["bf16"], torch.float32: VARIANTS["float32"]}
_PREBUILT = Path(__file__).parent / "prebuilt"
"""Libraries that came with the package; wheels for Linux on x86-64 have them, source checkouts do not."""
_MODES = ("auto", "off", "require")
"""Values of the environment variable BETAVAE_KERNELS."""


def mode() -> str:
    """The value of BETAVAE_KERNELS: `auto`, `off` (never compiled code) or `require` (an error where there is none).

    Raises:
        ValueError: another value.
    """
    value = os.environ.get("BETAVAE_KERNELS") or "auto"
    check_name("BETAVAE_KERNELS", value, _MODES)
    return value


def check() -> None:
    """Raise what is wrong with BETAVAE_KERNELS, or what it asks for, before anything is computed.

    Raises:
        ValueError: its value is unknown.
        RuntimeError: it is `require`, and there is no compiled code for float32.
    """
    if mode() == "require":
        library(torch.float32)


def chosen(tensor: Tensor) -> torch.dtype | None:
    """The type that compiled code multiplies in for a network's input; None where it must not run.

    On a CPU that is bf16 under bf16 autocast, and float32 without autocast.
    """
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.is_cpu  # others may have no values in memory
    if not plain or traced():
        return None
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else tensor.dtype
    rounded = torch.is_autocast_enabled("cpu") == (dtype == torch.bfloat16)
    return dtype if dtype in _VARIANTS and rounded and library(dtype) is not None else None


def traced() -> bool:
    """Whether `torch.compile` or `torch.func` traces the code; they know PyTorch's operations only."""
    return torch.compiler.is_compiling() or bool(torch._C._are_functorch_transforms_active())


def alike(*tensors: Tensor) -> bool:
    """Whether tensors are float32 on a CPU, and all contiguous or all in channels-last layout."""
    return all(tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors) and any(
        all(tensor.is_contiguous(memory_format=layout) for tensor in tensors)
        for layout in (torch.contiguous_format, torch.channels_last)
    )


def address(tensor: Tensor | None) -> int | None:
    """The address of a tensor's first value; None for None."""
    return None if tensor is None else tensor.data_ptr()


def derived(result: Tensor, gradient: Tensor, ctx: Any, inputs: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Gradients of a function's inputs by autograd; they have gradients themselves where grad mode is on."""
    asked = ctx.needs_input_grad
    wanted = [tensor for tensor, needed in zip(inputs, asked, strict=True) if needed]
    found = iter(torch.autograd.grad(result, wanted, gradient, create_graph=torch.is_grad_enabled()))  # type: ignore[arg-type]
    return tuple(next(found) if needed else None for needed in asked)


@lru_cache(maxsize=len(_VARIANTS))
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled code that multiplies in a type.

    Returns:
        None where BETAVAE_KERNELS is `off`, and where it is `auto` and the hardware or a compiler is missing.

    Raises:
        ValueError: BETAVAE_KERNELS has an unknown value.
        RuntimeError: it is `require`, and there is no compiled code; or C and Python disagree on their structs.
    """
    wanted = mode()
    if wanted == "off":
        return None
    able = torch.cpu.get_capabilities() if sys.platform == "linux" else {}
    variants = {needed: flags for needed, flags in _VARIANTS.get(dtype, {}).items() if able.get(needed)}
    problem: Exception | None = None
    for flags in variants.values():
        try:
            found = _agreeing(flags)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            problem = problem or error
            continue
        found.hardware.restype = ctypes.c_char_p
        if found.hardware():
            return _declared(found)
    if wanted == "require":
        raise RuntimeError(f"BETAVAE_KERNELS is require, and {_reason(dtype, variants, problem)}")
    if problem:
        _warn(problem)
    return None


def _reason(dtype: torch.dtype, variants: dict[str, tuple[str, ...]], problem: Exception | None) -> str:
    """Why there is no compiled code, and what to do, as the end of a sentence."""
    if problem:
        what, cure = _explained(problem)
        return f"C code cannot be compiled ({what}); {cure}"
    kind = "float32" if dtype == torch.float32 else "bf16"
    if sys.platform != "linux":
        return f"there is compiled code for Linux only, not for {sys.platform}; set it to auto"
    if not variants:
        return f"compiled code for {kind} needs a CPU with {' or '.join(_VARIANTS[dtype])}; set it to auto"
    return f"this machine does not let processes use {' or '.join(variants)}; set it to auto"


def _agreeing(flags: Sequence[str]) -> ctypes.CDLL:
    """The library, compiled anew if the one that was kept lays out its structs in another way.

    Raises:
        RuntimeError: the C code itself does.
    """
    found = _loaded(flags)
    if disagreement(found):
        found = _loaded(flags, anew=True)
        if what := disagreement(found):
            raise RuntimeError(f"the C code does not belong to this version of betavae: {what}; reinstall betavae")
    return found


def hardware(dtype: torch.dtype) -> str:
    """What compiled code multiplies by: "AMX", "AVX-512", "AVX2", or "" where there is none."""
    found = library(dtype)
    return found.hardware().decode() if found else ""


def _explained(error: Exception) -> tuple[str, str]:
    """What went wrong, and what to do about it."""
    reason = (getattr(error, "stderr", None) or str(error)).strip()
    if isinstance(error, subprocess.CalledProcessError):
        return reason, "see whether the disk is full; if it is not, install a C compiler such as gcc 12"
    if isinstance(error, subprocess.SubprocessError):
        return reason, "install a C compiler such as gcc 12"
    return reason, "free some space, or let TMPDIR name a folder that can be written to"


def _warn(error: Exception) -> None:
    what, cure = _explained(error)
    warnings.warn(
        f"training is several times slower than it could be: C code cannot be compiled ({what}); {cure}",
        RuntimeWarning,
        stacklevel=3,
    )


def _declared(found: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions' arguments."""
    integers, pointers = [ctypes.c_int64] * 3, [ctypes.c_void_p] * 2
    found.chain_forward.argtypes = [ctypes.c_void_p, *integers[:2]]
    found.chain_backward.argtypes = [*found.chain_forward.argtypes, *pointers]
    found.chain_bernoulli.argtypes = [*found.chain_forward.argtypes, ctypes.c_void_p, ctypes.c_float, *pointers]
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


def _loaded(flags: Sequence[str], anew: bool = False) -> ctypes.CDLL:
    """The library of the sources: that of the package, or one that is kept, or compiled now.

    One that is kept is loaded only if it is whole and nobody else can write to it.
    Where no folder is safe to keep it in, it is compiled for this process alone. Its name is a digest of the sources
    and the flags, so that a changed source is compiled again.

    Args:
        flags: of the compiler.
        anew: compile it even if it is there.
    """
    name = library_name(flags)
    kept = (folder / name for folder in _folders())
    ours = (path for path in kept if _ours(path) and _ours(checksum_file(path)))
    for path in () if anew else filter(_whole, chain([_PREBUILT / name], ours)):
        with suppress(OSError):  # of a machine with other libraries
            return ctypes.CDLL(str(path))
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
        write_atomically(checksum_file(folder / name), checksum(compiled).encode())
        with replacing(folder / name) as temporary:
            compiled.replace(temporary)
        return ctypes.CDLL(str(folder / name))


def _compile(flags: Sequence[str], target: Path) -> None:
    """Compile the sources, and say so.

    Raises:
        subprocess.SubprocessError: there is no compiler, or it fails.
    """
    find_compiler()
    print("betavae: compiling C code for this CPU, which is done once and takes some seconds", file=sys.stderr)
    compile_library(flags, target)


def _whole(library: Path) -> bool:
    """Whether a file is there as it was compiled; loading damaged code would end the process."""
    digest = checksum_file(library)
    if not all(path.is_file() for path in (library, digest)):  # first: a pipe or a device has no end
        return False
    try:
        return checksum(library) == digest.read_text(encoding="ascii")
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
