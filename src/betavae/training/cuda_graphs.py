"""CUDA graphs: repeated work is recorded once and then launched as a whole.

A step of a small network launches about two hundred short kernels. Python needs more time to launch them than a GPU to
run them. A CUDA graph of many steps is a single launch.
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
"""Function that records work without running it, and returns its future result and a function that replays it."""

_SYNCHRONISING = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "lift_fresh",
    "_unique2",
    "repeat_interleave",
}
"""Operations that copy values from the device to the host, or to the device."""
_LOCK = threading.Lock()
_FAILED: list[torch.cuda.CUDAGraph] = []
"""Failed recordings. After one, PyTorch cannot record again, and deleting it is an error."""


def cuda_graph(work: Work) -> tuple[Any, Callable[[], None]]:
    """Record the kernels that work launches on the current stream, which must come from `stream`."""
    with _LOCK:
        if _FAILED:
            raise RuntimeError("an earlier recording failed")
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, stream=current, capture_error_mode="thread_local"):
                result = work()
        except RuntimeError:
            _FAILED.append(graph)
            raise
    return result, graph.replay


def stream(device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of a new CUDA stream on which graphs can be recorded; an empty context on other devices.

    The stream first waits for all work on the current stream. Code that reads results on another stream must wait for
    this one. A process has a pool of 32 streams, which limits the number of parallel trainings in its threads.
    """
    if device.type != "cuda":
        return nullcontext()
    new_stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    new_stream.wait_stream(torch.cuda.current_stream(device))
    return torch.cuda.stream(new_stream)


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context that finds the first operation for which the host would wait for the device.

    Attributes:
        operation: name of this operation; empty if there is none.
    """

    operation = ""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        name = operation._schema.name.removeprefix("aten::")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        masked = name.startswith("index") and any(tensor.dtype == torch.bool for tensor in tensors[1:])
        moved = name in ("_to_copy", "copy_") and len({tensor.device for tensor in (*tensors, result)}) > 1
        if name in _SYNCHRONISING or masked or moved:
            self.operation = self.operation or name
        return result


class Repeated:
    """Caller of a function of tensors that records the second equal call and replays it from then on.

    Two calls are equal if they have the same `key` and the same names and shapes of tensors. The first call runs
    directly, so that optimisers create their moments and libraries select their algorithms. The second call is
    recorded. Further calls copy their inputs to the tensors that the recording reads, and replay it. The result is in
    the tensors that the recording writes, and is valid until the next call.

    Functions that read the values of tensors in Python cannot be recorded. They run directly each time, with a warning.

    Args:
        record: function that records work, such as `cuda_graph`.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._recordings: dict[Hashable, _Recording | None] = {}

    def __call__(self, function: Callable[[Any, Tensors], Any], key: Hashable, inputs: Tensors) -> Any:
        """Call the function, which must be the same each time, with `key` and tensors by name.

        The function may change tensors in place, such as weights. It must not depend on anything else that changes.
        """
        kind = key, tuple((name, tensor.shape) for name, tensor in inputs.items())
        if kind not in self._recordings:
            watch = Watch()  # type: ignore[no-untyped-call]
            with watch:
                result = function(key, inputs)
            reason = f"they read values of tensors ({watch.operation})" if watch.operation else None
            self._recordings[kind] = _not_recorded(reason) if reason else None
            return result
        recording = self._recordings[kind]
        if recording is None:
            static_inputs = {name: tensor.clone() for name, tensor in inputs.items()}
            try:
                recording = _Recording(static_inputs, *self._record(lambda: function(key, static_inputs)))
            except RuntimeError as error:
                recording = _not_recorded(str(error.__context__ or error))
            self._recordings[kind] = recording
        if recording.replay is None:
            return function(key, inputs)
        for name, tensor in inputs.items():
            recording.inputs[name].copy_(tensor, non_blocking=True)
        recording.replay()
        return recording.result


@dataclass(frozen=True)
class _Recording:
    inputs: Tensors
    result: Any
    replay: Callable[[], None] | None
    """`None` if the function cannot be recorded."""


def _not_recorded(reason: str) -> _Recording:
    warnings.warn(f"steps cannot be recorded and run one by one, slower: {reason}", RuntimeWarning, stacklevel=3)
    return _Recording({}, None, None)
