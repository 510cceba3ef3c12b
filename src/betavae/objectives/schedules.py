"""Schedules: numbers that depend on the training step. Imports no torch.

The settings of an objective compute them in their method ``schedule``, and training passes them to the objective in
`Batch.schedule`. Objectives do not receive the step itself, so recorded CUDA graphs can use these numbers as tensors.
"""


def ramp(step: int, steps: int) -> float:
    """Return a linear ramp from 0 at step 0 to 1 at step ``steps``, and 1 after that; always 1 if ``steps`` is 0.

    Example:
        >>> [ramp(step, 4) for step in (0, 1, 4, 9)], ramp(0, 0)
        ([0.0, 0.25, 1.0, 1.0], 1.0)
    """
    return min(step / steps, 1.0) if steps else 1.0


def since(step: int, start: int) -> int:
    """Return the number of steps since ``start``; 0 before it.

    Example:
        >>> since(3, 5), since(7, 5)
        (0, 2)
    """
    return max(0, step - start)
