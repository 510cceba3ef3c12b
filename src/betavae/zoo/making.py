"""Makes an entry of the zoo from a finished run."""

import copy
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from betavae import config_files
from betavae.files.atomic import write_atomically
from betavae.runs.checkpoints import save_model
from betavae.runs.folder import Run, read_json, write_json
from betavae.runs.latents import Latents, save_latents
from betavae.runs.model_card import model_card
from betavae.scoring import encode_run, score_run

EVALUATIONS = 5
"""Number of evaluations for the intervals: the default of `betavae score`, which then repeats the scores."""
STORED_ROWS = 3_000
"""Largest number of images whose latents are stored, for the sliders of the explorer."""
ANIMATION = "figures/traversals.gif"
ANIMATION_BYTES = 300_000
"""Size of an animation above which only every third frame is kept."""


def make_entry(run: Run, folder: str | Path) -> Path:
    """Write a small copy of a finished run: weights in half precision, and the scores of these weights.

    The copy is a run folder without a checkpoint, with the latents of a part of the images. `betavae.load` and all
    commands take it.

    Args:
        run: a finished run.
        folder: folder to create. Its name is the name of the model.

    Raises:
        FileNotFoundError: the run is not finished.
        FileExistsError: the folder exists.
        ValueError: the run's data cannot be loaded.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; delete it, or give another folder")
    if not run.done:
        raise FileNotFoundError(f"{run.folder} is not finished; resume it with --resume {run.folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as place:
        entry = Run(Path(place) / folder.name, run.config)
        entry.folder.mkdir()
        _copy_origin(run, entry)
        save_model(entry, copy.deepcopy(run.model).half())
        data = run.data
        latents = encode_run(entry, data)
        values = score_run(entry, data, evaluations=EVALUATIONS)
        save_latents(entry, _part(latents))
        card = model_card(
            entry, folder.name, ANIMATION if entry.path(ANIMATION).exists() else "", _rounding(run, values)
        )
        write_atomically(entry.path("README.md"), card.encode())
        entry.path("DONE").touch()
        os.replace(entry.folder, folder)
    return folder


def _copy_origin(run: Run, entry: Run) -> None:
    """Copy what tells where a run comes from, without folders: the command's --out, and commands that resumed it."""
    write_json(entry, "config.json", config_files.to_dict(run.config))
    origin = read_json(run, "provenance.json")
    origin["command"] = _without_out(origin.get("command", []))
    for part in origin.get("continued", []):
        part.pop("command", None)
    write_json(entry, "provenance.json", origin)
    shutil.copyfile(run.path("curve.jsonl"), entry.path("curve.jsonl"))
    if run.path(ANIMATION).exists():
        entry.path("figures").mkdir()
        write_atomically(entry.path(ANIMATION), _small_animation(run.path(ANIMATION).read_bytes()))


def _small_animation(content: bytes) -> bytes:
    """A GIF, with fewer frames if it is large."""
    if len(content) <= ANIMATION_BYTES:
        return content
    smaller = io.BytesIO()
    with Image.open(io.BytesIO(content)) as picture:
        first, *others = [frame.copy() for frame in ImageSequence.Iterator(picture)][::3]
        duration = 3 * picture.info.get("duration", 60)
    first.save(smaller, "gif", save_all=True, append_images=others, duration=duration, loop=0)
    return smaller.getvalue()


def _without_out(command: list[str]) -> list[str]:
    """A command without the flag --out.

    Example:
        >>> _without_out(["betavae", "train", "--out", "runs/x", "--seed", "1"])
        ['betavae', 'train', '--seed', '1']
    """
    pairs = zip(["", *command], command, strict=False)
    return [word for before, word in pairs if "--out" not in (before, word) and not word.startswith("--out=")]


def _part(latents: Latents) -> Latents:
    """Latents of a random part of the images, in half precision."""
    count = min(STORED_ROWS, len(latents.rows))
    part = np.sort(np.random.default_rng(0).choice(len(latents.rows), count, replace=False))
    mean, log_var = (table[part].astype(np.float16) for table in (latents.mean, latents.log_var))
    return Latents(latents.rows[part], mean, log_var)  # type: ignore[arg-type]


def _rounding(run: Run, values: dict[str, Any]) -> str:
    """What half precision changes, as sentences."""
    before, after = read_json(run, "scores.json"), values
    sentences = [
        "The weights are stored in half precision and computed with in float32. The scores above are those of the "
        "stored weights."
    ]
    losses = [
        f"held-out {name} from {value:.3f} to {after['held_out'][name]:.3f} nats"
        for name, value in before["held_out"].items()
        if name in after["held_out"]
    ]
    rounding = [f"Rounding changed the {' and '.join(losses)}"] if losses else []
    protocols = [{**scores.get("protocol", {}), "evaluations": None, "betavae": None} for scores in (before, after)]
    pairs = [
        (abs(value - after["scores"][name]), name)
        for name, value in before.get("scores", {}).items()
        if value is not None and after.get("scores", {}).get(name) is not None
    ]
    if pairs and protocols[0] == protocols[1]:
        change, name = max(pairs)
        rounding.append(f"the scores by at most {change:.4f} (`{name}`)")
    return " ".join([*sentences, *([", ".join(rounding) + "."] if rounding else [])])
