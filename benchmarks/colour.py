"""Training speed on grey and on colour images: betavae against three loops of plain PyTorch, in images a second.

    python benchmarks/colour.py            # about 15 minutes on 2 cores
    python benchmarks/colour.py --quick    # fewer rounds of fewer steps, about 5 minutes

- usual: the loop that everybody writes, see `training.py`
- good: images as bytes in memory, channels-last, bf16 autocast where the CPU is fast at it, fused Adam, and no number
  read at each step
- compiled: the step of good, by torch.compile

Then betavae with images that are generated on demand, in memory, and in a memory-mapped file; and encoding. Each round
times all variants one after another, so that a machine that slows down slows all; figures are medians of rounds.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor
from training import Advance, by_pytorch, measure, our_loop, plain_loop, plain_network

from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.data.loading import load_data
from betavae.training.batches import DeviceImages
from betavae.training.devices import choose_device, choose_precision
from betavae.training.encoding import encode
from betavae.training.state import new_state

BATCH_SIZE = 64
IMAGES = 6_000
"""Images of each data set, which the usual loop holds as floats."""


def part(name: str) -> FactorData:
    """The first images of a data set, as bytes in memory."""
    data = load_data(name)
    rows = np.random.default_rng(0).choice(len(data), IMAGES, replace=False)
    return replace(data, packed=np.ascontiguousarray(data.packed[rows]), factors=data.factors[rows], source="")


def good_loop(data: FactorData, compiled: bool) -> Advance:
    """The loop of somebody who knows PyTorch well."""
    network = plain_network("burgess", data).to(memory_format=torch.channels_last)
    images = torch.from_numpy(data.images(np.arange(len(data)))).contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)

    fast_bf16 = choose_precision("auto", choose_device("cpu")) == "bf16"

    def loss_of(batch: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bf16):
            mean, log_var = network.encoder(batch).float().chunk(2, dim=1)
            latents = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
            logits = network.decoder(latents).float()
        error = F.binary_cross_entropy_with_logits(logits, batch, reduction="sum") / BATCH_SIZE
        return error - 4 * 0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1).mean()

    step: Callable[[Tensor], Tensor] = torch.compile(loss_of) if compiled else loss_of

    @by_pytorch()
    def advance(steps: int) -> None:
        for _ in range(steps):
            batch = images[torch.randint(len(images), (BATCH_SIZE,))].float() / data.max_value
            optimiser.zero_grad(set_to_none=True)
            step(batch).backward()
            optimiser.step()

    return advance


def encoding(data: FactorData) -> float:
    """Images a second that are encoded."""
    config = Config(steps=1, batch_size=BATCH_SIZE)
    state, images, rows = new_state(config, data), DeviceImages(data, torch.device("cpu")), np.arange(len(data))
    encode(config, data, rows[:512], state.model, images=images)
    started = time.perf_counter()
    encode(config, data, rows, state.model, images=images)
    return len(rows) / (time.perf_counter() - started)


def stores(data: FactorData, folder: str) -> dict[str, FactorData]:
    """The images of rooms on demand, in memory, and in a memory-mapped file."""
    path = Path(folder) / "rooms.npy"
    np.save(path, data.packed)
    return {
        "on demand": load_data("rooms"),
        "in memory": data,
        "memory-mapped": replace(data, packed=np.load(path, mmap_mode="r")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds of fewer steps")
    rounds, steps = (3, 50) if parser.parse_args().quick else (5, 100)
    console, chosen = Console(), choose_precision("auto", choose_device("cpu"))
    console.print(
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, auto = {chosen}"
    )
    table = Table("images", "usual", "good", "compiled", "betavae", "encoding", title="burgess, images a second")
    for name, label in (("dsprites", "64x64 grey"), ("rooms", "64x64 colour")):
        data = part(name)
        variants = {
            "usual": plain_loop("burgess", BATCH_SIZE, data, num_images=IMAGES),
            "good": good_loop(data, compiled=False),
            "compiled": good_loop(data, compiled=True),
            "betavae": our_loop("burgess", BATCH_SIZE, "auto", data),
        }
        speed = measure(variants, BATCH_SIZE, rounds, steps)
        cells = [f"{value:,.0f} ({value / speed['usual']:.1f}x)" for value in speed.values()]
        table.add_row(label, *cells, f"{encoding(data):,.0f}")
    console.print(table)
    with TemporaryDirectory() as folder:
        loops = {name: our_loop("burgess", BATCH_SIZE, "auto", store) for name, store in stores(data, folder).items()}
        speed = measure(loops, BATCH_SIZE, rounds, steps)
    console.print("betavae on rooms: " + ", ".join(f"{name} {value:,.0f}" for name, value in speed.items()))


if __name__ == "__main__":
    main()
