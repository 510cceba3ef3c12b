"""The steps of a run: settings, data, training, latents, scores, figures, report. Read this file first.

Each step reads its inputs from the run folder and the data, and writes its result to the folder. So you can repeat any
step alone, and an interrupted run resumes where it stopped.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from betavae import metrics
from betavae.config import IN_MEMORY, Config, run_id
from betavae.data.factor_data import FactorData
from betavae.data.generated import dsprites
from betavae.data.loading import data_for, load_for
from betavae.files.validation import check_name
from betavae.integrations.loggers import RunLog, check_loggers, run_log
from betavae.metrics.inputs import check_classes
from betavae.objectives.needs import needs_of
from betavae.report.run_figures import draw_run
from betavae.report.run_page import report_run
from betavae.runs.checkpoints import load_checkpoint, load_model, save_checkpoint, save_model
from betavae.runs.combinations import compare_combinations
from betavae.runs.contents import (
    count_scored,
    held_out_of,
    latents_of,
    on_this_machine,
    same_data,
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
from betavae.runs.log_file import log_file
from betavae.runs.provenance import peak_memory, provenance
from betavae.runs.scores import name_factors, score_tables
from betavae.training.batches import StepRows
from betavae.training.devices import choose_device
from betavae.training.encoding import encode
from betavae.training.interrupts import deferred_interrupts
from betavae.training.loop import Record, train
from betavae.training.losses import Diverged
from betavae.training.progress import training_bar
from betavae.training.state import State, memory_of, new_state

_log = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 60.0
"""Seconds of training between checkpoints."""
FEWEST_SCORED = 3
"""Smallest number of images for scores: some to train the metrics' predictors, some to test them."""

ImageArrays = NDArray[Any] | torch.Tensor
"""Images without factors; see `FactorData.from_arrays`."""
Callback = Callable[[Record], object]
ScoringProgress = Callable[[str, int, int], None]


def experiment(
    config: Config,
    folder: str | Path | None = None,
    *,
    overwrite: bool = False,
    data: FactorData | ImageArrays | None = None,
    quiet: bool = False,
    callbacks: Sequence[Callback] = (),
    log: Sequence[str] = (),
) -> Run:
    """Train, score and draw a new run.

    Args:
        config: settings of the run.
        folder: run folder. If None, `runs/<run id>`.
        overwrite: replace the run that is in the folder.
        data: images and factors, or an array of images as `FactorData.from_arrays` takes it. They are cropped and
            resized as the settings say. If None, the data that `config.data` names.
        quiet: show no progress bar. Without a terminal or a notebook, there is none anyway.
        callbacks: functions that are called with each record of the loss curves, during the training. An error in one
            of them stops the training, which can be resumed.
        log: tools to log to while the run trains: tensorboard, wandb, mlflow, trackio.

    Returns:
        The finished run.

    Raises:
        ModuleNotFoundError: the library of a tool in `log` is not installed.
        FileExistsError: the folder already holds something.
        ValueError: the data, the model or the metrics do not work with the settings.
        RuntimeError: the loss is not finite. The message names the step and the last checkpoint.
        MemoryError: the batches do not fit into memory.
        KeyboardInterrupt: interrupted; the checkpoint is saved.
    """
    check_loggers(log)
    data = load_for(config) if data is None else data_for(config, data)
    if not data.source and config.data in (IN_MEMORY, Config.data):
        config = replace(config, data=IN_MEMORY)
    elif data.source != config.data:
        origin = f"were read from {data.source}" if data.source else "were made in Python"
        raise ValueError(
            f"the settings have data {config.data}, but the given images {origin}: give Config the same data, or leave "
            "data out of Config for images made in Python"
        )
    check(config, data)
    run = create_run(folder or Path("runs") / run_id(config), config, overwrite=overwrite)
    return resume(run.folder, data=data, quiet=quiet, callbacks=callbacks, log=log)


def check(config: Config, data: FactorData) -> None:
    """Validate settings against the data, before anything is written.

    Raises:
        ValueError: the data, the model, the device or the metrics do not work with the settings.
    """
    for name in config.scores:
        check_name("metric", name, metrics.METRICS)
    if config.scores and not data.factors.shape[1]:
        raise ValueError(
            f"scores are {', '.join(config.scores)}, but {data.name} has no factors that vary: leave scores out, or "
            "give data with factors"
        )
    if (count := count_scored(config, data)) < FEWEST_SCORED:
        raise ValueError(f"scored_images selects {count} images; it must select at least {FEWEST_SCORED}")
    memory, size = memory_of(torch.device("cpu")), 8 * count * config.latent_dim
    if memory is not None and size > memory:
        raise ValueError(
            f"the latents of {count:,} images take {size / 1e9:,.1f} GB, and this machine has {memory / 1e9:,.1f} GB: "
            "reduce scored_images or latent_dim"
        )
    if any(metrics.METRICS[name].counts_classes for name in config.scores):
        num_train, _ = metrics.sample_sizes(count)
        rows = np.random.default_rng(0).choice(len(data), num_train, replace=False)
        classes = ~np.array(data.continuous or (False,) * len(data.factor_names))
        try:
            check_classes(data.factors[rows][:, classes])
        except ValueError as error:
            names = [name for name, has_classes in zip(data.factor_names, classes, strict=True) if has_classes]
            raise ValueError(name_factors(str(error), names)) from None
    if any(data.continuous) and (
        left_out := [name for name in config.scores if not metrics.METRICS[name].takes_continuous]
    ):
        raise ValueError(
            f"scores are {', '.join(left_out)}, which need classes, and {data.name} has continuous factors: leave them "
            "out, or merge values with bins 20"
        )
    StepRows(config, data, split_of(config, data).train)
    new_state(config, data)


def resume(
    folder: str | Path,
    *,
    data: FactorData | ImageArrays | None = None,
    quiet: bool = False,
    callbacks: Sequence[Callback] = (),
    log: Sequence[str] | None = None,
) -> Run:
    """Complete the run in a folder: train, score and draw what is missing.

    Resuming is bit-identical to a run without interruption.

    Args:
        folder: folder of a started run.
        data: as for `experiment`.
        quiet: as for `experiment`.
        callbacks: as for `experiment`.
        log: as for `experiment`. If None, the run continues the logs that it has.

    Returns:
        The finished run.

    Raises:
        FileNotFoundError: there is no run in the folder.
        ValueError: a file of the run is damaged or from another version.
        RuntimeError: as for `experiment`.
        BlockingIOError: another process trains in the folder.
        MemoryError: as for `experiment`.
        KeyboardInterrupt: as for `experiment`.
    """
    check_loggers(log or ())
    run = open_run(folder)
    if data is not None:
        run = replace(run, given_data=data_for(run.config, data))
    if run.done:
        return run
    with locked(run):
        if run.done:  # another process has completed it in the meantime
            return run
        drop_half_written(run)
        with log_file(run):
            data = run.data
            with run_log(run, data, log) as logs:
                with training_bar(run.config, quiet=quiet) as bar:
                    state = train_run(run, data, [bar, *callbacks] if bar else callbacks, logs)
                encode_run(run, data, state)
                _score_if_possible(run, data)
                logs.scores()
            if run.config.figures:
                _log.info("drawing figures")
                draw_run(run, data)
            report_run(run, data)
        run.path("DONE").touch()
    return run


def _score_if_possible(run: Run, data: FactorData) -> None:
    """Score a run. Data that cannot be scored are no error unless metrics were requested."""
    try:
        score_run(run, data)
    except ValueError as error:
        if run.config.scores:
            raise
        without_scores = {"kl": load_latents(run).kl.tolist(), "held_out": held_out_of(run, data)}
        write_json(run, "scores.json", {"notes": [f"not scored: {error}"], **without_scores})


def train_run(run: Run, data: FactorData, callbacks: Sequence[Callback] = (), log: RunLog | None = None) -> State:
    """Train a run to its end, from its checkpoint if it has one; save the weights."""
    data = same_data(run, data)
    config, split = run.config, split_of(run.config, data)
    state = new_state(config, data)
    if run.path("checkpoint.safetensors").exists():
        load_checkpoint(run, state)
    cut_curve(run, state.step)
    _record_start(run, data)
    saved_step, saved_at = state.step, time.monotonic()
    _log.info("training from step %d of %d on %s", state.step, config.steps, state.model.device)
    with deferred_interrupts() as interrupted:
        try:
            for record in train(config, data, split.train, split.validation, state):
                append_record(run, record)
                if log:
                    log.record(record, state.model)
                for callback in callbacks:
                    callback(record)
                finished = state.step == config.steps
                if record.split == "train" and (
                    interrupted or finished or time.monotonic() - saved_at > CHECKPOINT_SECONDS
                ):
                    save_checkpoint(run, state)
                    terms = ", ".join(f"{name} {value:.4g}" for name, value in record.terms.items())
                    _log.info("step %d of %d: %s; checkpoint saved", state.step, config.steps, terms)
                    saved_step, saved_at = state.step, time.monotonic()
                if interrupted and record.split == "train":  # checkpoints are saved only after training records
                    raise KeyboardInterrupt
        except Diverged as error:
            raise _diverged(error, config, state.step, saved_step) from None
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError) or any(phrase in str(error) for phrase in _OUT_OF_MEMORY):
                raise MemoryError(
                    f"a batch of {config.batch_size:,} images does not fit into memory; reduce it with --batch-size"
                ) from error
            raise
    save_model(run, state.model)
    _record_end(run, state)
    return state


_OUT_OF_MEMORY = ("out of memory", "allocate memory")
"""Phrases in PyTorch's error messages. On a CPU, PyTorch raises a plain RuntimeError."""


def _record_start(run: Run, data: FactorData) -> None:
    """Write provenance.json. When a run is resumed, keep the first provenance and append the new one."""
    origin = provenance(run.config, data)
    if run.path("provenance.json").exists():
        names = ("started", "command", "imported", "commit", "versions", "device", "threads")
        resumed = {name: origin[name] for name in names if name in origin}
        origin = read_json(run, "provenance.json")
        origin["continued"] = [*origin.get("continued", []), resumed]
    write_json(run, "provenance.json", origin)


def _record_end(run: Run, state: State) -> None:
    """Add training time, speed and memory to provenance.json."""
    origin = read_json(run, "provenance.json")
    origin["train_seconds"] = round(state.wall_seconds, 3)
    origin["images_per_second"] = round(state.step * run.config.batch_size / state.wall_seconds, 1)
    origin["peak_memory_bytes"] = peak_memory()
    write_json(run, "provenance.json", origin)


def _diverged(error: Diverged, config: Config, step: int, saved_step: int) -> Diverged:
    """The error with the last checkpoint and the learning rate in its message."""
    checkpoint = f"the last checkpoint is from step {saved_step}" if saved_step else "there is no checkpoint yet"
    uses_muon = config.muon_after is not None and step >= config.muon_after
    rate = (uses_muon and config.muon_learning_rate) or config.learning_rate
    return Diverged(f"{error}; {checkpoint}. Try a lower learning rate (now {rate}), or --precision fp32")


def encode_run(run: Run, data: FactorData, state: State | None = None) -> Latents:
    """Encode the images to score and save their latents. The choice of images does not depend on the run's seed.

    Args:
        run: a trained run.
        data: the data of the run.
        state: the trained state; if None, the weights are loaded from the run folder.
    """
    config = on_this_machine(run.config)
    model = load_model(run).to(choose_device(config.device)) if state is None else state.model
    data = same_data(run, data)
    count = count_scored(run.config, data)
    rows = np.arange(len(data))
    if count < len(data):
        rows = np.sort(np.random.default_rng(0).choice(len(data), count, replace=False))
    _log.info("encoding %d images", count)
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
    progress: ScoringProgress | None = None,
) -> dict[str, Any]:
    """Score the latents of a run against the factors of its data; write scores.json and return its contents.

    If you name metrics and scores.json has the same protocol, the new scores are added to it. Otherwise scores.json is
    replaced.

    Args:
        run: a run whose images are encoded.
        data: the data of the run. If they have no factors, only the KL and the held-out loss terms are written.
        names: metrics, keys of `metrics.METRICS`. If empty, those in the run's settings.
        preset: protocol, see `metrics.evaluate`.
        seed: seed of the evaluation. If None, the seed of the run.
        evaluations: number of evaluations with different seeds. If None, as in the run's settings.
        sampled: score latents sampled from the posteriors instead of the posterior means.
        fold_orientation: score dSprites with the orientation modulo the symmetry of each shape.
        progress: called with a description, the number of parts done and the number of parts in total.

    Raises:
        ValueError: a metric or the preset is unknown; `fold_orientation` is set for data other than dSprites; or
            metrics are named and the data have no factors.
    """
    data = same_data(run, data)
    if not data.factors.shape[1] and (names or fold_orientation):
        raise ValueError(f"{data.name} has no factors that vary, so its latents cannot be scored")
    latents = latents_of(run, data)
    seed = run.config.seed if seed is None else seed
    combinations = _compare_combinations(run, data, latents, seed) if run.config.hold_out else {}
    rows, mean, kl, samples = latents.rows, latents.mean, latents.kl, _sample(latents, seed)
    del latents  # frees the log variances, which are large
    values: dict[str, Any] = {}
    if data.factors.shape[1]:
        classes, factor_names = _factors_to_score(data, fold_orientation)
        factors = data.scored_factors() if any(data.continuous) else classes
        _log.info("computing %s", ", ".join(names or run.config.scores) or "all scores")
        values = score_tables(
            samples if sampled else mean,
            factors[rows],
            names or run.config.scores,
            preset=preset,
            seed=seed,
            repeats=run.config.evaluations if evaluations is None else evaluations,
            kl=kl,
            discrete=needs_of(run.config.objective).discrete_latents,
            sampled=samples,
            factor_names=factor_names,
            progress=progress,
        )
        ceilings = metrics.score_ceilings(classes, data.image_numbers())
        values["ceilings"] = {
            name: ceiling for name, ceiling in ceilings.items() if name in values["scores"] and ceiling < 1 - 1e-9
        }
        values["protocol"]["latents"] = "sampled" if sampled else "means"
        values["protocol"]["factors"] = factor_names
        old = scores_of(run, data) if names else {}
        if old.get("protocol") == values["protocol"]:
            for table in ("scores", "intervals", "chance", "ceilings", "arrays"):
                values[table] = {**old.get(table, {}), **values[table]}
            values["notes"] = [*dict.fromkeys([*old.get("notes", []), *values["notes"]])]
            values["skipped"] = {**old.get("skipped", {}), **values["skipped"]}
    values |= {"kl": kl.tolist(), "held_out": held_out_of(run, data)}
    if combinations:
        values["combinations"] = combinations
    write_json(run, "scores.json", values)
    return values


def _compare_combinations(run: Run, data: FactorData, latents: Latents, seed: int) -> dict[str, Any]:
    """Compare the combinations of factors in training with those held out."""
    config = on_this_machine(run.config)
    model = load_model(run).to(choose_device(config.device))
    return compare_combinations(config, data, model, latents, seed)


def _factors_to_score(data: FactorData, fold_orientation: bool) -> tuple[NDArray[np.integer[Any]], list[str]]:
    """The factors of all images (N, K) and their names.

    Raises:
        ValueError: `fold_orientation` is set for data other than dSprites.
    """
    names = list(data.factor_names)
    if not fold_orientation:
        return data.factors, names
    if not data.is_dsprites:
        raise ValueError(f"fold_orientation works with dSprites only, and the factors are {data.factor_names}")
    names[2] = "orientation (folded)"
    return dsprites.fold_orientation(data.classes()), names


def _sample(latents: Latents, seed: int) -> NDArray[np.float32]:
    """One sample from the posterior of each image (N, D)."""
    samples = np.random.default_rng(seed).standard_normal(latents.mean.shape, np.float32)
    for sample, mean, log_var in zip(samples.T, latents.mean.T, latents.log_var.T, strict=True):
        sample *= np.exp(log_var / 2)
        sample += mean
    return samples


class _CallableModule(ModuleType):
    """Makes `betavae.experiment(config)` work: the package's attribute of that name is this module."""

    def __call__(self, *arguments: Any, **options: Any) -> Run:
        return experiment(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
