"""Folders of one model: config.json, model.safetensors with the weights, README.md. Nothing is a pickle."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from betavae.files import schemas
from betavae.files.atomic import write_atomically
from betavae.files.validation import check_name
from betavae.networks.codebook import Codebook
from betavae.networks.layers import ImageShape
from betavae.networks.registry import ARCHITECTURES

FORMAT = 1
"""Version of the layout. Other versions are not read."""
LARGEST_IMAGE = 1 << 24
"""Largest number of values in an image (channels × height × width) for which a model is built."""
NAMES = ("config.json", "model.safetensors", "README.md", "traversals.gif")
"""Files of a saved model. Only the first two are needed."""
EXPORTED = ("encoder.onnx", "decoder.onnx", "encoder.pt2", "decoder.pt2")
"""Files beside them with the same networks for other programs."""
MAX_LATENTS = 1 << 16
"""Largest number of latents, and of values of each quantised latent, for which a model is built."""


class Header(TypedDict):
    """Contents of config.json."""

    library: Literal["betavae"]
    format: int
    architecture: str
    image_shape: tuple[int, int, int]
    latent_dim: int
    likelihood: Literal["bernoulli", "gaussian"]
    values_per_latent: NotRequired[int | None]
    own_transform: NotRequired[bool]


@dataclass(frozen=True)
class Saved:
    """A model that was read, before its networks are built."""

    path: Path
    architecture: str
    image_shape: ImageShape
    latent_dim: int
    likelihood: Literal["bernoulli", "gaussian"]
    transform: nn.Module | None
    tensors: dict[str, Tensor]


def save(folder: Path, header: Header, state: Mapping[str, Tensor], card: str = "", name: str = "FOLDER") -> Path:
    """Write a model to a folder; see `VAE.save_pretrained` and `short_card`."""
    if folder.exists() and (
        not folder.is_dir() or (others := {path.name for path in folder.iterdir()} - {*NAMES, *EXPORTED})
    ):
        found = ", ".join(sorted(others)[:5]) if folder.is_dir() else "it is a file"
        raise FileExistsError(f"{folder} holds other files than a saved model ({found}); give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for stale in EXPORTED:  # of the model that is replaced
        (folder / stale).unlink(missing_ok=True)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    card = card or short_card(header, sum(tensor.numel() for tensor in tensors.values()), name)
    write_atomically(folder / "model.safetensors", safetensors.torch.save(tensors, {"format": "pt"}))
    write_atomically(folder / "config.json", (json.dumps(header, indent=2) + "\n").encode())
    write_atomically(folder / "README.md", card.encode())
    return folder


def read(folder: Path, *, own_networks: bool = False, own_transform: bool = False) -> Saved:
    """Read config.json and the weights of a saved model.

    Args:
        folder: folder of the model.
        own_networks: whether the caller has the encoder and the decoder.
        own_transform: whether the caller has the latent transform.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or from another version, or the architecture is unknown.
    """
    remedy = "save the model again with save_pretrained, or download it again"
    header: Header = schemas.read_json(folder / "config.json", Header, remedy, FORMAT)
    shape, latent_dim, values = header["image_shape"], header["latent_dim"], header.get("values_per_latent")
    if header["library"] != "betavae":
        raise ValueError(f"{folder / 'config.json'} is not from betavae: library is {header['library']!r}")
    if not header["architecture"] and not own_networks:
        raise ValueError(f"{folder} was saved with networks of its own; give encoder and decoder to from_pretrained")
    if header.get("own_transform") and not own_transform:
        raise ValueError(f"{folder} was saved with a latent transform of its own; give transform to from_pretrained")
    if not own_networks:
        check_name("model", header["architecture"], ARCHITECTURES)
    check_name("likelihood", header["likelihood"], ("bernoulli", "gaussian"))
    sizes_are_valid = min(shape) >= 1 and math.prod(shape) <= LARGEST_IMAGE and 1 <= latent_dim <= MAX_LATENTS
    if not sizes_are_valid or not 1 <= (1 if values is None else values) * latent_dim <= MAX_LATENTS:
        raise ValueError(
            f"{folder / 'config.json'} is damaged (image_shape is {shape}, latent_dim is {latent_dim}, "
            f"values_per_latent is {values}); {remedy}"
        )
    transform = None if values is None else Codebook(latent_dim, values)
    path = folder / "model.safetensors"
    tensors, _ = read_tensors(path, remedy)
    return Saved(
        path,
        "" if own_networks else header["architecture"],
        shape,
        latent_dim,
        header["likelihood"],
        transform,
        tensors,
    )


def read_tensors(path: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or not a regular file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; {remedy}")
    schemas.check_file(path, remedy)
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        tensors = safetensors.torch.load(path.read_bytes())  # a memory-mapped file that is truncated kills the process
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}") from None
    return tensors, metadata


def check_shapes(model: nn.Module, saved: Saved) -> None:
    """Refuse weights whose names or shapes differ from those of a model, which may be on the device "meta".

    Raises:
        ValueError: they differ.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in saved.tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"{saved.path} does not match config.json: {name} has shape {found.get(name, 'missing')}, and the "
                f"model has {expected.get(name, 'none of that name')}; save the model again with save_pretrained"
            )


def restore(model: nn.Module, saved: Saved) -> None:
    """Load the weights of a saved model into its networks, in place.

    Raises:
        ValueError: they do not fit, or are not finite.
    """
    load_tensors(model, saved.tensors, saved.path, "config.json", "save the model again with save_pretrained")


def load_tensors(model: nn.Module, tensors: dict[str, Tensor], path: Path, settings: str, remedy: str) -> None:
    """Load weights into a module, in place; check that they match and are finite.

    Args:
        model: the module.
        tensors: its `state_dict`.
        path: file of the tensors, for error messages.
        settings: what the tensors must match, for error messages.
        remedy: what to do about a damaged file.

    Raises:
        ValueError: a tensor is missing, has another shape, or is not finite.
    """
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} does not match {settings}: {reason}") from None
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {name} has values that are not finite; {remedy}")


def short_card(header: Header, num_weights: int, name: str = "FOLDER") -> str:
    """Text of README.md for a model of which no more is known than its networks.

    Args:
        header: contents of config.json.
        num_weights: number of weights.
        name: what the example loads: a folder, or a model of the Hugging Face hub.
    """
    channels, height, width = header["image_shape"]
    return f"""---
library_name: betavae
tags: [beta-vae, disentanglement]
---

# A β-VAE of {height}x{width} images

| | |
| --- | --- |
| architecture | {header["architecture"] or "networks of its own"} |
| images | {height}x{width}, {channels} channel{"s" if channels > 1 else ""} |
| latents | {header["latent_dim"]} |
| likelihood | {header["likelihood"]} |
| weights | {num_weights:,} |

```python
from betavae import VAE

vae = VAE.from_pretrained("{name}")
vae.sample(16).plot()
```
"""
