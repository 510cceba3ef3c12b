"""Pictures made of images: mosaics as a matplotlib `Figure`, animations as a list of Pillow frames.

Nothing here knows a model, a data set or a run. Images are (n, C, H, W) with C 1 or 3 and values in [0, 1]. Latents are
named and sorted as in `charts`.
"""

import io
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from betavae.files.atomic import write_atomically
from betavae.metrics.inputs import INACTIVE_NATS
from betavae.report.figures.charts import BLUE, GREY, INK, MAX_LATENTS, by_kl, labels_of, plain

Decode = Callable[[np.ndarray], np.ndarray]
"""From latents (n, D) float32 to images (n, C, H, W) in [0, 1]."""

_CELL = 0.5  # inches of one image in a mosaic
_NIGHT, _SNOW, _TRACK, _ACCENT = (13, 17, 23), (236, 240, 245), (64, 72, 84), (240, 170, 40)
_ANIMATED_COLUMNS, _ANIMATED_PIXELS = 5, 128  # cells in a row of an animation; a cell's width, as nearly as it may be
_FRAME_MILLISECONDS = 60
_LEVELS = 16  # of anti-aliased text in a GIF
_COLOURS = 256 - _LEVELS - 2  # of the images in a GIF
_SAMPLED = 50_000  # pixels from which these colours are chosen


def reconstructions(originals: np.ndarray, reconstructed: np.ndarray, *, columns: int = 10) -> Figure:
    """Originals with the reconstruction of each right below it.

    Args:
        originals: Images (n, C, H, W) in [0, 1].
        reconstructed: The model's mean images, of the same shape.
        columns: Images in a row.

    Returns:
        A figure with ceil(n / columns) pairs of rows.

    Raises:
        ValueError: The two differ in shape, hold no image, or are not images in [0, 1].

    Example:
        >>> images = np.zeros((3, 1, 8, 8))
        >>> figure = reconstructions(images, images)
    """
    above, below = _pixels(originals, "originals"), _pixels(reconstructed, "reconstructions")
    if above.shape != below.shape:
        raise ValueError(
            f"originals have shape {originals.shape} and reconstructions {reconstructed.shape}: "
            "pass one reconstruction for each original"
        )
    columns = min(columns, len(above))
    starts = range(0, len(above), columns)
    down, pitch = _pitch(above)
    margin, block = 1.15, 2 * down + 0.1
    figure = Figure(figsize=(margin + columns * pitch, len(starts) * block - 0.1), dpi=_image_dpi(above))
    for row, start in enumerate(starts):
        pair = np.stack([above[start : start + columns], below[start : start + columns]])
        _place(figure, pair, margin, row * block)
        for line, (name, colour) in enumerate((("original", INK), ("reconstruction", BLUE))):
            _text(figure, margin - 0.08, row * block + line * down + _tall(above) / 2, name, ha="right", color=colour)
    return figure


def traversal_grid(
    original: np.ndarray,
    reconstruction: np.ndarray,
    traversals: np.ndarray,
    values: np.ndarray,
    *,
    kl: np.ndarray | None = None,
    captures: Sequence[str] = (),
    signs: np.ndarray | None = None,
) -> Figure:
    """One image decoded again and again while one latent at a time takes other values.

    Rows are latents sorted by KL (at most 20, the rest is counted below), columns are values of the latent.

    Args:
        original: The seed image (C, H, W) in [0, 1].
        reconstruction: Its reconstruction, of the same shape.
        traversals: Decoded images (D, steps, C, H, W); see `traverse`.
        values: What the latent of the row is set to in each column (steps,).
        kl: KL of each latent (D,) in nats, for order and labels; without it the latents stay in their order.
        captures: For each latent the factor it captures, "" where it captures none.
        signs: For each latent, -1 if its row shows the negative of the latent (D,).

    Returns:
        A figure with the original and its reconstruction left of the grid.

    Raises:
        ValueError: The arrays do not fit together or are not images in [0, 1].

    Example:
        >>> image = np.zeros((1, 8, 8))
        >>> figure = traversal_grid(image, image, np.zeros((4, 3, 1, 8, 8)), np.array([-1, 0, 1]))
    """
    rows = _traversed(traversals)
    latent_dim, steps = rows.shape[:2]
    if len(values) != steps:
        raise ValueError(f"traversals have {steps} steps but there are {len(values)} values: pass one value a step")
    labels, flat = labels_of(latent_dim, captures, signs), _tall(rows) < 0.8 * _CELL
    if kl is not None and flat:  # too little room for two lines
        labels = [f"{label}, {nats:.2f} nats" for label, nats in zip(labels, kl, strict=True)]
    order, shown = by_kl(kl, latent_dim), min(latent_dim, MAX_LATENTS)
    beside = _pixels(np.stack([original, reconstruction]), "original and reconstruction")
    side, head, (down, pitch), tall = 1.0, 0.3, _pitch(rows), _tall(rows)
    names = max(1.45, 0.2 + 0.085 * max(map(len, labels)))  # a bold character of 9 points is 0.085 inches wide
    left = side + names
    height = head + max(shown * down, 2 * (tall + 0.5)) + 0.28
    figure = Figure(figsize=(left + steps * pitch + 0.04, height), dpi=_image_dpi(beside))
    for row, (image, name) in enumerate(zip(beside, ("original", "reconstruction"), strict=True)):
        top = head + (tall + 0.4) * row
        _place(figure, image[None, None], (side - _CELL) / 2, top)
        _text(figure, side / 2, top + tall + 0.13, name, ha="center", size=8)
    _place(figure, rows[order[:shown]], left, head)
    for row, latent in enumerate(order[:shown]):
        top = head + row * down + (tall - _CELL) / 2
        inactive = kl is not None and kl[latent] < INACTIVE_NATS
        name_top = top + (_CELL / 2 if kl is None or flat else 0.16)
        _text(figure, left - 0.1, name_top, labels[latent], ha="right", color=GREY if inactive else INK, weight="bold")
        if kl is not None and not flat:
            _text(figure, left - 0.1, top + 0.34, f"{kl[latent]:.2f} nats", ha="right", color=GREY, size=8)
    every = max(1, -(-steps // 13))
    for column in range(0, steps, every):
        text = f"{values[column]:+.2g}".replace("-", "−") if values[column] else "0"
        _text(figure, left + column * pitch + _CELL / 2, head - 0.12, text, ha="center", size=8)
    foot = "value of the latent, the others as encoded"
    if latent_dim > shown:
        foot += f"; {latent_dim - shown} latents of less KL are not shown"
    _text(figure, left, head + shown * down + 0.12, foot, ha="left", color=GREY, size=8)
    return figure


def traverse(decode: Decode, latent: np.ndarray, values: np.ndarray, *, batch: int = 256) -> np.ndarray:
    """Images decoded from one image's latent with one entry at a time set to other values.

    Args:
        decode: From latents (n, D) float32 to images (n, C, H, W) in [0, 1].
        latent: The latent of the image (D,).
        values: What to set the entries to, (steps,) for all latents alike or (D, steps).
        batch: Latents decoded at a time.

    Returns:
        Images (D, steps, C, H, W).

    Example:
        >>> decode = lambda latents: latents[:, :1, None, None]
        >>> traverse(decode, np.array([0.5, 0.0]), np.array([0.0, 1.0])).ravel()
        array([0. , 1. , 0.5, 0.5], dtype=float32)
    """
    latent_dim = len(latent)
    values = np.broadcast_to(values, (latent_dim, np.shape(values)[-1]))
    table = np.tile(np.asarray(latent, dtype=np.float32), (latent_dim, values.shape[1], 1))
    which = np.arange(latent_dim)
    table[which, :, which] = values
    flat = table.reshape(-1, latent_dim)
    images = np.concatenate([decode(flat[start : start + batch]) for start in range(0, len(flat), batch)])
    return images.reshape(*table.shape[:2], *images.shape[1:])


def traversal_frames(images: np.ndarray, values: np.ndarray, label: str, *, size: int = 192) -> list[Image.Image]:
    """Frames of one latent's traversal, there and back without a doubled end, each with a caption.

    Args:
        images: Decoded images (steps, C, H, W) in [0, 1].
        values: The latent's value in each (steps,).
        label: Name of the latent and of what it captures, such as "z3 · posX".
        size: Width of the frame in pixels, reached as nearly as a whole factor allows.

    Returns:
        2 * steps - 2 palette images (1 where there is one step) for `save_gif`.

    Raises:
        ValueError: There is not one value for each image, or they are not images in [0, 1].

    Example:
        >>> frames = traversal_frames(np.zeros((3, 1, 64, 64)), np.array([-3, 0, 3]), "z0")
        >>> len(frames), frames[0].size
        (4, (192, 230))
    """
    if len(images) != len(values):
        raise ValueError(f"there are {len(images)} images and {len(values)} values: pass one value for each image")
    indices, palette = _indexed(_pixels(images, "images"))
    indices = _enlarge(indices, size)
    width = indices.shape[2]
    places = np.linspace(0, 1, len(values))
    frames = [
        np.vstack([image, len(palette) + _caption(width, label, f"{value:+.2f}".replace("-", "−"), place)])
        for image, value, place in zip(indices, values, places, strict=True)
    ]
    return _there_and_back([_paletted(frame, palette) for frame in frames])


def traversal_animation(
    traversals: np.ndarray,
    *,
    kl: np.ndarray | None = None,
    captures: Sequence[str] = (),
    signs: np.ndarray | None = None,
) -> list[Image.Image]:
    """Frames of one animated grid in which every latent moves at once, there and back.

    Of more than 20 latents the 20 of most KL are shown.

    Args:
        traversals: Decoded images (D, steps, C, H, W) in [0, 1]; see `traverse`.
        kl: KL of each latent (D,) in nats; cells are sorted by it, inactive latents have a dim label.
        captures: For each latent the factor it captures, "" where it captures none.
        signs: For each latent, -1 if its cell shows the negative of the latent (D,).

    Returns:
        2 * steps - 2 palette images (1 where there is one step) for `save_gif`.

    Raises:
        ValueError: The arrays do not fit together or are not images in [0, 1].

    Example:
        >>> len(traversal_animation(np.zeros((3, 5, 1, 64, 64)), captures=("posX", "", "scale")))
        8
    """
    rows = _traversed(traversals)
    latent_dim, steps = rows.shape[:2]
    order, labels = by_kl(kl, latent_dim)[:MAX_LATENTS], labels_of(latent_dim, captures, signs)
    indices, palette = _indexed(rows[order].reshape(-1, *rows.shape[2:]))
    cells = _enlarge(indices, _ANIMATED_PIXELS)
    cells = cells.reshape(len(order), steps, *cells.shape[1:])
    height, width = cells.shape[2:]
    columns = min(_ANIMATED_COLUMNS, len(order))
    gap, strip = 10, _caption(width, "", "", 0.0).shape[0]
    down = -(-len(order) // columns)
    canvas = np.full((gap + down * (height + strip + gap), gap + columns * (width + gap)), len(palette), np.uint8)
    frames = []
    for step in range(steps):
        place = step / (steps - 1) if steps > 1 else 0.5
        for cell, latent in enumerate(order):
            inactive = kl is not None and kl[latent] < INACTIVE_NATS
            y, x = gap + cell // columns * (height + strip + gap), gap + cell % columns * (width + gap)
            canvas[y : y + height, x : x + width] = cells[cell, step]
            caption = _caption(width, labels[latent], "", place, dim=inactive)
            canvas[y + height : y + height + strip, x : x + width] = len(palette) + caption
        frames.append(_paletted(canvas.copy(), palette))
    return _there_and_back(frames)


def save_gif(frames: Sequence[Image.Image], path: str | os.PathLike[str]) -> Path:
    """Writes frames as a GIF that loops for ever, atomically.

    Args:
        frames: Images of one size; palette images, which give the smallest files, must share one palette.
        path: Where to, in a folder that exists; a file there is replaced.

    Returns:
        The path.

    Raises:
        ValueError: There is no frame.

    Example:
        >>> import tempfile
        >>> frames = traversal_frames(np.zeros((3, 1, 8, 8)), np.arange(3), "z0")
        >>> save_gif(frames, Path(tempfile.mkdtemp()) / "z0.gif").name
        'z0.gif'
    """
    if not frames:
        raise ValueError("no frames to write: pass at least one image")
    memory = io.BytesIO()
    first, *rest = frames
    palette = bytes(first.getpalette() or b"") or None  # one for all frames, else each would have its own
    options = {"duration": _FRAME_MILLISECONDS, "loop": 0, "optimize": True, "palette": palette}
    first.save(memory, "GIF", save_all=True, append_images=rest, **options)
    return write_atomically(path, memory.getvalue())


def _pixels(images: np.ndarray, name: str) -> np.ndarray:
    """Images (n, C, H, W) in [0, 1] as bytes (n, H, W, C), checked."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.size == 0:
        raise ValueError(
            f"{name} have shape {images.shape}: pass (n, C, H, W) with 1 or 3 channels and at least 1 image"
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{name} range from {low:.3g} to {high:.3g}: pass values in [0, 1], that is, bytes divided by their maximum"
        )
    return np.moveaxis((images * np.float32(255) + np.float32(0.5)).astype(np.uint8), 1, -1)


def _traversed(traversals: np.ndarray) -> np.ndarray:
    """Traversals (D, steps, C, H, W) in [0, 1] as bytes (D, steps, H, W, C), checked."""
    if traversals.ndim != 5:
        raise ValueError(f"traversals have shape {traversals.shape}: pass (latents, steps, C, H, W)")
    pixels = _pixels(traversals.reshape(-1, *traversals.shape[2:]), "traversals")
    return pixels.reshape(*traversals.shape[:2], *pixels.shape[1:])


def _image_dpi(pixels: np.ndarray) -> float:
    """A resolution at which each pixel of an image covers a whole number of dots, about 128 dots an image."""
    width = pixels.shape[-2]
    return float(max(1, round(128 / width)) * width / _CELL)


def _gap(width: int) -> int:
    """Pixels between two images of a mosaic."""
    return max(1, width // 16)


def _tall(pixels: np.ndarray) -> float:
    """Height of an image of a mosaic in inches, for images (..., H, W, C)."""
    return float(_CELL * pixels.shape[-3] / pixels.shape[-2])


def _pitch(pixels: np.ndarray) -> tuple[float, float]:
    """Inches from one image of a mosaic to the next below and to the next beside it, for images (..., H, W, C)."""
    gap = _CELL * _gap(pixels.shape[-2]) / pixels.shape[-2]
    return _tall(pixels) + gap, _CELL + gap


def _place(figure: Figure, images: np.ndarray, left: float, top: float) -> None:
    """Draws images (rows, columns, H, W, C) as one mosaic, `left` and `top` inches from the figure's upper left."""
    rows, columns, height, width, channels = images.shape
    gap = _gap(width)
    mosaic = np.full((rows, height + gap, columns, width + gap, channels), 255, dtype=np.uint8)
    mosaic[:, :height, :, :width] = images.transpose(0, 2, 1, 3, 4)
    mosaic = mosaic.reshape(rows * (height + gap), columns * (width + gap), channels)[:-gap, :-gap]
    down, across = (_CELL / width * pixels for pixels in mosaic.shape[:2])
    full_width, full_height = figure.get_size_inches()
    axes = figure.add_axes((left / full_width, 1 - (top + down) / full_height, across / full_width, down / full_height))
    # One channel takes less memory than three that are equal; colours ignore the map.
    axes.imshow(mosaic, "gray", aspect="auto", vmin=0, vmax=255, interpolation="nearest", interpolation_stage="data")
    axes.set_axis_off()


def _text(figure: Figure, x: float, y: float, text: str, *, size: float = 9, color: str = INK, **style: Any) -> None:
    """Text at `x`, `y` inches from the figure's upper left corner."""
    width, height = figure.get_size_inches()
    figure.text(x / width, 1 - y / height, plain(text, 80), va="center", fontsize=size, color=color, **style)


def _indexed(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, H, W, C) of bytes as indices (n, H, W) into one palette (colours, 3), at most `_COLOURS`."""
    if pixels.shape[-1] == 1:
        return pixels[..., 0] >> 3, np.linspace(0, 255, 32).round().astype(np.uint8)[:, None].repeat(3, axis=1)
    tall = Image.fromarray(pixels.reshape(-1, *pixels.shape[2:]))
    some = np.ascontiguousarray(pixels.reshape(1, -1, 3)[:, :: max(1, pixels.size // 3 // _SAMPLED)])
    chosen = Image.fromarray(some).quantize(_COLOURS, kmeans=1, dither=Image.Dither.NONE)
    reduced = tall.quantize(palette=chosen, dither=Image.Dither.NONE)
    palette = np.array(chosen.getpalette(), dtype=np.uint8).reshape(-1, 3)[:_COLOURS]
    return np.asarray(reduced).reshape(pixels.shape[:3]), palette


def _enlarge(indices: np.ndarray, size: int) -> np.ndarray:
    """Every pixel of (n, H, W) repeated so that the width comes near `size`."""
    factor = max(1, round(size / indices.shape[2]))
    return indices.repeat(factor, axis=1).repeat(factor, axis=2)


def _paletted(indices: np.ndarray, palette: np.ndarray) -> Image.Image:
    """A palette image of the image's colours, followed by those of the caption."""
    ramp = np.linspace(_NIGHT, _SNOW, _LEVELS).round().astype(np.uint8)
    frame = Image.fromarray(indices)
    frame.putpalette(np.vstack([palette, ramp, [_TRACK, _ACCENT]]).astype(np.uint8).tobytes())
    return frame


def _caption(width: int, left: str, right: str, place: float, *, dim: bool = False) -> np.ndarray:
    """A strip (38, width) under a frame: label, value, and a slider with its knob at `place` of the way.

    Entries count from the end of the image's colours: 0 to 15 from night to snow, 16 the track, 17 the accent.
    """
    height = 38
    strip = Image.new("L", (width, height))
    draw = ImageDraw.Draw(strip)
    font = _font(14)
    room = width - 8 - (font.getlength(right) + 8 if right else 0)
    draw.text((4, 5), _fitting(left, room, font), fill=110 if dim else 255, font=font)
    draw.text((width - 4, 5), right, fill=200, font=font, anchor="ra")
    entries = np.asarray(strip) >> 4
    entries[29:31, 6 : width - 6] = _LEVELS
    knob = 6 + round(place * (width - 12 - 10))
    entries[26:34, knob : knob + 10] = _LEVELS + (0 if dim else 1)
    return entries


def _fitting(text: str, room: float, font: ImageFont.FreeTypeFont) -> str:
    """The text, cut with an ellipsis where it is too long."""
    for kept in range(len(text), 0, -1):
        cut = text if kept == len(text) else text[:kept].rstrip(" ·") + "…"
        if font.getlength(cut) <= room:
            return cut
    return ""


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _there_and_back(frames: list[Image.Image]) -> list[Image.Image]:
    return frames + frames[-2:0:-1]
