"""Calls the C compiler: the sources in `csrc/`, the flags for each kind of CPU, the names of what it makes.

It imports only the standard library, because `setup.py` uses it to put compiled code into wheels.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SOURCES = sorted(Path(__file__).parent.joinpath("csrc").glob("*.c"))
HEADERS = sorted(Path(__file__).parent.joinpath("csrc").glob("*.h"))
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-fopenmp")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl")
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "bf16": {
        "amx_bf16": (*AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
        "avx512_bf16": (*AVX512, "-mavx512bf16"),
    },
    "float32": {"avx512_bw": (*AVX512, "-DFP32"), "avx2": ("-mavx2", "-mfma", "-DFP32")},
}
"""For each type to multiply in: what the CPU must be capable of, the best first, and the flags to compile for it."""


def library_name(flags: Sequence[str]) -> str:
    """The file name of the library for some flags: a digest of the sources and all flags."""
    texts = [path.read_bytes() for path in (*SOURCES, *HEADERS)]
    digest = hashlib.sha256(b"".join([*texts, repr([*FLAGS, *flags]).encode()])).hexdigest()
    return f"native-{digest[:16]}.so"


def find_compiler() -> list[str]:
    """The words of $CC, or `cc`.

    Raises:
        subprocess.SubprocessError: there is no such program.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(compiler[0]) is None:
        raise subprocess.SubprocessError(f"there is no {compiler[0]}")
    return compiler


def compile_library(flags: Sequence[str], target: Path) -> None:
    """Compile the sources; what the compiler writes on the way lies beside the target, where there is room.

    Raises:
        subprocess.SubprocessError: there is no compiler, or it fails.
    """
    command = [*find_compiler(), *FLAGS, *flags, *map(str, SOURCES), "-lm", "-o", str(target)]
    place = os.environ | {"TMPDIR": str(target.parent)}
    subprocess.run(command, check=True, capture_output=True, encoding="utf-8", errors="replace", env=place)


def checksum_file(library: Path) -> Path:
    """The file beside a library that holds its SHA-256."""
    return library.with_suffix(".sha256")


def checksum(library: Path) -> str:
    """SHA-256 of a library."""
    return hashlib.sha256(library.read_bytes()).hexdigest()


def prebuild(folder: Path) -> list[str]:
    """Compile the library of every variant into a folder, each with its checksum. What is in the folder is deleted.

    Returns:
        For each variant that the compiler cannot make, its name and the reason.
    """
    shutil.rmtree(folder, ignore_errors=True)  # libraries of earlier sources
    folder.mkdir(parents=True)
    failed = []
    for name, flags in (variant for variants in VARIANTS.values() for variant in variants.items()):
        library = folder / library_name(flags)
        try:
            compile_library(flags, library)
        except (OSError, subprocess.SubprocessError) as error:
            failed.append(f"{name}: {(getattr(error, 'stderr', None) or str(error)).strip()}")
            continue
        library.chmod(0o644)  # it is loaded, not run
        checksum_file(library).write_text(checksum(library), encoding="ascii")
    return failed
