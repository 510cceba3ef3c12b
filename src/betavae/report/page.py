"""Renders the report of a run as one self-contained HTML file.

The folder `assets` contains the template `report.html`, the style `report.css`, `networks.js`, which runs the networks
in the browser, and `explorer.js`, the user interface. All texts from the run are escaped, and a content security policy
prevents the page from loading anything.
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
"""Largest size of a page. If the page would be larger, it leaves out further animations, the encoder or the decoder."""

_MARKUP_BYTES = 300_000  # reserved for tables and text

_TILES = {"dci.disentanglement": "DCI disentanglement", "mig": "MIG"}


@dataclass(frozen=True)
class RunReport:
    """The contents of a report. Only the title is required; the report has a note for each missing part."""

    title: str
    """Name of the run."""
    summary: str = ""
    """One sentence on the objective, the network, the data and the duration of the training."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings, nested as in config.json."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Provenance, nested as in provenance.json."""
    command: str = ""
    """Command that repeats the run."""
    captures: Sequence[str] = ()
    """One text per factor, such as "posX: z6 (60 %)"."""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Scores by name. None and nan are shown as undefined."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """95 % intervals of some of the scores."""
    chance: Mapping[str, float] = field(default_factory=dict)
    """Chance levels of some of the scores."""
    ceilings: Mapping[str, float] = field(default_factory=dict)
    """Best possible values of some of the scores."""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    """Protocol of the evaluation: preset, seed, evaluations, rows, latents."""
    combinations: Sequence[tuple[str, float | None, float | None]] = ()
    """Rows of a table: what is measured, its value on seen combinations of the factors, and on unseen ones."""
    notes: Sequence[str] = ()
    """Notes on scores that are missing or undefined, with the reason."""
    records: Sequence[Mapping[str, Any]] = ()
    """Records of the loss curves. The last one of each split is shown in a table."""
    kl: Sequence[float] = ()
    """KL of each latent in nats, to count the active latents."""
    factor_names: Sequence[str] = ()
    """Names of the factors: the columns of `information`."""
    information: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """For each latent, by name, the fraction of each factor's entropy that it explains."""
    figures: Sequence[Path] = ()
    """Files that `betavae.report.figures.draw_all` wrote. Only PNG and GIF files are shown."""
    explorer: Explorer | None = None
    """Model to run in the page."""
    no_explorer: str = ""
    """Reason why there is no model, as a sentence."""


def render_report(report: RunReport, max_bytes: int = PAGE_BYTES) -> str:
    """Render a report.

    Args:
        report: contents of the report.
        max_bytes: largest size of the page. The main figures are included in any case.

    Returns:
        A self-contained HTML document.

    Raises:
        FileNotFoundError: a figure does not exist.

    Example:
        >>> page = render_report(RunReport(title="<script>"))
        >>> "<script>" in page, "<h1>&lt;script&gt;</h1>" in page
        (False, True)
    """
    script = read_asset("networks.js") + read_asset("explorer.js")
    stills = {path.stem: path for path in report.figures if path.suffix == ".png"}
    grids = [name for name in sorted(stills, key=natural_order) if name.startswith("traversal_grid_")]
    images = {name: data_uri(path.read_bytes()) for name, path in stills.items() if name not in grids[1:]}
    seeds = [png_uri(image) for image in report.explorer.seed_images] if report.explorer else []
    budget = _ByteBudget(max_bytes, _MARKUP_BYTES + sum(map(len, [script, *images.values(), *seeds])))
    decoder, reason = _decoder(report, budget)
    explorer = report.explorer if decoder else None
    encoder = _encoder(explorer, budget) if explorer else None
    animation = budget.embed(next((path for path in report.figures if path.name == "traversals.gif"), None))
    images |= {name: uri for name in grids[1:] if (uri := budget.embed(stills[name]))}
    traversals = _traversals(report, budget)
    return render_page(
        "report.html",
        report=report,
        script=script,
        script_hash=policy_hash(script),
        tiles=_tiles(report),
        scores=[_score_row(name, report) for name in report.scores if score_info(name).prominence],
        details=[_score_row(name, report) for name in report.scores if not score_info(name).prominence],
        protocol=_protocol(report.protocol),
        combinations=[(name, format_number(seen), format_number(new)) for name, seen, new in report.combinations],
        endings=_last_records(report.records),
        settings=flatten(report.config),
        provenance=flatten(report.provenance),
        images=images,
        animation=animation,
        grids=[name for name in grids if name in images],
        traversals=traversals,
        left_out=budget.left_out,
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
    """The start axes of the two-latent pad: the two latents with the largest KL, the vertical one of which captures y.

    Example:
        >>> z0, z1 = (LatentSummary(i, 1.0, -2.0, 2.0, [], [(name, 0.9)]) for i, name in enumerate(("posY", "posX")))
        >>> _initial_axes([z0, z1]), _initial_axes([z1, z0])
        ([1, 0], [1, 0])
    """
    upright = [any(name.lower().endswith("y") for name, _ in latent.captures[:1]) for latent in latents[:2]]
    first_two = [latent.index for latent in latents[:2]]
    return first_two[::-1] if upright == [True, False] else first_two


def write_report(report: RunReport, path: str | os.PathLike[str], max_bytes: int = PAGE_BYTES) -> Path:
    """Write a report atomically.

    Args:
        report: contents of the report.
        path: file to write or replace. Its folder must exist.
        max_bytes: as for `render_report`.

    Returns:
        The path.

    Raises:
        FileNotFoundError: a figure does not exist.

    Example:
        >>> import tempfile
        >>> write_report(RunReport(title="first run"), Path(tempfile.mkdtemp()) / "report.html").name
        'report.html'
    """
    return write_atomically(path, render_report(report, max_bytes).encode())


def _tiles(report: RunReport) -> list[tuple[str, str, str]]:
    """The key numbers at the top of the page: label, value, unit."""
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


def _score_row(name: str, report: RunReport) -> dict[str, Any]:
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
    """Positions on a bar from 0 to 100; None if the value is undefined or outside 0 to 1."""
    if value is None or not 0 <= value <= 1:
        return None
    return {
        "value": round(100 * value, 1),
        "interval": [round(100 * min(max(end, 0), 1), 1) for end in interval] if interval else None,
        "marks": [round(100 * mark, 1) for mark in (chance, ceiling) if mark is not None and 0 <= mark <= 1],
    }


def _protocol(protocol: Mapping[str, Any]) -> str:
    """The protocol of the evaluation as text; "" if it is unknown."""
    if not protocol:
        return ""
    latents = "samples from the posteriors" if protocol.get("latents") == "sampled" else "posterior means"
    is_folded = "orientation (folded)" in protocol.get("factors", ())
    folded = ", orientation modulo the symmetry of each shape" if is_folded else ""
    return (
        f"Protocol: {protocol['preset']} preset on the {latents} of {protocol['rows']:,} images{folded}; "
        f"{protocol['num_train']:,} train the predictors and {protocol['num_test']:,} test them. "
        f"Interval: 95 % prediction interval for another evaluation of the same model, from {protocol['evaluations']} "
        "evaluations. Chance: the score of the same latents in random order."
    )


def _last_records(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The last record of each split as text, training first."""
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
    """The size that remains for a page.

    Attributes:
        limit: Largest size of the page in bytes.
        remaining: Bytes that remain.
        left_out: Number of images that did not fit.
    """

    def __init__(self, limit: int, used: int) -> None:
        self.limit, self.remaining, self.left_out = limit, limit - used, 0

    def take(self, size: int) -> bool:
        """Reserve bytes; False if they do not fit."""
        fits = size <= self.remaining
        self.remaining -= size if fits else 0
        return fits

    def embed(self, path: Path | None) -> str:
        """An image as a data URI; "" if there is none or it does not fit."""
        if path is None:
            return ""
        if not self.take(4 * path.stat().st_size // 3):
            self.left_out += 1
            return ""
        return data_uri(path.read_bytes(), path.suffix[1:])


def _traversals(report: RunReport, budget: _ByteBudget) -> list[tuple[str, list[tuple[str, str]]]]:
    """The traversals of active latents over the fitted range, by KL, as many as fit.

    Returns:
        For each seed image, its number from 1 on, and pairs of a latent and a data URI.
    """
    kl, candidates = report.kl, []
    for path in report.figures:
        if match := re.fullmatch(r"seed(\d+)_z(\d+)_fitted\.gif", path.name):
            seed, latent = map(int, match.groups())
            nats = kl[latent] if latent < len(kl) else math.inf
            if nats >= INACTIVE_NATS:
                candidates.append((seed, -nats, latent, path))
    rows: dict[int, list[tuple[str, str]]] = {}
    for seed, _, latent, path in sorted(candidates):
        if uri := budget.embed(path):
            rows.setdefault(seed, []).append((f"z{latent}", uri))
    return [(str(seed + 1), cells) for seed, cells in rows.items()]


def _decoder(report: RunReport, budget: _ByteBudget) -> tuple[dict[str, Any] | None, str]:
    """The decoder for the page, or None and the reason as a sentence."""
    if report.explorer is None:
        return None, report.no_explorer
    try:
        decoder = pack_decoder(report.explorer.model)
    except ValueError as error:
        return None, f"The model cannot run in the page: {error}."
    size = len(decoder["weights"])
    if budget.take(size):
        return decoder, ""
    megabytes = math.ceil((budget.limit - budget.remaining + size) / 1e6)
    return None, (
        f"The decoder does not fit into this page: its weights alone are {size / 1e6:.1f} MB. "
        f"To include it, write the page again with betavae report --megabytes {megabytes}."
    )


def _encoder(explorer: Explorer, budget: _ByteBudget) -> dict[str, Any] | None:
    """The encoder for the page; None if it does not fit or the page cannot run it. The explorer works without it."""
    try:
        encoder = pack_encoder(explorer.model)
    except ValueError:
        return None
    return encoder if budget.take(len(encoder["weights"])) else None


def _page_data(
    name: str, explorer: Explorer, decoder: dict[str, Any] | None, encoder: dict[str, Any] | None
) -> dict[str, Any]:
    """The data for `explorer.js`."""
    return {
        "name": name,
        "image": explorer.model.image_shape,
        "likelihood": explorer.model.likelihood,
        "latents": [{"index": latent.index, "low": latent.low, "high": latent.high} for latent in explorer.latents],
        "seeds": np.round(explorer.seed_latents.astype(float), 4).tolist(),
        "decoder": decoder,
        "encoder": encoder,
    }
