"""What later steps of a run read from its folder, checked against the data."""

from dataclasses import replace
from typing import Any

from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.data.splits import Split, split_rows
from betavae.files import schemas
from betavae.model import VAE
from betavae.objectives.settings import needs_of
from betavae.runs.checkpoints import load_checkpoint, load_model
from betavae.runs.folder import Run, read_json
from betavae.runs.latents import Latents, load_latents
from betavae.training.devices import choose_device
from betavae.training.loop import held_out_terms
from betavae.training.state import new_state


def check_same_data(run: Run, data: FactorData) -> None:
    """Refuse data that have changed since the run began."""
    before = read_if_present(run, "provenance.json").get("data", {}).get("sha256", data.digest)
    if before != data.digest:
        raise ValueError(
            f"{run.config.data} holds other images than {run.path('provenance.json')} says the run was begun with; "
            "bring them back, or train anew"
        )


def latents_of(run: Run, data: FactorData) -> Latents:
    latents = load_latents(run)
    if latents.rows.max() >= len(data):
        raise ValueError(
            f"{run.path('latents.npz')} is of images that {data.name} has not; delete it and encode again with "
            f"`betavae score {run.folder}`"
        )
    return latents


def count_scored(config: Config, data: FactorData) -> int:
    """Images to encode and score; all where fewer are there than were asked for."""
    wanted = config.scored_images
    return min(round(wanted * len(data)) if isinstance(wanted, float) else wanted, len(data))


def split_of(config: Config, data: FactorData) -> Split:
    split = split_rows(len(data), config.train_images, config.validation_images, config.test_images, config.seed)
    needs, held_out = needs_of(config.objective), len(split.validation)
    if 0 < held_out < needs.batch_images:
        raise ValueError(
            f"validation_images comes to {held_out}; {needs.because} and needs at least {needs.batch_images} images: "
            "hold out more, or none"
        )
    return split


def held_out_of(run: Run, data: FactorData) -> dict[str, float]:
    """Loss and terms of the trained model on all held-out images; empty where there are none.

    Without the checkpoint, which holds the objective's memory and network, only what the model itself gives.
    """
    split = split_of(run.config, data)
    if not len(split.validation):
        return {}
    config = on_this_machine(run.config)
    given = config, data, split.validation, len(split.train)
    state = new_state(config, data)
    if run.path("checkpoint.safetensors").exists():
        load_checkpoint(run, state)
        return held_out_terms(*given, state)
    state.model.load_state_dict(load_model(run).state_dict())
    state.step = run.config.steps
    terms = held_out_terms(*given, state)
    return {name: terms[name] for name in ("reconstruction", "rate")}


def on_this_machine(config: Config) -> Config:
    """The settings with a device of this machine, where they name one that it has not: to look at a trained model."""
    try:
        choose_device(config.device)
    except ValueError:
        return replace(config, device="auto")
    return config


def read_if_present(run: Run, name: str) -> dict[str, Any]:
    return read_json(run, name) if run.path(name).exists() else {}


def scores_of(run: Run, data: FactorData) -> dict[str, Any]:
    """What scores.json holds, of as many factors as the data have; empty where it is not there.

    Raises:
        ValueError: it is damaged.
    """
    if not run.path("scores.json").exists():
        return {}
    return dict(schemas.read_scores(run.folder, run.config.latent_dim, data.factors.shape[1]))


def model_and_latents(run: Run) -> tuple[VAE | None, Latents | None, str]:
    """The trained network and its latents, or what of them is missing or damaged, in a sentence."""
    try:
        return load_model(run), load_latents(run), ""
    except (FileNotFoundError, ValueError) as error:
        return None, None, f"No explorer: {error}."
