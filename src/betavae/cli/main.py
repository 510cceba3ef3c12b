"""The command line: `betavae COMMAND`. Heavy modules load when a command runs."""

import difflib
import io
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr
from importlib import metadata
from itertools import groupby, pairwise
from typing import Annotated, Any, Final, NoReturn, Union

import tyro
from tyro.conf import CascadeSubcommandArgs, DisallowNone, OmitArgPrefixes, OmitSubcommandPrefixes
from tyro.conf import subcommand as command

from betavae import config_files, plugins
from betavae.cli import flags
from betavae.cli.console import complain, print_notes
from betavae.cli.data import ACTIONS, DataCommand
from betavae.cli.export import ExportCommand
from betavae.cli.names import ListCommand
from betavae.cli.output import EXIT_CODES, HELP, Output, print_json
from betavae.cli.pages import ExploreCommand, FiguresCommand, ReportCommand
from betavae.cli.recipes import find_recipe
from betavae.cli.score import ScoreCommand
from betavae.cli.study import ResultsCommand, StudyCommand
from betavae.cli.train import DemoCommand, TrainCommand
from betavae.cli.zoo import ZooCommand
from betavae.config import Config
from betavae.files.validation import check_name
from betavae.objectives.registry import OBJECTIVES


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a `betavae` command and exit.

    The exit codes are those of `EXIT_CODES`; docs/how-to/output.md explains them.
    """
    # OpenMP reads this when PyTorch is loaded: threads that wait for others give their core away after some
    # microseconds, not after milliseconds. docs/lab-notes/threads.md has the measurements.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe on Windows cannot encode β
        sys.stdout.reconfigure(errors="replace")
    if words == ["--version"]:
        print(f"betavae {metadata.version('betavae')}")
        return
    output = Output()
    try:
        output, words = Output.from_words(_import_own(words))
        chosen = _parse(words)
        if output.json and not _gives_json(words):
            raise ValueError(f"--json is for {', '.join(sorted(WITH_JSON))}; leave it out")
        with print_notes(), output.applied():
            result = chosen(output.console())
        if output.json:
            print_json(result)
    except Exception as error:
        if output.verbose:
            traceback.print_exc()
        _exit_with(error)
    except KeyboardInterrupt:
        sys.exit(130)


def _exit_with(error: Exception) -> NoReturn:
    """Exit with one sentence and code 2; errors that are not foreseen are raised again."""
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python still flushes its buffer at exit
        sys.exit(141)
    if isinstance(error, OSError) and error.filename and error.strerror:
        sys.exit(complain(f"{error.filename}: {error.strerror}"))
    if isinstance(error, OSError | ValueError | TypeError | RuntimeError | MemoryError | ModuleNotFoundError):
        sys.exit(complain(str(error) or type(error).__name__))
    raise error


def _import_own(words: list[str]) -> list[str]:
    """Import the files of --import and return the remaining words."""
    files, left = take_flag(words, "--import")
    plugins.load(files)
    return left


COMMANDS: Final = {
    "demo": DemoCommand,
    "train": TrainCommand,
    "score": ScoreCommand,
    "figures": FiguresCommand,
    "report": ReportCommand,
    "explore": ExploreCommand,
    "export": ExportCommand,
    "zoo": ZooCommand,
    "study": StudyCommand,
    "results": ResultsCommand,
    "data": DataCommand,
    "list": ListCommand,
}
WITH_JSON: Final = {"demo", "train", "score", "results", "data list", "data info", "list", "zoo"}
"""Commands whose result --json prints."""


def _parse(words: list[str]) -> Any:
    first, second, *_ = *words, "--", "--"
    if not first.startswith("-"):
        check_name("command", first, COMMANDS)
    if first == "train" and not second.startswith("-"):
        check_name("objective", second, OBJECTIVES)
    if first == "data" and not second.startswith("-"):
        check_name("command", second, ACTIONS)
    flag_names = {word.partition("=")[0] for word in words}
    if first == "train" and "--resume" in flag_names and len(_without_list(words, "--log")) > 2 + ("--resume" in words):
        raise ValueError("--resume continues a run with the run's own settings; leave out all other flags but --log")
    recipe = next(iter(take_flag(words, "--from")[0]), "")  # it sets the defaults of the other flags
    config = config_files.load(find_recipe(recipe)) if recipe else Config()
    kinds: dict[str, Any] = dict(COMMANDS)
    defaults: dict[str, Any] = {}
    if first not in ("--", "-h", "--help"):  # the list of commands needs no flags, and is faster without
        config_type: Any = flags.config_type()
        varied: Any = flags.varied()
        kinds["train"] = flags.retyped(TrainCommand, config=OmitArgPrefixes[config_type])  # type: ignore[misc]
        kinds["study"] = flags.retyped(StudyCommand, settings=OmitArgPrefixes[varied])  # type: ignore[misc]
        defaults["train"] = {"default": kinds["train"](config=config_type(**flags.values_of(config)))}
    commands: Any = Union[  # noqa: UP007, a union of types that are built here
        tuple(
            Annotated[kind, command(name, prefix_name=False, **defaults.get(name, {}))] for name, kind in kinds.items()
        )
    ]
    shown_briefly = [DisallowNone] if {"-h", "--help"} & set(words) else []  # INT, not {None}|INT; both are accepted
    tyro_errors = io.StringIO()
    try:
        with redirect_stderr(tyro_errors):
            parsed: Any = tyro.cli(
                commands,
                prog="betavae",
                description="Train, score and draw disentangled representations.\n\n"
                "Every command accepts --import FILE: a Python file that registers objectives, metrics, architectures "
                f"or data sets. {HELP}",
                args=words,
                config=(OmitSubcommandPrefixes, CascadeSubcommandArgs, *shown_briefly),
            )
    except SystemExit as stop:
        if not stop.code:
            if first in ("-h", "--help"):
                print(textwrap.fill(EXIT_CODES, 80))
            raise
        raise ValueError(_first_sentence(tyro_errors.getvalue(), first if first in COMMANDS else "")) from None
    if isinstance(parsed, TrainCommand):
        given = flags.values_of(parsed)
        return TrainCommand(**given | {"config": Config(**flags.values_of(parsed.config))})
    return parsed


def _first_sentence(box: str, command: str) -> str:
    """Shorten tyro's error box to one sentence: its first paragraph and the suggested option."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    paragraphs = [[*group] for rule, group in groupby(lines, lambda line: not line.strip("─╰╯-")) if not rule]
    text = re.sub(r"^Error parsing (__\S*: )?", "", " ".join(paragraphs[0]).split(" Got errors:")[0]).rstrip(".")
    likely = next((after.split()[0].rstrip(",") for line, after in pairwise(lines) if line == "Perhaps you meant:"), "")
    if choice := re.search(r"invalid choice '(.*?)' .*Expected one of \((.*?)\)", text):
        likely = next(iter(difflib.get_close_matches(choice[1], re.findall(r"[\w-]+", choice[2]), 1, 0.5)), "")
    hint = f"did you mean {likely}? See" if likely and likely not in text.split() else "see"
    return f"{text[:1].lower()}{text[1:]}; {hint} betavae {command} --help".replace("  ", " ")


def _gives_json(words: Sequence[str]) -> bool:
    """Whether the command has a result that --json prints."""
    return " ".join(words[:1]) in WITH_JSON or " ".join(words[:2]) in WITH_JSON


def _without_list(words: Sequence[str], flag: str) -> list[str]:
    """The words without a flag and its values, up to the next flag.

    Example:
        >>> _without_list(["train", "--log", "wandb", "mlflow", "--resume", "runs/x"], "--log")
        ['train', '--resume', 'runs/x']
    """
    kept, inside = [], False
    for word in words:
        inside = word.partition("=")[0] == flag or (inside and not word.startswith("-"))
        if not inside:
            kept.append(word)
    return kept


def take_flag(words: Sequence[str], flag: str) -> tuple[list[str], list[str]]:
    """Remove a flag from the words of a command; returns its values and the other words."""
    values, others, remaining = [], [], iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        if name == flag:
            values.append(value if equals else next(remaining, ""))
        else:
            others.append(word)
    return values, others
