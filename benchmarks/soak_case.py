"""A case of soak.py: commands in forked processes, what is undisturbed, and what counts as a fault."""

import hashlib
import json
import os
import random
import re
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from betavae.cli import main

SECONDS = 60.0
"""A command that has taken as much of the processor, or as long and now takes nothing of it, does not end."""
MEGABYTES = 2_000
"""What no command needs for files as small as these; the package itself takes 250."""
SETTINGS = {
    **{"model": "small", "latent_dim": 3, "steps": 250, "batch_size": 8, "train_images": 250, "validation_images": 50},
    **{"device": "cpu", "precision": "fp32", "scores": ["mig"], "evaluations": 1},
}
PLUGIN = '''"""Two linear layers on each side, and a checkpoint at every record."""
import math
from torch import nn
from betavae import experiment
from betavae.networks.registry import register

def small(shape, latents):
    width, pixels = 16, math.prod(shape)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, 2 * latents))
    last = nn.Linear(width, pixels), nn.Unflatten(1, tuple(shape))
    return encoder, nn.Sequential(nn.Linear(latents, width), nn.ReLU(), *last)

register("small", small)
experiment.CHECKPOINT_SECONDS = 0.0
'''
MINE = ("mine.txt", ".mine.2026", ".git/.x.1")
"""Files of the user's own in every folder."""
PASSING = re.compile(r"(.*/)?(\.lock|\.holder\.json|results\.parquet|failed/.*|\.[^/]+\.\d+)")
"""What may vanish: locks, a table without finished runs, notes of failures, files that a process left half written."""


class Skip(Exception):
    """This machine cannot pose the case; the message says why."""


# ---------------------------------------------------------------------------------------------------------------------
# Commands in forked processes
# ---------------------------------------------------------------------------------------------------------------------


def nothing() -> None:
    """What a command is prepared by if by nothing."""


class Child:
    """A command in a forked process, in a folder, with its output in a file there."""

    def __init__(
        self, words: list[str], place: Path, main: Callable[[list[str]], object], prepare: Callable[[], None] = nothing
    ) -> None:
        place.mkdir(parents=True, exist_ok=True)
        file, name = tempfile.mkstemp(prefix=".output-", dir=place)
        self.log, self.code, self.megabytes = Path(name), None, 0
        sys.stdout.flush()
        held = {signal.SIGINT, signal.SIGTERM}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, held)  # until the command has begun
        self.began, self.pid = time.monotonic(), os.fork()
        if self.pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(file)
            return
        code = 1
        try:
            os.setsid()  # Ctrl-C in the terminal is for the campaign
            os.chdir(place)
            for number, target in enumerate((os.open(os.devnull, os.O_RDONLY), file, file)):
                os.dup2(target, number)
            resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
            sys.argv, sys.modules["__main__"] = ["betavae", *words], types.ModuleType("__main__")
            prepare()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
            main(words)
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def wait(self, seconds: float) -> int | None:
        """Its exit code, or None if it still runs after some seconds."""
        until, pause = time.monotonic() + seconds, 0.002
        while self.code is None:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.code, self.megabytes = os.waitstatus_to_exitcode(status), used.ru_maxrss // 1024
            elif (left := until - time.monotonic()) <= 0:
                break
            else:
                time.sleep(min(pause, left))
                pause = min(2 * pause, 0.05)
        return self.code

    def send(self, number: int) -> None:
        """A signal, unless it has ended."""
        if self.wait(0) is None:
            os.kill(self.pid, number)

    def workers(self) -> list[int]:
        """Processes that it has started and that run: workers of a study, and what watches over them."""
        with suppress(OSError):
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        return []

    def used(self) -> float:
        """Seconds that it and its workers have had of the processor."""
        found = [status(Path(f"/proc/{pid}")) for pid in (self.pid, *self.workers())]
        return sum(int(ticks) for each in found for ticks in each[11:13]) / os.sysconf("SC_CLK_TCK")

    def sleeps(self) -> bool:
        """Whether none of its threads, nor of its workers', is at work or waits for its turn or a disk."""
        threads = [thread for pid in (self.pid, *self.workers()) for thread in Path(f"/proc/{pid}/task").glob("*")]
        return all(status(thread)[:1] in ([], ["S"], ["Z"]) for thread in threads)

    @property
    def output(self) -> str:
        """What it printed, of a flood the first megabyte."""
        with self.log.open("rb") as file:
            return file.read(1 << 20).decode(errors="replace")


def status(place: Path) -> list[str]:
    """What Linux tells of a process or thread, its state first; nothing of one that has ended."""
    try:
        return (place / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has asked for its exit code does not."""
    return status(Path(f"/proc/{pid}"))[:1] not in ([], ["Z"])


# ---------------------------------------------------------------------------------------------------------------------
# What is undisturbed
# ---------------------------------------------------------------------------------------------------------------------


class Stock:
    """Undisturbed runs, a study, tables: made when a case first asks for them, and copied for each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seconds = folder, {}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "own.py").write_text(PLUGIN)
        classes = np.stack(np.unravel_index(np.arange(324), (3, 3, 6, 6)), 1)
        images = np.zeros((324, 16, 16), np.uint8)
        for image, (shape, scale, x, y) in zip(images, classes, strict=True):
            image[2 * y : 2 * y + 3 + scale, 2 * x : 2 * x + 2 + shape] = 1
        np.savez_compressed(folder / "data.npz", imgs=images, latents_classes=classes)
        shared = ["--data", str(folder / "data.npz")]
        for name, value in SETTINGS.items():
            shared += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
        grid = ["study", "--objective", "beta", "--beta", "1", "4", "--seeds", "1", "--workers", "2"]
        self.words = {
            "own": shlex.join(["--import", str(folder / "own.py")]),
            "train": shlex.join(["train", "beta", *shared, "--no-figures"]),
            "study": shlex.join([*grid, *shared, "--figures", "False"]),
            "stock": str(folder),
        }
        """What stands for longer words in the lines of commands."""

    def line(self, line: str, **values: object) -> list[str]:
        """The words of a line; where it imports no file, the stock's own comes before."""
        full = line if "--import" in line else f"{{own}} {line}"
        return shlex.split(full.format(**self.words, **values))

    def _made(self, name: str, line: str, prepare: Callable[[], None] = nothing, code: int = 0) -> Path:
        path = self.folder / name
        words = self.line(line, out=path)
        child = Child(words, self.folder / "outputs", main.main, prepare)
        if child.wait(1800) != code:
            child.send(signal.SIGKILL)
            sys.exit(f"undisturbed, {shlex.join(words)} ends with exit code {child.code}:\n{child.output}")
        self.seconds[name] = time.monotonic() - child.began
        for mine in MINE:
            (path / mine).parent.mkdir(exist_ok=True)
            (path / mine).write_text("of the user's own")
        return path

    @cached_property
    def done(self) -> Path:
        """A finished run."""
        return self._made("done", "{train} --out {out}")

    @cached_property
    def half(self) -> Path:
        """A run that Ctrl-C stopped at step 100 of 250."""

        def prepare() -> None:
            from betavae.runs import folder

            append = folder.append_record

            def stopping(run: object, record: object) -> None:
                append(run, record)
                if (record.step, record.split) == (100, "train"):
                    os.kill(os.getpid(), signal.SIGINT)

            folder.append_record = stopping

        return self._made("half", "{train} --out {out}", prepare, 130)

    @cached_property
    def study(self) -> Path:
        """A finished study of two runs."""
        return self._made("study", "{study} --out {out}")

    @cached_property
    def tables(self) -> Path:
        """Latents and factors in each format, recipes, data, an own file."""
        import pyarrow.parquet

        folder = self.folder / "tables"
        folder.mkdir()
        with np.load(self.folder / "data.npz") as arrays:
            factors = arrays["latents_classes"]
        latents = factors + np.random.default_rng(0).normal(0, 0.3, factors.shape)
        np.save(folder / "latents.npy", latents)
        np.savez(folder / "latents.npz", mean=latents)
        np.savetxt(folder / "factors.csv", factors, "%d", ",", header="a,b,c,d", comments="")
        for name, table in (("latents", latents), ("factors", factors)):
            columns = {letter: table[:, place] for place, letter in enumerate("abcd")}
            pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{name}.parquet")
        shared = SETTINGS | {"steps": 60, "figures": False, "data": str(self.folder / "data.npz")}
        varied = shared.pop("latent_dim")
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in shared.items())
        annealed = '[objective]\nname = "annealed"\ngamma = 10.0\ncapacity_nats = 5.0\n'
        grid = f'seeds = [0, 3]\n[grid]\ncodes = [{varied}, 4]\n[[grid.objective]]\nname = "beta"\nbeta = [1.0, 2.0]\n'
        (folder / "recipe.toml").write_text(f"latent_dim = {varied}\n{lines}{annealed}")
        (folder / "study.toml").write_text(lines + grid)
        for name in ("own.py", "data.npz"):
            shutil.copy(self.folder / name, folder)
        return folder

    @cached_property
    def kernels(self) -> Path:
        """Compiled code and its digest; beside the folder a stand-in for the compiler, which copies the code."""
        from betavae.kernels import build

        found = Child([], self.folder / "outputs", lambda _: print(build.library(build.torch.float32)._name))
        if found.wait(600) != 0:
            raise Skip("no C code is compiled on this machine")
        folder, library = self.folder / "kernels", Path(found.output.split()[-1])
        folder.mkdir(mode=0o700)
        for path in (library, library.with_suffix(".sha256")):
            shutil.copy(path, folder)
        compiler = self.folder / "compiler"
        copy = f'cp {folder / library.name} "$2"'
        compiler.write_text(f'#!/bin/sh\nwhile [ $# -gt 1 ]; do [ "$1" = -o ] && {copy}; shift; done\n')
        compiler.chmod(0o755)
        return folder


# ---------------------------------------------------------------------------------------------------------------------
# A case
# ---------------------------------------------------------------------------------------------------------------------


def inventory(folder: Path) -> dict[str, str]:
    """What is where below a folder: digests of files, targets of links."""
    found = {}
    for path in folder.rglob("*"):
        kind, name = path.lstat().st_mode, path.relative_to(folder).as_posix()
        if stat.S_ISREG(kind) and not path.name.startswith(".output-"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(kind):
            found[name] = f"a link to {os.readlink(path)}"
        elif not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            found[name] = "no regular file"
    return found


def curve(run: Path) -> list[dict[str, object]]:
    """Records without their clock."""
    records = map(json.loads, (run / "curve.jsonl").read_text().splitlines())
    return [{name: value for name, value in record.items() if name != "wall_seconds"} for record in records]


class Case:
    """One case: its random numbers, its folder, what was done in it, and the faults that came out."""

    def __init__(self, stock: Stock, seed: int, number: int, main: Callable[[list[str]], object]) -> None:
        self.stock, self.rng, self.main = stock, random.Random(f"{seed}/{number}"), main
        self.place = stock.folder / f"case-{number}"
        self.started: list[Child] = []
        self.faults: list[tuple[str, str]] = []
        self.story: list[str] = []
        self.megabytes = 0

    def fault(self, column: str, text: str) -> None:
        """Take note of one, by the column in which it counts."""
        self.faults.append((column, text))

    def copy(self, name: str, to: str = "") -> Path:
        """Something of the stock, as the case's own."""
        return Path(shutil.copytree(getattr(self.stock, name), self.place / (to or name), copy_function=shutil.copy))

    def start(self, line: str, prepare: Callable[[], None] = nothing, **values: object) -> Child:
        """Begin the command of a line."""
        words = self.stock.line(line, **values)
        self.story.append("betavae " + shlex.join(words))
        self.started.append(Child(words, self.place, self.main, prepare))
        return self.started[-1]

    def close(self, keep: bool) -> None:
        """End what still runs, and clear the case's place unless it is to be kept."""
        for child in self.started:
            child.send(signal.SIGKILL)
        if not keep:
            subprocess.run(["chmod", "-R", "u+rwX", str(self.place)], check=True)
            shutil.rmtree(self.place)

    def end(self, child: Child, allowed: tuple[int, ...] = (0, 2), run: str = "") -> int | None:
        """Wait for a command and look at how it ended; a training that comes on is stopped, not said to hang."""
        used = before = 0.0
        while child.wait(SECONDS / 4) is None:
            used, before = child.used(), used
            stands = used - before < SECONDS / 1000 and child.sleeps()
            if used > SECONDS or (stands and time.monotonic() - child.began > SECONDS):
                break
        if child.code is None and '"split": "train"' in _text(self.place / run / "curve.jsonl"):
            child.send(signal.SIGINT)
            allowed = (*allowed, 130)
        if child.wait(SECONDS / 4) is None:
            child.send(signal.SIGKILL)
            child.wait(60)
            self.fault(
                "hangs", f"it does not end: after {time.monotonic() - child.began:.0f} s it had used {used:.1f} s"
            )
        elif "Traceback (most recent call last)" in child.output:
            self.fault("tracebacks", child.output.strip().splitlines()[-1])
        elif "\x1b" in child.output:
            self.fault("exits", "escape sequences reach the terminal")
        elif child.code not in allowed:
            self.fault("exits", f"exit code {child.code}: {child.output.strip()[-300:]}")
        elif child.code == 2 and not re.search(r"^betavae: \S", child.output, re.MULTILINE):
            self.fault("exits", f"exit code 2 without a sentence: {child.output.strip()[-300:]}")
        if child.megabytes > MEGABYTES:
            self.fault("memory", f"{child.megabytes:,} MB")
        self.megabytes = max(self.megabytes, child.megabytes)
        return child.code

    def run(self, line: str, allowed: tuple[int, ...] = (0, 2), run: str = "", **values: object) -> int | None:
        """A command from its beginning to its end."""
        return self.end(self.start(line, **values), allowed, run)

    def same(self, run: Path, reference: Path, curves: bool = True) -> None:
        """Hold the results of a run against those of an undisturbed one, with its curve or without."""
        for name in ("model.safetensors", "latents.npz", "scores.json"):
            if not (run / name).is_file() or (run / name).read_bytes() != (reference / name).read_bytes():
                self.fault("differences", f"{run.name}/{name} is not that of an undisturbed run")
        try:
            alike = curve(run) == curve(reference)
        except (OSError, ValueError):
            alike = False
        if curves and not alike:
            self.fault("differences", f"{run.name}/curve.jsonl is not that of an undisturbed run")

    def same_study(self, folder: Path) -> None:
        """The same for all runs of a study."""
        for reference in (self.stock.study / "runs").iterdir():
            self.same(folder / "runs" / reference.name, reference)

    @contextmanager
    def unharmed(self, folder: Path, owned: str = "") -> Iterator[None]:
        """No file below a folder is lost; none changes that commands do not own, whose names a pattern tells."""
        before = inventory(folder)
        yield
        after = inventory(folder)
        for name, content in before.items():
            below = name.partition("/")[2] if folder == self.place else name
            if name not in after and not PASSING.fullmatch(name):
                self.fault("lost", f"{name} is gone")
            elif after.get(name, content) != content and not re.fullmatch(owned, below):
                self.fault("lost", f"{name} has changed")


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""
