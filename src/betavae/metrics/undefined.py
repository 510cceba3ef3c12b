"""How a metric says that its score does not exist."""

import warnings


def warn_undefined(what: str, why: str) -> None:
    """Warn that a score is ``nan``, and why.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_undefined("MIG", "no factor varies")
        >>> str(caught[0].message)
        'MIG is undefined (nan): no factor varies'
    """
    warnings.warn(f"{what} is undefined (nan): {why}", stacklevel=3)
