"""Training speed: the loop that everybody writes against betavae's, interleaved, in images a second.

    python benchmarks/training.py            # all, about 20 minutes on 2 cores
    python benchmarks/training.py --quick    # fewer rounds of fewer steps, about 10 minutes

The plain loop is a DataLoader over a float tensor, fp32, eager mode, torch.optim.Adam, a sigmoid and
binary_cross_entropy, and loss.item() at every step; its networks have the same layers, of torch.nn. Each round times
all variants one after another, so that a machine that slows down slows all; figures are medians of rounds.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.data.loading import load_data
from betavae.kernels import build
from betavae.model import VAE
from betavae.networks.layers import Downsample, Float32Linear, Upsample
from betavae.objectives.settings import Beta
from betavae.runs.provenance import peak_memory
from betavae.training.batches import DeviceImages
from betavae.training.devices import choose_device, choose_precision
from betavae.training.encoding import encode
from betavae.training.loop import train
from betavae.training.optimisers import Muon
from betavae.training.state import new_state
from betavae.training.steps import RECORD_STEPS

ARCHITECTURES = ("burgess", "residual", "wide")
BATCH_SIZES = (64, 256)
PLAIN_IMAGES = 20_000
"""Images of the plain loop, which holds them as floats."""

PLAIN = {Downsample: nn.Conv2d, Float32Linear: nn.Linear, Upsample: nn.ConvTranspose2d}
"""Layers of torch.nn that compute the same as betavae's."""

Advance = Callable[[int], None]
"""Trains for so many steps."""


def plain_network(model: str, data: FactorData, seed: int = 0) -> VAE:
    """The same layers, all of torch.nn, which run as such within `by_pytorch`."""
    torch.manual_seed(seed)
    network = VAE(model, data.image_shape, 10)
    for layer in network.modules():
        layer.__class__ = PLAIN.get(type(layer), type(layer))
    return network


@contextmanager
def by_pytorch() -> Iterator[None]:
    """Networks run without betavae's compiled code."""
    library = build.library
    build.library = lambda dtype: None
    try:
        yield
    finally:
        build.library = library


def plain_loop(
    model: str, batch_size: int, data: FactorData, device: str = "cpu", num_images: int = PLAIN_IMAGES
) -> Advance:
    network = plain_network(model, data).to(device)
    images = torch.from_numpy(data.images(np.arange(num_images))).float() / data.max_value
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), batch_size, shuffle=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)

    def batches() -> Iterator[torch.Tensor]:
        for _ in cycle([None]):
            yield from (batch for (batch,) in loader if len(batch) == batch_size)

    source = batches()

    @by_pytorch()
    def advance(steps: int) -> None:
        for _ in range(steps):
            batch = next(source).to(device)
            mean, log_var = network.encode(batch)
            latents = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
            reconstruction = torch.sigmoid(network.logits(latents))
            error = F.binary_cross_entropy(reconstruction, batch, reduction="sum") / batch_size
            rate = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1).mean()
            loss = error + 4 * rate
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()

    return advance


def our_loop(
    model: str,
    batch_size: int,
    precision: str,
    data: FactorData,
    device: str = "auto",
    images: DeviceImages | None = None,
    seed: int = 0,
) -> Advance:
    config = Config(
        objective=Beta(4.0),
        model=model,
        steps=10**9,
        batch_size=batch_size,
        learning_rate=1e-4,
        seed=seed,
        precision=precision,
        device=device,
    )
    rows = np.arange(len(data))
    records = train(config, data, rows, rows[:0], new_state(config, data), images)

    def advance(steps: int) -> None:
        for _ in range(steps // RECORD_STEPS):
            next(records)

    return advance


def measure(variants: dict[str, Advance], batch_size: int, rounds: int, steps: int) -> dict[str, float]:
    """Images a second of each, the median of rounds after a first one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name, advance in variants.items():
            started = time.perf_counter()
            advance(steps)
            seconds[name].append(time.perf_counter() - started)
    return {name: batch_size * steps / median(times[1:]) for name, times in seconds.items()}


def side_by_side(variant: str, seconds: int) -> float:
    """Images a second of two runs together, on a thread each."""
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", variant, str(seconds)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    return sum(float(worker.communicate()[0]) for worker in workers)


def worker(variant: str, seconds: float) -> None:
    data = load_data("dsprites")
    advance = plain_loop("burgess", 64, data) if variant == "plain" else our_loop("burgess", 64, "auto", data)
    advance(RECORD_STEPS)
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        advance(RECORD_STEPS)
        steps += RECORD_STEPS
    print(64 * steps / (time.perf_counter() - started))


def first_step() -> None:
    """Draws dSprites, trains a step, encodes all images; says when each is done."""
    started = time.perf_counter()
    data = load_data("dsprites")
    drawn = time.perf_counter() - started
    config = Config(objective=Beta(4.0), steps=1)
    rows = np.arange(len(data))
    state = new_state(config, data)
    next(train(config, data, rows, rows[:0], state))
    print(drawn, flush=True)
    started = time.perf_counter()
    encode(config, data, rows, state.model)
    print(time.perf_counter() - started, flush=True)


def muon_steps(data: FactorData, rounds: int, steps: int) -> tuple[float, float]:
    """Milliseconds of a step of torch.optim.Muon, which takes matrices only, and of ours, for a network's weights."""
    weights = [weight.flatten(1) for weight in plain_network("burgess", data).parameters() if weight.dim() > 1]
    dtype = torch.bfloat16 if choose_precision("auto", choose_device("cpu")) == "bf16" else torch.float32

    def stepping(make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]) -> Advance:
        own = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
        gradients, optimiser = [torch.randn_like(weight) for weight in own], make(own)

        def advance(steps: int) -> None:
            for _ in range(steps):
                for parameter, gradient in zip(own, gradients, strict=True):
                    parameter.grad = gradient
                optimiser.step()

        return advance

    variants = {
        "torch": stepping(lambda own: torch.optim.Muon(own, lr=1e-3, adjust_lr_fn="match_rms_adamw")),
        "ours": stepping(lambda own: Muon(own, lr=1e-3, dtype=dtype)),
    }
    speed = measure(variants, 1, rounds, steps)
    return 1e3 / speed["torch"], 1e3 / speed["ours"]


def command(*words: str) -> tuple[float, float]:
    """Seconds that a betavae command takes, and the most memory that it had, in GB."""
    started = time.perf_counter()
    told = subprocess.run(
        [sys.executable, __file__, "--command", *words], stdout=subprocess.PIPE, text=True, check=True
    )
    return time.perf_counter() - started, float(told.stdout.splitlines()[-1])


def tell_memory(words: list[str]) -> None:
    """Run a betavae command in this process, and print the most memory that the process had."""
    main.main(words)
    print(peak_memory() / 1e9)


def whole_run(console: Console) -> None:
    """What surrounds the training: seconds to the first step, encoding, a run with all its scores and figures."""
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, __file__, "--first-step"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    drawn, first = float(child.stdout.readline()), time.perf_counter() - started
    console.print(f"first step {first:.1f} s after the command, of which dSprites took {drawn:.1f} s to draw")
    console.print(f"all 737,280 images encoded in {float(child.stdout.readline()):.1f} s")
    child.wait()
    with TemporaryDirectory() as folder:
        seconds, memory = command("train", "beta", "--steps", "100", "--out", f"{folder}/run")
        console.print(f"a run of 100 steps with all scores and figures: {seconds:.0f} s, {memory:.2f} GB at its peak")
        console.print(
            f"all figures again: {command('figures', f'{folder}/run')[0]:.1f} s, from the start of the command"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds of fewer steps")
    parser.add_argument("--worker", nargs=2, metavar=("VARIANT", "SECONDS"), help=argparse.SUPPRESS)
    parser.add_argument("--first-step", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker[0], float(given.worker[1]))
        return
    if given.command:
        tell_memory(given.command)
        return
    if given.first_step:
        first_step()
        return

    console, data = Console(), load_data("dsprites")
    rounds, steps = (3, 50) if given.quick else (5, 100)
    chosen = choose_precision("auto", choose_device("cpu"))
    console.print(
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, auto = {chosen}"
    )

    table = Table(
        "network", "batch", "plain loop", "betavae fp32", f"betavae {chosen}", title="images a second (ratio)"
    )
    for model in ARCHITECTURES:
        for batch_size in BATCH_SIZES[:1] if given.quick else BATCH_SIZES:
            variants = {"plain": plain_loop(model, batch_size, data), "fp32": our_loop(model, batch_size, "fp32", data)}
            if chosen != "fp32":
                variants[chosen] = our_loop(model, batch_size, chosen, data)
            speed = measure(variants, batch_size, rounds, steps * 64 // batch_size // RECORD_STEPS * RECORD_STEPS or 50)
            cells = [f"{speed[name]:,.0f} ({speed[name] / speed['plain']:.1f}x)" for name in ("fp32", chosen)]
            table.add_row(model, str(batch_size), f"{speed['plain']:,.0f}", *cells)
    console.print(table)

    theirs, own = muon_steps(data, rounds, steps)
    console.print(f"a step of Muon for burgess: torch.optim.Muon {theirs:.1f} ms, betavae {own:.1f} ms")

    seconds = 10 if given.quick else 30
    plain, ours = side_by_side("plain", seconds), side_by_side("ours", seconds)
    console.print(
        f"two runs side by side: plain {plain:,.0f}, betavae {ours:,.0f} images a second ({ours / plain:.1f}x)"
    )

    whole_run(console)


if __name__ == "__main__":
    main()
