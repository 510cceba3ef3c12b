"""Finds recipes: files, and recipes that ship with the package."""

from importlib import resources
from pathlib import Path

from betavae.files.validation import unknown


def find_recipe(name: str, kind: str = "") -> Path:
    """The path of a recipe.

    Args:
        name: path of a recipe file, or the name of a recipe that ships with the package, such as `demo`.
        kind: subfolder of the shipped recipes: "" for runs, "studies" for studies.

    Raises:
        FileNotFoundError: there is no such recipe. The message lists the shipped ones.
    """
    path = Path(name)
    if (path / "config.json").is_file():
        raise FileNotFoundError(f"{name} is a run folder; its settings are in {path / 'config.json'}")
    if path.suffix:
        return path
    known = {file.stem: file for file in shipped_recipes(kind)}
    if name in known:
        return known[name]
    raise FileNotFoundError(unknown("recipe", name, known))


def shipped_recipes(kind: str = "") -> list[Path]:
    """The recipes that ship with the package: "" for runs, "studies" for studies."""
    return sorted((Path(str(resources.files("betavae"))) / "recipes" / kind).glob("*.toml"))
