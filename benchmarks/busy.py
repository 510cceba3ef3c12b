"""Training beside other work: the loop that everybody writes against betavae's, in milliseconds a step.

    python benchmarks/busy.py                # burgess, batch 64, two threads: beside nothing, then two busy loops
    python benchmarks/busy.py --busy 0 4     # beside nothing, then beside four

Each variant is a process that trains when it is told to and sleeps otherwise, so that all meet the same load: a round
has them train one after another, and figures are medians of rounds. CPU time shows what threads that wait burn.
"""

import argparse
import os
import subprocess
import sys
import time
from statistics import median

PLAIN, SPINNING, WITHOUT, WITH = VARIANTS = (
    "plain loop",
    "no compiled code, usual spinning",
    "no compiled code",
    "compiled code",
)
"""The threads of the last two spin as briefly as in betavae's commands, those of the first two as long as usual."""


def worker(variant: str, threads: int) -> None:
    """Train as many steps as each line of the input asks for; tell seconds and those of the CPU."""
    import numpy as np
    import torch
    from training import plain_loop

    from betavae.config import Config
    from betavae.data.loading import load_data
    from betavae.kernels import build
    from betavae.objectives.settings import Beta
    from betavae.training.state import new_state
    from betavae.training.steps import StepRunner

    torch.set_num_threads(threads)
    data = load_data("dsprites")
    if variant == PLAIN:
        advance = plain_loop("burgess", 64, data)
    else:
        if variant != WITH:
            build.library = lambda dtype: None
        config = Config(objective=Beta(4.0), model="burgess", steps=10**9, learning_rate=1e-4, device="cpu")
        span = StepRunner(config, data, np.arange(len(data)), new_state(config, data), None)

        def advance(steps: int) -> None:
            for _ in range(steps):
                span()

    advance(5)
    print(flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        advance(int(line))
        print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2], help="processes that compute meanwhile")
    parser.add_argument("--threads", type=int, default=2, help="of each variant")
    parser.add_argument("--steps", type=int, default=20, help="of each variant in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", choices=VARIANTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, given.threads)
        return

    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    words = [sys.executable, __file__, "--threads", str(given.threads), "--worker"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    brief = {"GOMP_SPINCOUNT": "10000"}  # as in `betavae.cli.main`
    workers = {
        variant: subprocess.Popen(
            [*words, variant], env=environment | (brief if variant in (WITHOUT, WITH) else {}), **pipes
        )
        for variant in VARIANTS
    }
    for process in workers.values():
        process.stdout.readline()
    for busy in given.busy:
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        found: dict[str, list[list[float]]] = {variant: [] for variant in VARIANTS}
        try:
            for _ in range(given.rounds):
                for variant, process in workers.items():
                    print(given.steps, file=process.stdin, flush=True)
                    found[variant].append(
                        [1e3 * float(word) / given.steps for word in process.stdout.readline().split()]
                    )
        finally:
            for other in others:
                other.kill()
        load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
        print(
            f"beside {busy} busy loops, {os.cpu_count()} cores, {given.threads} threads, {load}: ms a step, of the CPU"
        )
        for variant, rounds in found.items():
            wall, cpu = (median(figures) for figures in zip(*rounds, strict=True))
            print(f"  {variant:<42}{wall:>8.1f}{cpu:>8.1f}", flush=True)
    for process in workers.values():
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    main()
