"""The report of a run: one HTML file that holds everything and asks the network for nothing.

Beside this file are the template `report.html`, its style `report.css`, `networks.js`, which runs the decoder in the
page, and `explorer.js`, which moves it; all can be edited without knowing Python. Everything a run brings with it is
escaped, and a content security policy forbids the page to load anything.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from betavae.files.atomic import write_atomically
from betavae.metrics.inputs import INACTIVE_NATS
from betavae.metrics.registry import score_info
from betavae.report.explorer import Explorer, LatentSummary
from betavae.report.network_export import pack_decoder, pack_encoder
from betavae.report.templates import (
    data_uri,
    flatten,
    format_number,
    is_number,
    natural_order,
    png_uri,
    policy_hash,
    read_asset,
    render_page,
)

PAGE_BYTES = 5_000_000
"""Size that a page keeps below; what does not fit gives way: further pictures, the encoder, at last the decoder."""

_MARKUP_BYTES = 300_000  # what is left for tables and text

_TILES = {"dci.disentanglement": "DCI disentanglement", "mig": "MIG"}


@dataclass(frozen=True)
class Report:
    """What a report tells. Only the title is needed; the report says what is missing."""

    title: str
    """Name of the run."""
    summary: str = ""
    """One sentence on what was trained, on what, for how long."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings, nested as in config.json."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the run comes from, nested as in provenance.json."""
    command: str = ""
    """The command that repeats the run."""
    captures: Sequence[str] = ()
    """One text for each factor, such as "posX: z6 (60 %)"."""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Scores by name; None or nan is shown as undefined."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """95 % intervals, for any of the scores."""
    chance: Mapping[str, float] = field(default_factory=dict)
    """What latents that know nothing reach, for any of the scores."""
    ceilings: Mapping[str, float] = field(default_factory=dict)
    """The best that any latents could reach, for any of the scores."""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    """How the scores came about: preset, seed, evaluations, rows, latents."""
    notes: Sequence[str] = ()
    """What was left out of the scores or is undefined, and why."""
    records: Sequence[Mapping[str, Any]] = ()
    """Lines of the training curve; the last of each split is shown as numbers."""
    kl: Sequence[float] = ()
    """KL of each latent in nats, to count the active ones."""
    factor_names: Sequence[str] = ()
    """Factors of the data: the columns of `information`."""
    information: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """For each latent, by name, the share of each factor's entropy that it tells."""
    figures: Sequence[Path] = ()
    """The files that `betavae.report.figures.draw_all` wrote; only PNG and GIF are shown."""
    explorer: Explorer | None = None
    """The model to run in the page."""
    no_explorer: str = ""
    """Why there is no model, in a sentence."""


def render_report(report: Report, max_bytes: int = PAGE_BYTES) -> str:
    """The report as one HTML document.

    Args:
        report: What to tell.
        max_bytes: Size that the page keeps below, as far as its main figures let it.

    Returns:
        HTML with styles and pictures inside.

    Raises:
        FileNotFoundError: A figure is not where the report says.

    Example:
        >>> page = render_report(Report(title="<script>"))
        >>> "<script>" in page, "<h1>&lt;script&gt;</h1>" in page
        (False, True)
    """
    script = read_asset("networks.js") + read_asset("explorer.js")
    stills = {path.stem: path for path in report.figures if path.suffix == ".png"}
    grids = [name for name in sorted(stills, key=natural_order) if name.startswith("traversal_grid_")]
    images = {name: data_uri(path.read_bytes()) for name, path in stills.items() if name not in grids[1:]}
    seeds = [png_uri(image) for image in report.explorer.seed_images] if report.explorer else []
    room = _ByteBudget(max_bytes, _MARKUP_BYTES + sum(map(len, [script, *images.values(), *seeds])))
    decoder, reason = _decoder(report, room)
    explorer = report.explorer if decoder else None
    encoder = _encoder(explorer, room) if explorer else None
    animation = room.embed(next((path for path in report.figures if path.name == "traversals.gif"), None))
    images |= {name: uri for name in grids[1:] if (uri := room.embed(stills[name]))}
    traversals = _traversals(report, room)
    return render_page(
        "report.html",
        report=report,
        script=script,
        script_hash=policy_hash(script),
        tiles=_tiles(report),
        scores=[_score_row(name, report) for name in report.scores if score_info(name).prominence],
        details=[_score_row(name, report) for name in report.scores if not score_info(name).prominence],
        protocol=_protocol(report.protocol),
        endings=_last_records(report.records),
        settings=flatten(report.config),
        provenance=flatten(report.provenance),
        images=images,
        animation=animation,
        grids=[name for name in grids if name in images],
        traversals=traversals,
        left_out=room.left_out,
        explorer=explorer,
        no_explorer=reason,
        encoder=encoder is not None,
        seed_uris=seeds,
        inactive_nats=INACTIVE_NATS,
        active=[latent for latent in explorer.latents if latent.kl >= INACTIVE_NATS] if explorer else [],
        inactive=[latent for latent in explorer.latents if latent.kl < INACTIVE_NATS] if explorer else [],
        pad=_initial_axes(explorer.latents) if explorer else (),
        page_data=_page_data(report.title, explorer, decoder, encoder) if explorer else {},
    )


def _initial_axes(latents: Sequence[LatentSummary]) -> list[int]:
    """The latents that the pad begins with: the two of most KL, and what a picture has upwards goes upwards.

    Example:
        >>> z0, z1 = (LatentSummary(i, 1.0, -2.0, 2.0, [], [(name, 0.9)]) for i, name in enumerate(("posY", "posX")))
        >>> _initial_axes([z0, z1]), _initial_axes([z1, z0])
        ([1, 0], [1, 0])
    """
    upright = [any(name.lower().endswith("y") for name, _ in latent.captures[:1]) for latent in latents[:2]]
    first_two = [latent.index for latent in latents[:2]]
    return first_two[::-1] if upright == [True, False] else first_two


def write_report(report: Report, path: str | os.PathLike[str], max_bytes: int = PAGE_BYTES) -> Path:
    """Writes the report as one self-contained HTML file, atomically.

    Args:
        report: What to tell.
        path: Where to, in a folder that exists; a file there is replaced.
        max_bytes: Size that the page keeps below, as far as its main figures let it.

    Returns:
        The path.

    Raises:
        FileNotFoundError: A figure is not where the report says.

    Example:
        >>> import tempfile
        >>> write_report(Report(title="first run"), Path(tempfile.mkdtemp()) / "report.html").name
        'report.html'
    """
    return write_atomically(path, render_report(report, max_bytes).encode())


def _tiles(report: Report) -> list[tuple[str, str, str]]:
    """The few numbers at the top: what, how much, unit."""
    tiles = [(label, format_number(report.scores[name]), "") for name, label in _TILES.items() if name in report.scores]
    last = _last_records(report.records)[-1:]
    tiles += [(key, ending[key], "nats") for ending in last for key in ("reconstruction", "rate")]
    if len(report.kl):
        active = sum(value >= INACTIVE_NATS for value in report.kl)
        tiles.append(("active latents", str(active), f"of {len(report.kl)}"))
    if "train_seconds" in report.provenance:
        tiles.append(("trained in", format_number(report.provenance["train_seconds"] / 60, 1), "minutes"))
    if "images_per_second" in report.provenance:
        tiles.append(("speed", format_number(report.provenance["images_per_second"], 0), "images/s"))
    return tiles


def _score_row(name: str, report: Report) -> dict[str, Any]:
    value, interval = report.scores[name], report.intervals.get(name)
    if interval and not all(map(is_number, interval)):
        interval = None
    chance, ceiling = (
        table[name] if is_number(table.get(name)) else None for table in (report.chance, report.ceilings)
    )
    meaning = score_info(name)
    return {
        "name": name,
        "meaning": meaning.question[:1].upper() + meaning.question[1:],
        "arrow": meaning.arrow,
        "value": format_number(value),
        "interval": f"{format_number(interval[0])} to {format_number(interval[1])}" if interval else "",
        "chance": "" if chance is None else format_number(chance),
        "ceiling": "" if ceiling is None else format_number(ceiling),
        "bar": _bar(value, interval, chance, ceiling) if meaning.high == 1 else None,
    }


def _bar(
    value: float | None, interval: tuple[float, float] | None, chance: float | None, ceiling: float | None
) -> dict[str, Any] | None:
    """Places on a bar from 0 to 100; none for what is undefined or not a share."""
    if value is None or not 0 <= value <= 1:
        return None
    return {
        "value": round(100 * value, 1),
        "interval": [round(100 * min(max(end, 0), 1), 1) for end in interval] if interval else None,
        "marks": [round(100 * mark, 1) for mark in (chance, ceiling) if mark is not None and 0 <= mark <= 1],
    }


def _protocol(protocol: Mapping[str, Any]) -> str:
    """How the scores came about, in a sentence; nothing for a run that does not say."""
    if not protocol:
        return ""
    latents = "latents drawn from the posteriors" if protocol.get("latents") == "sampled" else "posterior means"
    folded = (
        ", orientation up to each shape's symmetry" if "orientation (folded)" in protocol.get("factors", ()) else ""
    )
    return (
        f"Protocol: {protocol['preset']} preset on the {latents} of {protocol['rows']:,} images{folded}; "
        f"{protocol['num_train']:,} of them to fit and {protocol['num_test']:,} to judge. "
        f"Intervals: where one more evaluation of the same model would fall, from {protocol['evaluations']}. "
        "Chance: the same latents, shuffled against the images."
    )


def _last_records(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The last record of each split, training first, as texts."""
    last = {record["split"]: record for record in records}
    return [
        {
            "split": split,
            "step": f"{last[split]['step']:,}",
            **{key: format_number(last[split].get(key), 2) for key in ("loss", "reconstruction", "rate")},
        }
        for split in ("train", "validation")
        if split in last
    ]


class _ByteBudget:
    """How much more, in bytes, the page may hold; counts the pictures that did not fit."""

    def __init__(self, limit: int, used: int) -> None:
        self.limit, self.size, self.left_out = limit, limit - used, 0

    def take(self, size: int) -> bool:
        fits = size <= self.size
        self.size -= size if fits else 0
        return fits

    def embed(self, path: Path | None) -> str:
        """The picture as a data URI; nothing if there is none or it does not fit."""
        if path is None:
            return ""
        if not self.take(4 * path.stat().st_size // 3):
            self.left_out += 1
            return ""
        return data_uri(path.read_bytes(), path.suffix[1:])


def _traversals(report: Report, room: _ByteBudget) -> list[tuple[str, list[tuple[str, str]]]]:
    """GIFs of active latents over the fitted interval, by KL, as far as there is room.

    Each entry is a seed image, counted from 1, with pairs of a latent and a data URI.
    """
    kl, found = report.kl, []
    for path in report.figures:
        if match := re.fullmatch(r"seed(\d+)_z(\d+)_fitted\.gif", path.name):
            seed, latent = map(int, match.groups())
            nats = kl[latent] if latent < len(kl) else math.inf
            if nats >= INACTIVE_NATS:
                found.append((seed, -nats, latent, path))
    rows: dict[int, list[tuple[str, str]]] = {}
    for seed, _, latent, path in sorted(found):
        if uri := room.embed(path):
            rows.setdefault(seed, []).append((f"z{latent}", uri))
    return [(str(seed + 1), cells) for seed, cells in rows.items()]


def _decoder(report: Report, room: _ByteBudget) -> tuple[dict[str, Any] | None, str]:
    """The decoder for the page, or none and the reason in a sentence."""
    if report.explorer is None:
        return None, report.no_explorer
    try:
        decoder = pack_decoder(report.explorer.model)
    except ValueError as error:
        return None, f"The model cannot run in the page: {error}."
    size = len(decoder["weights"])
    if room.take(size):
        return decoder, ""
    megabytes = math.ceil((room.limit - room.size + size) / 1e6)
    return None, (
        f"The decoder does not fit into this page: its weights alone are {size / 1e6:.1f} MB. "
        f"To have it, write the page anew with betavae report --megabytes {megabytes}."
    )


def _encoder(explorer: Explorer, room: _ByteBudget) -> dict[str, Any] | None:
    """The encoder for the page; none where it does not fit or the page cannot run it: the decoder does without."""
    try:
        encoder = pack_encoder(explorer.model)
    except ValueError:
        return None
    return encoder if room.take(len(encoder["weights"])) else None


def _page_data(
    name: str, explorer: Explorer, decoder: dict[str, Any] | None, encoder: dict[str, Any] | None
) -> dict[str, Any]:
    """What `explorer.js` reads."""
    return {
        "name": name,
        "image": explorer.model.image_shape,
        "likelihood": explorer.model.likelihood,
        "latents": [{"index": latent.index, "low": latent.low, "high": latent.high} for latent in explorer.latents],
        "seeds": np.round(explorer.seed_latents.astype(float), 4).tolist(),
        "decoder": decoder,
        "encoder": encoder,
    }
