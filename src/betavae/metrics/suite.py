"""Many metrics on one pair of tables: presets, shared work, intervals, chance levels, and what comes back."""

import inspect
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from betavae.files.validation import check_name
from betavae.metrics.beta_vae import beta_vae
from betavae.metrics.captures import Capture, find_captures
from betavae.metrics.ceilings import score_ceilings
from betavae.metrics.dci import DCI, TreeFits, dci, fit_trees, summarise
from betavae.metrics.dci_es import dci_es
from betavae.metrics.downstream import downstream, efficiencies, label_counts, tree_accuracy
from betavae.metrics.edi import edi, exclusivity_scores
from betavae.metrics.factor_vae import factor_vae, z_max_variance, z_min_variance
from betavae.metrics.fairness import draw_probes, fairness, unfairness
from betavae.metrics.infomec import infomec
from betavae.metrics.information import Information, measure_information
from betavae.metrics.inputs import (
    CONTINUOUS,
    active_latents,
    by_kind,
    check_classes,
    check_tables,
    check_whole,
    draw_rows,
    num_threads,
    standard_deviation,
)
from betavae.metrics.irs import irs
from betavae.metrics.mcc import mcc
from betavae.metrics.meanings import meaning_of
from betavae.metrics.mig import dcimig, dcimig_of, jemmig, jemmig_of, mig, mig_chen, mig_of, mig_sup, mig_sup_of
from betavae.metrics.modularity import explicitness, modularity, modularity_of
from betavae.metrics.protocol import Protocol, choose, sample_sizes
from betavae.metrics.r2 import r2
from betavae.metrics.sap import sap
from betavae.metrics.unibound import unibound
from betavae.metrics.unsupervised import unsupervised

METRICS: Final[dict[str, Callable[..., dict[str, float]]]] = {
    "dci": dci,
    "mig": mig,
    "mig_chen": mig_chen,
    "mig_sup": mig_sup,
    "dcimig": dcimig,
    "jemmig": jemmig,
    "sap": sap,
    "beta_vae": beta_vae,
    "factor_vae": factor_vae,
    "z_min_variance": z_min_variance,
    "z_max_variance": z_max_variance,
    "modularity": modularity,
    "explicitness": explicitness,
    "irs": irs,
    "infomec": infomec,
    "dci_es": dci_es,
    "downstream": downstream,
    "fairness": fairness,
    "mcc": mcc,
    "r2": r2,
    "edi": edi,
    "unibound": unibound,
    "unsupervised": unsupervised,
}
"""Metrics by name; an own one is added here, and what its scores mean to `MEANINGS`."""
_SHIPPED: Final = frozenset(METRICS)
_ON_REQUEST: Final = ("unibound",)
"""Metrics that take long: part of an evaluation only where they are named."""

BY_CLASS: Final = frozenset(
    ("dci", "mig", "mig_chen", "mig_sup", "dcimig", "jemmig", "sap", "modularity", "explicitness", "irs", "infomec")
) | {"dci_es", "downstream", "fairness", "edi", "unibound"}
"""Metrics that take factors for classes, several rows each."""
_BLIND: Final = ("unsupervised.", "factor_vae.num_active", "dci_es.size")  # scores that shuffled rows cannot change


@dataclass(frozen=True)
class Scores:
    """What `evaluate` returns. Keys are flat and dotted: ``"dci.disentanglement"``, ``"mig"``.

    Attributes:
        scores: value of each score; ``nan`` where it is undefined.
        intervals: 95 % interval of each score: where the same evaluation with another seed falls (see `evaluate`).
        chance: the same score with the latents' rows shuffled against the factors'; not for scores that ignore factors.
        ceilings: best score that the labels allow, where images with several labels lower it.
        arrays: matrices and per-latent, per-factor values: ``"dci.importance"`` (D, K), ``"dci.per_latent"`` (D,),
            ``"mig.mutual_information"`` (D, K) nats, ``"active"`` (D,). Rows of latents that were left out are 0.
        captures: which latent captures which factor.
        preset: name of the protocol.
        seed: seed of the evaluation.
        num_rows: rows of the tables.
    """

    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    chance: dict[str, float]
    ceilings: dict[str, float]
    arrays: dict[str, np.ndarray] = field(repr=False)
    captures: tuple[Capture, ...]
    preset: str
    seed: int
    num_rows: int

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, strings and numbers, ready for `json.dump`; ``nan`` becomes ``None``.

        Example:
            >>> scores = Scores({"mig": float("nan")}, {}, {}, {}, {"active": np.array([True])}, (), "dlib", 0, 10)
            >>> scores.to_json()["scores"], scores.to_json()["arrays"]
            ({'mig': None}, {'active': [True]})
        """
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["arrays"] = {name: array.tolist() for name, array in self.arrays.items()}
        plain["captures"] = [asdict(capture) for capture in self.captures]
        return {name: _without_nan(value) for name, value in plain.items()}


def _without_nan(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: _without_nan(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_without_nan(entry) for entry in value]
    return value


@dataclass(frozen=True)
class _Draw:
    """One evaluation: tables, seed, sizes, options, and what several metrics share, computed when first asked for."""

    label: str
    names: Sequence[str]
    latents: np.ndarray
    sampled: Callable[[], np.ndarray]
    factors: np.ndarray
    labels: np.ndarray
    continuous: np.ndarray
    seed: int
    given: Mapping[str, int | None]
    protocol: Protocol
    discrete: bool

    @cached_property
    def sizes(self) -> tuple[int, int]:
        return sample_sizes(len(self.latents), self.protocol, **self.given)

    @cached_property
    def information(self) -> Information:
        return measure_information(
            self.latents, self.labels, seed=self.seed, num_train=self.sizes[0], preset=self.protocol
        )

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        train, test = draw_rows(len(self.latents), self.sizes, rng, with_replacement=self.protocol.with_replacement)
        check_classes(self.labels[train][:, ~self.continuous])
        return train, test

    @cached_property
    def probes(self) -> list[np.ndarray]:
        if "fairness" not in self.names or self.continuous.any():
            return []
        return draw_probes(self.labels, self.seed, paired=self.protocol.paired_fairness)

    @cached_property
    def trees(self) -> TreeFits:
        """Trees on the training rows, and what they predict for the test rows and then for the fairness probes."""
        train, test = self.rows
        others = np.concatenate([test, *(probe.ravel() for probe in self.probes)])
        return fit_trees(
            self.latents[train], self.labels[train], self.latents[others], seed=self.seed, continuous=self.continuous
        )

    @cached_property
    def dci(self) -> DCI:
        test = self.rows[1]
        fits = self.trees._replace(predicted=self.trees.predicted[: len(test)])
        return summarise(fits, self.labels[test], self.continuous)


_Measured = tuple[dict[str, float], dict[str, np.ndarray]]


def _measure(name: str, draw: _Draw) -> _Measured:
    """Scores and arrays of one metric, from shared parts where there are any."""
    match name:
        case "dci":
            return draw.dci.scores(), dict(vars(draw.dci))
        case "mig":
            found = draw.information
            return mig_of(found), {"mutual_information": found.shared, "factor_entropy": found.factor_entropy}
        case "mig_sup":
            return mig_sup_of(draw.information), {}
        case "dcimig":
            return dcimig_of(draw.information), {}
        case "jemmig":
            return jemmig_of(draw.information), {}
        case "modularity":
            return modularity_of(draw.information), {}
        case "downstream":
            train, test = draw.rows
            sizes = label_counts(draw.sizes[0])
            few = [tree_accuracy(draw.latents, draw.labels, train[:number], test, draw.seed) for number in sizes[:-1]]
            return efficiencies(sizes, [*few, draw.dci.scores()["informativeness"]]), {}
        case "fairness":
            return unfairness(draw.trees.predicted[len(draw.rows[1]) :], draw.probes), {}
        case "edi":
            train, test = draw.rows
            labels = draw.labels
            return exclusivity_scores(
                draw.latents[train], labels[train], draw.continuous, draw.trees, labels[test], draw.seed
            ), {}
    if name not in _SHIPPED:
        return _by_another(name, draw), {}
    return _call(name, draw), {}


def _by_another(name: str, draw: _Draw) -> dict[str, float]:
    """Of a metric of the user's own: plain numbers, and for whatever goes wrong in it an error that names it."""
    try:
        return {str(key): float(value) for key, value in _call(name, draw).items()}
    except Exception as error:
        raise ValueError(
            f"metric {name} failed ({type(error).__name__}: {error}); it is called with latents (N, D), factors (N, K) "
            "and a seed, and returns a dict of numbers by name"
        ) from error


def _call(name: str, draw: _Draw) -> dict[str, float]:
    metric = METRICS[name]
    accepted = inspect.signature(metric).parameters
    given: dict[str, Any] = {"preset": draw.protocol, "discrete": draw.discrete}
    if name not in ("z_min_variance", "z_max_variance"):  # they have the sizes of their papers
        given |= draw.given
    latents = draw.sampled() if name == "mig_chen" else draw.latents
    options = {key: value for key, value in given.items() if key in accepted}
    factors = draw.factors if name in CONTINUOUS else draw.labels
    return metric(latents, factors, seed=draw.seed, **options)


def evaluate(
    latents: np.ndarray,
    factors: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    preset: str | Protocol = "default",
    discrete: bool = False,
    seed: int = 0,
    factor_names: Sequence[str] | None = None,
    kl: np.ndarray | None = None,
    sampled: np.ndarray | None = None,
    images: np.ndarray | None = None,
    num_train: int | None = None,
    num_test: int | None = None,
    repeats: int = 5,
    chance: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> Scores:
    """Run many metrics on one pair of tables, on all cores.

    An interval comes from ``repeats`` whole evaluations with different seeds: other rows, other interventions, other
    fits. With their mean m and standard deviation s, the evaluation with one more seed falls into
    m +- t s sqrt(1 + 1 / repeats) in 95 % of cases (t of Student's distribution with repeats - 1 degrees of freedom).
    It says how far a score moves when the same model is scored once more, not how far it moves when the model is
    trained once more. Evaluations of a table of little more than ``num_train + num_test`` rows share most of them,
    and the interval is then too narrow; `mig_chen`, which takes every row, has no interval.

    The chance level is the same evaluation with the rows of the latents shuffled once.

    Args:
        latents: (N, D) latents, all of them: rows are drawn here.
        factors: (N, K) labels of any kind, also a DataFrame, or (N,) for one factor. Where one is continuous, the
            metrics in `betavae.metrics.inputs.CONTINUOUS` remain.
        names: metrics to run, keys of `METRICS`. By default all but `unibound`, which takes long, and `mig_chen` only
            where ``sampled`` is given; one that the table cannot serve is then left out with a warning.
        preset: ``"dlib"``, the protocol of disentanglement_lib; ``"default"``, corrected; or a `Protocol` of your own.
        discrete: whether latents are discrete, as those of a quantised latent space; see `infomec`.
        seed: seed of everything random.
        factor_names: K names; by default those of a DataFrame's columns, or ``factor 0``, ...
        kl: (D,) mean KL divergence of each latent in nats; helps to tell inactive latents.
        sampled: (N, D) latents drawn from the posteriors, which `mig_chen` takes instead of ``latents``.
        images: (N,) number of each row's image, equal for rows whose images are identical; gives ceilings (see
            `betavae.metrics.ceilings`).
        num_train: rows (or points) that metrics are fitted to; by default as `sample_sizes` says.
        num_test: rows (or points) that they are tested on; likewise.
        repeats: evaluations, with the seeds ``seed``, ``seed + 1``, ...; two or more give intervals.
        chance: also score latents whose rows are shuffled.
        progress: called with what is being done, how many parts are done, and how many there are; from several threads,
            one at a time.

    Returns:
        `Scores`; the scores themselves are those of ``seed``, whatever the number of cores.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed or holds too few rows; an unknown metric or preset.

    Example:
        >>> factors = np.random.default_rng(0).integers(3, size=(600, 2))
        >>> found = evaluate(factors.astype(float), factors, names=["mig"], num_train=500)
        >>> found.scores["mig"] > 0.95, found.chance["mig"] < 0.05
        (True, True)
    """
    if names is not None and (isinstance(names, str) or not names):
        raise ValueError(f"names must list at least one metric of {', '.join(METRICS)}, got {names!r}")
    wanted = list(METRICS if names is None else names)
    for name in wanted:
        check_name("metric", name, METRICS)
    if names is None:
        left = (*_ON_REQUEST, *(("mig_chen",) if sampled is None else ()))
        wanted = [name for name in wanted if name not in left]
    if factor_names is None and hasattr(factors, "columns"):
        factor_names = [str(name) for name in factors.columns]
    latents, factors = check_tables(latents, factors, integer_factors=False)
    labels, continuous = by_kind(factors)
    if continuous.any() and names is None:
        left_out = [name for name in wanted if name in _SHIPPED and name not in CONTINUOUS]
        wanted = [name for name in wanted if name not in left_out]
        which = ", ".join(f"factor {k}" for k in np.flatnonzero(continuous))
        warnings.warn(
            f"{which} {'is' if continuous.sum() == 1 else 'are'} continuous: metrics by class are left out "
            f"({', '.join(left_out)}); merge values, for instance with np.digitize, to have them",
            stacklevel=2,
        )
    protocol = choose(preset)
    seed, repeats = check_whole("seed", seed, 0), check_whole("repeats", repeats, 1)
    sample_sizes(len(latents), protocol, num_train, num_test)  # refuse wrong sizes before any work
    if sampled is None:
        sampled = latents
        if "mig_chen" in wanted:
            warnings.warn(
                "mig_chen is that of the latents given; the paper's takes sampled ones (sampled)", stacklevel=2
            )
    elif np.shape(sampled) != latents.shape:
        raise ValueError(f"sampled must have the shape of latents, {latents.shape}, got {np.shape(sampled)}")
    else:
        sampled, _ = check_tables(sampled, factors, integer_factors=False)
    if factor_names is None:
        factor_names = [f"factor {k}" for k in range(factors.shape[1])]
    if len(factor_names) != factors.shape[1]:
        raise ValueError(f"factor_names must name {factors.shape[1]} factors, got {len(factor_names)}: {factor_names}")
    active = active_latents(latents, kl)
    kept = active if protocol.drop_inactive and active.any() else np.ones_like(active)
    if protocol.drop_inactive and not active.any():
        warnings.warn("no latent is in use, by KL or spread: all are scored", stacklevel=2)
    if kl is None and (narrow := np.flatnonzero(~kept & (standard_deviation(latents) > 0))).size:
        warnings.warn(
            f"latents {narrow.tolist()} are left out: they vary by less than 5 % of what the widest does; if they "
            "are in use, bring all latents to one scale",
            stacklevel=2,
        )
    if not kept.all():
        latents = latents[:, kept]

    chosen = replace(protocol, drop_inactive=False)  # they are left out already

    def draw(label: str, number: int, rows: np.ndarray | slice) -> _Draw:
        return _Draw(
            label=label,
            names=wanted,
            latents=latents[rows],
            sampled=lambda: sampled[rows],  # a table of all images is large, and few metrics want this one
            factors=factors,
            labels=labels,
            continuous=continuous,
            seed=seed + number,
            given={"num_train": num_train, "num_test": num_test},
            protocol=chosen,
            discrete=discrete,
        )

    everything = slice(None)
    draws = [draw(f"evaluation {i + 1} of {repeats}", i, everything) for i in range(repeats)]
    if chance:
        draws.append(draw("shuffled", 0, np.random.default_rng(seed).permutation(len(latents))))
    if names is None:
        _ = draws[0].rows  # too few rows would leave out nearly all metrics: one error instead
    measured = _measure_all(draws, wanted, progress, must_succeed=names is not None)
    scores, arrays = measured[0]
    return Scores(
        scores=scores,
        intervals=_intervals([others for others, _ in measured[:repeats]]),
        chance={key: value for key, value in measured[-1][0].items() if not key.startswith(_BLIND)} if chance else {},
        ceilings=_ceilings(factors, images, scores),
        arrays={name: _widen(name, array, kept) for name, array in arrays.items()} | {"active": active},
        captures=_captures(draws[0], kept, factor_names, active),
        preset=preset if isinstance(preset, str) else "custom",
        seed=seed,
        num_rows=len(latents),
    )


def _captures(draw: _Draw, kept: np.ndarray, names: Sequence[str], active: np.ndarray) -> tuple[Capture, ...]:
    """Which latent captures which factor; nothing where factors cannot serve as classes."""
    try:
        found = draw.information
    except ValueError:
        return ()
    return find_captures(_widen("mig.mutual_information", found.shared, kept), found.factor_entropy, names, active)


def _measure_all(
    draws: Sequence[_Draw],
    names: Sequence[str],
    progress: Callable[[str, int, int], None] | None,
    *,
    must_succeed: bool,
) -> list[_Measured]:
    """Every metric on every draw, draws side by side; what fails is an error, or is left out of all draws."""
    from threadpoolctl import threadpool_limits

    num_parts, num_done, lock = len(names) * len(draws), 0, threading.Lock()

    def report(doing: str, done: int = 0) -> None:
        nonlocal num_done
        with lock:
            num_done += done
            if progress is not None:
                progress(doing, num_done, num_parts)

    def run(draw: _Draw) -> dict[str, _Measured | ValueError]:
        found: dict[str, _Measured | ValueError] = {}
        for name in names:
            report(f"{name} ({draw.label})")
            try:
                found[name] = _measure(name, draw)
            except ValueError as error:
                if must_succeed:
                    raise
                found[name] = error
            report(f"{name} ({draw.label})", done=1)
        return found

    # One thread for each matrix product: they are small, and sums come out alike on any number of cores.
    with _each_warning_once(), threadpool_limits(1, "blas"), ThreadPoolExecutor(num_threads()) as pool:
        futures = [pool.submit(run, draw) for draw in draws]
        try:
            outcomes = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    errors = {name: result for found in outcomes for name, result in found.items() if isinstance(result, ValueError)}
    for name, error in errors.items():
        warnings.warn(f"{name} is left out: {error}", stacklevel=3)
    return [_flatten({name: result for name, result in found.items() if name not in errors}) for found in outcomes]


def _flatten(found: Mapping[str, Any]) -> _Measured:
    """Dotted names: ``"dci.disentanglement"``, but ``"mig"``."""
    scores: dict[str, float] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, (values, tables) in found.items():
        scores |= {key if key == name else f"{name}.{key}": value for key, value in values.items()}
        arrays |= {f"{name}.{key}": table for key, table in tables.items()}
    return scores, arrays


@contextmanager
def _each_warning_once() -> Iterator[None]:
    """Hold back what the evaluations warn of, and pass it on without repetitions."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for category, text in dict.fromkeys((warning.category, str(warning.message)) for warning in caught):
        warnings.warn(text, category, stacklevel=5)


_PER_LATENT: Final = ("dci.importance", "dci.per_latent", "dci.latent_weight", "mig.mutual_information")


def _widen(name: str, array: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Put zeros where latents were left out."""
    if name not in _PER_LATENT:
        return array
    wide = np.zeros((len(kept), *array.shape[1:]))
    wide[kept] = array
    return wide


def _intervals(repeats: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Where another evaluation falls in 95 % of cases, from mean and spread of the repeats (Student's t)."""
    if len(repeats) < 2:
        return {}
    from scipy.stats import t

    reach = float(t.ppf(0.975, len(repeats) - 1)) * math.sqrt(1 + 1 / len(repeats))
    intervals = {}
    for name in repeats[0]:
        if name == "mig_chen":  # takes every row: nothing is drawn that could vary
            continue
        values = np.array([repeat[name] for repeat in repeats])
        if not np.isfinite(values).all():
            intervals[name] = (math.nan, math.nan)
            continue
        meaning = meaning_of(name)
        ends = np.clip(values.mean() + reach * values.std(ddof=1) * np.array([-1, 1]), meaning.low, meaning.high)
        intervals[name] = (float(ends[0]), float(ends[1]))
    return intervals


def _ceilings(factors: np.ndarray, images: np.ndarray | None, scores: Mapping[str, float]) -> dict[str, float]:
    if images is None:
        return {}
    return {name: best for name, best in score_ceilings(factors, images).items() if name in scores}
