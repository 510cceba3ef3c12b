"""Validates settings and the contents of files: types, ranges of numbers, known names. Imports no torch."""

import dataclasses
import difflib
import math
import reprlib
import types
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

_EXTENDED = ("objective", "model", "metric")
"""Kinds of names that plugins can define."""
MAX_EVALUATIONS = 1000
"""Largest number of evaluations of a metric."""


def unknown(kind: str, given: str, known: Iterable[str]) -> str:
    """The error message for an unknown name: suggests the nearest known name and lists all of them.

    Example:
        >>> unknown("recipe", "dem", ["demo", "fast"])
        "unknown recipe 'dem'; did you mean 'demo'? Known: demo, fast"
    """
    known = list(known)
    hint = nearest(given, known) or ";"
    plugin = "; if it is your own, name the file that defines it: betavae --import FILE ..."
    return f"unknown {kind} '{given}'{hint} Known: {', '.join(known)}" + plugin * (kind in _EXTENDED)


def nearest(given: str, known: Iterable[str]) -> str:
    """The part of an error message that suggests the nearest known name; empty if none is similar.

    Example:
        >>> nearest("dlip", ["default", "dlib"])
        "; did you mean 'dlib'?"
    """
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def check_size(name: str, value: object) -> None:
    """Refuse an integer of 2 to the power of 63 or more, which no array index or float can represent.

    Example:
        >>> check_size("steps", 10**400)
        Traceback (most recent call last):
        ValueError: steps has 401 digits; it must be below 2 to the power of 63
    """
    if isinstance(value, int) and abs(value) >= 1 << 63:
        digits = int(value.bit_length() * math.log10(2))  # Python does not convert numbers of thousands of digits
        digits += abs(value) >= 10**digits
        raise ValueError(f"{name} has {digits} digits; it must be below 2 to the power of 63")


def check_at_least(settings: object, least: float, *names: str) -> None:
    """Refuse settings below a bound. None is accepted."""
    for name in names:
        value = getattr(settings, name)
        check_size(name, value)
        if value is not None and not (math.isfinite(value) and value >= least):
            raise ValueError(f"{name} is {value}; it must be a number of at least {least}")


def check_above(settings: object, bound: float, *names: str) -> None:
    """Refuse settings that are not above a bound. None is accepted."""
    for name in names:
        value = getattr(settings, name)
        check_size(name, value)
        if value is not None and not (math.isfinite(value) and value > bound):
            raise ValueError(f"{name} is {value}; it must be a number above {bound}")


def check_name(kind: str, given: Any, known: Iterable[str]) -> None:
    """Refuse an unknown name, with the message of `unknown`."""
    if given not in known:
        raise ValueError(unknown(kind, str(given), known))


def check_image_share(name: str, value: int | float, required: bool) -> None:
    """Refuse a value that is neither a number of images nor a fraction of them; and 0 if `required`."""
    check_size(name, value)
    allowed = "a number of images (150000) or, with a decimal point, a fraction between 0 and 1 (0.8)"
    if not math.isfinite(value) or value < 0 or (isinstance(value, float) and value > 1) or (required and value == 0):
        raise ValueError(f"{name} is {value}; it must be {allowed}")


def check_evaluations(name: str, value: int) -> None:
    """Refuse too many evaluations, because all of them are kept in memory."""
    if value > MAX_EVALUATIONS:
        raise ValueError(f"{name} is {value}; it must be at most {MAX_EVALUATIONS:,}; ten are enough for an interval")


# ---------------------------------------------------------------------------------------------------------------------
# Types
# ---------------------------------------------------------------------------------------------------------------------

_WORDS: dict[Any, str] = {
    **{int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"},
    **{list: "a list", tuple: "a list", dict: "a table"},
}
_SCALARS = (int, float, str, bool, type(None), Any)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_NESTED = 50
"""Largest nesting depth of tables and lists, which keeps recursive functions within Python's limit."""


def short(value: object) -> str:
    """A value for an error message: on one line, and cut if it is long."""
    return _SHORT.repr(value)


def check_plain(value: object) -> None:
    """Refuse values of JSON or TOML that are nested too deep, not finite, or not valid Unicode.

    Example:
        >>> deep = []
        >>> for _ in range(2000):
        ...     deep = [deep]
        >>> check_plain(deep)
        Traceback (most recent call last):
        ValueError: it is nested more than 50 levels deep
    """
    level = [value]
    for _ in range(_NESTED):
        tables = [outer for outer in level if isinstance(outer, dict)]
        inside = [inner for outer in level if isinstance(outer, list) for inner in outer]
        level = [*inside, *(inner for table in tables for entry in table.items() for inner in entry)]
        for single in level:
            if isinstance(single, str) and not single.isascii():
                single.encode()
            if isinstance(single, float) and math.isinf(single):
                raise ValueError("it holds a number that is not finite")
        if not level:
            return
    raise ValueError(f"it is nested more than {_NESTED} levels deep")


def typed(name: str, value: Any, kind: Any) -> Any:
    """Convert a value of JSON or TOML to a declared type: an integer may serve as a float, a list as a tuple.

    Args:
        name: name of the value in error messages; "" for a whole file.
        value: value as read from the file.
        kind: `int`, `float`, `str`, `bool`, `None`, a list, tuple or dict of these, a `TypedDict`, or a union. Unknown
            keys of a `TypedDict` are accepted, because a later version may have written them. For a `Literal` of names,
            any text is accepted, because plugins can add names; the caller checks it. Other types are not checked.

    Raises:
        ValueError: the value has another type, lacks a key, or is a number that is not finite or too large.

    Example:
        >>> typed("ends", [1, 2.5], tuple[float, float])
        (1.0, 2.5)
        >>> typed("scores", {"mig": "high"}, dict[str, float | None])
        Traceback (most recent call last):
        ValueError: scores.mig is 'high'; it must be a number or null
    """
    kinds = members_of(kind)
    if type(value) in kinds:  # most are, and curves have many
        return _filled(name, value, type(value))
    if dataclasses.is_dataclass(value):
        return value  # the settings of an objective, which validate themselves
    *others, last = [single for single in kinds if _is(value, single)] or [None]
    for single in others:
        with suppress(ValueError):
            return _filled(name, value, single)
    if last is not None:
        return _filled(name, value, last)
    if type(value) is int and float in kinds:
        check_size(name, value)
        return float(value)
    raise ValueError(f"{name or 'it'} is {short(value)}; it must be {' or '.join(map(_in_words, kinds))}")


@lru_cache
def members_of(kind: Any) -> tuple[Any, ...]:
    """The members of a union, the types of the values of a `Literal`, or the type itself."""
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(single for member in get_args(kind) for single in members_of(member))
    return tuple({type(member) for member in get_args(kind)}) if get_origin(kind) is Literal else (kind,)


def _is(value: Any, kind: Any) -> bool:
    """Whether a value has a type that is not a union. The contents of lists and tables are not checked."""
    plain = dict if is_typeddict(kind) else get_origin(kind) or kind
    if plain is Any or not isinstance(plain, type):
        return True
    if plain in (tuple, list):
        members = get_args(kind)
        fixed = plain is tuple and members and ... not in members
        return isinstance(value, list | tuple) and (not fixed or len(value) == len(members))
    return isinstance(value, plain) and (plain is bool or not isinstance(value, bool))


def _filled(name: str, value: Any, kind: Any) -> Any:
    """Convert the contents of a value for which `_is` is true."""
    if kind is int:
        check_size(name, value)
        return value
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{name} is {value}; it must be a finite number")
    if kind in _SCALARS:
        return value
    plain, members = get_origin(kind) or kind, get_args(kind)
    if is_typeddict(kind):
        kinds = _hints(kind)
        if missing := kind.__required_keys__ - value.keys():
            raise ValueError(f"{name or 'it'} lacks {', '.join(sorted(missing))}")
        known = {key: typed(_inside(name, key), item, kinds[key]) for key, item in value.items() if key in kinds}
        return {**value, **known}
    if plain is dict:
        return {key: typed(_inside(name, key), item, members[1] if members else Any) for key, item in value.items()}
    if plain in (tuple, list):
        types_of_items = members if plain is tuple and ... not in members else members[:1] * len(value)
        items = zip(value, types_of_items or [Any] * len(value), strict=True)
        return plain(typed(f"{name}[{index}]", item, member) for index, (item, member) in enumerate(items))
    return value


@lru_cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _inside(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _in_words(kind: Any) -> str:
    plain = dict if is_typeddict(kind) else get_origin(kind) or kind
    members = [member for member in get_args(kind) if member is not ...]
    if plain is tuple and len(members) > 1:
        return f"a list of {len(members)} values"
    return _WORDS.get(plain, f"of type {getattr(plain, '__name__', plain)}")
