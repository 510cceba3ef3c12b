"""The command `export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional
from tyro.conf import arg as argument

if TYPE_CHECKING:
    from rich.console import Console

from betavae.cli.console import say
from betavae.cli.zoo import find_run


@dataclass(frozen=True)
class ExportCommand:
    """Save the model of a trained run in a folder of its own, with a model card, for other programs or people.

    Python reads it again with betavae.load(FOLDER).
    """

    run: Positional[Path]
    """Run folder, or the name of a model of the zoo."""
    out: Path | None = None
    """Folder of the model. If unset, exported/<name of the run folder>."""
    onnx: bool = False
    """Also write encoder.onnx and decoder.onnx, checked in onnxruntime. Needs the extra betavae[onnx]."""
    torch_export: bool = False
    """Also write encoder.pt2 and decoder.pt2 for torch.export.load."""
    zoo: Path | None = None
    """Instead, write a small copy of the run to this new folder, with weights in half precision and their scores, like
    the models of `betavae zoo`."""
    hub: Annotated[str | None, argument(metavar="USER/NAME")] = None
    """Also upload the folder to the Hugging Face hub. Needs the extra betavae[hub] and a login: hf auth login."""

    def __call__(self, console: "Console") -> None:
        from betavae.runs.model_card import save_with_card

        if self.zoo and (self.out or self.onnx or self.torch_export or self.hub):
            raise ValueError("--zoo writes a small copy of the run and nothing else; leave out the other flags")
        run = find_run(self.run, console)
        if self.zoo:
            from betavae.zoo.making import make_entry

            say(console, f"wrote {make_entry(run, self.zoo)}")
            return
        folder = self.out or Path("exported") / self.run.resolve().name
        save_with_card(run, folder, self.hub or "")
        if self.onnx:
            from betavae.integrations.onnx import export_onnx

            export_onnx(run.model, folder)
        if self.torch_export:
            from betavae.integrations.torch_export import export_torch

            export_torch(run.model, folder)
        say(console, f"{', '.join(sorted(path.name for path in folder.iterdir()))} in {folder}")
        if self.hub:
            from betavae.integrations.hub import upload

            say(console, f"uploaded to {upload(folder, self.hub)}")
