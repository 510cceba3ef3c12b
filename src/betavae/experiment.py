"""The story of a run: settings, data, training, codes, scores, figures, report. Read this file first.

Each chapter reads what it needs from the run folder and the data, and leaves its result in the folder; so any of them
can be told again, and an interrupted run goes on where it stopped.
"""

import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from betavae import comparison, dsprites, metrics, report, schemas, scoring
from betavae import run as folders
from betavae.checks import check_name
from betavae.config import IN_MEMORY, Config, prior_note, run_id, to_dict
from betavae.data import FactorData, Split, load_data, split_rows
from betavae.explorer import Explorer, describe_codes
from betavae.figures import draw_all
from betavae.files import write_atomically
from betavae.metrics.inputs import check_classes
from betavae.metrics.suite import BY_CLASS
from betavae.model import VAE
from betavae.provenance import peak_memory, provenance
from betavae.run import Codes, Run
from betavae.settings import Qlae, needs_of, objective_name
from betavae.train import (
    Diverged,
    Record,
    State,
    StepRows,
    choose_device,
    encode,
    held_out_terms,
    memory_of,
    new_state,
    train,
)

CHECKPOINT_SECONDS = 60.0
"""Seconds of training between checkpoints."""
SEED_IMAGES = 20
"""Held-out images to reconstruct; the first few of them are traversed."""
COMPARED_IMAGES = 11
"""Images of a traversal in a comparison of runs."""
FEWEST_SCORED = 3
"""Images that scores need at least: some to fit, some to judge."""
EXPLORED_IMAGES = 16
"""The first of them, from which the report's explorer can start."""

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
    run = folders.create_run(folder or Path("runs") / run_id(config), config, overwrite=overwrite)
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
    if (count := _count_scored(config, data)) < FEWEST_SCORED:
        raise ValueError(f"scored_images comes to {count}; give at least {FEWEST_SCORED}")
    memory, size = memory_of(torch.device("cpu")), 8 * count * config.codes
    if memory is not None and size > memory:
        raise ValueError(
            f"the codes of {count:,} images take {size / 1e9:,.1f} GB, and this machine has {memory / 1e9:,.1f} GB: "
            "ask for fewer scored_images or codes"
        )
    if BY_CLASS & set(config.scores):
        num_train, _ = metrics.sample_sizes(count)
        rows = np.random.default_rng(0).choice(len(data), num_train, replace=False)
        try:
            check_classes(data.factors[rows])
        except ValueError as error:
            raise ValueError(scoring.named(str(error), data.factor_names)) from None
    StepRows(config, data, _split(config, data).train)
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
    run = folders.open_run(folder)
    if run.done:
        return run
    with folders.locked(run):
        if run.done:  # meanwhile
            return run
        folders.drop_half_written(run)
        data = data_of(run) if data is None else data
        state = train_run(run, data, watch=watch)
        encode_run(run, data, state)
        try:
            score_run(run, data)
        except ValueError as error:
            if run.config.scores:
                raise
            known = {"kl": folders.load_codes(run).kl.tolist(), "held_out": _held_out(run, data)}
            folders.write_json(run, "scores.json", {"notes": [f"not scored: {error}"], **known})
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
    source, facts = run.config.data, _read_if_there(run, "provenance.json").get("data", {})
    if source == IN_MEMORY:
        raise ValueError(
            f"{run.folder} was trained on images given in Python ({facts.get('name', 'unnamed')}, "
            f"{facts.get('images', 0):,} images), which cannot be loaded here: call betavae.experiment.score_run, "
            "draw_run or report_run with the run and the images"
        )
    begun = facts.get("file", "")
    return load_data(begun if source != "dsprites" and Path(begun).is_file() else source)


# ---------------------------------------------------------------------------------------------------------------------
# Chapters
# ---------------------------------------------------------------------------------------------------------------------


def train_run(run: Run, data: FactorData, watch: Watch | None = None) -> State:
    """Train from the run's checkpoint, or from the start, to the end; save the weights and what they reach."""
    _same_data(run, data)
    config, split = run.config, _split(run.config, data)
    state = new_state(config, data)
    if run.path("checkpoint.safetensors").exists():
        folders.load_checkpoint(run, state)
    folders.cut_curve(run, state.step)
    facts = provenance(config, data)
    if run.path("provenance.json").exists():  # the first beginning stays, others are added
        changing = ("started", "command", "imported", "commit", "versions", "device", "threads")
        again = {name: facts[name] for name in changing if name in facts}
        facts = folders.read_json(run, "provenance.json")
        facts["continued"] = [*facts.get("continued", []), again]
    folders.write_json(run, "provenance.json", facts)
    saved_step, saved_at = state.step, time.monotonic()
    with _interruptions() as interrupted:
        try:
            for record in train(config, data, split.train, split.validation, state):
                folders.append_record(run, record)
                if watch:
                    watch(record)
                finished = state.step == config.steps
                if record.split == "train" and (
                    interrupted or finished or time.monotonic() - saved_at > CHECKPOINT_SECONDS
                ):
                    folders.save_checkpoint(run, state)
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
    folders.save_model(run, state.model)
    facts = folders.read_json(run, "provenance.json")
    facts["train_seconds"] = round(state.wall_seconds, 3)
    facts["images_per_second"] = round(state.step * config.batch_size / state.wall_seconds, 1)
    facts["peak_memory_bytes"] = peak_memory()
    folders.write_json(run, "provenance.json", facts)
    return state


def encode_run(run: Run, data: FactorData, state: State | None = None) -> Codes:
    """Encode the images to score, once, the same for every seed; from the weights in memory or those in the folder."""
    config = _here(run.config)
    model = folders.load_model(run).to(choose_device(config.device)) if state is None else state.model
    _same_data(run, data)
    count = _count_scored(run.config, data)
    rows = np.arange(len(data))
    if count < len(data):
        rows = np.sort(np.random.default_rng(0).choice(len(data), count, replace=False))
    mean, log_var = encode(config, data, rows, model)
    codes = Codes(rows, mean, log_var)
    folders.save_codes(run, codes)
    return codes


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
    """Score the codes in the folder against the data's factors; write scores.json and return it.

    Named metrics join what scores.json has by the same protocol; all of them, or another protocol, replace it.

    Args:
        run: a run whose images are encoded.
        data: what it was trained on; without factors only KL and held-out terms are written.
        names: metrics, keys of `metrics.METRICS`; those of the run's settings by default.
        preset: protocol, see `metrics.evaluate`.
        seed: of the evaluation; the run's by default.
        evaluations: how many, with different seeds; as the run's settings say by default.
        sampled: score codes drawn from the posteriors instead of their means.
        fold_orientation: score dSprites with its orientation up to the symmetry of each shape.
        progress: called with what is being done, parts done, parts in all.

    Raises:
        ValueError: an unknown metric or preset; orientation to fold in data other than dSprites; metrics asked for, and
            no factors.
    """
    _same_data(run, data)
    if not data.factors.shape[1] and (names or fold_orientation):
        raise ValueError(f"{data.name} has no factors that vary, so there is nothing to score codes against")
    codes = _codes(run, data)
    seed = run.config.seed if seed is None else seed
    rows, mean, kl, draws = codes.rows, codes.mean, codes.kl, _sampled(codes, seed)
    del codes  # log variances of all images are large
    values: dict[str, Any] = {}
    if data.factors.shape[1]:
        factors, factor_names = data.factors, list(data.factor_names)
        if fold_orientation:
            if not data.is_dsprites:
                raise ValueError(f"orientation can be folded in dSprites only, got the factors {data.factor_names}")
            factors = dsprites.fold_orientation(data.classes())
            factor_names[2] = "orientation (folded)"
        values = scoring.score_tables(
            draws if sampled else mean,
            factors[rows],
            names or run.config.scores,
            preset=preset,
            seed=seed,
            repeats=run.config.evaluations if evaluations is None else evaluations,
            kl=kl,
            discrete=isinstance(run.config.objective, Qlae),
            sampled=draws,
            factor_names=factor_names,
            progress=progress,
        )
        ceilings = metrics.score_ceilings(factors, data.image_numbers())
        values["ceilings"] = {
            name: best for name, best in ceilings.items() if name in values["scores"] and best < 1 - 1e-9
        }
        values["protocol"]["codes"] = "sampled" if sampled else "means"
        values["protocol"]["factors"] = factor_names
        before = _scores(run, data) if names else {}
        if before.get("protocol") == values["protocol"]:
            for table in ("scores", "intervals", "chance", "ceilings", "arrays"):
                values[table] = {**before.get(table, {}), **values[table]}
            values["notes"] = [*dict.fromkeys([*before.get("notes", []), *values["notes"]])]
    values |= {"kl": kl.tolist(), "held_out": _held_out(run, data)}
    folders.write_json(run, "scores.json", values)
    return values


def _sampled(codes: Codes, seed: int) -> NDArray[np.float32]:
    """A draw from each posterior."""
    draws = np.random.default_rng(seed).standard_normal(codes.mean.shape, np.float32)
    for draw, mean, log_var in zip(draws.T, codes.mean.T, codes.log_var.T, strict=True):
        draw *= np.exp(log_var / 2)
        draw += mean
    return draws


def draw_run(run: Run, data: FactorData, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Draw all figures of a trained run into its folder `figures`."""
    _same_data(run, data)
    scores = schemas.read_scores(run.folder, run.config.codes, data.factors.shape[1])
    codes, model = _codes(run, data), folders.load_model(run)
    rows = seed_rows(run.config, data, model)
    seed_codes, _ = encode(run.config, data, rows, model)

    def decode(codes: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            images: NDArray[np.float32] = model.mean_images(torch.from_numpy(codes)).numpy()
        return images

    tables = scores.get("arrays", {})
    arrays = {name: np.array(tables[name], float) for name in tables if name in schemas.DRAWN}
    scored = "dci.importance" in arrays
    return draw_all(
        run.path("figures"),
        decode=decode,
        seed_images=data.images(rows) / data.max_value,
        seed_codes=seed_codes,
        code_mean=codes.mean.mean(0),
        code_std=codes.mean.std(0),
        kl=codes.kl,
        carries=scoring.carried_factors(scores, run.config.codes),
        records=folders.read_curve(run),
        codes=codes.mean,
        factors=data.factors[codes.rows],
        factor_names=data.factor_names,
        factor_values=_factor_values(data),
        importance=arrays.get("dci.importance"),
        per_code={"disentanglement": arrays["dci.per_code"]} if scored else None,
        per_factor={"completeness": arrays["dci.per_factor"], "informativeness": arrays["dci.accuracy"]}
        if scored
        else None,
        formats=formats,
    )


def report_run(run: Run, data: FactorData, max_bytes: int = report.PAGE_BYTES) -> Path:
    """Write the run's report.html from what is in its folder; the page says what is missing there or does not fit."""
    _same_data(run, data)
    scores, facts = _scores(run, data), _read_if_there(run, "provenance.json")
    model, codes, problem = _model_and_codes(run)
    kl = codes.kl.tolist() if codes else []
    pictures = run.path("figures")
    found = [*pictures.glob("*.png"), *pictures.glob("*.gif"), *pictures.glob("traversals/*.gif")]
    figures = sorted(path for path in found if path.is_file())
    return report.write_report(
        report.Report(
            title=run.folder.resolve().name,
            summary=_summary(run.config, data, facts),
            config=to_dict(run.config),
            provenance=facts | ({"command": shlex.join(facts["command"])} if "command" in facts else {}),
            command=_repeating(run, facts),
            carriers=scoring.carrier_phrases(scores),
            scores=scores.get("scores", {}),
            intervals=scores.get("intervals", {}),
            chance=scores.get("chance", {}),
            ceilings=scores.get("ceilings", {}),
            protocol=scores.get("protocol", {}),
            notes=scores.get("notes", []),
            records=folders.read_curve(run),
            kl=kl,
            factor_names=scores.get("protocol", {}).get("factors", data.factor_names),
            information=scoring.information_shares(scores, kl),
            figures=figures,
            explorer=_explorer(run, data, scores, model, codes) if model and codes else None,
            no_explorer=problem,
        ),
        run.path("report.html"),
        max_bytes,
    )


def _repeating(run: Run, facts: Mapping[str, Any]) -> str:
    """The command that repeats a run, with the files of the user's own that it imports; "" where none can."""
    if run.config.data == IN_MEMORY:
        return ""
    own = [word for file in facts.get("imported", []) for word in ("--import", str(file))]
    settings = f"{run.folder.as_posix()}/config.json"
    return shlex.join(["betavae", *own, "train", "--from", settings, "--out", "runs/again"])


def compare_runs(runs: Sequence[Run], data: FactorData, path: Path) -> Path:
    """Write one page about several trained runs on the same data.

    Raises:
        FileNotFoundError: a run is not finished.
        ValueError: fewer than two runs, or runs of different data.
    """
    sources = {run.config.data for run in runs}
    if len(sources) > 1:
        raise ValueError(
            f"the runs are of different data ({', '.join(sorted(sources))}); scores of different data cannot be "
            "compared: give runs of one"
        )
    for run in runs:
        _same_data(run, data)
    row = seed_rows(runs[0].config, data, folders.load_model(runs[0]))[:1]
    names = _distinct([run.folder.resolve() for run in runs])
    members = [_member(run, data, row, name) for run, name in zip(runs, names, strict=True)]
    return write_atomically(path, comparison.render_comparison(members, data.name, data.factor_names).encode())


# ---------------------------------------------------------------------------------------------------------------------
# Details
# ---------------------------------------------------------------------------------------------------------------------


def seed_rows(config: Config, data: FactorData, model: VAE) -> NDArray[np.int64]:
    """Rows of the images to reconstruct and traverse: held out where any are, the first factor's values in turn.

    The first image is the one that the model reconstructs best, among the quarter of those with the last value of the
    first factor (on dSprites hearts) that are furthest from the mean image: large objects. Errors count relative to
    that distance.
    """
    split = _split(config, data)
    pool = split.validation if len(split.validation) else split.train
    pool = np.random.default_rng(config.seed).permutation(pool)[: 50 * SEED_IMAGES]
    if data.factors.shape[1]:
        first = data.factors[pool, 0]
        turn = np.empty(len(pool), int)
        for value in np.unique(first):
            turn[first == value] = np.arange(np.count_nonzero(first == value))
        pool = pool[np.lexsort((-first, turn))]
    alike = pool[data.factors[pool, :1].ravel() == data.factors[pool[0], :1]] if data.factors.shape[1] else pool
    errors, distances = _misses(config, data, alike, model)
    errors[distances < np.quantile(distances, 0.75)] = np.inf
    best = alike[(errors / np.maximum(distances, 1e-12)).argmin()]
    pool[pool == best], pool[0] = pool[0], best
    return pool[:SEED_IMAGES]


def _misses(
    config: Config, data: FactorData, rows: NDArray[np.int64], model: VAE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of each image the sums of absolute differences to its reconstruction, and to the mean of all these images."""
    images = data.images(rows) / np.float32(data.max_value)
    codes, _ = encode(config, data, rows, model)
    with torch.inference_mode():
        rebuilt = model.mean_images(torch.from_numpy(codes)).numpy()
    return abs(images - rebuilt).sum((1, 2, 3)), abs(images - images.mean(0)).sum((1, 2, 3))


def _same_data(run: Run, data: FactorData) -> None:
    """Refuse data that have changed since the run began."""
    before = _read_if_there(run, "provenance.json").get("data", {}).get("sha256", data.digest)
    if before != data.digest:
        raise ValueError(
            f"{run.config.data} holds other images than {run.path('provenance.json')} says the run was begun with; "
            "bring them back, or train anew"
        )


def _codes(run: Run, data: FactorData) -> Codes:
    codes = folders.load_codes(run)
    if codes.rows.max() >= len(data):
        raise ValueError(
            f"{run.path('codes.npz')} is of images that {data.name} has not; delete it and encode again with `betavae "
            f"score {run.folder}`"
        )
    return codes


def _count_scored(config: Config, data: FactorData) -> int:
    """Images to encode and score; all where fewer are there than were asked for."""
    wanted = config.scored_images
    return min(round(wanted * len(data)) if isinstance(wanted, float) else wanted, len(data))


def _split(config: Config, data: FactorData) -> Split:
    split = split_rows(len(data), config.train_images, config.validation_images, config.test_images, config.seed)
    needs, held_out = needs_of(config.objective), len(split.validation)
    if 0 < held_out < needs.batch_images:
        raise ValueError(
            f"validation_images comes to {held_out}; {needs.because} and needs at least {needs.batch_images} images: "
            "hold out more, or none"
        )
    return split


def _held_out(run: Run, data: FactorData) -> dict[str, float]:
    """Loss and terms of the trained model on all held-out images; empty where there are none.

    Without the checkpoint, which holds the objective's memory and network, only what the model itself gives.
    """
    split = _split(run.config, data)
    if not len(split.validation):
        return {}
    config = _here(run.config)
    given = config, data, split.validation, len(split.train)
    state = new_state(config, data)
    if run.path("checkpoint.safetensors").exists():
        folders.load_checkpoint(run, state)
        return held_out_terms(*given, state)
    state.model.load_state_dict(folders.load_model(run).state_dict())
    state.step = run.config.steps
    terms = held_out_terms(*given, state)
    return {name: terms[name] for name in ("reconstruction", "rate")}


def _here(config: Config) -> Config:
    """The settings with a device of this machine, where they name one that it has not: to look at a trained model."""
    try:
        choose_device(config.device)
    except ValueError:
        return replace(config, device="auto")
    return config


def _read_if_there(run: Run, name: str) -> dict[str, Any]:
    return folders.read_json(run, name) if run.path(name).exists() else {}


def _scores(run: Run, data: FactorData) -> dict[str, Any]:
    """What scores.json holds, of as many factors as the data have; empty where it is not there.

    Raises:
        ValueError: it is damaged.
    """
    if not run.path("scores.json").exists():
        return {}
    return dict(schemas.read_scores(run.folder, run.config.codes, data.factors.shape[1]))


def _model_and_codes(run: Run) -> tuple[VAE | None, Codes | None, str]:
    """The trained network and its codes, or what of them is missing or damaged, in a sentence."""
    try:
        return folders.load_model(run), folders.load_codes(run), ""
    except (FileNotFoundError, ValueError) as error:
        return None, None, f"No explorer: {error}."


def _explorer(run: Run, data: FactorData, scores: dict[str, Any], model: VAE, codes: Codes) -> Explorer:
    rows = seed_rows(run.config, data, model)[:EXPLORED_IMAGES]
    seed_codes, _ = encode(run.config, data, rows, model)
    sliders = describe_codes(codes.mean, codes.log_var, codes.kl, scoring.strengths(scores, run.config.codes))
    return Explorer(model, sliders, data.images(rows) * np.uint8(255 // data.max_value), seed_codes)


def _distinct(folders: Sequence[Path]) -> list[str]:
    """Names of different folders, with as many of those that they lie in as tell them apart.

    Example:
        >>> _distinct([Path("/a/x/run"), Path("/a/y/run")])
        ['x/run', 'y/run']
    """
    for count in range(1, max(len(folder.parts) for folder in folders)):
        names = [str(Path(*folder.parts[-count:])) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _member(run: Run, data: FactorData, row: NDArray[np.int64], name: str) -> comparison.Member:
    """A run for the comparison: its scores, and for each factor the traversal of the code that tells most about it."""
    scores, model, codes = _scores(run, data), folders.load_model(run), _codes(run, data)
    start = encode(run.config, data, row, model)[0][0]
    ranges = {
        code.index: np.linspace(code.low, code.high, COMPARED_IMAGES)
        for code in describe_codes(codes.mean, codes.log_var, codes.kl, scoring.strengths(scores, run.config.codes))
    }
    shares = scoring.information_shares(scores, codes.kl.tolist())
    traversals = {}
    for k, factor in enumerate(data.factor_names if shares else ()):
        code = max(ranges, key=lambda code: shares[f"z{code}"][k])
        moved = np.tile(start, (COMPARED_IMAGES, 1))
        moved[:, code] = rising(ranges[code], codes.mean[:, code], data.factors[codes.rows, k])
        with torch.inference_mode():
            images = model.mean_images(torch.from_numpy(moved)).mul(255).round().byte().numpy()
        traversals[factor] = comparison.Traversal(code, shares[f"z{code}"][k], images)
    return comparison.Member(name, to_dict(run.config), scores.get("scores", {}), folders.read_curve(run), traversals)


def rising(
    values: NDArray[np.float64], codes: NDArray[np.float32], factor: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Values of a code, turned so that the factor rises along them: then runs can be compared picture by picture.

    Example:
        >>> rising(np.array([-1.0, 0.0, 1.0]), np.array([0.9, 0.1, -0.7], np.float32), np.array([0, 1, 2]))
        array([ 1.,  0., -1.])
    """
    return values if np.cov(codes, factor)[0, 1] >= 0 else values[::-1]


def _factor_values(data: FactorData) -> dict[str, Sequence[float | str]] | None:
    """What the indices of dSprites' factors stand for; unknown for other data."""
    if not data.is_dsprites:
        return None
    occurring: Sequence[Sequence[int]] = [values.tolist() for values in data.factor_values]
    occurring = occurring or [range(size) for size in data.factor_sizes]
    meanings: tuple[Sequence[float | str], ...] = (
        dsprites.SHAPES,
        dsprites.SCALES.tolist(),
        dsprites.ORIENTATIONS.tolist(),
        dsprites.POSITIONS.tolist(),
        dsprites.POSITIONS.tolist(),
    )
    return {
        name: [values[index] for index in classes]
        for name, values, classes in zip(dsprites.FACTOR_NAMES, meanings, occurring, strict=True)
    }


def _summary(config: Config, data: FactorData, facts: dict[str, Any]) -> str:
    split = _split(config, data)
    trained = ", not trained to the end"
    if "train_seconds" in facts:
        trained = f", in {facts['train_seconds'] / 60:.1f} minutes"
        trained += f" on {facts['device']}" if "device" in facts else ""
    return (
        f"{objective_name(config.objective)} objective, {config.model} network with {config.codes} codes: "
        f"{config.steps:,} steps of {config.batch_size} images from {len(split.train):,} of {data.name}{trained}. "
        f"{prior_note([config.model])}"
    ).strip()


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """Collects Ctrl-C and SIGTERM, so that the loop ends between two records; a second Ctrl-C ends it at once.

    A second SIGTERM does not: job schedulers send it to all processes, and the driver of a study passes on its own.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def catch(number: int, frame: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
