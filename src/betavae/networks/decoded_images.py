"""Images that a model decodes, and the latents that they are decoded from. NumPy only."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from betavae.files.atomic import write_atomically
from betavae.files.images import mosaic

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

COLUMNS = 10
"""Most images in a row of a picture, unless the images are a table already."""
_WIDTH = 64  # of an image in a picture, in pixels, if a whole factor allows it
_INCHES = 0.7  # of an image in a figure


@dataclass(frozen=True, eq=False)
class Images:
    """Images that a model made, as an array and as a picture.

    NumPy functions take it as an array. Notebooks show it as a picture.

    Attributes:
        array: (N, C, H, W) float32 in [0, 1]; or (rows, columns, C, H, W), for example a row per latent.
        originals: images that are reconstructed, of the same shape; None for others.
        row_labels: label of each row of the picture; may be empty.
        column_labels: label of each column of the picture; may be empty.

    Example:
        >>> images = Images(np.zeros((16, 1, 64, 64), np.float32))
        >>> images.shape, images[0].shape, float(np.mean(images)), images.to_pil().size
        ((16, 1, 64, 64), (1, 64, 64), 0.0, (676, 132))
    """

    array: NDArray[np.float32]
    originals: NDArray[np.float32] | None = None
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.array, dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        return np.asarray(self.array[index])

    def __repr__(self) -> str:
        return f"Images of shape {self.shape} in [0, 1]; .array has the pixels, .plot() draws them"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    def table(self) -> NDArray[np.float32]:
        """Arrange the images as in the picture: (rows, columns, C, H, W). Missing images are white."""
        if self.array.ndim == 5:
            return self.array
        rows = [_wrapped(images) for images in (self.originals, self.array) if images is not None]
        return np.stack(rows, 1).reshape(-1, *rows[0].shape[1:])

    def to_pil(self) -> "Image":
        """Return the picture as a Pillow image."""
        from PIL import Image

        pixels = mosaic(self.table())
        factor = max(1, round(_WIDTH / self.shape[-1]))
        pixels = pixels.repeat(factor, 0).repeat(factor, 1)
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)

    def plot(self) -> "Figure":
        """Draw the picture with its labels; returns a matplotlib figure.

        Example:
            >>> figure = Images(np.zeros((2, 3, 1, 8, 8), np.float32), row_labels=("z0", "z1")).plot()
            >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
            ['z0', 'z1']
        """
        from matplotlib.figure import Figure

        table = self.table()
        pixels = mosaic(table)
        pitch_y, pitch_x = ((pixels.shape[axis] + 1) / table.shape[axis] for axis in (0, 1))
        inches = _INCHES / table.shape[-1]
        figure = Figure((pixels.shape[1] * inches + 0.8, pixels.shape[0] * inches + 0.4), dpi=144, layout="constrained")
        axes = figure.subplots()
        axes.imshow(pixels, "gray", vmin=0, vmax=255, interpolation="nearest")
        for axis, labels, pitch in (
            (axes.yaxis, self._row_labels(), pitch_y),
            (axes.xaxis, self.column_labels, pitch_x),
        ):
            axis.set_ticks([(place + 0.5) * pitch for place in range(len(labels))], labels)
        axes.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        return figure

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file, in the format of its ending, such as .png; returns the path.

        Raises:
            ValueError: the ending is not that of an image format.
        """
        path, memory = Path(path), io.BytesIO()
        self.to_pil().save(memory, _format_of(path))
        return write_atomically(path, memory.getvalue())

    def _row_labels(self) -> tuple[str, ...]:
        if self.originals is None or self.row_labels:
            return self.row_labels
        return ("original", "decoded") * (len(self.table()) // 2)

    def _repr_png_(self) -> bytes:
        memory = io.BytesIO()
        self.to_pil().save(memory, "PNG")
        return memory.getvalue()


def _wrapped(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Break images (N, C, H, W) into rows of at most `COLUMNS`."""
    columns = min(COLUMNS, len(images))
    missing = -len(images) % columns
    white = np.ones((missing, *images.shape[1:]), np.float32)
    return np.concatenate([images, white]).reshape(-1, columns, *images.shape[1:])


def _format_of(path: Path) -> str:
    from PIL import Image

    known = Image.registered_extensions()
    if path.suffix.lower() not in known:
        raise ValueError(f"{path} has the ending {path.suffix!r}; give one of an image format, such as .png")
    return known[path.suffix.lower()]


def traversed(latent: NDArray[np.float32], values: ArrayLike) -> NDArray[np.float32]:
    """Copies of a latent (D,) in which one entry at a time has another value: (D, steps, D).

    Args:
        latent: latent of an image.
        values: values of the entries, (steps,) for all latents alike or (D, steps).

    Example:
        >>> traversed(np.array([5.0, 6.0], np.float32), [0.0, 1.0])[1].tolist()
        [[5.0, 0.0], [5.0, 1.0]]
    """
    values = np.broadcast_to(values, (len(latent), np.shape(values)[-1]))
    table = np.tile(np.asarray(latent, np.float32), (*values.shape, 1))
    which = np.arange(len(latent))
    table[which, :, which] = values
    return table


def interpolated(start: NDArray[np.float32], end: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    """Latents on the straight lines between latents (N, D), ends included: (N, steps, D).

    Example:
        >>> interpolated(np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32), 3).ravel()
        array([0. , 0.5, 1. ], dtype=float32)
    """
    weights = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
    return start[:, None] * (1 - weights) + end[:, None] * weights
