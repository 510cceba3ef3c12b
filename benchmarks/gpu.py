"""Training on one GPU: the usual loop against betavae's, and many small models at once; made for nine minutes at most.

    python benchmarks/gpu.py                                   # on the first CUDA device
    python benchmarks/gpu.py --device cpu --seconds 1 --models 2    # whether it runs; no graphs, no figures to quote

The usual loop is that of training.py, its batches moved to the device. Many models are trained in four ways: one after
another, each by graphs; in threads of one process, each model on a stream of its own, by graphs; in processes, by
graphs; stacked, all weights of a layer in one tensor, by torch.func. Ratios are of images a second, all models
together, to the usual loop's, which trains one after another; so they are ratios of models an hour.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from training import ARCHITECTURES, BATCH_SIZES, Advance, our_loop, plain_loop, plain_network

from betavae.data.factor_data import FactorData
from betavae.data.loading import load_data
from betavae.objectives.terms import gaussian_kl, reconstruction_error
from betavae.training import cuda_graphs, steps
from betavae.training.batches import DeviceImages
from betavae.training.devices import choose_device, choose_precision
from betavae.training.optimisers import Adam
from betavae.training.steps import RECORD_STEPS

PARTS = ("encoder", "decoder")
LONG_RUN = 300_000
"""Steps of the papers' trainings on dSprites."""


def usual_loop(model: str, batch_size: int, data: FactorData, device: str) -> Advance:
    """That of training.py, with cuDNN as PyTorch sets it."""
    plain = plain_loop(model, batch_size, data, device)

    def advance(steps: int) -> None:
        with torch.backends.cudnn.flags(enabled=True):
            plain(steps)

    return advance


def stacked_loop(
    models: int, batch_size: int, precision: str, device: str, data: FactorData, images: DeviceImages
) -> Advance:
    """Burgess networks whose weights are stacked, layer by layer; a step is recorded where that can be."""
    where = torch.device(device)
    networks = [plain_network("burgess", data, seed).to(where) for seed in range(models)]
    stacks = [torch.func.stack_module_state([getattr(network, part) for network in networks])[0] for part in PARTS]
    weights = [weight for stack in stacks for weight in stack.values()]
    optimiser = Adam(weights, 1e-4)
    encoder, decoder = (getattr(networks[0], part) for part in PARTS)
    stream, generator = cuda_graphs.stream(where), np.random.default_rng(0)

    def loss(stacks: list[dict[str, torch.Tensor]], batch: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        mean, log_var = torch.func.functional_call(encoder, stacks[0], batch).float().chunk(2, 1)
        latents = mean + torch.exp(0.5 * log_var) * noise
        logits = torch.func.functional_call(decoder, stacks[1], latents).float()
        return (reconstruction_error(logits, batch) + 4 * gaussian_kl(mean, log_var).sum(1)).mean()

    gradients = torch.func.vmap(torch.func.grad(loss))

    def step(_: None, given: dict[str, torch.Tensor]) -> None:
        batch = images(given["rows"].flatten()).unflatten(0, (models, batch_size))
        with torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
            found = gradients(stacks, batch, given["noise"])
        for weight, gradient in zip(weights, [own for stack in found for own in stack.values()], strict=True):
            weight.grad = gradient
        optimiser.step()

    repeated = cuda_graphs.Repeated(cuda_graphs.cuda_graph) if where.type == "cuda" else None

    def advance(steps: int) -> None:
        with stream:
            for _ in range(steps):
                rows = torch.from_numpy(generator.integers(0, len(data), (models, batch_size)))
                rows = rows.pin_memory().to(where, non_blocking=True) if repeated else rows
                given = {"rows": rows, "noise": torch.randn(models, batch_size, 10, device=where)}
                repeated(step, None, given) if repeated else step(None, given)
            if repeated:
                torch.cuda.current_stream().synchronize()

    return advance


def speed(advance: Advance, seconds: float, images_a_step: int, begin: Callable[[], object] = int) -> float:
    """Images a second over some seconds, after records to warm up with: on CUDA the second is recorded.

    Every loop ends with a wait for what it began; a wait for the whole device would break recordings of other threads.
    """
    advance(3 * RECORD_STEPS if seconds > 1 else RECORD_STEPS)
    begin()
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        advance(RECORD_STEPS)
        steps += RECORD_STEPS
    return images_a_step * steps / (time.perf_counter() - started)


def in_threads(loops: Sequence[Advance], seconds: float, batch_size: int) -> float:
    """Images a second of all loops together, each in a thread."""
    ready = threading.Barrier(len(loops), timeout=300)
    with ThreadPoolExecutor(len(loops)) as pool:
        return sum(pool.map(lambda advance: speed(advance, seconds, batch_size, ready.wait), loops))


def in_processes(count: int, given: argparse.Namespace) -> float:
    """Images a second of all models together, each in a process."""
    words = [sys.executable, __file__, "--device", given.device, "--seconds", str(given.seconds), "--worker"]
    workers = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()  # it is ready
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return sum(float(worker.communicate()[0]) for worker in workers)


def worker(given: argparse.Namespace, data: FactorData) -> None:
    """One of several processes."""
    images = DeviceImages(data, torch.device(given.device))
    advance = our_loop("burgess", 64, precision(given), data, given.device, images)

    def begin() -> None:
        print("ready", flush=True)
        sys.stdin.readline()

    print(speed(advance, given.seconds, 64, begin))


def precision(given: argparse.Namespace) -> str:
    return choose_precision("auto", torch.device(given.device))


@contextmanager
def without_graphs() -> Iterator[None]:
    recorded, steps.CAPTURED = steps.CAPTURED, []
    try:
        yield
    finally:
        steps.CAPTURED = recorded


def one_model(given: argparse.Namespace, data: FactorData, images: DeviceImages) -> Table:
    """Images a second of one training, every network and batch."""
    chosen, device = precision(given), given.device
    headings = (
        "network",
        "batch",
        "usual loop",
        "ours, fp32",
        f"ours, {chosen}",
        "without graphs",
        f"{LONG_RUN:,} steps",
    )
    table = Table(*headings, title="one model: images a second (ratio)")
    for model in given.networks:
        for batch_size in BATCH_SIZES:
            usual = speed(usual_loop(model, batch_size, data, device), given.seconds, batch_size)
            found = []
            for kind in ("fp32", chosen):
                advance = our_loop(model, batch_size, kind, data, device, images)
                found.append(speed(advance, given.seconds, batch_size))
            with without_graphs():
                advance = our_loop(model, batch_size, chosen, data, device, images)
                found.append(speed(advance, given.seconds, batch_size))
            cells = [f"{value:,.0f} ({value / usual:.1f}x)" for value in found]
            table.add_row(model, str(batch_size), f"{usual:,.0f}", *cells, f"{LONG_RUN * batch_size / found[1]:,.0f} s")
    return table


def many_models(given: argparse.Namespace, data: FactorData, images: DeviceImages) -> Table:
    """Images a second of many trainings of burgess with batches of 64, in four ways."""
    chosen, device, count = precision(given), given.device, given.models
    usual = speed(usual_loop("burgess", 64, data, device), given.seconds, 64)
    few = sorted({min(most, count) for most in (4, 16, 32)})  # of streams there are 32

    def loops(number: int) -> list[Advance]:
        return [our_loop("burgess", 64, chosen, data, device, images, seed) for seed in range(number)]

    ways: dict[str, Callable[[], float]] = {
        "usual loop, one after another": lambda: usual,
        "one after another": lambda: speed(loops(1)[0], given.seconds, 64),
        **{
            f"{number} in threads, a stream each": partial(
                lambda number: in_threads(loops(number), given.seconds, 64), number
            )
            for number in few
        },
        **{f"{number} in processes": partial(in_processes, number, given) for number in few[:2]},
        f"{count} stacked": lambda: speed(
            stacked_loop(count, 64, chosen, device, data, images), given.seconds, 64 * count
        ),
    }
    table = Table("way", "images a second", "models an hour", "ratio", title=f"many models of {LONG_RUN:,} steps")
    for way, measured in ways.items():
        found = measured()
        table.add_row(way, f"{found:,.0f}", f"{3600 * found / 64 / LONG_RUN:,.1f}", f"{found / usual:.1f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement, after a warm-up")
    parser.add_argument("--models", type=int, default=64, help="trained at once, at most")
    parser.add_argument("--networks", nargs="+", default=ARCHITECTURES, choices=ARCHITECTURES)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.device = str(choose_device(given.device))
    data = load_data("dsprites")
    if given.worker:
        worker(given, data)
        return
    console, images = Console(), DeviceImages(data, torch.device(given.device))
    name = torch.cuda.get_device_name() if given.device.startswith("cuda") else f"{os.cpu_count()} CPU cores"
    console.print(f"{name}, torch {torch.__version__}, auto = {precision(given)}")
    console.print(one_model(given, data, images))
    console.print(many_models(given, data, images))


if __name__ == "__main__":
    main()
