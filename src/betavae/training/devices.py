"""Choice of device and numeric precision."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from betavae.config import Config
from betavae.model import kernels


def choose_device(name: str = "auto") -> torch.device:
    """Return the device with a name; `auto` selects CUDA or MPS if available, else the CPU.

    Raises:
        ValueError: The device is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("this type of device is not supported")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device '{name}' cannot be used here ({reason}); use auto, cpu, cuda or mps") from None
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Return `fp32` or `bf16`; `auto` selects bf16 on CUDA with bf16, and on a CPU with AMX or AVX-512 BF16.

    Layers that stay in float32 under bf16 are chosen by the architecture, see `betavae.networks.layers.Float32Linear`.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return "bf16" if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else "fp32"
    return "fp32"


def compiled_code(dtype: torch.dtype) -> str:
    """Return the instruction set of the compiled kernels on this CPU: AMX, AVX-512 or AVX2; "" without kernels."""
    return "" if kernels is None else kernels.hardware(dtype)


def autocast(config: Config, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which networks run: autocast to bf16, or a disabled autocast."""
    bf16 = choose_precision(config.precision, device) == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def to_device(table: NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array to a device; on CUDA, the copy is asynchronous."""
    tensor = torch.from_numpy(table)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
