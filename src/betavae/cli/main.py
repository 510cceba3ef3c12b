"""The command line: `betavae COMMAND`. Heavy modules load when a command runs."""

import difflib
import io
import os
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from importlib import metadata
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Annotated, Any, Final, Union

import tyro
from tyro.conf import CascadeSubcommandArgs, OmitArgPrefixes, OmitSubcommandPrefixes
from tyro.conf import subcommand as command

from betavae import config as configuration
from betavae import plugins
from betavae.cli import flags
from betavae.config import Config
from betavae.files.validation import check_name
from betavae.objectives.registry import OBJECTIVES

if TYPE_CHECKING:
    pass
from betavae.cli.console import complain, print_notes
from betavae.cli.data import Data
from betavae.cli.pages import Explore, Figures, Report
from betavae.cli.recipes import find_recipe
from betavae.cli.score import Score
from betavae.cli.study import Results, Study
from betavae.cli.train import Demo, Train


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `betavae`: exit code 0, 2 with one sentence for a mistake or a failure, 130 when interrupted.

    141 where what reads its output, such as `head`, has had enough.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe on Windows knows no β
        sys.stdout.reconfigure(errors="replace")
    if words == ["--version"]:
        print(f"betavae {metadata.version('betavae')}")
        return
    from rich.console import Console

    try:
        words = _import_own(words)
        chosen = _parse(words)
        with print_notes():
            chosen(Console())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to be written
        sys.exit(141)
    except (ValueError, TypeError, RuntimeError, MemoryError, ModuleNotFoundError) as error:
        sys.exit(complain(str(error) or type(error).__name__))
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        sys.exit(complain(named))


def _import_own(words: list[str]) -> list[str]:
    """Import the files of --import; what is left of the words."""
    files, left = take_flag(words, "--import")
    plugins.load(files)
    return left


COMMANDS: Final = {
    "demo": Demo,
    "train": Train,
    "score": Score,
    "figures": Figures,
    "report": Report,
    "explore": Explore,
    "study": Study,
    "results": Results,
    "data": Data,
}


def _parse(words: list[str]) -> Any:
    first, second, *_ = *words, "--", "--"
    if not first.startswith("-"):
        check_name("command", first, COMMANDS)
    if first == "train" and not second.startswith("-"):
        check_name("objective", second, OBJECTIVES)
    if first == "data" and not second.startswith("-"):
        check_name("command", second, ("export", "check"))
    named = {word.partition("=")[0] for word in words}
    if first == "train" and "--resume" in named and len(words) - ("--resume" in words) > 2:
        raise ValueError("--resume continues a run with the settings it has; leave out all other flags")
    recipe = next(iter(take_flag(words, "--from")[0]), "")  # other flags' defaults depend on it
    config = configuration.load(find_recipe(recipe)) if recipe else Config()
    config_type: Any = flags.config_type()
    train: Any = flags.retyped(Train, config=OmitArgPrefixes[config_type])  # type: ignore[misc]
    varied: Any = flags.varied()
    study = flags.retyped(Study, settings=OmitArgPrefixes[varied])  # type: ignore[misc]
    kinds: dict[str, Any] = COMMANDS | {"train": train, "study": study}
    defaults = {"train": {"default": train(config=config_type(**flags.values_of(config)))}}
    commands: Any = Union[  # noqa: UP007, of types made here
        tuple(
            Annotated[kind, command(name, prefix_name=False, **defaults.get(name, {}))] for name, kind in kinds.items()
        )
    ]
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            parsed: Any = tyro.cli(
                commands,
                prog="betavae",
                description="Train, score and draw disentangled representations.\n\n"
                "With --import FILE, before or after any command: objectives, architectures and metrics of your own.",
                args=words,
                config=(OmitSubcommandPrefixes, CascadeSubcommandArgs),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(_first_sentence(said.getvalue(), first if first in COMMANDS else "")) from None
    if isinstance(parsed, Train):
        given = flags.values_of(parsed)
        return Train(**given | {"config": Config(**flags.values_of(parsed.config))})
    return parsed


def _first_sentence(box: str, command: str) -> str:
    """What tyro complains of in a box of several paragraphs: the first one, and the option that may have been meant."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    paragraphs = [[*group] for rule, group in groupby(lines, lambda line: not line.strip("─╰╯-")) if not rule]
    text = re.sub(r"^Error parsing (__\S*: )?", "", " ".join(paragraphs[0]).split(" Got errors:")[0]).rstrip(".")
    meant = next((after.split()[0].rstrip(",") for line, after in pairwise(lines) if line == "Perhaps you meant:"), "")
    if choice := re.search(r"invalid choice '(.*?)' .*Expected one of \((.*?)\)", text):
        meant = next(iter(difflib.get_close_matches(choice[1], re.findall(r"[\w-]+", choice[2]), 1, 0.5)), "")
    guess = f"did you mean {meant}? See" if meant and meant not in text.split() else "see"
    return f"{text[:1].lower()}{text[1:]}; {guess} betavae {command} --help".replace("  ", " ")


def take_flag(words: Sequence[str], flag: str) -> tuple[list[str], list[str]]:
    """Values of a flag, and the other words."""
    values, left, rest = [], [], iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name == flag:
            values.append(value if equals else next(rest, ""))
        else:
            left.append(word)
    return values, left
