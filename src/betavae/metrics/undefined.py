"""Report undefined scores."""

import warnings


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
