"""Writes the report of a run from the files in its folder."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from betavae.config import IN_MEMORY, Config
from betavae.config_files import to_dict
from betavae.data.factor_data import FactorData
from betavae.model import VAE
from betavae.networks.registry import prior_note
from betavae.objectives.registry import objective_name, objective_title
from betavae.report.explorer.gallery import Gallery, choose_rows
from betavae.report.explorer.latents import Explorer, describe_latents
from betavae.report.latent_meaning import WEAK, Predictions, motion, predict_factors, prediction_ceilings
from betavae.report.pages import report as page
from betavae.report.pages.image_strips import decode
from betavae.report.pages.wording import about_data, about_method, about_page, verdict
from betavae.report.published import CAVEAT, DSPRITES
from betavae.report.reconstruction import explained_pixels
from betavae.report.run_figures import kinds_of, label_texts, seed_rows, shown_signs
from betavae.runs.contents import model_and_latents, read_if_present, same_data, scores_of, split_of
from betavae.runs.folder import Run, read_curve
from betavae.runs.latents import Latents
from betavae.runs.scores import capture_phrases, combination_rows, information_shares, notes_of, strengths
from betavae.training.encoding import encode

EXPLORED_IMAGES = 16
"""Number of images from which the explorer can start."""
_RECONSTRUCTED = 256
"""Number of images that are reconstructed to judge the reconstructions."""


def report_run(run: Run, data: FactorData, max_bytes: int = page.PAGE_BYTES) -> Path:
    """Write the report.html of a run. The page has a note for each part that is missing or does not fit.

    Args:
        run: the run.
        data: the data of the run.
        max_bytes: largest size of the page.
    """
    data = same_data(run, data)
    scores, provenance = scores_of(run, data), read_if_present(run, "provenance.json")
    model, latents, problem = model_and_latents(run)
    kl = latents.kl.tolist() if latents else []
    folder = run.path("figures")
    files = [*folder.glob("*.png"), *folder.glob("*.gif"), *folder.glob("traversals/*.gif")]
    figures = sorted(path for path in files if path.is_file())
    predictions = _predictions(data, latents) if latents else None
    explorer = _explorer(run, data, scores, model, latents, predictions) if model and latents else None
    method = objective_title(run.config.objective)
    return page.write_report(
        page.RunReport(
            title=run.folder.resolve().name,
            about=[about_method(method), about_data(data), about_page(explorer is not None)],
            method=method,
            verdict=verdict(
                scores.get("captures", []),
                _weak_factors(scores.get("captures", []), predictions, data.factor_names),
                _explained(explorer) if explorer else None,
            ),
            references=DSPRITES if data.is_dsprites else (),
            caveat=CAVEAT,
            prior_note=prior_note([run.config.model]),
            predictions=predictions if scores.get("scores") else None,
            summary=_summary(run.config, data, provenance),
            config=to_dict(run.config),
            provenance=provenance | ({"command": shlex.join(provenance["command"])} if "command" in provenance else {}),
            command=_repeat_command(run, provenance),
            captures=capture_phrases(scores),
            scores=scores.get("scores", {}),
            intervals=scores.get("intervals", {}),
            chance=scores.get("chance", {}),
            ceilings=scores.get("ceilings", {}),
            protocol=scores.get("protocol", {}),
            combinations=combination_rows(scores.get("combinations", {})),
            notes=notes_of(scores),
            records=read_curve(run),
            kl=kl,
            factor_names=scores.get("protocol", {}).get("factors", data.factor_names),
            information=information_shares(scores, kl),
            figures=figures,
            explorer=explorer,
            no_explorer=problem,
        ),
        run.path("report.html"),
        max_bytes,
    )


def _repeat_command(run: Run, provenance: Mapping[str, Any]) -> str:
    """The command that repeats a run, with its plugin files; "" if the images were given in Python."""
    if run.config.data == IN_MEMORY:
        return ""
    plugins = [word for file in provenance.get("imported", []) for word in ("--import", str(file))]
    settings = f"{run.folder.as_posix()}/config.json"
    return shlex.join(["betavae", *plugins, "train", "--from", settings, "--out", "runs/again"])


def _explorer(
    run: Run, data: FactorData, scores: dict[str, Any], model: VAE, latents: Latents, predictions: Predictions | None
) -> Explorer:
    rows, names = seed_rows(run.config, data, model)[:EXPLORED_IMAGES], data.factor_names
    seed_latents, _ = encode(run.config, data, rows, model)
    gallery = _gallery(run, data, model)
    sliders = describe_latents(
        latents.mean,
        latents.log_var,
        latents.kl,
        strengths(scores, run.config.latent_dim),
        shown_signs(latents.mean, data, latents.rows),
        motion(gallery.latents, gallery.images),
        predictions,
        names,
    )
    return Explorer(model, sliders, as_bytes(data, rows), seed_latents, gallery)


def _gallery(run: Run, data: FactorData, model: VAE) -> Gallery:
    rows, levels = choose_rows(data)
    texts = label_texts(data)
    found = levels or [np.unique(column).tolist() for column in data.factors[rows].T]
    return Gallery(
        as_bytes(data, rows),
        encode(run.config, data, rows, model)[0],
        data.factors[rows],
        tuple(map(tuple, found)),
        bool(levels),
        tuple(data.factor_names),
        tuple(tuple(text[level] for level in column) for text, column in zip(texts, found, strict=True)),
        tuple(kind == "class" for kind in kinds_of(data)),
    )


def as_bytes(data: FactorData, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Images of the given rows (n, C, H, W), 0 to 255."""
    return data.images(rows) * np.uint8(255 // data.max_value)


def _predictions(data: FactorData, latents: Latents) -> Predictions | None:
    """How well each latent predicts each factor of the data; None if there are no factors."""
    if not data.factors.shape[1]:
        return None
    kinds = kinds_of(data)
    ceilings = prediction_ceilings(data.factors, data.image_numbers(), kinds)
    return predict_factors(latents.mean, data.factors[latents.rows], kinds, ceilings)


def _weak_factors(
    captures: Sequence[Mapping[str, Any]], predictions: Predictions | None, names: Sequence[str]
) -> list[str]:
    """The factors that no latent which captures them predicts well."""
    if predictions is None:
        return []
    gain = predictions.gain()
    known = [capture for capture in captures if capture["latents"] and capture["factor"] in names]
    return [
        capture["factor"]
        for capture in known
        if gain[list(capture["latents"]), names.index(capture["factor"])].max() < WEAK
    ]


def _explained(explorer: Explorer) -> float | None:
    """The share of the variation of the gallery's pixels that the reconstructions explain."""
    if explorer.gallery is None:
        return None
    rows = np.linspace(0, len(explorer.gallery.images) - 1, _RECONSTRUCTED).astype(int)
    latents = explorer.gallery.latents[rows].astype(np.float32)
    return explained_pixels(explorer.gallery.images[rows], decode(explorer.model, latents))


def _summary(config: Config, data: FactorData, provenance: dict[str, Any]) -> str:
    """One sentence on the objective, the network, the data and the duration of the training."""
    split = split_of(config, data)
    trained = ", training not finished"
    if "train_seconds" in provenance:
        trained = f", in {provenance['train_seconds'] / 60:.1f} minutes"
        trained += f" on {provenance['device']}" if "device" in provenance else ""
    without = f" without {' and without '.join(config.hold_out)}" if config.hold_out else ""
    correlated = f" with correlated factors ({', '.join(config.correlate)})" if config.correlate else ""
    return (
        f"{objective_title(config.objective)} (objective {objective_name(config.objective)}), {config.model} network "
        f"with {config.latent_dim} latents: {config.steps:,} steps of {config.batch_size} images from "
        f"{len(split.train):,} of {data.name}{without}{correlated}{trained}."
    )
