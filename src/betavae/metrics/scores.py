"""The result of an evaluation: scores, intervals, chance levels and matrices."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from betavae.files.frames import score_frame
from betavae.metrics.captures import Capture

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Scores:
    """Result of `evaluate`. Keys are flat and dotted: ``"dci.disentanglement"``, ``"mig"``.

    Attributes:
        scores: value of each score; ``nan`` if it is undefined.
        intervals: 95 % prediction interval of each score for another evaluation seed; see `evaluate`.
        chance: each score with the rows of the latents shuffled. Scores that ignore factors have none.
        ceilings: highest score that the labels allow, if identical images with different labels lower it.
        arrays: matrices and values per latent or factor: ``"dci.importance"`` (D, K), ``"dci.per_latent"`` (D,),
            ``"mig.mutual_information"`` (D, K) in nats, ``"active"`` (D,). Rows of latents that are left out are 0
            (`fit_dci` has ``nan`` for their disentanglement).
        captures: the latents that capture each factor.
        preset: name of the preset.
        seed: seed of the evaluation.
        num_rows: number of rows of the tables.
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
        """Return plain lists, strings and numbers for `json.dump`; ``nan`` becomes ``None``.

        Example:
            >>> scores = Scores({"mig": float("nan")}, {}, {}, {}, {"active": np.array([True])}, (), "dlib", 0, 10)
            >>> scores.to_json()["scores"], scores.to_json()["arrays"]
            ({'mig': None}, {'active': [True]})
        """
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["arrays"] = {name: array.tolist() for name, array in self.arrays.items()}
        plain["captures"] = [asdict(capture) for capture in self.captures]
        return {name: _without_nan(value) for name, value in plain.items()}

    def to_frame(self) -> "pandas.DataFrame":
        """Return a data frame with a row per score: value, 95 % interval, chance level and ceiling.

        Raises:
            ModuleNotFoundError: pandas is not installed.

        Example:
            >>> scores = Scores({"mig": 0.5}, {"mig": (0.4, 0.6)}, {"mig": 0.0}, {}, {}, (), "dlib", 0, 10)
            >>> float(scores.to_frame().loc["mig", "high"])
            0.6
        """
        return score_frame(self.scores, self.intervals, self.chance, self.ceilings)


def _without_nan(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: _without_nan(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_without_nan(entry) for entry in value]
    return value
