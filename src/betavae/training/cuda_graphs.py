"""Work that repeats on a CUDA device, recorded once and launched as a whole.

A step of a small network is some two hundred short kernels, and Python takes longer to launch them than a GPU to run
them. A CUDA graph of many steps is one launch.
"""

import threading
import warnings
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Tensors = dict[str, Tensor]
Work = Callable[[], Any]
Record = Callable[[Work], tuple[Any, Callable[[], None]]]
"""Turns work that was done before into a recording that is yet to be played: what it will leave, and how to play it."""

_READING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "lift_fresh", "_unique2", "repeat_interleave"}
"""Operations that bring values to the host, or from it."""
_RECORDING = threading.Lock()
_BROKEN: list[torch.cuda.CUDAGraph] = []
"""Recordings that failed: PyTorch cannot record after one, nor bear that it is deleted."""


def cuda_graph(work: Work) -> tuple[Any, Callable[[], None]]:
    """Record what a work launches on the current stream, which must be one of `stream`."""
    with _RECORDING:
        if _BROKEN:
            raise RuntimeError("an earlier recording failed")
        graph, here = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, stream=here, capture_error_mode="thread_local"):
                left = work()
        except RuntimeError:
            _BROKEN.append(graph)
            raise
    return left, graph.replay


def stream(device: torch.device) -> AbstractContextManager[Any]:
    """The context of a stream of a CUDA device on which graphs can be recorded; elsewhere nothing.

    It begins after what was asked of the device so far. Who reads its results elsewhere must wait for it. A process has
    32 streams, which come round again: no more trainings at once in its threads.
    """
    if device.type != "cuda":
        return nullcontext()
    own: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    own.wait_stream(torch.cuda.current_stream(device))
    return torch.cuda.stream(own)


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks on while a work runs, and remembers the first operation with which the host would wait for a device."""

    found = ""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        name = operation._schema.name.removeprefix("aten::")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        masked = name.startswith("index") and any(tensor.dtype == torch.bool for tensor in tensors[1:])
        moved = name in ("_to_copy", "copy_") and len({tensor.device for tensor in (*tensors, result)}) > 1
        if name in _READING or masked or moved:
            self.found = self.found or name
        return result


class Repeated:
    """A function of tensors that is recorded when it is called in the same way for the second time.

    Calls are the same in `way`, in the names and shapes of their tensors. The first runs as it is, so that optimisers
    have their moments and libraries have chosen their algorithms; the second is recorded; from then on arguments are
    copied to where the recording reads them. What is returned lies where the recording writes it, until the next call.
    What reads a tensor's values in Python cannot be recorded: it runs as it is every time, with a warning.

    Args:
        record: makes recordings.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._known: dict[Hashable, _Recording | None] = {}

    def __call__(self, function: Callable[[Any, Tensors], Any], way: Hashable, given: Tensors) -> Any:
        """Call a function, the same every time, with `way` and tensors by name.

        It may change tensors that stay where they are, such as weights, and must depend on nothing else that changes.
        """
        kind = way, tuple((name, tensor.shape) for name, tensor in given.items())
        if kind not in self._known:
            watch = Watch()  # type: ignore[no-untyped-call]
            with watch:
                left = function(way, given)
            self._known[kind] = _refused(f"they read values on the way ({watch.found})") if watch.found else None
            return left
        recording = self._known[kind]
        if recording is None:
            kept = {name: tensor.clone() for name, tensor in given.items()}
            try:
                recording = _Recording(kept, *self._record(lambda: function(way, kept)))
            except RuntimeError as error:
                recording = _refused(str(error.__context__ or error))
            self._known[kind] = recording
        if recording.play is None:
            return function(way, given)
        for name, tensor in given.items():
            recording.given[name].copy_(tensor, non_blocking=True)
        recording.play()
        return recording.left


@dataclass(frozen=True)
class _Recording:
    given: Tensors
    left: Any
    play: Callable[[], None] | None
    """None where there is none."""


def _refused(reason: str) -> _Recording:
    warnings.warn(f"steps cannot be recorded and run one by one, slower: {reason}", RuntimeWarning, stacklevel=3)
    return _Recording({}, None, None)
