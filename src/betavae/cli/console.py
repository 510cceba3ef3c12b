"""Console output of the commands: scores, notes, progress and one-sentence errors."""

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
    """Print a table of scores, the notes, and which latents capture each factor.

    Args:
        values: the contents of scores.json.
        title: line above the table.
        console: where to print.
        names: scores to show. If none of them exists, all scores are shown.
    """
    from rich.table import Table
    from rich.text import Text

    from betavae.metrics import score_info
    from betavae.runs.scores import capture_phrases, combination_rows, notes_of

    intervals, chance, ceilings = (values.get(name, {}) for name in ("intervals", "chance", "ceilings"))
    optional = {"95 % interval": intervals, "chance": chance, "ceiling": ceilings}
    columns = [name for name, by_score in optional.items() if by_score]
    scores = values.get("scores", {})
    chosen = [name for name in scores if name in names] or list(scores)
    table = Table("", "score")
    table.columns[1].overflow = "fold"
    for name in ("value", *columns):
        table.add_column(name, justify="right", no_wrap=True)
    for name in chosen:
        bounds = intervals.get(name, [None])
        cells = {
            "95 % interval": "" if None in bounds else "–".join(map(format_number, bounds)),
            "chance": format_number(chance[name]) if name in chance else "",
            "ceiling": format_number(ceilings[name]) if name in ceilings else "",
        }
        shown = (cells[column] for column in columns)
        table.add_row(score_info(name).arrow, Text(name), format_number(scores[name]), *shown)
    for name, value in values.get("held_out", {}).items():
        table.add_row("", Text("held-out " + name.replace("_", " ")), f"{value:.2f}")
    say(console, title)
    console.print(table)
    for name, seen, unseen in combination_rows(values.get("combinations", {}))[:2]:
        say(console, f"{name} on seen combinations {seen:.3f}, on unseen {unseen:.3f}")
    skipped: dict[str, str] = values.get("skipped", {})
    if len(chosen) < len(scores):
        hidden = f"{len(scores) - len(chosen)} more scores"
        if skipped:
            hidden += f", and the reasons why {' and '.join(skipped)} could not be computed,"
        say(console, f"{hidden} are in scores.json and in the report")
        skipped = {}
    for note in notes_of(values | {"skipped": skipped}):
        say(console, f"note: {note}")
    console.print(" · ".join(capture_phrases(values)), markup=False, soft_wrap=not console.is_terminal)


def say(console: "Console", text: str) -> None:
    """Print text unchanged: no markup, no colours, no line breaks."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def format_number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def writable_file(file: Path) -> Path:
    """Create the folder of an output file and return the file's path.

    Call it before a long computation, so that a path that cannot be written fails early.

    Raises:
        IsADirectoryError: the path is a folder.
    """
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder; give --out the name of a file in it")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


@contextmanager
def progress_bar(
    console: "Console", what: str = "scoring", transient: bool = True
) -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar; yields a function of (description, parts done, parts in total)."""
    from rich.progress import Progress

    with Progress(console=console, disable=not console.is_terminal, transient=transient) as bar:
        task = bar.add_task(what)
        yield lambda description, done, total: bar.update(task, description=description, completed=done, total=total)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C inside the block, so that workers save their checkpoints."""
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
    """Print the package's own warnings as one-sentence notes; leave all other warnings to Python."""
    with warnings.catch_warnings():
        show_as_python = warnings.showwarning

        def show(message: Warning | str, kind: type[Warning], source: str, *rest: Any) -> None:
            if Path(__file__).parents[1] in Path(source).parents:
                complain(f"note: {message}")
            else:
                show_as_python(message, kind, source, *rest)

        warnings.showwarning = show  # type: ignore[assignment]  # Python calls it by position
        yield


def complain(sentence: str) -> int:
    """Print a sentence to standard error and return exit code 2.

    Control characters are escaped: a file name or a key from an untrusted file must not control the terminal.
    """
    line = " ".join(sentence.splitlines())
    escaped = (repr(letter)[1:-1] if category(letter).startswith("C") else letter for letter in line)
    print(f"betavae: {''.join(escaped)}", file=sys.stderr)
    return 2
