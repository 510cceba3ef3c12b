"""Collects the provenance of a run: versions, machine, commit, command, data digest."""

import math
import platform
import re
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from betavae import plugins
from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.data.loading import resolved_source
from betavae.data.prepared.preparation import NOTHING
from betavae.files.schemas import RUN_FORMAT
from betavae.training.devices import choose_device, choose_precision, compiled_code
from betavae.training.seeding import seeds


def provenance(config: Config, data: FactorData) -> dict[str, Any]:
    """Collect the provenance of a run: versions, machine, commit, command, seeds, data digest."""
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    compiled = compiled_code(dtype) if device.type == "cpu" else ""
    return {
        "format": RUN_FORMAT,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["betavae", *sys.argv[1:]],
        "imported": plugins.imported(),
        **_commit(),
        "versions": {name: metadata.version(name) for name in ("betavae", "torch", "numpy", "scikit-learn")}
        | {"python": platform.python_version()},
        "system": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(device),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "convolutions": compiled or "PyTorch",
        "data": {
            "name": data.name,
            "images": len(data),
            "pixels": math.prod(data.image_shape),
            "sha256": data.digest,
        }
        | ({"preparation": str(data.preparation)} if data.preparation != NOTHING else {})
        | ({"file": file} if (file := resolved_source(config.data)) else {}),
        "seeds": {"split": config.seed} | seeds(config),
    }


def peak_memory() -> int | None:
    """Peak memory of this process in bytes; None on systems that do not report it, such as Windows.

    On Linux, ru_maxrss may be the value of the parent process, so /proc is read instead.
    """
    with suppress(OSError):
        if match := re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text(encoding="utf-8")):
            return 1024 * int(match[1])
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _commit() -> dict[str, Any]:
    """Commit of the source tree and whether it has changes; empty if the package is not in a Git repository."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(Path(__file__).parent), *words],
                capture_output=True,
                encoding="utf-8",
                check=True,
                timeout=10,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    tracked = git("ls-files", "--error-unmatch", Path(__file__).name)
    if not tracked:
        return {}
    return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain", "--untracked-files=no"))}


def _processor(device: torch.device) -> str:
    name = torch.cpu.get_capabilities().get("cpu_name") if device.type == "cpu" else None
    return str(name or platform.processor() or device.type)
