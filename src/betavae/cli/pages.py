"""The commands `figures`, `report` and `explore`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

if TYPE_CHECKING:
    from rich.console import Console

from betavae.cli.console import say, writable_file


@dataclass(frozen=True)
class Figures:
    """Draw a trained run's figures again."""

    run: Positional[Path]
    """Run folder."""
    formats: tuple[Literal["png", "pdf", "svg"], ...] = ("png",)
    """Formats of the still figures."""

    def __call__(self, console: "Console") -> None:
        from betavae.experiment import data_of
        from betavae.report.run_figures import draw_run
        from betavae.runs.folder import open_run

        run = open_run(self.run)
        files = draw_run(run, data_of(run), self.formats)
        say(console, f"{len(files)} files in {run.path('figures')}")


@dataclass(frozen=True)
class Report:
    """Write a trained run's report.html again; of several runs on the same data, a page that compares them.

    Of a study, its report and table, as far as it is."""

    runs: Positional[tuple[Path, ...]]
    """Run folders, or the folder of a study."""
    out: Path | None = None
    """Page to write where there are several runs; comparison.html if not given."""
    megabytes: float = 5.0
    """Size that the page of one run keeps below; a decoder that does not fit is left out."""

    def __call__(self, console: "Console") -> None:
        from betavae.experiment import data_of
        from betavae.report.run_comparison import compare_runs
        from betavae.report.run_page import report_run
        from betavae.runs.folder import open_run

        if len({folder.resolve() for folder in self.runs}) < len(self.runs):
            raise ValueError("a run is named twice; give each once")
        if len(self.runs) == 1 and self.out is not None:
            raise ValueError("--out is for a page of several runs; that of one stays in its folder")
        if len(self.runs) == 1 and (self.runs[0] / "study.json").is_file():
            from betavae.studies.page import finish_study
            from betavae.studies.study import open_study

            console.print(str(finish_study(open_study(self.runs[0]))), markup=False, soft_wrap=True)
            return
        if not self.runs:
            raise ValueError("which run? Give one run folder to report on it, or several to compare them")
        if not 1 <= self.megabytes <= 1000:
            raise ValueError(f"megabytes is {self.megabytes}; it must be from 1 to 1000, and 5 is what is easily sent")
        runs = [open_run(folder) for folder in self.runs]
        data = data_of(runs[0])
        if len(runs) == 1:
            page = report_run(runs[0], data, round(1e6 * self.megabytes))
        else:
            page = compare_runs(runs, data, writable_file(self.out or Path("comparison.html")))
        say(console, str(page))


@dataclass(frozen=True)
class Explore:
    """Open a run's report in the browser; print its path where there is none."""

    run: Positional[Path]
    """Run folder."""

    def __call__(self, console: "Console") -> None:
        import webbrowser

        from betavae.runs.folder import open_run

        page = open_run(self.run).path("report.html").resolve()
        if not page.exists():
            Report((self.run,))(console)
        if not webbrowser.open(page.as_uri()):
            say(console, f"no browser here; open {page}")
