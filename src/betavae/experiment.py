"""The story of a run: settings, data, training, latents, scores, figures, report. Read this file first.

Each chapter reads what it needs from the run folder and the data, and leaves its result in the folder; so any of them
can be told again, and an interrupted run goes on where it stopped.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from betavae import metrics
from betavae.config import IN_MEMORY, Config, run_id
from betavae.data import dsprites
from betavae.data.factor_data import FactorData
from betavae.data.loading import load_data
from betavae.files.validation import check_name
from betavae.metrics.inputs import check_classes
from betavae.objectives.settings import needs_of
from betavae.report.run_figures import draw_run
from betavae.report.run_page import report_run
from betavae.runs.checkpoints import load_checkpoint, load_model, save_checkpoint, save_model
from betavae.runs.contents import (
    check_same_data,
    count_scored,
    held_out_of,
    latents_of,
    on_this_machine,
    read_if_present,
    scores_of,
    split_of,
)
from betavae.runs.folder import (
    Run,
    append_record,
    create_run,
    cut_curve,
    drop_half_written,
    locked,
    open_run,
    read_json,
    write_json,
)
from betavae.runs.latents import Latents, load_latents, save_latents
from betavae.runs.provenance import peak_memory, provenance
from betavae.runs.scores import named, score_tables
from betavae.training.batches import StepRows
from betavae.training.devices import choose_device
from betavae.training.encoding import encode
from betavae.training.interrupts import deferred_interrupts
from betavae.training.loop import Diverged, Record, train
from betavae.training.state import State, memory_of, new_state

CHECKPOINT_SECONDS = 60.0
"""Seconds of training between checkpoints."""
FEWEST_SCORED = 3
"""Images that scores need at least: some to fit, some to judge."""

Watch = Callable[[Record], None]
Progress = Callable[[str, int, int], None]


def experiment(
    config: Config,
    folder: str | Path | None = None,
    *,
    overwrite: bool = False,
    data: FactorData | None = None,
    watch: Watch | None = None,
) -> Run:
    """Train, score and draw a new run.

    Args:
        config: settings.
        folder: run folder; `runs/<run id>` if none is given.
        overwrite: replace a run that is in the folder already.
        data: images, where they are loaded or made already. The run records that they were in memory, unless
            `load_data` read them from what `config.data` names.
        watch: called with each record of the curves, e.g. a progress bar.

    Returns:
        The finished run.

    Raises:
        FileExistsError: the folder holds something already.
        ValueError: data, model or metrics do not fit the settings.
        RuntimeError: the loss is not finite; the message names the step and the last good checkpoint.
        MemoryError: there is no room for such batches.
        KeyboardInterrupt: interrupted; what was trained is saved.
    """
    if data is None:
        data = load_data(config.data)
    elif not data.source and config.data in (IN_MEMORY, Config.data):
        config = replace(config, data=IN_MEMORY)
    elif data.source != config.data:
        given = f"were read from {data.source}" if data.source else "were made in Python"
        raise ValueError(
            f"the settings name the data {config.data}, and the images given {given}: let Config(data=...) name the "
            "same, or leave it out for images made in Python"
        )
    check(config, data)
    run = create_run(folder or Path("runs") / run_id(config), config, overwrite=overwrite)
    return resume(run.folder, data=data, watch=watch)


def check(config: Config, data: FactorData) -> None:
    """Refuse, before anything is written, settings that cannot work with the data.

    Raises:
        ValueError: data, model, device or metrics do not fit the settings.
    """
    for name in config.scores:
        check_name("metric", name, metrics.METRICS)
    if config.scores and not data.factors.shape[1]:
        raise ValueError(
            f"scores are {', '.join(config.scores)}, and {data.name} has no factors that vary to score against: leave "
            "them out, or give data with latents_classes"
        )
    if (count := count_scored(config, data)) < FEWEST_SCORED:
        raise ValueError(f"scored_images comes to {count}; give at least {FEWEST_SCORED}")
    memory, size = memory_of(torch.device("cpu")), 8 * count * config.latent_dim
    if memory is not None and size > memory:
        raise ValueError(
            f"the latents of {count:,} images take {size / 1e9:,.1f} GB, and this machine has {memory / 1e9:,.1f} GB: "
            "ask for fewer scored_images or latents"
        )
    if any(metrics.METRICS[name].counts_classes for name in config.scores):
        num_train, _ = metrics.sample_sizes(count)
        rows = np.random.default_rng(0).choice(len(data), num_train, replace=False)
        try:
            check_classes(data.factors[rows])
        except ValueError as error:
            raise ValueError(named(str(error), data.factor_names)) from None
    StepRows(config, data, split_of(config, data).train)
    new_state(config, data)


def resume(folder: str | Path, *, data: FactorData | None = None, watch: Watch | None = None) -> Run:
    """Continue the run in a folder to its end; to the numbers of a run that was never interrupted.

    Args:
        folder: of a run that was started.
        data: as for `experiment`.
        watch: as for `experiment`.

    Returns:
        The finished run.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: one of its files is damaged or of another version.
        RuntimeError: as for `experiment`.
        BlockingIOError: another process trains in the folder.
        MemoryError: as for `experiment`.
        KeyboardInterrupt: as for `experiment`.
    """
    run = open_run(folder)
    if run.done:
        return run
    with locked(run):
        if run.done:  # meanwhile
            return run
        drop_half_written(run)
        data = data_of(run) if data is None else data
        state = train_run(run, data, watch=watch)
        encode_run(run, data, state)
        try:
            score_run(run, data)
        except ValueError as error:
            if run.config.scores:
                raise
            known = {"kl": load_latents(run).kl.tolist(), "held_out": held_out_of(run, data)}
            write_json(run, "scores.json", {"notes": [f"not scored: {error}"], **known})
        if run.config.figures:
            draw_run(run, data)
        report_run(run, data)
        run.path("DONE").touch()
    return run


def data_of(run: Run) -> FactorData:
    """What a run was trained on: the file that its settings name, seen from where it was begun, or else from here.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    source, facts = run.config.data, read_if_present(run, "provenance.json").get("data", {})
    if source == IN_MEMORY:
        raise ValueError(
            f"{run.folder} was trained on images given in Python ({facts.get('name', 'unnamed')}, "
            f"{facts.get('images', 0):,} images), which cannot be loaded here: call betavae.experiment.score_run, "
            "draw_run or report_run with the run and the images"
        )
    begun = facts.get("file", "")
    return load_data(begun if source != "dsprites" and Path(begun).is_file() else source)


def train_run(run: Run, data: FactorData, watch: Watch | None = None) -> State:
    """Train from the run's checkpoint, or from the start, to the end; save the weights and what they reach."""
    check_same_data(run, data)
    config, split = run.config, split_of(run.config, data)
    state = new_state(config, data)
    if run.path("checkpoint.safetensors").exists():
        load_checkpoint(run, state)
    cut_curve(run, state.step)
    facts = provenance(config, data)
    if run.path("provenance.json").exists():  # the first beginning stays, others are added
        changing = ("started", "command", "imported", "commit", "versions", "device", "threads")
        again = {name: facts[name] for name in changing if name in facts}
        facts = read_json(run, "provenance.json")
        facts["continued"] = [*facts.get("continued", []), again]
    write_json(run, "provenance.json", facts)
    saved_step, saved_at = state.step, time.monotonic()
    with deferred_interrupts() as interrupted:
        try:
            for record in train(config, data, split.train, split.validation, state):
                append_record(run, record)
                if watch:
                    watch(record)
                finished = state.step == config.steps
                if record.split == "train" and (
                    interrupted or finished or time.monotonic() - saved_at > CHECKPOINT_SECONDS
                ):
                    save_checkpoint(run, state)
                    saved_step, saved_at = state.step, time.monotonic()
                if interrupted and record.split == "train":  # a record of held-out images comes before it, unsaved
                    raise KeyboardInterrupt
        except Diverged as error:
            last = (
                f"the last good checkpoint is that of step {saved_step}"
                if saved_step
                else "no checkpoint was saved yet"
            )
            by_muon = config.muon_after is not None and state.step >= config.muon_after
            rate = (by_muon and config.muon_learning_rate) or config.learning_rate
            raise Diverged(f"{error}; {last}. Try a lower learning rate (now {rate}), or --precision fp32") from None
        except (MemoryError, RuntimeError) as error:
            words = ("out of memory", "allocate memory")  # PyTorch's, which on a CPU has no class for it
            if isinstance(error, MemoryError) or any(said in str(error) for said in words):
                message = (
                    f"memory ran out with batches of {config.batch_size:,} images; ask for fewer with --batch-size"
                )
                raise MemoryError(message) from error
            raise
    save_model(run, state.model)
    facts = read_json(run, "provenance.json")
    facts["train_seconds"] = round(state.wall_seconds, 3)
    facts["images_per_second"] = round(state.step * config.batch_size / state.wall_seconds, 1)
    facts["peak_memory_bytes"] = peak_memory()
    write_json(run, "provenance.json", facts)
    return state


def encode_run(run: Run, data: FactorData, state: State | None = None) -> Latents:
    """Encode the images to score, once, the same for every seed; from the weights in memory or those in the folder."""
    config = on_this_machine(run.config)
    model = load_model(run).to(choose_device(config.device)) if state is None else state.model
    check_same_data(run, data)
    count = count_scored(run.config, data)
    rows = np.arange(len(data))
    if count < len(data):
        rows = np.sort(np.random.default_rng(0).choice(len(data), count, replace=False))
    mean, log_var = encode(config, data, rows, model)
    latents = Latents(rows, mean, log_var)
    save_latents(run, latents)
    return latents


def score_run(
    run: Run,
    data: FactorData,
    names: Sequence[str] = (),
    *,
    preset: str = "default",
    seed: int | None = None,
    evaluations: int | None = None,
    sampled: bool = False,
    fold_orientation: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score the latents in the folder against the data's factors; write scores.json and return it.

    Named metrics join what scores.json has by the same protocol; all of them, or another protocol, replace it.

    Args:
        run: a run whose images are encoded.
        data: what it was trained on; without factors only KL and held-out terms are written.
        names: metrics, keys of `metrics.METRICS`; those of the run's settings by default.
        preset: protocol, see `metrics.evaluate`.
        seed: of the evaluation; the run's by default.
        evaluations: how many, with different seeds; as the run's settings say by default.
        sampled: score latents drawn from the posteriors instead of their means.
        fold_orientation: score dSprites with its orientation up to the symmetry of each shape.
        progress: called with what is being done, parts done, parts in all.

    Raises:
        ValueError: an unknown metric or preset; orientation to fold in data other than dSprites; metrics asked for, and
            no factors.
    """
    check_same_data(run, data)
    if not data.factors.shape[1] and (names or fold_orientation):
        raise ValueError(f"{data.name} has no factors that vary, so there is nothing to score latents against")
    latents = latents_of(run, data)
    seed = run.config.seed if seed is None else seed
    rows, mean, kl, draws = latents.rows, latents.mean, latents.kl, _sampled(latents, seed)
    del latents  # log variances of all images are large
    values: dict[str, Any] = {}
    if data.factors.shape[1]:
        factors, factor_names = data.factors, list(data.factor_names)
        if fold_orientation:
            if not data.is_dsprites:
                raise ValueError(f"orientation can be folded in dSprites only, got the factors {data.factor_names}")
            factors = dsprites.fold_orientation(data.classes())
            factor_names[2] = "orientation (folded)"
        values = score_tables(
            draws if sampled else mean,
            factors[rows],
            names or run.config.scores,
            preset=preset,
            seed=seed,
            repeats=run.config.evaluations if evaluations is None else evaluations,
            kl=kl,
            discrete=needs_of(run.config.objective).discrete_latents,
            sampled=draws,
            factor_names=factor_names,
            progress=progress,
        )
        ceilings = metrics.score_ceilings(factors, data.image_numbers())
        values["ceilings"] = {
            name: best for name, best in ceilings.items() if name in values["scores"] and best < 1 - 1e-9
        }
        values["protocol"]["latents"] = "sampled" if sampled else "means"
        values["protocol"]["factors"] = factor_names
        before = scores_of(run, data) if names else {}
        if before.get("protocol") == values["protocol"]:
            for table in ("scores", "intervals", "chance", "ceilings", "arrays"):
                values[table] = {**before.get(table, {}), **values[table]}
            values["notes"] = [*dict.fromkeys([*before.get("notes", []), *values["notes"]])]
    values |= {"kl": kl.tolist(), "held_out": held_out_of(run, data)}
    write_json(run, "scores.json", values)
    return values


def _sampled(latents: Latents, seed: int) -> NDArray[np.float32]:
    """A draw from each posterior."""
    draws = np.random.default_rng(seed).standard_normal(latents.mean.shape, np.float32)
    for draw, mean, log_var in zip(draws.T, latents.mean.T, latents.log_var.T, strict=True):
        draw *= np.exp(log_var / 2)
        draw += mean
    return draws
