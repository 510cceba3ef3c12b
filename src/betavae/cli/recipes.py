"""Recipes by file or by the name of one that ships with the package."""

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from betavae.files.validation import unknown

if TYPE_CHECKING:
    pass


def find_recipe(name: str, kind: str = "") -> Path:
    """Path of a recipe: a file, or one shipped with the package by its name, such as `demo`; kind `studies` for those.

    Raises:
        FileNotFoundError: neither; the shipped ones are listed.
    """
    path = Path(name)
    if (path / "config.json").is_file():
        raise FileNotFoundError(f"{name} is a run folder; its settings are in {path / 'config.json'}")
    if path.suffix:
        return path
    shipped = Path(str(resources.files("betavae"))) / "recipes" / kind
    if (shipped / f"{name}.toml").is_file():
        return shipped / f"{name}.toml"
    known = sorted(file.stem for file in shipped.glob("*.toml"))
    raise FileNotFoundError(unknown("recipe", name, known))
