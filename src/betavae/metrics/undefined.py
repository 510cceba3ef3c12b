"""Report undefined scores, and metrics that cannot be computed."""

import warnings


class MetricSkipped(UserWarning):
    """Warns that a metric was left out of an evaluation.

    Args:
        metric: name of the metric.
        reason: why it cannot be computed.
    """

    def __init__(self, metric: str, reason: str) -> None:
        super().__init__(f"{metric} is left out: {reason}")
        self.metric, self.reason = metric, reason


def warn_undefined(score: str, reason: str) -> None:
    """Warn that a score is ``nan`` and give the reason.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_undefined("MIG", "no factor varies")
        >>> str(caught[0].message)
        'MIG is undefined (nan): no factor varies'
    """
    warnings.warn(f"{score} is undefined (nan): {reason}", stacklevel=3)
