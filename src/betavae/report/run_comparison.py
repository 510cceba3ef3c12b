"""Writes the comparison of several runs from the files in their folders."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from betavae.config_files import to_dict
from betavae.data.factor_data import FactorData
from betavae.data.prepared.preparation import preparation_of
from betavae.files.atomic import write_atomically
from betavae.report.explorer.latents import describe_latents
from betavae.report.pages import comparison
from betavae.report.pages.image_strips import traversal
from betavae.report.published import DSPRITES
from betavae.report.run_figures import seed_rows, shown_signs
from betavae.runs.checkpoints import load_model
from betavae.runs.contents import latents_of, same_data, scores_of
from betavae.runs.folder import Run, read_curve
from betavae.runs.scores import information_shares, strengths
from betavae.training.encoding import encode


def compare_runs(runs: Sequence[Run], data: FactorData, path: Path) -> Path:
    """Write a page that compares several trained runs on the same data.

    Raises:
        FileNotFoundError: a run is not finished.
        ValueError: there are fewer than two runs, or the runs have different data.
    """
    sources = {
        f"{run.config.data}, prepared: {preparation_of(run.config)}".removesuffix(", prepared: none") for run in runs
    }
    if len(sources) > 1:
        raise ValueError(
            f"the runs have different data ({', '.join(sorted(sources))}), so their scores cannot be compared; give "
            "runs on the same data"
        )
    for run in runs:
        data = same_data(run, data)
    row = seed_rows(runs[0].config, data, load_model(runs[0]))[:1]
    names = _distinct_names([run.folder.resolve() for run in runs])
    members = [
        replace(_member(run, data, row, name), link=_link(run, path)) for run, name in zip(runs, names, strict=True)
    ]
    references = DSPRITES if data.is_dsprites else ()
    page = comparison.render_comparison(members, data.name, data.factor_names, references)
    return write_atomically(path, page.encode())


def _link(run: Run, page: Path) -> str:
    """The address of a run's report, relative to a page; "" if it has none or is on another drive."""
    report = run.path("report.html").resolve()
    try:
        relative = os.path.relpath(report, page.resolve().parent)
    except ValueError:
        return ""
    return quote(Path(relative).as_posix()) if report.is_file() else ""


def _distinct_names(folders: Sequence[Path]) -> list[str]:
    """Short distinct names of folders, with as many parent folders as necessary.

    Example:
        >>> _distinct_names([Path("/a/x/run"), Path("/a/y/run")])
        ['x/run', 'y/run']
    """
    for count in range(1, max(len(folder.parts) for folder in folders)):
        names = [str(Path(*folder.parts[-count:])) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _member(run: Run, data: FactorData, row: NDArray[np.int64], name: str) -> comparison.Member:
    """Scores of a run, and for each factor the traversal of the latent with the most information about it."""
    scores, model, latents = scores_of(run, data), load_model(run), latents_of(run, data)
    start = encode(run.config, data, row, model)[0][0]
    summaries = describe_latents(
        latents.mean,
        latents.log_var,
        latents.kl,
        strengths(scores, run.config.latent_dim),
        shown_signs(latents.mean, data, latents.rows),
    )
    shares = information_shares(scores, latents.kl.tolist())
    traversals = {}
    for k, factor in enumerate(data.factor_names if shares else ()):
        best = max(summaries, key=lambda latent: shares[f"z{latent.index}"][k])
        share = shares[f"z{best.index}"][k]
        traversals[factor] = comparison.Traversal(best.name, share, traversal(model, start, best))
    return comparison.Member(name, to_dict(run.config), scores.get("scores", {}), read_curve(run), traversals)
