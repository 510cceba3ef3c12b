"""Logs runs to Weights & Biases. No other file imports wandb."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from betavae.integrations.loggers import LogStart

if TYPE_CHECKING:
    from PIL.Image import Image


def open_wandb(start: LogStart) -> "WeightsAndBiases":
    """Open a run of W&B: offline in the run folder, unless WANDB_MODE and WANDB_DIR say otherwise."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would use the network; a value of yours is kept
    return WeightsAndBiases(start)


class WeightsAndBiases:
    """A run of W&B. A resumed run continues under the same id."""

    def __init__(self, start: LogStart) -> None:
        import wandb

        self._image = wandb.Image
        folder = None
        if "WANDB_DIR" not in os.environ:
            folder = start.folder.parent  # wandb adds a folder with its own name
            folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "betavae"),
            dir=folder,
            mode=None if "WANDB_MODE" in os.environ else "offline",
            id=start.id,
            resume="allow" if start.id else None,
            name=start.name,
            config=dict(start.settings),
            reinit="create_new",  # a run of yours may be open in this process
            settings=wandb.Settings(silent=True, console="off"),  # wandb would capture the terminal
        )
        self.id: str = self._run.id

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def images(self, images: Mapping[str, "Image"], step: int) -> None:
        self._run.log({tag: self._image(image) for tag, image in images.items()}, step=step)

    def scores(self, values: Mapping[str, float], step: int) -> None:
        self._run.summary.update(dict(values))

    def close(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)
