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
from betavae.config import IN_MEMORY, Config
from betavae.config_files import run_id
from betavae.data.factor_data import FactorData
from betavae.data.loading import data_for, load_for
from betavae.files.validation import check_name
from betavae.integrations.loggers import RunLog, check_loggers, run_log
from betavae.metrics.inputs import check_classes
from betavae.report.run_figures import draw_run
from betavae.report.run_page import report_run
from betavae.runs.checkpoints import load_checkpoint, save_checkpoint, save_model
from betavae.runs.contents import (
    count_scored,
    held_out_of,
    same_data,
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
from betavae.runs.latents import load_latents
from betavae.runs.log_file import log_file
from betavae.runs.provenance import peak_memory, provenance
from betavae.runs.scores import name_factors
from betavae.scoring import encode_run, score_run
from betavae.training.batches import StepRows
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


class _CallableModule(ModuleType):
    """Makes `betavae.experiment(config)` work: the package's attribute of that name is this module."""

    def __call__(self, *arguments: Any, **options: Any) -> Run:
        return experiment(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
