"""What a training shows where there is no terminal."""

import io

import pytest
from rich.console import Console

from betavae.config import Config
from betavae.training import progress
from betavae.training.loop import Record


@pytest.fixture
def told(monkeypatch):
    """Tells the bar of a run of 40,000 steps of 64 some records; the lines that it wrote."""
    monkeypatch.setattr(progress, "LINE_SECONDS", -1.0)

    def lines(*records):
        shown = io.StringIO()
        with progress.TrainingBar(Config(steps=40_000, batch_size=64), Console(file=shown)) as bar:
            for step, seconds, split, more in records:
                bar(Record(step, seconds, split, {"loss": 3.0, "reconstruction": 2.0, "rate": 1.0} | more))
        return shown.getvalue().splitlines()

    return lines


def test_speed_and_time_left_are_those_of_the_last_minute(told):
    slow, fast = (0, 0.0, "validation", {}), (40_000, 4_130.0, "train", {})
    lines = told(slow, (100, 10.0, "train", {}), (1_000, 4_000.0, "train", {}), (4_000, 4_060.0, "train", {}), fast)
    terms = "reconstruction 2.0 nats · rate 1.0 nats"
    assert lines[0] == f"step 100/40,000 · 640 images/s · {terms} · 66 min left"
    assert lines[2] == f"step 4,000/40,000 · 3,200 images/s · {terms} · 12 min left"
    assert lines[3].endswith(f"{terms} · 0 s left")


def test_a_resumed_run_has_no_speed_at_first_and_then_its_own(told):
    capacity = {"capacity_nats": 2.5}
    first, second = told((20_050, 9_000.0, "train", capacity), (20_150, 9_010.0, "train", capacity))
    assert first == "step 20,050/40,000 · reconstruction 2.0 nats · rate 1.0 nats (capacity 2.5)"
    assert second.startswith("step 20,150/40,000 · 640 images/s · ")
    assert second.endswith("(capacity 2.5) · 33 min left")
