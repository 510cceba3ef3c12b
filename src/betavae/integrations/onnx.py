"""Exports the networks of a model to ONNX. No other file imports onnxruntime."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch

from betavae.files.atomic import write_atomically
from betavae.integrations.exported_networks import Network, networks_to_export
from betavae.model import VAE

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(model: VAE, folder: str | Path) -> list[Path]:
    """Write encoder.onnx and decoder.onnx, which take batches of any size.

    The encoder maps `images` (B, C, H, W) in [0, 1] to `mean` and `log_var` (B, D). The decoder maps `latents` (B, D)
    to `images` (B, C, H, W) in [0, 1]. Both are compared with the model in onnxruntime before they are written.

    Args:
        model: a trained model.
        folder: created if it does not exist. The two files are replaced.

    Returns:
        The paths of the files.

    Raises:
        ModuleNotFoundError: a package of the extra `betavae[onnx]` is missing.
        RuntimeError: the network cannot be exported, or its outputs differ by more than 1e-4.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ModuleNotFoundError(
            f"exporting to ONNX needs {', '.join(missing)}, which is not installed: pip install 'betavae[onnx]'"
        )
    folder = Path(folder)
    exported = {f"{network.name}.onnx": _to_onnx(network) for network in networks_to_export(model)}
    folder.mkdir(parents=True, exist_ok=True)
    return [write_atomically(folder / name, content) for name, content in exported.items()]


def _to_onnx(network: Network) -> bytes:
    """Export a network and check it."""
    import onnxruntime

    with _quiet():
        program = torch.onnx.export(
            network.module,
            (network.example,),
            input_names=[network.input_name],
            output_names=list(network.output_names),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError(f"PyTorch exported no {network.name}")
    content: bytes = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    network.check(lambda sample: session.run(None, {network.input_name: sample}), "ONNX")
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what PyTorch's exporter says about packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
