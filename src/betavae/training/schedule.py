"""The learning rate over the steps."""

import math

from betavae.config import Config


def learning_rate_factor(config: Config, step: int) -> float:
    """Share of the learning rate that a step takes: 1, or that of one-cycle (a linear rise, over the first tenth if not
    given otherwise, then half a cosine down to 0).

    Source:
        Super-Convergence (Smith & Topin, 2018), with a cosine for the fall. https://arxiv.org/abs/1708.07120

    Example:
        >>> config = Config(schedule="one-cycle", steps=100)
        >>> [round(learning_rate_factor(config, step), 2) for step in (0, 9, 54, 99)]
        [0.1, 1.0, 0.52, 0.0]
    """
    if config.schedule == "constant":
        return 1.0
    rise = config.schedule_warmup_steps or max(1, config.steps // 10)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, config.steps - rise)))
