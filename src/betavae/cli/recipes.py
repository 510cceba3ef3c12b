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
    shipped = Path(str(resources.files("betavae"))) / "recipes" / kind
    if (shipped / f"{name}.toml").is_file():
        return shipped / f"{name}.toml"
    known = sorted(file.stem for file in shipped.glob("*.toml"))
    raise FileNotFoundError(unknown("recipe", name, known))
