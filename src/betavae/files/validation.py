"""What settings and files are refused for, in a sentence: types, numbers out of range, unknown names. No torch."""

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
"""Kinds of names that a file of the user's own may add to."""
MAX_EVALUATIONS = 1000
"""Times that a metric may be evaluated."""


def unknown(kind: str, given: str, known: Iterable[str]) -> str:
    """The sentence for a name that is not known: the nearest one suggested, all listed, and what makes own ones known.

    Example:
        >>> unknown("recipe", "dem", ["demo", "fast"])
        "unknown recipe 'dem'; did you mean 'demo'? Known: demo, fast"
    """
    known = list(known)
    hint = nearest(given, known) or ";"
    own = "; if it is your own, name the file that defines it: betavae --import FILE ..."
    return f"unknown {kind} '{given}'{hint} Known: {', '.join(known)}" + own * (kind in _EXTENDED)


def nearest(given: str, known: Iterable[str]) -> str:
    """The part of a message that suggests the known name nearest to one given; empty where none is near.

    Example:
        >>> nearest("dlip", ["default", "dlib"])
        "; did you mean 'dlib'?"
    """
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def check_size(name: str, value: object) -> None:
    """Refuse a whole number that no array can count and no float can hold.

    Example:
        >>> check_size("steps", 10**400)
        Traceback (most recent call last):
        ValueError: steps has 401 digits; it must be below 2 to the power of 63
    """
    if isinstance(value, int) and abs(value) >= 1 << 63:
        digits = int(value.bit_length() * math.log10(2))  # Python refuses to write out numbers of thousands of digits
        digits += abs(value) >= 10**digits
        raise ValueError(f"{name} has {digits} digits; it must be below 2 to the power of 63")


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


def check_evaluations(name: str, value: int) -> None:
    """Refuse more evaluations than give an interval: each is kept in memory until all are done."""
    if value > MAX_EVALUATIONS:
        raise ValueError(f"{name} is {value}; give at most {MAX_EVALUATIONS:,}, and ten make an interval")


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
"""Levels of tables and lists in a value; deeper ones would end the recursion of whatever looks at them."""


def short(value: object) -> str:
    """A value for a message: on one line, cut where it is long."""
    return _SHORT.repr(value)


def check_plain(value: object) -> None:
    """Refuse values of JSON or TOML that are nested deeper than any of ours, or cannot be written again.

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
    """A value of JSON or TOML as one of a declared kind: a whole number serves as a float, a list as a tuple.

    Args:
        name: what to call it in a message; "" for a whole file.
        value: as it was read.
        kind: `int`, `float`, `str`, `bool`, `None`, a list, tuple or dict of these, a `TypedDict`, a union. Keys that a
            `TypedDict` does not know pass: a later version may have written them. Names of a `Literal` pass if they are
            text, for tables of names can be added to; whoever uses them checks them. Other kinds pass.

    Raises:
        ValueError: it is of another kind, lacks a key, or is a number that is not finite or too large.

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
        return value  # objectives come from a table, which can be added to
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
    """The members of a union, the types of a `Literal`'s names, or the kind itself."""
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(single for member in get_args(kind) for single in members_of(member))
    return tuple({type(member) for member in get_args(kind)}) if get_origin(kind) is Literal else (kind,)


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of one kind, which is no union; what is in it is not looked at."""
    plain = dict if is_typeddict(kind) else get_origin(kind) or kind
    if plain is Any or not isinstance(plain, type):
        return True
    if plain in (tuple, list):
        members = get_args(kind)
        fixed = plain is tuple and members and ... not in members
        return isinstance(value, list | tuple) and (not fixed or len(value) == len(members))
    return isinstance(value, plain) and (plain is bool or not isinstance(value, bool))


def _filled(name: str, value: Any, kind: Any) -> Any:
    """A value that `_is` of a kind, what is in it as declared too."""
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
        wanted = members if plain is tuple and ... not in members else members[:1] * len(value)
        items = zip(value, wanted or [Any] * len(value), strict=True)
        return plain(typed(f"{name}[{place}]", item, member) for place, (item, member) in enumerate(items))
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
