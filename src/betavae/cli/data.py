"""The commands `data list`, `info`, `view`, `convert`, `fetch`, `export` and `check`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union

from tyro.conf import Positional
from tyro.conf import subcommand as command

if TYPE_CHECKING:
    from rich.console import Console

    from betavae.data.factor_data import FactorData

from betavae.cli.console import progress_bar, say, writable_file


@dataclass(frozen=True)
class ListCommand:
    """List the known data sets, their licences, and which of them are here."""

    def __call__(self, console: "Console") -> dict[str, Any]:
        from rich.table import Table

        from betavae.data.catalogue import CATALOGUE
        from betavae.data.description import source_size
        from betavae.data.downloads import is_complete
        from betavae.data.loading import DATASETS
        from betavae.data.prepared.places import cache_folder

        rows = [(name, "", "", "generated") for name in DATASETS if name not in CATALOGUE]
        for name, known in CATALOGUE.items():
            by_hand = not known.files or any(not file.url for file in known.files)
            how = "by hand" if by_hand else f"betavae data fetch {name}"
            how = "fetched" if is_complete(name) else "generated" if name in DATASETS else how
            rows.append((name, known.images, known.licence, how))
        table = Table("name", "images", "licence", "how to get it")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        say(console, "your own: --data FOLDER of images, or FILE (.npz, .npy, HDF5, parquet); see docs/data.md")
        if cache_folder().exists():
            say(console, f"cache: {cache_folder()}, {source_size(cache_folder()) / 1e6:,.1f} MB; delete it at any time")
        return {"data": [dict(zip(("name", "images", "licence", "source"), row, strict=True)) for row in rows]}


@dataclass(frozen=True)
class Prepared:
    """How to prepare the images, as in `train`."""

    data: Positional[str]
    """Name, file or folder, or NAME:PATH."""
    crop: int | None = None
    """Side of the square to cut from the centre of each image, in pixels; before --image-size."""
    image_size: int | None = None
    """Side in pixels to which images are resized."""
    channels: Literal[1, 3] | None = None
    """Convert images to grey (1) or colour (3)."""
    bins: int | None = None
    """Merge the values of each factor that has more into this number of intervals of equal width."""

    def load(self, console: "Console") -> "FactorData":
        """Load the data and show the progress."""
        from betavae.config import Config
        from betavae.data.loading import load_for

        config = Config(
            data=self.data, crop=self.crop, image_size=self.image_size, channels=self.channels, bins=self.bins
        )
        with progress_bar(console, "preparing") as progress:
            return load_for(config, partial(progress, "preparing"))


@dataclass(frozen=True)
class InfoCommand(Prepared):
    """Describe a data set: factors and values, the grid, equal images and what they limit, memory, checksums."""

    def __call__(self, console: "Console") -> dict[str, Any]:
        from rich.table import Table
        from rich.text import Text

        from betavae.data.catalogue import CATALOGUE
        from betavae.data.description import checksum_rows, describe

        data = self.load(console)
        rows = [*describe(data), *checksum_rows(self.data)]
        if known := CATALOGUE.get(data.name):
            rows.append(("licence", f"{known.licence}; {known.page}"))
        table = Table("", data.name, show_header=True)
        for key, text in rows:
            table.add_row(Text(key), Text(text))
        console.print(table)
        return {
            "name": data.name,
            "images": len(data),
            "image_shape": data.image_shape,
            "factors": dict(zip(data.factor_names, data.factor_sizes, strict=True)),
            "sha256": data.digest,
            "description": dict(rows),
        }


@dataclass(frozen=True)
class ViewCommand(Prepared):
    """Write a page with a slider for each factor and the image of the chosen values."""

    out: Path | None = None
    """Page to write. If unset, NAME.html."""
    images: int = 1_024
    """Largest number of images in the page."""

    def __call__(self, console: "Console") -> None:
        from betavae.report.pages.data import write_data_page

        if not 1 <= self.images <= 20_000:
            raise ValueError(f"images is {self.images}; it must be from 1 to 20,000, for example 1024")
        out = None if self.out is None else writable_file(self.out)
        data = self.load(console)
        say(console, str(write_data_page(data, out or Path(f"{data.name}.html"), self.images)))


@dataclass(frozen=True)
class ConvertCommand(Prepared):
    """Write a data set as an .npz file with the layout of dSprites: imgs, latents_classes, latents_values."""

    file: Positional[Path] = Path("out.npz")
    """File to write."""
    overwrite: bool = False
    """Replace the file if it exists."""

    def __call__(self, console: "Console") -> None:
        _write(self.load(console), self.file, self.overwrite, console)


@dataclass(frozen=True)
class FetchCommand:
    """Download the original files of a known data set, and check them."""

    name: Positional[str]
    """Name of the data set; `betavae data list` has all."""

    def __call__(self, console: "Console") -> None:
        from betavae.data.catalogue import CATALOGUE
        from betavae.data.downloads import fetch
        from betavae.files.validation import check_name

        check_name("data set", self.name, CATALOGUE)
        known = CATALOGUE[self.name]
        say(console, f"{known.title}: licence {known.licence}; {known.page}")
        with progress_bar(console, "fetching") as progress:
            folder = fetch(self.name, progress)
        usage = f"{self.name}:{folder}" if self.name == "dsprites" else self.name
        say(console, f"{folder}: complete; use it with --data {usage}")


@dataclass(frozen=True)
class ExportCommand:
    """Write the generated dSprites as an .npz file with the layout of the original, for tools that read that file."""

    file: Positional[Path]
    """File to write."""
    overwrite: bool = False
    """Replace the file if it exists."""

    def __call__(self, console: "Console") -> None:
        from betavae.data.loading import load_data

        _write(load_data("dsprites"), self.file, self.overwrite, console)


@dataclass(frozen=True)
class CheckCommand:
    """Compare a dSprites file with the generated images and print how many images differ."""

    file: Positional[Path]
    """File to read."""

    def __call__(self, console: "Console") -> None:
        from betavae.data.exporting import compare_npz

        with progress_bar(console, "comparing", transient=False) as progress:
            comparison = compare_npz(self.file, progress=partial(progress, "comparing"))
        say(console, comparison.summary())


def _write(data: "FactorData", file: Path, overwrite: bool, console: "Console") -> None:
    from betavae.data.exporting import export_npz

    with progress_bar(console, "writing", transient=False) as progress:
        export_npz(data, file, overwrite=overwrite, progress=partial(progress, "writing"))
    say(console, f"{file}: {file.stat().st_size / 1e6:.1f} MB")


ACTIONS: Final[dict[str, Any]] = {
    "list": ListCommand,
    "info": InfoCommand,
    "view": ViewCommand,
    "convert": ConvertCommand,
    "fetch": FetchCommand,
    "export": ExportCommand,
    "check": CheckCommand,
}
"""The commands of `data` by name."""
_Action: Any = Union[  # noqa: UP007, of types in a table
    tuple(Annotated[action, command(name, prefix_name=False)] for name, action in ACTIONS.items())
]


@dataclass(frozen=True)
class DataCommand:
    """List, describe, show, convert and fetch data sets."""

    action: _Action

    def __call__(self, console: "Console") -> Any:
        return self.action(console)
