"""Renders the report of a run as one self-contained HTML file.

The folder `assets` contains the template `report.html`, its parts, the style `report.css` and `charts.js`; its folder
`explorer` contains `networks.js`, which runs the networks in the browser, and the user interface. All texts from the
run are escaped, and a content security policy prevents the page from loading anything.
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
from betavae.report.explorer.gallery import pack_gallery
from betavae.report.explorer.latents import Explorer, LatentSummary
from betavae.report.explorer.networks import pack_decoder, pack_encoder
from betavae.report.latent_meaning import Predictions
from betavae.report.pages.image_strips import TraversalStrip, reconstruction_pairs, traversal_strips
from betavae.report.pages.image_uri import data_uri, png_uri
from betavae.report.pages.latent_table import latent_table
from betavae.report.pages.line_chart import chart_names, loss_charts
from betavae.report.pages.scores import headlines, key_numbers, last_records, protocol_text, score_row
from betavae.report.pages.templates import flatten, format_number, join_scripts, natural_order, policy_hash, render_page
from betavae.report.published import Published

PAGE_BYTES = 5_000_000
"""Largest size of a page. If the page would be larger, it leaves out further animations, the encoder or the decoder."""

_MARKUP_BYTES = 300_000  # reserved for tables and text

_SMALL_IMAGE_BYTES = 250_000
"""Largest size of traversals and reconstructions in the page."""
_FIGURES = ("reconstructions", "importance", "factor_strips", "kl_per_latent")
"""Figures that are part of every report, if they exist."""
_EXPLORER_SCRIPTS = (
    *("explorer/networks.js", "explorer/explorer.js", "explorer/gallery.js", "explorer/pad.js", "explorer/blend.js"),
    *("explorer/drawing.js", "explorer/gif.js", "explorer/share.js", "explorer/start.js"),
)


@dataclass(frozen=True)
class RunReport:
    """The contents of a report. Only the title is required; the report has a note for each missing part."""

    title: str
    """Name of the run."""
    about: Sequence[str] = ()
    """Sentences for readers who do not know β-VAEs: what the model is, what the data are, what one can do here."""
    method: str = ""
    """Name of the method in the literature, such as "β-TCVAE"."""
    verdict: Sequence[str] = ()
    """Sentences on how many factors are captured by one latent each."""
    references: Sequence[Published] = ()
    """Published scores on the same data."""
    caveat: str = ""
    """What to keep in mind when comparing with the published scores."""
    prior_note: str = ""
    """A sentence on the prior knowledge of the network, "" if it has none."""
    predictions: Predictions | None = None
    """How well each latent alone predicts each factor."""
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
    """Files that `betavae.report.figures.all_figures.draw_all` wrote. Only PNG and GIF files are shown."""
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
    stills = {path.stem: path for path in report.figures if path.suffix == ".png"}
    grids = [name for name in sorted(stills, key=natural_order) if name.startswith("traversal_grid_")]
    seeds = [png_uri(image) for image in report.explorer.seed_images] if report.explorer else []
    charts = loss_charts(report.records)
    main = [name for name in _FIGURES if name in stills and not (name == "reconstructions" and seeds)]
    images = {name: data_uri(stills[name].read_bytes()) for name in main}
    budget = _ByteBudget(max_bytes, _MARKUP_BYTES + sum(map(len, [*images.values(), *seeds])))
    decoder, reason = _decoder(report, budget)
    explorer = report.explorer if decoder else None
    gallery = _gallery(explorer, budget) if explorer else None
    encoder = _encoder(explorer, budget) if explorer else None
    strips, pairs = _small_images(report.explorer, budget) if report.explorer else ([], [])
    animation = budget.embed(next((path for path in report.figures if path.name == "traversals.gif"), None))
    grids = [] if explorer else grids  # the explorer shows the same, and more
    images |= {name: uri for name in grids if (uri := budget.embed(stills[name]))}
    traversals = [] if explorer else _traversals(report, budget)
    script = join_scripts(*(_EXPLORER_SCRIPTS if explorer else ()), *(["charts.js"] if charts else []))
    return render_page(
        "report.html",
        report=report,
        script=script,
        script_hash=policy_hash(script),
        headlines=headlines(report.scores, report.method, report.references, report.chance, report.ceilings),
        tiles=key_numbers(report.records, report.kl, report.provenance),
        table=latent_table(
            report.predictions,
            report.kl,
            report.factor_names,
            report.explorer.latents if report.explorer else (),
        ),
        scores=[_score_row(name, report) for name in report.scores if score_info(name).prominence],
        details=[_score_row(name, report) for name in report.scores if not score_info(name).prominence],
        combinations=[(name, format_number(seen), format_number(new)) for name, seen, new in report.combinations],
        protocol=protocol_text(report.protocol),
        charts=charts,
        chart_names=chart_names(charts),
        endings=last_records(report.records),
        settings=flatten(report.config),
        provenance=flatten(report.provenance),
        images=images,
        animation=animation,
        strips=strips,
        image_pairs=pairs,
        grids=[name for name in grids if name in images],
        traversals=traversals,
        left_out=budget.left_out,
        explorer=explorer,
        no_explorer=reason,
        encoder=encoder is not None,
        gallery=gallery and explorer and explorer.gallery,
        has_quality=bool(explorer and any(latent.quality or latent.note for latent in explorer.latents)),
        seed_uris=seeds,
        inactive_nats=INACTIVE_NATS,
        active=[latent for latent in explorer.latents if latent.kl >= INACTIVE_NATS] if explorer else [],
        inactive=[latent for latent in explorer.latents if latent.kl < INACTIVE_NATS] if explorer else [],
        pad=_initial_axes(explorer.latents) if explorer else (),
        page_data=_page_data(report.title, explorer, decoder, encoder, gallery) if explorer else {},
    )


def _score_row(name: str, report: RunReport) -> dict[str, Any]:
    chance, ceiling = report.chance.get(name), report.ceilings.get(name)
    return score_row(name, report.scores[name], report.intervals.get(name), chance, ceiling)


def _initial_axes(latents: Sequence[LatentSummary]) -> list[int]:
    """The start axes of the pad: a latent that moves the object across and one that moves it up, or those of most KL.

    Example:
        >>> z0, z1 = (LatentSummary(i, 1.0, -2.0, 2.0, (), (), across=i, up=1 - i) for i in range(2))
        >>> _initial_axes([z0, z1])
        [1, 0]
    """
    across = next((latent.index for latent in latents if latent.across), None)
    up = next((latent.index for latent in latents if latent.up and latent.index != across), None)
    chosen = [] if across is None or up is None else [across, up]
    return chosen or [latent.index for latent in latents[:2]]


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


def _small_images(explorer: Explorer, budget: _ByteBudget) -> tuple[list[TraversalStrip], list[tuple[str, str]]]:
    """Traversals and reconstructions, as many as fit into their share of the page."""
    share = _ByteBudget(_SMALL_IMAGE_BYTES, 0)

    def fits(size: int) -> bool:
        return share.take(size) and budget.take(size)

    strips = [strip for strip in traversal_strips(explorer) if fits(len(strip.uri))]
    return strips, [pair for pair in reconstruction_pairs(explorer) if fits(len(pair[0]) + len(pair[1]))]


def _gallery(explorer: Explorer, budget: _ByteBudget) -> dict[str, Any] | None:
    """The gallery for the page; None if there is none or it does not fit."""
    packed = pack_gallery(explorer.gallery) if explorer.gallery else None
    return packed if packed and budget.take(sum(len(str(value)) for value in packed.values())) else None


def _encoder(explorer: Explorer, budget: _ByteBudget) -> dict[str, Any] | None:
    """The encoder for the page; None if it does not fit or the page cannot run it. The explorer works without it."""
    try:
        encoder = pack_encoder(explorer.model)
    except ValueError:
        return None
    return encoder if budget.take(len(encoder["weights"])) else None


def _page_data(
    name: str,
    explorer: Explorer,
    decoder: dict[str, Any] | None,
    encoder: dict[str, Any] | None,
    gallery: dict[str, Any] | None,
) -> dict[str, Any]:
    """The data for `explorer.js`."""
    keys = ("index", "low", "high", "sign", "up", "title")
    return {
        "name": name,
        "hint": "Drag a slider, or press ▶ to see what a latent does",
        "image": explorer.model.image_shape,
        "likelihood": explorer.model.likelihood,
        "latents": [{key: getattr(latent, key) for key in keys} for latent in explorer.latents],
        "seeds": np.round(explorer.seed_latents.astype(float), 4).tolist(),
        "decoder": decoder,
        "encoder": encoder,
        "gallery": gallery,
    }
