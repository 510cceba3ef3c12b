"""Logs runs to TensorBoard event files. No other file imports tensorboard."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from betavae.integrations.loggers import LogStart

if TYPE_CHECKING:
    from PIL.Image import Image

FLUSH_SECONDS = 10
"""Seconds after which points are on disk; a killed run loses at most these."""
_COMPARED = ("train/elbo", "validation/elbo", "scores/mig", "scores/dci.disentanglement")
"""Columns of the table of hyperparameters."""


def open_tensorboard(start: LogStart) -> "TensorBoard":
    """Open the event files of a run."""
    return TensorBoard(start)


class TensorBoard:
    """The event files of a run. A resumed run adds a file to the same folder."""

    def __init__(self, start: LogStart) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        self.id = start.name
        self._writer: Any = SummaryWriter(str(start.folder), flush_secs=FLUSH_SECONDS)
        if start.id is None:
            settings = {name: value for name, value in start.settings.items() if value not in (None, "")}
            for summary in hparams(settings, dict.fromkeys(_COMPARED, 0.0)):  # type: ignore[no-untyped-call]
                self._writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]  # None once it is closed

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)

    def images(self, images: Mapping[str, "Image"], step: int) -> None:
        for tag, image in images.items():
            self._writer.add_image(tag, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def scores(self, values: Mapping[str, float], step: int) -> None:
        self.scalars(values, step)

    def close(self, finished: bool) -> None:
        self._writer.close()
