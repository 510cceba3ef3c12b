"""Encodes the images of a run and scores its latents."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from betavae import metrics
from betavae.data.factor_data import FactorData
from betavae.data.generated import dsprites
from betavae.objectives.needs import needs_of
from betavae.runs.checkpoints import load_model
from betavae.runs.combinations import compare_combinations
from betavae.runs.contents import count_scored, held_out_of, latents_of, on_this_machine, same_data, scores_of
from betavae.runs.folder import Run, write_json
from betavae.runs.latents import Latents, save_latents
from betavae.runs.scores import score_tables
from betavae.training.devices import choose_device
from betavae.training.encoding import encode
from betavae.training.state import State

ScoringProgress = Callable[[str, int, int], None]

_log = logging.getLogger("betavae")


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
