"""Saves the trained model of a run with a model card: what it is, how it was trained, its scores."""

import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from betavae.config import IN_MEMORY
from betavae.files.atomic import write_atomically
from betavae.metrics import score_info
from betavae.networks.registry import prior_note
from betavae.objectives.registry import objective_name
from betavae.runs.contents import read_if_present
from betavae.runs.folder import Run
from betavae.runs.views import RunScores


def save_with_card(run: Run, folder: Path, name: str = "") -> Path:
    """Write the model of a run with a model card and the animated traversals; see `Run.save_pretrained`.

    Args:
        run: a trained run.
        folder: folder of the model.
        name: name by which the card loads the model; if empty, that of the folder.
    """
    model = run.model
    animation = run.path("figures/traversals.gif")
    model.save_pretrained(folder, model_card(run, name or folder.name, "traversals.gif" if animation.exists() else ""))
    if animation.exists():
        write_atomically(folder / "traversals.gif", animation.read_bytes())
    else:
        (folder / "traversals.gif").unlink(missing_ok=True)  # of a model that was replaced
    return folder


def model_card(run: Run, name: str, animation: str = "", weights: str = "") -> str:
    """Text of the model card of a run, in Markdown.

    Args:
        run: a trained run. Scores that it has are listed with their intervals.
        name: name of the model, for the title and the example.
        animation: path of a GIF that the card shows, relative to it.
        weights: sentences on the weights.
    """
    config, provenance = run.config, read_if_present(run, "provenance.json")
    details = read_if_present(run, "scores.json")
    data = provenance.get("data", {})
    source = "given in Python" if config.data == IN_MEMORY else config.data
    facts = {
        "objective": f"{objective_name(config.objective)} (`{config.objective!r}`)",
        "architecture": config.model,
        "latents": config.latent_dim,
        "likelihood": config.likelihood,
        "data": f"{data.get('name', source)} ({data.get('images', 0):,} images, {source})",
        "data SHA-256": f"`{data.get('sha256', 'unknown')}`",
        "steps": f"{config.steps:,} of {config.batch_size} images",
        "seed": config.seed,
        "betavae": provenance.get("versions", {}).get("betavae", "unknown"),
    }
    if config.data != IN_MEMORY and len(provenance.get("command", [])) > 1:  # a script has none
        facts["command"] = f"`{shlex.join(provenance['command'])}`"
    parts = [_front_matter(name, data.get("name", ""), details), f"# {_plain(name)}", "A β-VAE trained with betavae."]
    if animation:
        parts.append(f"![Traversals of the latents]({animation})")
    parts += [prior_note([config.model]), _table(("", ""), [(key, str(value)) for key, value in facts.items()])]
    parts += ["## Scores", *_scores(details)] if details else []
    parts += ["## Weights", weights] if weights else []
    parts += [
        f"## Use\n\n```python\nimport betavae\n\nvae = betavae.load({json.dumps(name)})\nvae.sample(16).plot()\n```"
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(name: str, data: str, details: dict[str, Any]) -> str:
    """The header that the Hugging Face hub reads. Its values are JSON, which YAML includes."""
    values: dict[str, Any] = {"tags": ["beta-vae", "disentanglement"]}
    if data:
        values["datasets"] = [data]
    found = [
        {"type": score, "name": score, "value": round(value, 4)}
        for score, value in RunScores(details).items()
        if score_info(score).prominence > 1 and math.isfinite(value)
    ]
    if data and found:
        task, data_set = {"type": "disentanglement"}, {"type": data, "name": data}
        values["model-index"] = [{"name": name, "results": [{"task": task, "dataset": data_set, "metrics": found}]}]
    return "\n".join(
        ["---", "library_name: betavae", *(f"{key}: {json.dumps(value)}" for key, value in values.items()), "---"]
    )


def _scores(details: dict[str, Any]) -> list[str]:
    scores = RunScores(details)
    intervals, chance = details.get("intervals", {}), details.get("chance", {})
    rows = []
    for name, value in scores.items():
        low, high = intervals.get(name, (None, None))
        interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
        rows.append((name, f"{value:.3f}", interval, "" if chance.get(name) is None else f"{chance[name]:.3f}"))
    held_out = [(f"held-out {name}", f"{value:.2f} nats") for name, value in details.get("held_out", {}).items()]
    protocol = details.get("protocol", {})
    parts = []
    if rows:
        parts += [
            f"Protocol `{protocol.get('preset')}`, seed {protocol.get('seed')}; 95 % intervals for another seed of the "
            f"evaluation, of {protocol.get('evaluations')} evaluations.",
            _table(("score", "value", "95 % interval", "chance"), rows),
        ]
    return [*parts, *([_table(("", ""), held_out)] if held_out else [])]


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text without what would break a table or add HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
