"""How far training is from what the hardware can do: `python benchmarks/roofline.py`, a minute or two on 2 cores.

A step multiplies so much and moves at least so many bytes; this machine multiplies and copies so fast at best. The
longer of the two times is the least that a step can take. Peaks and training are timed one after another in each round,
so that a machine that slows down slows all.
"""

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from training import ARCHITECTURES, measure, our_loop, plain_network

from betavae.data.factor_data import FactorData
from betavae.data.loading import load_data
from betavae.training.devices import choose_device, choose_precision
from betavae.training.steps import RECORD_STEPS

BATCH_SIZE = 64
SIDE = 2048
"""Of the square matrices whose product shows the peak."""
COPIED = 2**26
"""Floats copied to show the bandwidth: 256 MB, more than any cache."""
ROUNDS = 5


def work(model: str, data: FactorData) -> tuple[float, float]:
    """GFLOP of a step forward and backward, and the GB that it moves at least.

    Each layer's output is written and read once forward, and its gradient once backward, in 2 bytes a number; each
    weight with its two moments is read and written by Adam, and its gradient is, in 4.
    """
    network, moved = plain_network(model, data), 0

    def count(layer: nn.Module, given: object, output: Tensor) -> None:
        nonlocal moved
        moved += 4 * 2 * output.numel()

    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(count)
    images = torch.rand(BATCH_SIZE, *data.image_shape)
    with FlopCounterMode(display=False) as counter:
        mean, _ = network.encode(images)
        network.logits(mean).sum().backward()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return counter.get_total_flops() / 1e9, (moved + 8 * 4 * parameters) / 1e9


def main() -> None:
    console, data = Console(), load_data("dsprites")
    precision = choose_precision("auto", choose_device("cpu"))
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    square, source = torch.rand(SIDE, SIDE).to(dtype), torch.rand(COPIED)
    target = torch.empty_like(source)
    peaks = {"multiply": lambda steps: square @ square, "copy": lambda steps: target.copy_(source)}
    loops = {model: our_loop(model, BATCH_SIZE, precision, data) for model in ARCHITECTURES}
    speed = measure(peaks | loops, BATCH_SIZE, ROUNDS, RECORD_STEPS)
    once = {name: BATCH_SIZE * RECORD_STEPS / speed[name] for name in peaks}  # seconds
    peak, bandwidth = 2 * SIDE**3 / once["multiply"] / 1e9, 2 * source.nbytes / once["copy"] / 1e9

    table = Table(
        *("network", "GFLOP a step", "MB a step", "limit, images/s", "reached", "share"),
        title=f"{precision}, batch {BATCH_SIZE}: peak {peak:,.0f} GFLOP/s, {bandwidth:.1f} GB/s copied",
    )
    for model in ARCHITECTURES:
        flop, moved = work(model, data)
        limit = BATCH_SIZE / max(flop / peak, moved / bandwidth)
        reached = (f"{limit:,.0f}", f"{speed[model]:,.0f}", f"{speed[model] / limit:.0%}")
        table.add_row(model, f"{flop:.2f}", f"{1000 * moved:.0f}", *reached)
    console.print(table)


if __name__ == "__main__":
    main()
