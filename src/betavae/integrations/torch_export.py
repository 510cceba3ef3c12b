"""Exports the networks of a model as programs of torch.export, which run without the code of betavae."""

import io
import warnings
from pathlib import Path

import torch

from betavae.files.atomic import write_atomically
from betavae.integrations.exported_networks import Network, networks_to_export
from betavae.model import VAE


def export_torch(model: VAE, folder: str | Path) -> list[Path]:
    """Write encoder.pt2 and decoder.pt2 for `torch.export.load`; inputs and outputs are those of `export_onnx`.

    Args:
        model: a trained model.
        folder: created if it does not exist. The two files are replaced.

    Returns:
        The paths of the files.

    Raises:
        RuntimeError: the network cannot be exported, or its outputs differ by more than 1e-4.
    """
    folder = Path(folder)
    exported = {f"{network.name}.pt2": _to_program(network) for network in networks_to_export(model)}
    folder.mkdir(parents=True, exist_ok=True)
    return [write_atomically(folder / name, content) for name, content in exported.items()]


def _to_program(network: Network) -> bytes:
    """Export a network and check it."""
    memory = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated names within PyTorch
        shapes = ({0: torch.export.Dim("batch")},)
        program = torch.export.export(network.module, (network.example,), dynamic_shapes=shapes)
        torch.export.save(program, memory)
    module = program.module()
    network.check(lambda sample: [output.numpy() for output in module(torch.from_numpy(sample))], "exported")
    return memory.getvalue()
