"""Many metrics on one pair of tables: presets, shared work, intervals, chance levels, and what comes back."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Final

import numpy as np

from betavae.metrics.carriers import Carrier, find_carriers
from betavae.metrics.dci import DCI, dci, fit_dci
from betavae.metrics.inputs import active_codes, check_tables, draw_rows
from betavae.metrics.mig import discretise, factor_entropies, mean_gap, mig, mutual_information

METRICS: Final[dict[str, Callable[..., dict[str, float]]]] = {
    "dci": dci,
    "mig": mig,
}


@dataclass(frozen=True)
class Preset:
    """A protocol: how rows are drawn and what is corrected.

    Attributes:
        with_replacement: draw rows independently of each other; false means disjoint training and test rows.
        mask_dead: leave dead codes out of every metric (see `active_codes`).
    """

    with_replacement: bool
    mask_dead: bool


PRESETS: Final[dict[str, Preset]] = {
    "dlib": Preset(with_replacement=True, mask_dead=False),
    "default": Preset(with_replacement=False, mask_dead=True),
}


@dataclass(frozen=True)
class Scores:
    """What `evaluate` returns. Keys are flat and dotted: ``"dci.disentanglement"``, ``"mig"``.

    Attributes:
        scores: value of each score; ``nan`` where it is undefined.
        intervals: 95 % interval of each score: where the same evaluation with another seed falls.
        chance: the same score with the codes' rows shuffled against the factors'.
        ceilings: best score that the labels allow, where that is below the metric's own maximum.
        arrays: matrices and per-code, per-factor values: ``"dci.importance"`` (D, K), ``"dci.per_code"`` (D,),
            ``"mig.mutual_information"`` (D, K) nats, ``"active"`` (D,). Rows of codes that were left out are 0.
        carriers: which code carries which factor.
        preset: name of the protocol.
        seed: seed of the evaluation.
        num_rows: rows of the tables.
    """

    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    chance: dict[str, float]
    ceilings: dict[str, float]
    arrays: dict[str, np.ndarray] = field(repr=False)
    carriers: tuple[Carrier, ...]
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
        plain["carriers"] = [
            {"factor": c.factor, "kind": c.kind, "codes": c.codes, "strength": c.strength} for c in self.carriers
        ]
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
    """One evaluation: the tables, a seed, and what several metrics share, computed when first asked for."""

    codes: np.ndarray
    factors: np.ndarray
    preset: Preset
    seed: int
    sizes: tuple[int, int]

    @cached_property
    def information(self) -> np.ndarray:
        return mutual_information(discretise(self.codes[self._rows]), self.factors[self._rows])

    @cached_property
    def entropies(self) -> np.ndarray:
        return factor_entropies(self.factors[self._rows])

    @cached_property
    def dci(self) -> DCI:
        num_train, num_test = self.sizes
        return fit_dci(
            self.codes,
            self.factors,
            seed=self.seed,
            num_train=num_train,
            num_test=num_test,
            with_replacement=self.preset.with_replacement,
        )

    @cached_property
    def _rows(self) -> np.ndarray:
        rng = np.random.default_rng(self.seed)
        return draw_rows(len(self.codes), self.sizes[:1], rng, with_replacement=self.preset.with_replacement)[0]


def _measure_dci(draw: _Draw) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    fit = draw.dci
    return fit.scores(), {
        "importance": fit.importance,
        "per_code": fit.per_code,
        "code_weight": fit.code_weight,
        "per_factor": fit.per_factor,
        "accuracy": fit.accuracy,
        "accuracy_train": fit.accuracy_train,
    }


def _measure_mig(draw: _Draw) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    arrays = {"mutual_information": draw.information, "factor_entropy": draw.entropies}
    return {"mig": mean_gap(draw.information, draw.entropies)}, arrays


_Measure = Callable[[_Draw], tuple[dict[str, float], dict[str, np.ndarray]]]
_MEASURES: Final[dict[str, _Measure]] = {"dci": _measure_dci, "mig": _measure_mig}
_PER_CODE: Final = {"dci.importance", "dci.per_code", "dci.code_weight", "mig.mutual_information"}


def evaluate(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    preset: str = "default",
    seed: int = 0,
    factor_names: Sequence[str] | None = None,
    kl: np.ndarray | None = None,
    num_train: int = 10_000,
    num_test: int = 5_000,
    repeats: int = 1,
    chance: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Scores:
    """Run many metrics on one pair of tables.

    Args:
        codes: (N, D) codes, all of them: rows are drawn here.
        factors: (N, K) integer factors.
        names: metrics to run, keys of `METRICS`; all by default.
        preset: ``"dlib"``, the protocol of disentanglement_lib to the letter, or ``"default"``, corrected.
        seed: seed of everything random.
        factor_names: K names; ``factor 0``, ... by default.
        kl: (D,) mean KL divergence of each code in nats; helps to tell dead codes.
        num_train: rows that metrics are fitted to.
        num_test: rows that they are judged on.
        repeats: evaluations, with the seeds ``seed``, ``seed + 1``, ...; two or more give intervals.
        chance: also score codes whose rows are shuffled.
        progress: called with what is being done, how many parts are done, and how many there are.

    Returns:
        `Scores`; the scores themselves are those of ``seed``.

    Raises:
        TypeError: A table holds no numbers.
        ValueError: A table is malformed or holds too few rows; an unknown metric or preset.

    Example:
        >>> factors = np.random.default_rng(0).integers(3, size=(600, 2))
        >>> evaluate(factors.astype(float), factors, names=["mig"], num_train=500).scores["mig"] > 0.95
        True
    """
    codes, factors = check_tables(codes, factors)
    names = list(METRICS) if names is None else [_known("metric", name, METRICS) for name in names]
    protocol = PRESETS[_known("preset", preset, PRESETS)]
    if factor_names is None:
        factor_names = [f"factor {k}" for k in range(factors.shape[1])]
    if len(factor_names) != factors.shape[1]:
        raise ValueError(f"factor_names must name {factors.shape[1]} factors, got {len(factor_names)}: {factor_names}")
    active = active_codes(codes, kl)
    kept = active if protocol.mask_dead and active.any() else np.ones_like(active)

    sizes = (num_train, num_test)
    total = len(names) * (repeats + chance)
    done = 0

    def run(draw: _Draw, label: str) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        nonlocal done
        scores: dict[str, float] = {}
        arrays: dict[str, np.ndarray] = {}
        for name in names:
            if progress is not None:
                progress(f"{name} ({label})", done, total)
            measured, tables = _MEASURES[name](draw)
            scores |= {key if key == name else f"{name}.{key}": value for key, value in measured.items()}
            arrays |= {f"{name}.{key}": table for key, table in tables.items()}
            done += 1
        return scores, arrays

    draws = [_Draw(codes[:, kept], factors, protocol, seed + i, sizes) for i in range(repeats)]
    (scores, arrays), *others = [run(draw, f"evaluation {i + 1} of {repeats}") for i, draw in enumerate(draws)]
    shuffled: dict[str, float] = {}
    if chance:
        order = np.random.default_rng(seed).permutation(len(codes))
        shuffled, _ = run(_Draw(codes[order][:, kept], factors, protocol, seed, sizes), "shuffled")
    if progress is not None:
        progress("done", total, total)
    carriers = find_carriers(_widen(draws[0].information, kept), draws[0].entropies, factor_names, active)
    return Scores(
        scores=scores,
        intervals=_intervals([scores, *(other for other, _ in others)]),
        chance=shuffled,
        ceilings={},
        arrays={name: _widen(a, kept) if name in _PER_CODE else a for name, a in arrays.items()} | {"active": active},
        carriers=carriers,
        preset=preset,
        seed=seed,
        num_rows=len(codes),
    )


def _known(what: str, name: str, choices: Mapping[str, object]) -> str:
    if name in choices:
        return name
    near = get_close_matches(str(name), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {name!r}; choose from {', '.join(choices)}{hint}")


def _widen(per_code: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Put zeros where codes were left out."""
    wide = np.zeros((len(kept), *per_code.shape[1:]))
    wide[kept] = per_code
    return wide


def _intervals(repeats: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Where another evaluation falls in 95 % of cases, from the mean and the spread of the repeats (Student's t)."""
    if len(repeats) < 2:
        return {}
    from scipy.stats import t

    reach = t.ppf(0.975, len(repeats) - 1) * math.sqrt(1 + 1 / len(repeats))
    table = {name: np.array([repeat[name] for repeat in repeats]) for name in repeats[0]}
    return {
        name: (float(v.mean() - reach * v.std(ddof=1)), float(v.mean() + reach * v.std(ddof=1)))
        for name, v in table.items()
    }
