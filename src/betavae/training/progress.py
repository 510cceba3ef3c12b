"""Progress of a training: a live bar on a terminal, one line that changes in a notebook, lines elsewhere."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from betavae.config import Config
from betavae.training.loop import Record

LINE_SECONDS = 15.0
"""Seconds between two lines when the output is not a terminal."""
RECENT_SECONDS = 60.0
"""Seconds of training from which speed and remaining time are computed."""


class Bar:
    """A live bar on a terminal; in a notebook one line; elsewhere a line every `LINE_SECONDS` and one at the end."""

    def __init__(self, console: Console, *columns: ProgressColumn, **task: Any) -> None:
        self._console = console
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.progress.add_task(**task)
        self._last_line = -float("inf")

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._console.is_terminal:  # elsewhere, older versions of rich print an empty line
            self.progress.stop()

    def line(self, text: str, last: bool) -> None:
        """Show a line of text where there is no bar; `last` is true for the final one."""
        if self._console.is_jupyter:
            self._console.file.write("\r" + text + "\n" * last)
        elif not self._console.is_terminal and (last or time.monotonic() - self._last_line > LINE_SECONDS):
            self._last_line = time.monotonic()
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class TrainingBar(Bar):
    """Shows the records of a training: step, images/s, reconstruction loss, KL, capacity and remaining time.

    Example:
        >>> with TrainingBar(Config(steps=50), Console(quiet=True)) as bar:
        ...     bar(Record(50, 1.0, "train", {"loss": 3.0, "reconstruction": 2.0, "rate": 1.0}))
    """

    def __init__(self, config: Config, console: Console) -> None:
        super().__init__(
            console,
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[terms]}"),
            TimeRemainingColumn(),
            description="training",
            total=config.steps,
            terms="",
        )
        self._config = config
        self._recent: deque[tuple[int, float]] = deque()

    def __call__(self, record: Record) -> None:
        """Show a record."""
        self._recent.append((record.step, record.wall_seconds))
        if record.split != "train":
            return
        while len(self._recent) > 2 and record.wall_seconds - self._recent[1][1] >= RECENT_SECONDS:
            self._recent.popleft()
        steps, seconds = record.step - self._recent[0][0], record.wall_seconds - self._recent[0][1]
        speed = steps * self._config.batch_size / seconds if seconds > 0 else None  # unknown for the first record
        terms = "" if speed is None else f"{speed:,.0f} images/s · "
        terms += f"reconstruction {record.terms['reconstruction']:.1f} nats · rate {record.terms['rate']:.1f} nats"
        if "capacity_nats" in record.terms:
            terms += f" (capacity {record.terms['capacity_nats']:.1f})"
        self.progress.update(self.task, completed=record.step, terms=terms)
        steps_left = self._config.steps - record.step
        time_left = f" · {duration(steps_left * self._config.batch_size / speed)} left" if speed else ""
        self.line(f"step {record.step:,}/{self._config.steps:,} · {terms}{time_left}", last=not steps_left)


def duration(seconds: float) -> str:
    """A duration as text, in the unit that fits it best.

    Example:
        >>> duration(59), duration(600), duration(9000), duration(400_000)
        ('59 s', '10 min', '2.5 h', '4.6 days')
    """
    for size, unit, digits in ((86_400, "days", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def training_bar(
    config: Config, *, quiet: bool = False, console: Console | None = None
) -> Iterator[Callable[[Record], None] | None]:
    """Show the progress of a training on a terminal or in a notebook; elsewhere, or if `quiet`, show nothing.

    Yields:
        A function that takes the records, or None.
    """
    console = console or Console()
    if quiet or not (console.is_terminal or console.is_jupyter):
        yield None
        return
    with TrainingBar(config, console) as bar:
        yield bar
