"""Parses conditions on factors, such as ``shape = heart & posX > 0.5``, and correlations, such as ``shape~posX:0.1``.

A condition compares factors with values: ``=``, ``!=``, ``<``, ``<=``, ``>`` or ``>=``. ``&`` (and) binds stronger than
``|`` (or); parentheses group. ``index(posX)`` compares the number of a value, from 0. Quote names and values with
spaces. `betavae.data.subsets` gives the names and values their meaning.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from betavae.files.validation import short

COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
_TOKEN = re.compile(r"""\s*(<=|>=|!=|==|[=<>&|()]|"[^"]*"|'[^']*'|[^\s<>=!&|()"']+)""")
_LONGEST, _DEEPEST = 10_000, 50
_EXAMPLE = "write, for example, shape = heart & posX > 0.5"


@dataclass(frozen=True)
class Comparison:
    """A comparison of a factor with a value, or of the index of its value with a number."""

    factor: str
    comparison: str
    """One of `COMPARISONS`."""
    value: str
    by_index: bool = False


@dataclass(frozen=True)
class Combined:
    """Conditions of which all hold, or at least one."""

    conditions: tuple[Comparison | Combined, ...]
    all_hold: bool


class Correlation(NamedTuple):
    """Two factors that are correlated in the training images, and the width of their joint distribution."""

    first: str
    second: str
    width: float


def parse_condition(text: str) -> Comparison | Combined:
    """Parse a condition on factors.

    Raises:
        ValueError: the text is not a condition. The message says what was expected where.

    Example:
        >>> parse_condition("scale >= 0.9")
        Comparison(factor='scale', comparison='>=', value='0.9', by_index=False)
    """
    if len(text) > _LONGEST:
        raise ValueError(f"the condition {short(text)} has {len(text):,} characters; at most {_LONGEST:,} are allowed")
    tokens, place = [], 0
    while place < len(text.rstrip()):
        if not (token := _TOKEN.match(text, place)):
            raise ValueError(f"cannot read {short(text[place:].strip())} in the condition {short(text)}; {_EXAMPLE}")
        tokens.append(token[1])
        place = token.end()
    return _Parser(text, tokens).parse()


class _Parser:
    """Recursive descent over the tokens of a condition."""

    def __init__(self, text: str, tokens: list[str]) -> None:
        self._text, self._tokens, self._depth = text, tokens, 0

    def parse(self) -> Comparison | Combined:
        condition = self._alternatives()
        if self._tokens:
            raise self._error("& or |")
        return condition

    def _alternatives(self) -> Comparison | Combined:
        parts = [self._conjunction()]
        while self._take("|"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else Combined(tuple(parts), all_hold=False)

    def _conjunction(self) -> Comparison | Combined:
        parts = [self._single()]
        while self._take("&"):
            parts.append(self._single())
        return parts[0] if len(parts) == 1 else Combined(tuple(parts), all_hold=True)

    def _single(self) -> Comparison | Combined:
        if not self._take("("):
            return self._comparison()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"the condition {short(self._text)} is nested more than {_DEEPEST} levels deep")
        inside = self._alternatives()
        if not self._take(")"):
            raise self._error("a closing parenthesis")
        self._depth -= 1
        return inside

    def _comparison(self) -> Comparison:
        factor = self._word("a factor")
        by_index = factor == "index" and self._take("(")
        if by_index:
            factor = self._word("a factor")
            if not self._take(")"):
                raise self._error("a closing parenthesis")
        sign = self._tokens[0].replace("==", "=") if self._tokens else ""
        if sign not in COMPARISONS:
            raise self._error(f"one of {' '.join(COMPARISONS)}")
        del self._tokens[0]
        return Comparison(factor, sign, self._word("a value"), by_index)

    def _word(self, expected: str) -> str:
        if not self._tokens or self._tokens[0] in (*COMPARISONS, "==", "&", "|", "(", ")"):
            raise self._error(expected)
        word = self._tokens.pop(0)
        return word[1:-1] if word[0] in "\"'" else word

    def _take(self, token: str) -> bool:
        if self._tokens[:1] != [token]:
            return False
        del self._tokens[0]
        return True

    def _error(self, expected: str) -> ValueError:
        found = repr(self._tokens[0]) if self._tokens else "the end"
        return ValueError(f"expected {expected}, found {found} in the condition {short(self._text)}; {_EXAMPLE}")


def parse_correlation(text: str) -> Correlation:
    """Parse a correlation of two factors.

    Raises:
        ValueError: the text is not of the form ``first~second:width``, or the width is not a positive number.

    Example:
        >>> parse_correlation("shape~posX:0.1")
        Correlation(first='shape', second='posX', width=0.1)
    """
    factors, colon, number = text.rpartition(":")
    first, tilde, second = (part.strip() for part in factors.partition("~"))
    try:
        width = float(number)
    except ValueError:
        width = math.nan
    if not (colon and tilde and first and second and math.isfinite(width) and width > 0):
        raise ValueError(
            f"correlation {short(text)} is not two factors and a positive width; write, for example, shape~posX:0.1"
        )
    if first == second:
        raise ValueError(f"correlation {short(text)} names {first} twice; give two different factors")
    return Correlation(first, second, width)
