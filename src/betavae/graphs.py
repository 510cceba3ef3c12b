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

Tensors = dict[str, Tensor]
Work = Callable[[], Any]
Record = Callable[[Work], tuple[Any, Callable[[], None]]]
"""Turns work that was done before into a recording that is yet to be played: what it will leave, and how to play it."""

_RECORDING = threading.Lock()


def cuda_graph(work: Work) -> tuple[Any, Callable[[], None]]:
    """Record what a work launches on the current stream, which must be one of `stream`."""
    graph, here = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    with _RECORDING, torch.cuda.graph(graph, stream=here, capture_error_mode="thread_local"):
        left = work()
    return left, graph.replay


def stream(device: torch.device) -> AbstractContextManager[Any]:
    """The context of a new stream of a CUDA device, on which graphs can be recorded; elsewhere nothing.

    It begins after what was asked of the device so far. Who reads its results elsewhere must wait for it.
    """
    if device.type != "cuda":
        return nullcontext()
    own: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    own.wait_stream(torch.cuda.current_stream(device))
    return torch.cuda.stream(own)


class Repeated:
    """A function of tensors that is recorded when it is called in the same way for the second time.

    Calls are the same in `way`, in the names and shapes of their tensors. The first runs as it is, so that optimisers
    have their moments and libraries have chosen their algorithms; the second is recorded; from then on arguments are
    copied to where the recording reads them. What is returned lies where the recording writes it, until the next call.

    Args:
        function: of `way` and tensors by name. It may change tensors that stay where they are, such as weights, but
            must neither read a tensor's values in Python nor depend on anything else that changes.
        record: makes recordings.
    """

    def __init__(self, function: Callable[[Any, Tensors], Any], record: Record = cuda_graph) -> None:
        self._function, self._record = function, record
        self._known: dict[Hashable, _Recording | None] = {}

    def __call__(self, way: Hashable, given: Tensors) -> Any:
        kind = way, tuple((name, tensor.shape) for name, tensor in given.items())
        if kind not in self._known:
            self._known[kind] = None
            return self._function(way, given)
        recording = self._known[kind]
        if recording is None:
            kept = {name: tensor.clone() for name, tensor in given.items()}
            try:
                left, play = self._record(lambda: self._function(way, kept))
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[0]
                warnings.warn(f"steps cannot be recorded and run one by one, slower: {reason}", RuntimeWarning, 2)
                left, play = None, None
            recording = self._known[kind] = _Recording(kept, left, play)
        if recording.play is None:
            return self._function(way, given)
        for name, tensor in given.items():
            recording.given[name].copy_(tensor, non_blocking=True)
        recording.play()
        return recording.left


@dataclass(frozen=True)
class _Recording:
    given: Tensors
    left: Any
    play: Callable[[], None] | None
    """None where recording failed."""
