"""Reads the contents of a run folder for the later steps of the run, and checks them against the data."""

from dataclasses import replace
from typing import Any

from betavae.config import IN_MEMORY, Config
from betavae.data.factor_data import FactorData
from betavae.data.loading import data_for, load_for, resolved_source
from betavae.data.registry import DATASETS
from betavae.data.splits import Split, split_rows
from betavae.data.subsets import seen_rows
from betavae.files import schemas
from betavae.model import VAE
from betavae.objectives.needs import needs_of
from betavae.runs.checkpoints import load_checkpoint, load_model
from betavae.runs.folder import Run, read_json
from betavae.runs.latents import Latents, load_latents
from betavae.training.devices import choose_device
from betavae.training.state import new_state
from betavae.training.validation import held_out_terms


def data_of(run: Run) -> FactorData:
    """Load the data that a run was trained on.

    A relative path in the settings is resolved against the working directory of the command that started the run.
    Images that were given in Python are returned as they were given.

    Raises:
        FileNotFoundError: the data file does not exist.
        ValueError: the data file is damaged, or the images were given in Python.
    """
    if run.given_data is not None:
        return run.given_data
    source, recorded = run.config.data, read_if_present(run, "provenance.json").get("data", {})
    if source == IN_MEMORY:
        raise ValueError(
            f"{run.folder} was trained on images given in Python ({recorded.get('name', 'unnamed')}, "
            f"{recorded.get('images', 0):,} images), which betavae cannot load: in Python, call "
            "betavae.scoring.score_run, draw_run or report_run with the run and the images"
        )
    file = recorded.get("file", "")
    found = file and source not in DATASETS and resolved_source(file)
    return load_for(replace(run.config, data=file if found else source))


def same_data(run: Run, data: object) -> FactorData:
    """The data of a run, prepared as its settings say. Data that have changed since the run was started are refused.

    Args:
        run: the run.
        data: a `FactorData` or an array of images, prepared or not.

    Raises:
        ValueError: the digest of the images differs from the one in provenance.json.
    """
    data = data_for(run.config, data)
    recorded = read_if_present(run, "provenance.json").get("data", {}).get("sha256", data.digest)
    if recorded != data.digest:
        raise ValueError(
            f"{run.config.data} holds other images than those that the run was started with, according to "
            f"{run.path('provenance.json')}; restore them, or train a new run"
        )
    return data


def latents_of(run: Run, data: FactorData) -> Latents:
    """Load the latents of a run and check that their rows exist in the data."""
    latents = load_latents(run)
    if latents.rows.max() >= len(data):
        raise ValueError(
            f"{run.path('latents.npz')} has latents of images that are not in {data.name}; delete it and encode again "
            f"with `betavae score {run.folder}`"
        )
    return latents


def are_encoded(run: Run, data: FactorData) -> bool:
    """Whether a run has the latents of all images that its settings say, not of a part, as models of the zoo have."""
    return run.path("latents.npz").exists() and len(load_latents(run).rows) == count_scored(run.config, data)


def count_scored(config: Config, data: FactorData) -> int:
    """Number of images to encode and score, at most all images of the data."""
    requested = config.scored_images
    return min(round(requested * len(data)) if isinstance(requested, float) else requested, len(data))


def split_of(config: Config, data: FactorData) -> Split:
    """The training, validation and test rows of a run, without the combinations that it holds out."""
    sizes = config.train_images, config.validation_images, config.test_images
    seen = seen_rows(data, config.hold_out)
    split = split_rows(len(data) if seen is None else len(seen), *sizes, config.seed)
    if seen is not None:
        split = Split(seen[split.train], seen[split.validation], seen[split.test])
    needs, num_held_out = needs_of(config.objective), len(split.validation)
    if 0 < num_held_out < needs.batch_images:
        raise ValueError(
            f"validation_images selects {num_held_out} images; {needs.because} and needs at least "
            f"{needs.batch_images} images: hold out more, or none"
        )
    return split


def held_out_of(run: Run, data: FactorData) -> dict[str, float]:
    """Loss and loss terms of the trained model on all validation images, in nats; empty if there are none.

    Some objectives need the state in the checkpoint. Without a checkpoint, only the reconstruction loss and the KL are
    returned.
    """
    split = split_of(run.config, data)
    if not len(split.validation):
        return {}
    config = on_this_machine(run.config)
    arguments = config, data, split.validation, len(split.train)
    state = new_state(config, data)
    if run.path("checkpoint.safetensors").exists():
        load_checkpoint(run, state)
        return held_out_terms(*arguments, state)
    state.model.load_state_dict(load_model(run).state_dict())
    state.step = run.config.steps
    terms = held_out_terms(*arguments, state)
    return {name: terms[name] for name in ("reconstruction", "rate")}


def on_this_machine(config: Config) -> Config:
    """The settings, with device "auto" if this machine does not have the device of the training."""
    try:
        choose_device(config.device)
    except ValueError:
        return replace(config, device="auto")
    return config


def read_if_present(run: Run, name: str) -> dict[str, Any]:
    """Read a JSON file of a run; empty if it does not exist."""
    return read_json(run, name) if run.path(name).exists() else {}


def scores_of(run: Run, data: FactorData) -> dict[str, Any]:
    """Read scores.json and check it against the number of factors; empty if it does not exist.

    Raises:
        ValueError: the file is damaged.
    """
    if not run.path("scores.json").exists():
        return {}
    return dict(schemas.read_scores(run.folder, run.config.latent_dim, data.factors.shape[1]))


def model_and_latents(run: Run) -> tuple[VAE | None, Latents | None, str]:
    """Load the trained model and its latents; if one of them is missing or damaged, (None, None, the reason)."""
    try:
        return load_model(run), load_latents(run), ""
    except (FileNotFoundError, ValueError) as error:
        return None, None, f"No explorer: {error}."
