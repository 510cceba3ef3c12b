"""Showing a training or a study on a terminal: a live bar, or a line now and then where there is no terminal."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from betavae.config import Config

if TYPE_CHECKING:
    from betavae.study import Tally
    from betavae.train import Record

LINE_SECONDS = 15.0
"""Seconds between lines where there is no terminal."""


class TrainingBar:
    """A consumer of records: steps, images/s, reconstruction, rate, capacity, time left.

    Example:
        >>> from betavae.train import Record
        >>> with TrainingBar(Config(steps=50), Console(quiet=True)) as bar:
        ...     bar(Record(50, 1.0, "train", {"loss": 3.0, "reconstruction": 2.0, "rate": 1.0}))
    """

    def __init__(self, config: Config, console: Console) -> None:
        self._config, self._console = config, console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[terms]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._last_line = -float("inf")
        self._first: tuple[int, float] | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        self._task = self._progress.add_task("training", total=self._config.steps, terms="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, record: "Record") -> None:
        """Show a record."""
        self._first = self._first or (record.step, record.wall_seconds)
        if record.split != "train" or self._task is None:
            return
        steps, seconds = record.step - self._first[0], record.wall_seconds - self._first[1]
        speed = steps * self._config.batch_size / seconds if seconds > 0 else None  # unknown at first after a resume
        terms = "" if speed is None else f"{speed:,.0f} images/s · "
        terms += f"reconstruction {record.terms['reconstruction']:.1f} nats · rate {record.terms['rate']:.1f} nats"
        if "capacity_nats" in record.terms:
            terms += f" (capacity {record.terms['capacity_nats']:.1f})"
        self._progress.update(self._task, completed=record.step, terms=terms)
        last = record.step == self._config.steps
        if not self._console.is_terminal and (last or time.monotonic() - self._last_line > LINE_SECONDS):
            self._last_line = time.monotonic()
            line = f"step {record.step:,}/{self._config.steps:,} · {terms}"
            if speed:
                line += f" · {_duration((self._config.steps - record.step) * self._config.batch_size / speed)} left"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class StudyBar:
    """Told after each event of a study: runs done, in work and failed, models an hour, time left.

    Example:
        >>> from betavae.study import Tally
        >>> with StudyBar(Console(width=100)) as bar:
        ...     bar(Tally(total=4, done=2, failed=1))
        2 of 4 runs done · 0 running · 1 failed
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._last_line = -float("inf")

    def __enter__(self) -> Self:
        self._progress.start()
        self._task = self._progress.add_task("starting", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, tally: "Tally") -> None:
        """Show how far it is."""
        text = f"{tally.done:,} of {tally.total:,} runs done · {len(tally.shares)} running · {tally.failed} failed"
        if tally.seconds_left is not None:
            text += f" · {tally.per_hour:,.1f} models/hour · {_duration(tally.seconds_left)} left"
        if self._task is not None:
            completed = tally.done + tally.failed + sum(tally.shares.values())
            self._progress.update(self._task, description=text, completed=completed, total=tally.total)
        last = tally.done + tally.failed == tally.total
        if not self._console.is_terminal and (last or time.monotonic() - self._last_line > LINE_SECONDS):
            self._last_line = time.monotonic()
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    """Seconds as a reader says them.

    Example:
        >>> _duration(59), _duration(600), _duration(9000), _duration(400_000)
        ('59 s', '10 min', '2.5 h', '4.6 days')
    """
    for size, unit, digits in ((86_400, "days", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"
