"""Progress of a study: a live bar on a terminal, a line every few seconds elsewhere."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn

from betavae.training.progress import Bar, duration

if TYPE_CHECKING:
    from betavae.studies.study import Tally


class StudyBar(Bar):
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
            text += f" · {tally.per_hour:,.1f} models/hour · {duration(tally.seconds_left)} left"
        finished = tally.done + tally.failed
        completed = finished + sum(tally.fractions.values())
        self.progress.update(self.task, description=text, completed=completed, total=tally.total)
        self.line(text, last=finished == tally.total)
