"""Makes pandas data frames. No other file imports pandas."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


def data_frame(columns: Mapping[str, Any], index: Sequence[str] | None = None, name: str = "") -> "pandas.DataFrame":
    """Make a data frame of columns.

    Args:
        columns: values of each column.
        index: names of the rows; None numbers them.
        name: name of the index.

    Raises:
        ModuleNotFoundError: pandas is not installed.

    Example:
        >>> data_frame({"score": [0.5]}, ["mig"], "score").index.name
        'score'
    """
    try:
        import pandas
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "data frames need pandas, which is not installed: pip install 'betavae[frames]'"
        ) from None
    return pandas.DataFrame(columns, None if index is None else pandas.Index(index, name=name))


def score_frame(
    scores: Mapping[str, float],
    intervals: Mapping[str, Sequence[float]],
    chance: Mapping[str, float],
    ceilings: Mapping[str, float],
) -> "pandas.DataFrame":
    """Make a data frame with a row per score: its value, 95 % interval, chance level and ceiling; NaN if there is none.

    Example:
        >>> score_frame({"mig": 0.5}, {"mig": (0.4, 0.6)}, {"mig": 0.0}, {}).loc["mig"].tolist()
        [0.5, 0.4, 0.6, 0.0, nan]
    """
    unknown = float("nan")
    bounds = [intervals.get(name, (unknown, unknown)) for name in scores]
    columns = {
        "value": list(scores.values()),
        "low": [low for low, _ in bounds],
        "high": [high for _, high in bounds],
        "chance": [chance.get(name, unknown) for name in scores],
        "ceiling": [ceilings.get(name, unknown) for name in scores],
    }
    return data_frame(
        {name: [unknown if v is None else v for v in values] for name, values in columns.items()}, list(scores), "score"
    )
