"""Entries by name: what the package ships, and what users register. Imports nothing heavy."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, TypeVar

from betavae.files.validation import short

Entry = TypeVar("Entry")
_NAME = re.compile(r"[A-Za-z][\w-]*")
"""A name can be a flag and a part of a folder's name."""


class Registry(Mapping[str, Entry]):
    """A read-only mapping from names to entries, which `add` alone extends.

    Names that the package ships cannot be taken. Other names can be registered again, as happens in notebooks.

    Args:
        kind: what the entries are, for error messages, such as ``"metric"``.

    Example:
        >>> colours = Registry("colour")
        >>> colours.add("red", 0xFF0000)
        >>> colours.seal()
        >>> colours.add("red", 0)
        Traceback (most recent call last):
        ValueError: colour 'red' is part of betavae; give yours another name
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self._shipped: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, name: str, entry: Entry) -> None:
        """Add an entry.

        Raises:
            ValueError: The name cannot be a flag, or is one of the package.
        """
        self.check_new(name)
        self._entries[name] = entry

    def check_new(self, name: object) -> None:
        """Refuse a name that cannot be registered; see `add`."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{self.kind} {short(name)}: a name must be a letter, then letters, digits, - or _")
        if name in self._shipped:
            raise ValueError(f"{self.kind} {name!r} is part of betavae; give yours another name")

    def seal(self) -> None:
        """Make all present names those that the package ships."""
        self._shipped = frozenset(self._entries)

    def is_shipped(self, name: str) -> bool:
        """Whether the package ships the entry of a name."""
        return name in self._shipped


def check_callable(what: str, function: object, *positional: str, **keywords: Any) -> None:
    """Refuse what cannot be called with the given arguments.

    Raises:
        TypeError: it is not callable, or takes other arguments.

    Example:
        >>> check_callable("objective 'mine'", len, "settings", "model", "batch")
        Traceback (most recent call last):
        TypeError: objective 'mine' cannot be called as (settings, model, batch): too many positional arguments
    """
    call = ", ".join([*positional, *(f"{name}={value}" for name, value in keywords.items())])
    if not callable(function):
        raise TypeError(f"{what} is {short(function)}; it must be a function of ({call})")
    try:
        inspect.signature(function).bind(*positional, **keywords)
    except TypeError as error:
        raise TypeError(f"{what} cannot be called as ({call}): {error}") from None
    except ValueError:  # built-in functions may have no signature
        return


def load_entry(path: str) -> Callable[..., Any]:
    """Import what a path such as ``"package.module:name"`` names."""
    module, _, name = path.partition(":")
    loaded: Callable[..., Any] = getattr(import_module(module), name)
    return loaded
