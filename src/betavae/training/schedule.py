"""Learning-rate schedules."""

import math

from betavae.config import Config


def learning_rate_factor(config: Config, step: int) -> float:
    """Return the learning-rate factor of a step.

    It is always 1 with the constant schedule. With the one-cycle schedule, it increases linearly over
    ``schedule_warmup_steps`` (by default the first tenth of the steps), then decreases to 0 by a half cosine.

    Source:
        Super-Convergence (Smith & Topin, 2018), with cosine annealing. https://arxiv.org/abs/1708.07120

    Example:
        >>> config = Config(schedule="one-cycle", steps=100)
        >>> [round(learning_rate_factor(config, step), 2) for step in (0, 9, 54, 99)]
        [0.1, 1.0, 0.52, 0.0]
    """
    if config.schedule == "constant":
        return 1.0
    warmup = config.schedule_warmup_steps or max(1, config.steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, config.steps - warmup)))
