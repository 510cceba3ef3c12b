"""The commands `data export` and `data check`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional
from tyro.conf import subcommand as command

if TYPE_CHECKING:
    from rich.console import Console

from betavae.cli.console import progress_bar, say


@dataclass(frozen=True)
class ExportCommand:
    """Write the generated dSprites as an .npz file with the layout of the original, for tools that read that file."""

    file: Positional[Path]
    """File to write."""
    overwrite: bool = False
    """Replace the file if it exists."""

    def __call__(self, console: "Console") -> None:
        from betavae.data.exporting import export_npz
        from betavae.data.loading import load_data

        with progress_bar(console, "writing", transient=False) as progress:
            export_npz(
                load_data("dsprites"), self.file, overwrite=self.overwrite, progress=partial(progress, "writing")
            )
        say(console, f"{self.file}: {self.file.stat().st_size / 1e6:.1f} MB")


@dataclass(frozen=True)
class CheckCommand:
    """Compare a dSprites .npz file with the generated images and print how many images differ."""

    file: Positional[Path]
    """File to read."""

    def __call__(self, console: "Console") -> None:
        from betavae.data.exporting import compare_npz

        with progress_bar(console, "comparing", transient=False) as progress:
            comparison = compare_npz(self.file, progress=partial(progress, "comparing"))
        say(console, comparison.summary())


@dataclass(frozen=True)
class DataCommand:
    """Write or check dSprites files."""

    action: (
        Annotated[ExportCommand, command("export", prefix_name=False)]
        | Annotated[CheckCommand, command("check", prefix_name=False)]
    )

    def __call__(self, console: "Console") -> None:
        self.action(console)
