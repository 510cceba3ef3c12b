"""Numbers that depend on the training step. Imports no torch.

An objective's settings compute them in their method ``schedule``, and training hands them to the objective in
`Batch.schedule`. So objectives never see the step itself, and recorded CUDA graphs can take the numbers as tensors.
"""


def ramp(step: int, steps: int) -> float:
    """Linear rise from 0 at step 0 to 1 at step ``steps``, and 1 from there on; 1 always if ``steps`` is 0.

    Example:
        >>> [ramp(step, 4) for step in (0, 1, 4, 9)], ramp(0, 0)
        ([0.0, 0.25, 1.0, 1.0], 1.0)
    """
    return min(step / steps, 1.0) if steps else 1.0


def since(step: int, start: int) -> int:
    """Steps since a start; 0 before it.

    Example:
        >>> since(3, 5), since(7, 5)
        (0, 2)
    """
    return max(0, step - start)
