"""What is built and published: links on an index page, and workflows whose commands exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from betavae import zoo
from betavae.cli import main

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
MODULES = {"auditwheel", "build", "pip", "playwright", "pytest", "twine"}
"""Modules that the workflows run with python -m."""


def described(url: str) -> str:
    """The text of the index page."""
    command = [sys.executable, "setup.py", "--quiet", "--long-description"]
    env = os.environ | {"BETAVAE_URL": url, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, encoding="utf-8", check=True).stdout


def test_links_of_the_index_page_are_absolute_or_text():
    page, plain = described("https://example.org/us/betavae/"), described("")
    for text in (page, plain):
        assert not re.search(r"\]\((?!https?:|#)", text)
    assert re.search(r"\(https://example.org/us/betavae/raw/v[\d.]+/docs/traversals.gif\)", page)
    assert re.search(r"\[docs/python.md\]\(https://example.org/us/betavae/blob/v[\d.]+/docs/python.md\)", page)
    assert "docs/python.md" in plain
    assert "docs/traversals.gif" not in plain


def commands() -> list[tuple[str, str]]:
    """Every command line of the workflows, with the name of its file."""
    found = []
    for path in WORKFLOWS:
        jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
        lines = [
            line for job in jobs.values() for step in job.get("steps", ()) for line in step.get("run", "").split("\n")
        ]
        found += [(path.name, line.strip()) for line in lines if line.strip()]
    return found


@pytest.mark.parametrize(("file", "line"), commands())
def test_commands_of_workflows_exist(file, line, monkeypatch):
    monkeypatch.chdir(ROOT)
    program, *words = shlex.split(re.sub(r"\$\{\{.*?\}\}", "x", line))
    if program == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        assert set(words) <= targets
    elif program == "betavae":
        assert main._parse(words) is not None
        assert words[0] != "export" or words[1] in zoo.names()
    elif Path(program).name == "python":
        assert words[0] == "-m"
        assert words[1] in MODULES
    else:
        assert program in {"grep", "mv", "rm", "tar"}


def test_workflows_call_workflows_and_jobs_that_exist():
    for path in WORKFLOWS:
        jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
        for job in jobs.values():
            assert set([job["needs"]] if "needs" in job else []) <= jobs.keys()
            assert "uses" not in job or (ROOT / job["uses"]).is_file()
            assert "uses" in job or job["timeout-minutes"] <= 60


def test_the_release_compares_its_tag_with_the_version():
    """By the line of the file that the workflow looks for."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert len(re.findall(r'^version = "\d+\.\d+\.\d+"$', text, re.MULTILINE)) == 1


def test_every_supported_python_is_tested():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    claimed = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == claimed
    assert f'requires-python = ">={claimed[0]}"' in text
