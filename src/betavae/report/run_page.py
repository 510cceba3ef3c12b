"""Writes the report of a run from its folder."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from betavae.config import IN_MEMORY, Config, prior_note, to_dict
from betavae.data.factor_data import FactorData
from betavae.model import VAE
from betavae.objectives.registry import objective_name
from betavae.report import page
from betavae.report.explorer import Explorer, describe_latents
from betavae.report.run_figures import seed_rows
from betavae.runs.contents import check_same_data, model_and_latents, read_if_present, scores_of, split_of
from betavae.runs.folder import Run, read_curve
from betavae.runs.latents import Latents
from betavae.runs.scores import capture_phrases, information_shares, notes_of, strengths
from betavae.training.encoding import encode

EXPLORED_IMAGES = 16
"""The first of them, from which the report's explorer can start."""


def report_run(run: Run, data: FactorData, max_bytes: int = page.PAGE_BYTES) -> Path:
    """Write the run's report.html from what is in its folder; the page says what is missing there or does not fit."""
    check_same_data(run, data)
    scores, facts = scores_of(run, data), read_if_present(run, "provenance.json")
    model, latents, problem = model_and_latents(run)
    kl = latents.kl.tolist() if latents else []
    pictures = run.path("figures")
    found = [*pictures.glob("*.png"), *pictures.glob("*.gif"), *pictures.glob("traversals/*.gif")]
    figures = sorted(path for path in found if path.is_file())
    return page.write_report(
        page.Report(
            title=run.folder.resolve().name,
            summary=_summary(run.config, data, facts),
            config=to_dict(run.config),
            provenance=facts | ({"command": shlex.join(facts["command"])} if "command" in facts else {}),
            command=_repeat_command(run, facts),
            captures=capture_phrases(scores),
            scores=scores.get("scores", {}),
            intervals=scores.get("intervals", {}),
            chance=scores.get("chance", {}),
            ceilings=scores.get("ceilings", {}),
            protocol=scores.get("protocol", {}),
            notes=notes_of(scores),
            records=read_curve(run),
            kl=kl,
            factor_names=scores.get("protocol", {}).get("factors", data.factor_names),
            information=information_shares(scores, kl),
            figures=figures,
            explorer=_explorer(run, data, scores, model, latents) if model and latents else None,
            no_explorer=problem,
        ),
        run.path("report.html"),
        max_bytes,
    )


def _repeat_command(run: Run, facts: Mapping[str, Any]) -> str:
    """The command that repeats a run, with the files of the user's own that it imports; "" where none can."""
    if run.config.data == IN_MEMORY:
        return ""
    own = [word for file in facts.get("imported", []) for word in ("--import", str(file))]
    settings = f"{run.folder.as_posix()}/config.json"
    return shlex.join(["betavae", *own, "train", "--from", settings, "--out", "runs/again"])


def _explorer(run: Run, data: FactorData, scores: dict[str, Any], model: VAE, latents: Latents) -> Explorer:
    rows = seed_rows(run.config, data, model)[:EXPLORED_IMAGES]
    seed_latents, _ = encode(run.config, data, rows, model)
    sliders = describe_latents(latents.mean, latents.log_var, latents.kl, strengths(scores, run.config.latent_dim))
    return Explorer(model, sliders, data.images(rows) * np.uint8(255 // data.max_value), seed_latents)


def _summary(config: Config, data: FactorData, facts: dict[str, Any]) -> str:
    split = split_of(config, data)
    trained = ", not trained to the end"
    if "train_seconds" in facts:
        trained = f", in {facts['train_seconds'] / 60:.1f} minutes"
        trained += f" on {facts['device']}" if "device" in facts else ""
    return (
        f"{objective_name(config.objective)} objective, {config.model} network with {config.latent_dim} latents: "
        f"{config.steps:,} steps of {config.batch_size} images from {len(split.train):,} of {data.name}{trained}. "
        f"{prior_note([config.model])}"
    ).strip()
