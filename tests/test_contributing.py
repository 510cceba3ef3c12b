"""The map in CONTRIBUTING.md names paths that exist, and every part of the package."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
INDENT = 2


def mapped() -> set[str]:
    """Paths in the map: a line is a path, indented below its folder, and what it holds."""
    block = re.search(r"## Map\n.*?```\n(.*?)```", TEXT, re.DOTALL)
    assert block
    folders: list[str] = []
    paths = set()
    for line in block[1].splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // INDENT
        folders[depth:] = [name]
        paths.add("".join(folders))
    return paths


def test_the_map_names_paths_that_exist():
    for path in mapped():
        assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file(), path


def test_the_map_names_every_folder_and_top_level_module_of_the_package():
    package = ROOT / "src" / "betavae"
    folders = {
        f"{parent.relative_to(ROOT).as_posix()}/"
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
        for parent in file.parents
        if parent.is_relative_to(package) and package / "zoo" not in parent.parents  # whose folders are models
    }
    modules = {file.relative_to(ROOT).as_posix() for file in package.glob("*.py")}
    assert folders | modules <= mapped()


def test_the_import_order_is_the_contract():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    assert ", ".join(f"`{layer}`" for layer in contract["contracts"][0]["layers"]) in TEXT.replace("\n", " ")
