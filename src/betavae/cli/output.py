"""Where the output of a command goes: the flags --quiet, --verbose and --json, which every command takes."""

import json
import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.console import Console

FLAGS = ("--quiet", "--verbose", "--json")
HELP = (
    "Every command accepts --quiet (print only results in --json, warnings and errors), --verbose (print what happens, "
    "and the traceback of an error) and --json (one JSON object on standard output, everything else on standard error)."
)
EXIT_CODES = (
    "exit codes: 0 success; 1 an error inside betavae, with a traceback; 2 a mistake or a failure, in one sentence; "
    "130 interrupted, the run can be resumed; 141 the reader of the output closed the pipe"
)


@dataclass(frozen=True)
class Output:
    """What a command prints.

    Attributes:
        quiet: print nothing but warnings, errors and, with `json`, the result.
        verbose: print log messages, and the traceback of an error.
        json: print the result as one JSON object on standard output, everything else on standard error.
    """

    quiet: bool = False
    verbose: bool = False
    json: bool = False

    @classmethod
    def from_words(cls, words: Sequence[str]) -> tuple[Self, list[str]]:
        """Take the flags out of the words of a command.

        Raises:
            ValueError: --quiet and --verbose are both given.

        Example:
            >>> Output.from_words(["score", "runs/x", "--json"])
            (Output(quiet=False, verbose=False, json=True), ['score', 'runs/x'])
        """
        output = cls(*(flag in words for flag in FLAGS))
        if output.quiet and output.verbose:
            raise ValueError("--quiet and --verbose exclude each other; give one of them")
        return output, [word for word in words if word not in FLAGS]

    def console(self) -> "Console":
        """The console for everything but the result."""
        from rich.console import Console

        return Console(stderr=self.json, quiet=self.quiet)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """During a block, show log messages if `verbose`, and keep everything but the result off standard output."""
        package, handler = logging.getLogger("betavae"), logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        level = package.level
        if self.verbose:
            package.addHandler(handler)
            package.setLevel(logging.INFO)
        try:
            if self.json:
                with redirect_stdout(sys.stderr):
                    yield
            else:
                yield
        finally:
            package.removeHandler(handler)
            package.setLevel(level)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object. Undefined and infinite numbers become null, paths and dates become text.

    Example:
        >>> from pathlib import Path
        >>> print_json({"mig": float("nan"), "run": Path("runs/x")})
        {"mig": null, "run": "runs/x"}
    """
    print(json.dumps(_plain(values), ensure_ascii=False, allow_nan=False), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)
