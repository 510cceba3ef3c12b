"""Progress of a training or a study: a live bar on a terminal, a line every few seconds elsewhere."""

import time
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from betavae.config import Config

if TYPE_CHECKING:
    from betavae.studies.study import Tally
    from betavae.training.loop import Record

LINE_SECONDS = 15.0
"""Seconds between two lines when the output is not a terminal."""


class _Bar:
    """A live bar on a terminal; elsewhere a line every `LINE_SECONDS` and one at the end."""

    def __init__(self, console: Console, *columns: ProgressColumn, **task: Any) -> None:
        self._console = console
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task(**task)
        self._last_line = -float("inf")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._console.is_terminal:  # elsewhere, older versions of rich print an empty line
            self._progress.stop()

    def _line(self, text: str, last: bool) -> None:
        if not self._console.is_terminal and (last or time.monotonic() - self._last_line > LINE_SECONDS):
            self._last_line = time.monotonic()
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class TrainingBar(_Bar):
    """Shows the records of a training: step, images/s, reconstruction loss, KL, capacity and remaining time.

    Example:
        >>> from betavae.training.loop import Record
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
        self._first: tuple[int, float] | None = None

    def __call__(self, record: "Record") -> None:
        """Show a record."""
        self._first = self._first or (record.step, record.wall_seconds)
        if record.split != "train":
            return
        steps, seconds = record.step - self._first[0], record.wall_seconds - self._first[1]
        speed = steps * self._config.batch_size / seconds if seconds > 0 else None  # unknown for the first record
        terms = "" if speed is None else f"{speed:,.0f} images/s · "
        terms += f"reconstruction {record.terms['reconstruction']:.1f} nats · rate {record.terms['rate']:.1f} nats"
        if "capacity_nats" in record.terms:
            terms += f" (capacity {record.terms['capacity_nats']:.1f})"
        self._progress.update(self._task, completed=record.step, terms=terms)
        steps_left = self._config.steps - record.step
        time_left = f" · {_duration(steps_left * self._config.batch_size / speed)} left" if speed else ""
        self._line(f"step {record.step:,}/{self._config.steps:,} · {terms}{time_left}", last=not steps_left)


class StudyBar(_Bar):
    """Shows the progress of a study: runs done, running and failed, models per hour and remaining time.

    Example:
        >>> from betavae.studies.study import Tally
        >>> with StudyBar(Console(width=100)) as bar:
        ...     bar(Tally(total=4, done=2, failed=1))
        2 of 4 runs done · 0 running · 1 failed
    """

    def __init__(self, console: Console) -> None:
        columns = BarColumn(bar_width=None), TextColumn("{task.description}")
        super().__init__(console, *columns, description="starting", total=None)

    def __call__(self, tally: "Tally") -> None:
        """Show the counts of a study."""
        text = f"{tally.done:,} of {tally.total:,} runs done · {len(tally.fractions)} running · {tally.failed} failed"
        if tally.seconds_left is not None:
            text += f" · {tally.per_hour:,.1f} models/hour · {_duration(tally.seconds_left)} left"
        finished = tally.done + tally.failed
        completed = finished + sum(tally.fractions.values())
        self._progress.update(self._task, description=text, completed=completed, total=tally.total)
        self._line(text, last=finished == tally.total)


def _duration(seconds: float) -> str:
    """A duration as text, in the unit that fits it best.

    Example:
        >>> _duration(59), _duration(600), _duration(9000), _duration(400_000)
        ('59 s', '10 min', '2.5 h', '4.6 days')
    """
    for size, unit, digits in ((86_400, "days", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"
