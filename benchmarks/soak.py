"""Damaged files, kills, signals, full disks, foreign owners, rivals: what the commands make of them.

    python benchmarks/soak.py --minutes 60
    python benchmarks/soak.py --seed 7 --case 123             # one case again
    python benchmarks/soak.py --cases 80 --kinds files kills

A case is drawn from the seed and its number alone. Where it kills or interrupts, it does so after the same delay; what
that moment meets is up to the machine. A case runs `betavae` commands on tiny data. Each command is a child forked from
this process, which has imported the package already: the child calls `main` of the command line with the words of the
command, as the console script does, and skips only the seconds of importing. Workers of studies start as always.

Faults are: a traceback; a command that does not end; an exit code that is not documented, or 2 without a sentence;
results that differ from those of an undisturbed run; a file lost or changed that the command does not own; gigabytes
taken. Each is printed with the words that repeat it, and any makes the exit code 1.
"""

import argparse
import encodings
import gc
import hashlib
import importlib
import itertools
import json
import os
import pkgutil
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # of forked processes: batches here are too small to share

from rich.console import Console
from rich.table import Table
from soak_case import MINE, SECONDS, Case, Child, Skip, Stock, alive, nothing
from soak_damage import damage

import betavae
from betavae.cli import main

FAULTS = ("tracebacks", "hangs", "exits", "differences", "lost", "memory")
NOBODY = 65534
RUN = (
    r"provenance\.json|curve\.jsonl|checkpoint\.safetensors|model\.safetensors|latents\.npz|scores\.json|report\.html|"
    r"DONE|\.lock|\.holder\.json|run\.log(\.1)?|logs/.*|figures(/.*)?"
)
OWNED = {
    "train": RUN,
    "report": r"report\.html|results\.parquet",
    "score": r"scores\.json|latents\.npz",
    "figures": r"figures(/.*)?",
    "results": r"results\.parquet",
    "study": rf"(runs/[^/]+/)?({RUN})|(failed|locks)/.*|lock|holder|results\.parquet",
}
"""What each command may write over, below the folder that it is given."""
SCORE = "--metrics mig --evaluations 1"
BRIEF = "train vae --data {file} --model small --steps 50 --validation-images 9 --scores mig --no-figures --out run"
READERS = (  # folder; files that are damaged, one in a case; commands that read them
    (
        "done",
        "config.json provenance.json scores.json curve.jsonl model.safetensors latents.npz DONE .lock "
        ".holder.json run.log",
        ("report done", f"score done {SCORE}", "figures done", "train --resume done", "report done {stock}/done"),
    ),
    ("done", "config.json", ("train --from done/config.json --out run",)),
    (
        "half",
        "config.json provenance.json curve.jsonl checkpoint.safetensors checkpoint.safetensors .lock .holder.json "
        "run.log",
        ("train --resume half",),
    ),
    (
        "study",
        "study.json results.parquet lock holder runs/*/config.json runs/*/provenance.json runs/*/scores.json "
        "runs/*/latents.npz runs/*/DONE runs/*/model.safetensors",
        ("results study", "report study", "results study --query 'SELECT * FROM results'", "{study} --out study"),
    ),
    (
        "tables",
        "latents.npy latents.npz latents.parquet",
        (f"score --latents {{file}} --factors tables/factors.csv {SCORE} --out scores.json",),
    ),
    (
        "tables",
        "factors.csv factors.parquet",
        (f"score --latents tables/latents.npy --factors {{file}} {SCORE} --out scores.json",),
    ),
    (
        "tables",
        "data.npz",
        (
            BRIEF,
            f"score --latents tables/latents.npy --factors {{file}}:latents_classes {SCORE}",
            "data check {file}",
        ),
    ),
    ("tables", "recipe.toml", ("train --from {file} --out run",)),
    ("tables", "study.toml", ("study {file} --plan",)),
    ("tables", "own.py", ("--import {file} {train} --out run",)),
    ("kernels", "native-*.so native-*.sha256", ("{train} --out run",)),
)


# ---------------------------------------------------------------------------------------------------------------------
# Kinds of cases
# ---------------------------------------------------------------------------------------------------------------------


def files(case: Case) -> None:
    """One file damaged, and a command that reads it."""
    name, patterns, lines = case.rng.choice(READERS)
    folder, pattern, line = case.copy(name), case.rng.choice(patterns.split()), case.rng.choice(lines)
    if "lock" in pattern or "holder" in pattern:
        (folder / pattern).write_text('{"host": "here", "process": 1, "since": "now"}')
    path = case.rng.choice(sorted(folder.glob(pattern)))
    others = [other for other in sorted(case.stock.done.iterdir()) if other.is_file()]
    case.story.append(f"{path.relative_to(case.place)}: {damage(case.rng, path, others)}")
    kernels = name == "kernels"
    prepare = partial(_kept_in, case, folder) if kernels else nothing
    command = next((word for word in OWNED if word in line), "")
    run = name if "--resume" in line else "run"
    with case.unharmed(case.place, ".*" if kernels else OWNED.get(command, "")):
        code = case.run(line, run=run, file=path.relative_to(case.place), prepare=prepare)
    if code == 0 and (name == "half" or (kernels and _compiled(case.place / run) == _compiled(case.stock.done))):
        case.same(case.place / run, case.stock.done, curves=path.suffix != ".jsonl")  # no digest protects these


def _compiled(run: Path) -> str:
    """What multiplied in a run: weights are the same bits only where that is the same."""
    return json.loads((run / "provenance.json").read_text())["convolutions"]


def _kept_in(case: Case, folder: Path) -> None:
    """In a child: compiled code is kept in a folder, and compiling is copying."""
    from betavae.kernels import build

    build._folders = lambda: [folder]
    os.environ["CC"] = str(case.stock.folder / "compiler")


def kills(case: Case) -> None:
    """A training killed at random moments, then continued to its end."""
    _stopped(case, [signal.SIGKILL], (-signal.SIGKILL,))


def signals(case: Case) -> None:
    """Commands told to stop, once or twice, by Ctrl-C or by SIGTERM; then done again."""
    number = case.rng.choice([signal.SIGINT, signal.SIGTERM])
    sent = [number] * case.rng.choice([1, 1, 2])
    allowed = (130,) if number == signal.SIGINT else (130, -number)
    if case.rng.random() < 0.6:
        _stopped(case, sent, allowed)
        return
    line = case.rng.choice(["report done", f"score done {SCORE}", f"score done {SCORE}", "figures done"])
    folder = case.copy("done")
    with case.unharmed(folder, RUN):
        child = case.start(line)
        _send(case, child, sent, case.stock.seconds["done"] / 4)
        case.end(child, (0, *allowed))
        case.run(line, (0,))
    case.same(folder, case.stock.done)


def _send(case: Case, child: Child, numbers: list[signal.Signals], seconds: float) -> None:
    """Signals at random moments of some seconds."""
    for number in numbers:
        delay = case.rng.uniform(0, seconds)
        case.story.append(f"{number.name} after {delay:.2f} s")
        child.wait(delay)
        child.send(number)


def _stopped(case: Case, numbers: list[signal.Signals], allowed: tuple[int, ...]) -> None:
    _ = case.stock.done  # for its seconds
    for _ in range(case.rng.randint(1, 3)):
        child = case.start(_going_on(case.place / "run"))
        _send(case, child, numbers, case.stock.seconds["done"])
        case.end(child, (0, *allowed))
    _finished(case, case.place / "run")


def _going_on(run: Path) -> str:
    """The command that begins or continues a run."""
    return f"train --resume {run.name}" if (run / "config.json").exists() else f"{{train}} --out {run.name}"


def _finished(case: Case, run: Path, line: str = "") -> None:
    """Bring a run to its end, undisturbed, with the user's files in it, and hold it against an undisturbed one."""
    for mine in MINE if run.is_dir() and (run / "config.json").exists() else ():
        (run / mine).parent.mkdir(exist_ok=True)
        (run / mine).write_text("of the user's own")
    with case.unharmed(run, RUN):
        case.run(line or _going_on(run), (0,))
    case.same(run, case.stock.done)


def disks(case: Case) -> None:
    """A training, or a command on a finished run, while the disk is full; then again with room."""
    reference = case.stock.done
    with ExitStack() as stack:
        disk, prepare, free = _full_disk(case, stack, 8, 300)
        if case.rng.random() < 0.6:
            case.run("{train} --out disk/run", prepare=prepare)
            free()
            run = disk / "run"
            line = "train --resume disk/run" if (run / "config.json").exists() else "{train} --out disk/run"
            _finished(case, run, line)
            return
        free()
        shutil.copytree(reference, disk / "run")
        filler = disk / "filler"
        with suppress(OSError), filler.open("wb", 0) as file:
            while prepare is nothing:
                file.write(bytes(4096))
        line = case.rng.choice(["report disk/run", f"score disk/run {SCORE}", "figures disk/run"])
        with case.unharmed(disk, rf"filler|run/({OWNED[line.split()[0]]})"):
            case.run(line, prepare=prepare)
        filler.unlink()
        case.run(line, (0,))
        case.same(disk / "run", reference)


def _full_disk(
    case: Case, stack: ExitStack, least: int, most: int
) -> tuple[Path, Callable[[], None], Callable[[], None]]:
    """A folder on a small disk, or in which files can only be small; what prepares a command; what makes room."""
    disk, size = case.place / "disk", case.rng.randrange(least, most)
    disk.mkdir()
    if case.rng.random() < 0.3:
        case.story.append(f"no file longer than {size} kB")
        return disk, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size << 10, size << 10)), nothing
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k,mode=755", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        raise Skip("a small disk (tmpfs) can be mounted only by root")
    stack.callback(subprocess.run, ["umount", "-l", str(disk)], check=True)
    case.story.append(f"a disk of {size} kB")
    larger = ["mount", "-o", f"remount,size={16 if least < 100 else 64}m", str(disk)]
    return disk, nothing, lambda: subprocess.run(larger, check=True)


def owners(case: Case) -> None:
    """Folders and files that belong to another user, or that may not be read or written."""
    if any(not folder.stat().st_mode & stat.S_IXOTH for folder in case.place.resolve().parents):
        raise Skip(f"other users may not enter {case.stock.folder}")
    case.rng.choice([_read_only, _read_only, _unreadable, _foreign_code])(case)


def _as_nobody() -> None:
    """In a child: what root may do does not matter."""
    if not os.geteuid():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def _read_only(case: Case) -> None:
    """What is there may be read, and nothing written."""
    name, line = case.rng.choice(
        [
            *(("done", line) for line in ("report done", f"score done {SCORE}", "figures done", "train --resume done")),
            *(("done", line) for line in ("{train} --out done/run", "{study} --out done/study")),
            *(("half", line) for line in ("train --resume half", "{train} --out half --overwrite")),
            ("done", "report done {stock}/done --out done/page.html"),
            (
                "tables",
                f"score --latents tables/latents.npy --factors tables/factors.csv {SCORE} --out tables/scores.json",
            ),
        ]
    )
    folder, _ = case.copy(name), case.stock.done
    subprocess.run(["chmod", "-R", "a-w", str(folder)], check=True)
    with case.unharmed(case.place):
        case.end(case.start(line, _as_nobody), (2, 0) if "--resume done" in line else (2,))


def _unreadable(case: Case) -> None:
    folder = case.copy(case.rng.choice(["done", "half"]))
    path = case.rng.choice(sorted(found for found in folder.glob("[a-z]*.*[nlsz]")))
    for each in (folder, *folder.rglob("*")):
        if not os.geteuid():
            os.chown(each, NOBODY, NOBODY)
    path.chmod(0)
    case.story.append(f"{path.relative_to(case.place)} may not be read")
    lines = ["train --resume half"] if folder.name == "half" else ["report done", f"score done {SCORE}", "figures done"]
    line = case.rng.choice(lines)
    with case.unharmed(folder, OWNED[line.split()[0]]):
        case.end(case.start(line, _as_nobody))


def _foreign_code(case: Case) -> None:
    """A library that others could have put where compiled code is kept: it must not be loaded."""
    folder, loaded = case.copy("kernels"), case.place / "loaded"
    library = next(folder.glob("*.so"))
    source = f'#include <stdio.h>\n__attribute__((constructor)) void on(void) {{ fclose(fopen("{loaded}", "w")); }}'
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    if subprocess.run(command, input=source.encode(), capture_output=True).returncode:
        raise Skip("there is no C compiler")
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    library.with_suffix(".sha256").write_text(digest)
    whose = case.rng.choice(["open", "open folder", *(["nobody's", "nobody's folder"] if not os.geteuid() else [])])
    case.story.append(f"a library in the kernel cache: {whose}")
    place = folder if "folder" in whose else library
    if whose.startswith("nobody"):
        os.chown(place, NOBODY, NOBODY)
    else:
        place.chmod(0o777)
    case.run("{train} --out run", (0,), prepare=partial(_kept_in, case, folder))
    if loaded.exists():
        case.fault("differences", "a library that others may write was loaded")
    case.same(case.place / "run", case.stock.done)


def rivals(case: Case) -> None:
    """Two commands on one folder at once: each ends well or says who is there, and nothing is damaged."""
    _ = case.stock.done
    first, *others = case.rng.choice(
        [
            ("{train} --out run", "{train} --out run"),
            ("{train} --out run", "train --resume run"),
            ("{train} --out run", "train --resume run", "report run", f"score run {SCORE}"),
            ("{train} --out run", "{train} --out run --overwrite"),
        ]
    )
    if case.rng.random() < 0.5:
        case.copy("half", "run")
        first = "train --resume run"
    began = [case.start(first)]
    for line in others:
        began[-1].wait(case.rng.choice([0, case.rng.uniform(0, case.stock.seconds["done"])]))
        began.append(case.start(line))
    latents = [case.end(child) for child in began]
    if 0 not in latents:
        case.fault("differences", "none of them came to its end")
    _finished(case, case.place / "run")
    both = [case.start(f"score run {SCORE}") for _ in range(2)]
    for child in both:
        case.end(child, (0,))
    case.same(case.place / "run", case.stock.done)


def studies(case: Case) -> None:
    """A study killed, interrupted, without room or with a rival, or one of its workers killed; then continued."""
    _ = case.stock.study  # for its seconds
    how, seconds = case.rng.choice(["kill", "worker", "signal", "disk", "rival"]), case.stock.seconds["study"]
    case.story.append(how)
    with ExitStack() as stack:
        folder, prepare, free = case.place, nothing, nothing
        if how == "disk":
            folder, prepare, free = _full_disk(case, stack, 100, 900)
        line = f"{{study}} --out {folder / 'study'}"
        child, allowed = case.start(line, prepare), (0, 2)
        if how in ("kill", "worker"):
            child.wait(case.rng.uniform(0, seconds))
            workers = child.workers()
            if how == "kill":
                child.send(signal.SIGKILL)
                allowed = (0, -signal.SIGKILL)
            elif workers:
                with suppress(ProcessLookupError):
                    os.kill(case.rng.choice(workers), signal.SIGKILL)
        elif how == "signal":
            number = case.rng.choice([signal.SIGINT, signal.SIGTERM])
            _send(case, child, [number] * case.rng.choice([1, 2]), seconds)
            allowed = (0, 130) if number == signal.SIGINT else (0, 130, -number)
        elif how == "rival":
            child.wait(case.rng.uniform(0, seconds))
            case.end(case.start(line))
        case.end(child, allowed)
        until = time.monotonic() + 10 * SECONDS
        while how == "kill" and any(map(alive, workers)):
            time.sleep(0.05)
            if time.monotonic() > until:
                case.fault("hangs", "a worker outlives its driver")
                break
        free()
        case.run(f"{line} --retry", (0,))
        case.same_study(folder / "study")


KINDS: dict[str, tuple[Callable[[Case], None], float]] = {
    **{"files": (files, 72), "kills": (kills, 7), "signals": (signals, 7)},
    **{"disks": (disks, 5), "owners": (owners, 4), "rivals": (rivals, 3), "studies": (studies, 2)},
}
"""What is tried, and how many of a hundred cases."""


# ---------------------------------------------------------------------------------------------------------------------
# The campaign
# ---------------------------------------------------------------------------------------------------------------------


def import_all() -> None:
    """Import all that commands import, so that their processes need not, and need not be allowed to."""
    for package in (betavae, encodings):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                with suppress(ImportError):  # of another system's encodings
                    importlib.import_module(module.name)
    for name in (
        "torch._dynamo",
        "sklearn.linear_model",
        "sklearn.ensemble",
        "pyarrow.parquet",
        "duckdb",
        "PIL.features",
    ):
        importlib.import_module(name)
    importlib.import_module("PIL.Image").init()
    gc.freeze()


def main(arguments: list[str] | None = None, command: Callable[[list[str]], object] = main.main) -> int:
    """The campaign; the exit code. Cases call the given command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--cases", type=int, help="so many instead of minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="only the case of this number; its folder is kept")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    options = parser.parse_args(arguments)
    import_all()
    tried, skipped, counts, peaks, reasons = Counter(), Counter(), Counter(), Counter(), set()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="betavae-soak-"))
    folder.chmod(0o755)
    stock = Stock(folder / "stock")
    try:
        for number in itertools.count() if options.case is None else [options.case]:
            case = Case(stock, options.seed, number, command)
            kind = case.rng.choices([*KINDS], [weight for _, weight in KINDS.values()])[0]
            if kind not in options.kinds and options.case is None:
                continue
            case.place.mkdir()
            try:
                KINDS[kind][0](case)
                tried[kind] += 1
            except Skip as reason:
                skipped[kind] += 1
                reasons.add(f"{kind}: {reason}")
            finally:
                case.close(keep=options.case is not None)
            peaks[kind] = max(peaks[kind], case.megabytes)
            counts.update((kind, column) for column, _ in case.faults)
            if case.faults or options.case is not None:
                found = [f"{column}: {text}" for column, text in case.faults]
                print(*found, *(f"    {step[:300]}" for step in case.story), sep="\n")
                print(f"    again: python benchmarks/soak.py --seed {options.seed} --case {number}", flush=True)
            enough = options.cases and sum((tried + skipped).values()) >= options.cases
            if enough or (not options.cases and time.monotonic() - began > 60 * options.minutes):
                break
    except KeyboardInterrupt:
        print("stopped")
    finally:
        gc.unfreeze()
        if options.case is None:
            shutil.rmtree(folder)
        else:
            print(f"its folder: {case.place}")
    table = Table("kind", "cases", "skipped", *FAULTS, "peak MB")
    for kind in KINDS:
        if tried[kind] or skipped[kind]:
            numbers = (tried[kind], skipped[kind], *(counts[kind, fault] for fault in FAULTS), peaks[kind])
            table.add_row(kind, *map(str, numbers))
    Console(width=120).print(table)
    minutes, total = (time.monotonic() - began) / 60, sum(tried.values())
    print(f"seed {options.seed}: {total} cases in {minutes:.1f} minutes, {total / minutes:.0f} a minute")
    print(*(f"skipped, {reason}" for reason in sorted(reasons)), sep="\n", end="\n" * bool(reasons))
    return int(bool(counts))


if __name__ == "__main__":
    sys.exit(main())
