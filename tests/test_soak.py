"""The campaign of benchmarks/soak.py: a share of it, and that it finds what is broken."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
BROKEN = """
import sys, time
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import soak_case


def crashes(words):
    raise ZeroDivisionError


def stays(words):
    time.sleep(60)


def leaves(words):
    sys.exit(3)


def is_silent(words):
    sys.exit(2)


def loses(words):
    Path("run/mine.txt").unlink()


def changes(words):
    Path("run/config.json").write_text("{}")


def differs(words):
    Path("run/model.safetensors").write_text("other weights")


def takes(words):
    bytearray(2_500_000_000)


def is_well(words):
    Path("run/report.html").write_text("a page")


stock = soak_case.Stock(Path(sys.argv[2]))
for number, command in enumerate((crashes, stays, leaves, is_silent, loses, changes, differs, takes, is_well)):
    soak_case.SECONDS = 1.0 if command is stays else 300.0
    case = soak_case.Case(stock, 0, number, command)
    for folder in ("reference", "run"):
        (case.place / folder).mkdir(parents=True)
        for name in ("model.safetensors", "latents.npz", "scores.json", "config.json", "report.html", "mine.txt"):
            (case.place / folder / name).write_text(name)
        (case.place / folder / "curve.jsonl").write_text('{"step": 1, "wall_seconds": 2}')
    with case.unharmed(case.place, r"report\\.html|model\\.safetensors"):
        case.run("report run")
    case.same(case.place / "run", case.place / "reference")
    case.close(keep=False)
    print(command.__name__, *(column for column, _ in case.faults))
"""


def python(*words: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: cases are forked, which processes with threads should not be."""
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=1200)


def test_what_is_broken_is_found(tmp_path):
    done = python("-c", BROKEN, str(BENCHMARKS), str(tmp_path / "stock"))
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "crashes tracebacks",
        "stays hangs",
        "leaves exits",
        "is_silent exits",
        "loses lost",
        "changes lost",
        "differs differences",
        "takes memory",
        "is_well",
    ]


CAMPAIGNS = """
import sys

sys.path.insert(0, sys.argv[1])
import soak

print("exit code", soak.main(["--seed", "42", "--cases", "4"]))
print("exit code", soak.main(["--cases", "1", "--kinds", "files"], lambda words: 1 / 0))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
def test_a_share_finds_nothing_and_a_fault_is_told_with_the_words_to_repeat_it():
    done = python("-c", CAMPAIGNS, str(BENCHMARKS))
    assert done.returncode == 0, done.stdout + done.stderr
    share, code, broken, broken_code = re.split(r"exit code (\d)", done.stdout)[:4]
    assert (code, broken_code) == ("0", "1"), done.stdout
    assert "4 cases" in share
    assert "tracebacks: ZeroDivisionError: division by zero" in broken
    assert "again: python benchmarks/soak.py --seed 0 --case " in broken
