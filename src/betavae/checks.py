"""What settings are refused for, in a sentence: numbers out of range and names that nobody knows. Imports no torch."""

import difflib
import math
from collections.abc import Iterable
from typing import Any

_EXTENDED = ("objective", "model", "metric")
"""Kinds of names that a file of the user's own may add to."""


def unknown(kind: str, given: str, known: Iterable[str]) -> str:
    """The sentence for a name that is not known: the nearest one suggested, all listed, and what makes own ones known.

    Example:
        >>> unknown("recipe", "dem", ["demo", "fast"])
        "unknown recipe 'dem'; did you mean 'demo'? Known: demo, fast"
    """
    known = list(known)
    nearest = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ";"
    own = "; if it is your own, name the file that defines it: betavae --import FILE ..."
    return f"unknown {kind} '{given}'{hint} Known: {', '.join(known)}" + own * (kind in _EXTENDED)


def check_size(name: str, value: object) -> None:
    """Refuse a whole number that no array can count and no float can hold.

    Example:
        >>> check_size("steps", 10**400)
        Traceback (most recent call last):
        ValueError: steps has 401 digits; it must be below 2 to the power of 63
    """
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise ValueError(f"{name} has {len(str(abs(value)))} digits; it must be below 2 to the power of 63")


def check_at_least(settings: object, least: float, *names: str) -> None:
    """Refuse settings below a number; one that is not given, None, passes."""
    for name in names:
        value = getattr(settings, name)
        check_size(name, value)
        if value is not None and not (math.isfinite(value) and value >= least):
            raise ValueError(f"{name} is {value}; it must be a number of at least {least}")


def check_above(settings: object, bound: float, *names: str) -> None:
    """Refuse settings that are not above a number; one that is not given, None, passes."""
    for name in names:
        value = getattr(settings, name)
        check_size(name, value)
        if value is not None and not (math.isfinite(value) and value > bound):
            raise ValueError(f"{name} is {value}; it must be a number above {bound}")


def check_name(kind: str, given: Any, known: Iterable[str]) -> None:
    """Refuse a name that is not known, with the sentence of `unknown`."""
    if given not in known:
        raise ValueError(unknown(kind, str(given), known))


def check_image_share(name: str, value: int | float, required: bool) -> None:
    """Refuse what is neither a number of images nor a share of them; 0 where at least one is required."""
    check_size(name, value)
    allowed = "a number of images (150000) or, with a decimal point, a share between 0 and 1 (0.8)"
    if not math.isfinite(value) or value < 0 or (isinstance(value, float) and value > 1) or (required and value == 0):
        raise ValueError(f"{name} is {value}; it must be {allowed}")
