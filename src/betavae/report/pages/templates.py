"""Renders HTML templates, and formats numbers and settings for them."""

import base64
import hashlib
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

import jinja2


def render_page(template: str, **values: Any) -> str:
    """Render a template of `assets`. Text is escaped, and `style` and its hash for the security policy are added.

    Args:
        template: Name of the file.
        **values: Variables of the template. A missing variable is an error.

    Returns:
        HTML.

    Example:
        >>> render_page("report.html", report=None)
        Traceback (most recent call last):
        jinja2.exceptions.UndefinedError: 'script' is undefined
    """
    style = read_asset("report.css")
    return _template(template).render(style=style, style_hash=policy_hash(style), **values)


@lru_cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Convert nested settings to pairs of dotted names and texts.

    Example:
        >>> flatten({"objective": {"beta": 6.0}, "sizes": [1, 2], "names": [], "out": None})
        [('objective.beta', '6.0'), ('sizes', '1, 2'), ('names', '—'), ('out', '—')]
    """
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            rows.append((prefix + key, ", ".join(map(str, value)) or "—"))
        else:
            rows.append((prefix + key, "—" if value is None else str(value)))
    return rows


def join_scripts(*names: str) -> str:
    """The scripts of these names, one after the other, for one inline element."""
    return "".join(map(read_asset, names))


def is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def read_asset(name: str) -> str:
    return resources.files("betavae.report").joinpath("assets", name).read_text(encoding="utf-8")


def policy_hash(text: str) -> str:
    """The hash of an inline style or script for a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def format_number(value: float | None, digits: int = 3) -> str:
    return "undefined" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}".replace("-", "−")


def natural_order(name: str) -> tuple[int, str]:
    """Sort key of names that end in a number."""
    return int(re.sub(r"\D", "", name) or 0), name
