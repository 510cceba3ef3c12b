"""Shares of a study, for the tasks of an array job: each task executes the runs of one share."""

from collections.abc import Sequence


def share_of(runs: Sequence[str], index: int, count: int | None = None) -> list[str]:
    """The runs of one share. The shares have every run once, and nearly the same number of runs.

    The share does not depend on which runs are done, so tasks need not talk to one another.

    Args:
        runs: ids of all runs of the study, in its order.
        index: number of the share, from 0.
        count: number of shares. If None, the number of runs: each share is one run.

    Raises:
        ValueError: there is no such share.

    Example:
        >>> [share_of(["a", "b", "c"], index, 2) for index in (0, 1)]
        [['a', 'c'], ['b']]
    """
    if count is None:
        if not 0 <= index < len(runs):
            raise ValueError(
                f"index is {index}, and the study has {len(runs):,} runs: give --index 0 to {len(runs) - 1}, or the "
                "number of tasks with --of"
            )
        return [runs[index]]
    if count < 1 or not 0 <= index < count:
        raise ValueError(f"index is {index} of {count}; it must be from 0 to one below --of: with --of 4, 0 to 3")
    return list(runs[index::count])
