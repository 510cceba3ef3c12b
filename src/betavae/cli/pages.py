"""The commands `figures`, `report` and `explore`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

if TYPE_CHECKING:
    from rich.console import Console

from betavae.cli.console import say, writable_file
from betavae.cli.zoo import find_run


@dataclass(frozen=True)
class FiguresCommand:
    """Draw the figures of a trained run again."""

    run: Positional[Path]
    """Run folder, or the name of a model of the zoo."""
    formats: tuple[Literal["png", "pdf", "svg"], ...] = ("png",)
    """File formats of the static figures."""

    def __call__(self, console: "Console") -> None:
        from betavae.report.run_figures import draw_run

        run = find_run(self.run, console)
        files = draw_run(run, run.data, self.formats)
        say(console, f"{len(files)} files in {run.path('figures')}")


@dataclass(frozen=True)
class ReportCommand:
    """Write the report.html of a trained run again, or a page that compares several runs on the same data.

    For a study, write its report and its table of results. Runs that are not finished are left out.
    """

    runs: Positional[tuple[Path, ...]]
    """Run folders, names of models of the zoo, or the folder of a study."""
    out: Path | None = None
    """With several runs: the page to write. If unset, comparison.html."""
    megabytes: float = 5.0
    """With one run: the largest size of the page. If the page would be larger, it contains no decoder."""

    def __call__(self, console: "Console") -> None:
        from betavae.report.run_comparison import compare_runs
        from betavae.report.run_page import report_run

        if len({folder.resolve() for folder in self.runs}) < len(self.runs):
            raise ValueError("a run is given twice; give each run once")
        if len(self.runs) == 1 and self.out is not None:
            raise ValueError("--out is for several runs; the report of one run is written to its folder")
        if len(self.runs) == 1 and (self.runs[0] / "study.json").is_file():
            from betavae.studies.page import finish_study
            from betavae.studies.study import open_study

            console.print(str(finish_study(open_study(self.runs[0]))), markup=False, soft_wrap=True)
            return
        if not self.runs:
            raise ValueError("no run is given; give one run folder for its report, or several to compare them")
        if not 1 <= self.megabytes <= 1000:
            raise ValueError(f"megabytes is {self.megabytes}; it must be from 1 to 1000, for example 5")
        runs = [find_run(folder, console) for folder in self.runs]
        data = runs[0].data
        if len(runs) == 1:
            page = report_run(runs[0], data, round(1e6 * self.megabytes))
        else:
            page = compare_runs(runs, data, writable_file(self.out or Path("comparison.html")))
        say(console, str(page))


@dataclass(frozen=True)
class ExploreCommand:
    """Open the report of a run in the browser, or print its path if no browser starts."""

    run: Positional[Path]
    """Run folder, or the name of a model of the zoo."""

    def __call__(self, console: "Console") -> None:
        import webbrowser

        run = find_run(self.run, console)
        page = run.path("report.html").resolve()
        if not page.exists():
            ReportCommand((run.folder,))(console)
        if not webbrowser.open(page.as_uri()):
            say(console, f"no browser could be started; open {page}")
