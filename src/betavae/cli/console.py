"""What the commands print: scores, notes, progress, errors in one sentence."""

import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import category

if TYPE_CHECKING:
    from rich.console import Console


def print_scores(values: dict[str, Any], title: str, console: "Console", names: Collection[str] = ()) -> None:
    from rich.table import Table
    from rich.text import Text

    from betavae.metrics import METRICS, score_info
    from betavae.runs.scores import capture_phrases

    intervals, chance, ceilings = (values.get(name, {}) for name in ("intervals", "chance", "ceilings"))
    columns = {"95 % interval": intervals, "chance": chance, "ceiling": ceilings}
    scores = values.get("scores", {})
    chosen = [name for name in scores if name in names] or list(scores)
    table = Table("", "score")
    table.columns[1].overflow = "fold"
    for name in ("value", *(name for name, found in columns.items() if found)):
        table.add_column(name, justify="right", no_wrap=True)
    for name in chosen:
        ends = intervals.get(name, [None])
        cells = {
            "95 % interval": "" if None in ends else "–".join(map(format_number, ends)),
            "chance": format_number(chance[name]) if name in chance else "",
            "ceiling": format_number(ceilings[name]) if name in ceilings else "",
        }
        cells_shown = (cells[column] for column, found in columns.items() if found)
        table.add_row(score_info(name).arrow, Text(name), format_number(scores[name]), *cells_shown)
    for name, value in values.get("held_out", {}).items():
        table.add_row("", Text("held-out " + name.replace("_", " ")), f"{value:.2f}")
    say(console, title)
    console.print(table)
    notes: list[str] = values.get("notes", [])
    if len(chosen) < len(scores):
        unasked = METRICS.keys() - {name.partition(".")[0] for name in chosen}
        missing = {note: metric for note in notes if (metric := note.partition(" is left out:")[0]) in unasked}
        notes = [note for note in notes if note not in missing]
        why = f", and why {' and '.join(missing.values())} could not be had," if missing else ""
        say(console, f"{len(scores) - len(chosen)} more scores{why} are in scores.json and in the report")
    for note in notes:
        say(console, f"note: {note}")
    console.print(" · ".join(capture_phrases(values)), markup=False, soft_wrap=not console.is_terminal)


def say(console: "Console", text: str) -> None:
    """Print text as it is: no markup, no colours, no line broken."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def format_number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def writable_file(file: Path) -> Path:
    """A file that is to be written after long work; its folder is made before.

    Raises:
        IsADirectoryError: there is a folder of its name.
    """
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder; name a file in it with --out")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


@contextmanager
def progress_bar(
    console: "Console", what: str = "scoring", transient: bool = True
) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar; gives a function of what is being done, parts done and parts in all."""
    from rich.progress import Progress

    with Progress(console=console, disable=not console.is_terminal, transient=transient) as bar:
        task = bar.add_task(what)
        yield lambda doing, done, total: bar.update(task, description=doing, completed=done, total=total)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: workers save their checkpoints."""
    import signal

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def print_notes() -> Iterator[None]:
    """What the package itself warns of is said in a sentence; what others warn of, in Python's way."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, kind: type[Warning], source: str, *rest: Any) -> None:
            if Path(__file__).parents[1] in Path(source).parents:
                complain(f"note: {message}")
            else:
                usual(message, kind, source, *rest)

        warnings.showwarning = show  # type: ignore[assignment]  # Python calls it by position
        yield


def complain(sentence: str) -> int:
    """Print a sentence; what controls a terminal is shown instead, for files, keys and names may be anybody's."""
    line = " ".join(sentence.splitlines())
    shown = (repr(letter)[1:-1] if category(letter).startswith("C") else letter for letter in line)
    print(f"betavae: {''.join(shown)}", file=sys.stderr)
    return 2
