"""Logs runs to trackio. No other file imports trackio."""

import io
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from betavae.integrations.loggers import LogStart

if TYPE_CHECKING:
    from PIL.Image import Image

_FOLDER = "TRACKIO_DIR"


def open_trackio(start: LogStart) -> "Trackio":
    """Open a run of trackio: in the run folder, unless TRACKIO_DIR names another folder or a server is set."""
    return Trackio(start)


class Trackio:
    """A run of trackio. A resumed run continues under the same name."""

    def __init__(self, start: LogStart) -> None:
        self._trackio = _import_trackio(start.folder)
        self.id = start.id or f"{start.name}-{uuid4().hex[:8]}"
        with redirect_stdout(io.StringIO()):  # it announces itself
            self._run: Any = self._trackio.init(
                project="betavae",
                name=self.id,
                config=dict(start.settings),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def images(self, images: Mapping[str, "Image"], step: int) -> None:
        self._run.log({tag: self._trackio.Image(image) for tag, image in images.items()}, step=step)

    def scores(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self, finished: bool) -> None:
        with redirect_stdout(io.StringIO()):
            self._trackio.finish()


def _import_trackio(folder: Path) -> ModuleType:
    """Import trackio so that it writes to a folder. It reads its folder once, when it is imported."""
    if os.environ.get(_FOLDER):
        import trackio

        return trackio
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        del sys.modules[name]
    os.environ[_FOLDER] = str(folder)
    try:
        import trackio
    finally:
        del os.environ[_FOLDER]
    return trackio
