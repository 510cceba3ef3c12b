"""Commands in the README parse, its Python uses names that exist, it stays short, and links in all pages resolve."""

import ast
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import betavae
from betavae import metrics
from betavae.cli import main
from betavae.metrics.registry import overview

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = "".join(re.findall(r"```bash\n(.+?)```", README, re.DOTALL))
LINES = re.findall(r"^betavae (.+?)(?:\s+#.*)?$", SHELL, re.MULTILINE)
BLOCKS = re.findall(r"```python\n(.+?)```", README, re.DOTALL)


@pytest.mark.parametrize("line", LINES)
def test_commands_are_understood(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(line)
    if words[0] == "--import":  # it would stay imported
        command = [sys.executable, "-m", "betavae", *words, "--help"]
        assert "--last" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return
    if "--from" in words and not Path(words[words.index("--from") + 1]).exists():
        words[words.index("--from") + 1] = "recipes/demo.toml"  # a run that the reader has and the repository has not
    assert main._parse(words) is not None


@pytest.mark.parametrize("block", BLOCKS)
def test_python_names_exist(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module == "betavae":
            for name in node.names:
                assert getattr(betavae, name.name) is not None


def test_scoring_ones_own_latents_runs(tmp_path, monkeypatch):
    """As it stands, but with one metric on few rows."""
    monkeypatch.chdir(tmp_path)
    factors = np.random.default_rng(0).integers(4, size=(500, 2))
    np.save("latents.npy", factors * 0.5)
    np.savetxt("factors.csv", factors, fmt="%d", delimiter=",", header="a,b", comments="")
    monkeypatch.setattr(metrics, "evaluate", partial(metrics.evaluate, metrics=["mig"], num_train=500))
    found: dict[str, metrics.Scores] = {}
    exec(next(block for block in BLOCKS if "read_table" in block), found)
    assert found["scores"].scores["mig"] > 0.95
    assert found["scores"].intervals.keys() == found["scores"].chance.keys() == {"mig"}


def test_it_is_short():
    assert len(README.splitlines()) < 160


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_resolve(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_addresses_are_well_formed():
    """Addresses are https, where the host has it; those of papers have the form of their archive."""
    without_https = ("www.scottreed.info", "fashion-mnist.s3-website", "yann.lecun.com")
    papers = r"arxiv\.org/abs/\d{4}\.\d{4,5}|openreview\.net/forum\?id=[\w-]+|doi\.org/10\.\d{4,5}/[\w./()-]+"
    for page in [*PAGES, *(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.toml")]:
        for address in re.findall(r"https?://[a-z][^\s<>`\"'{}|\\\])]*", page.read_text(encoding="utf-8")):
            host_and_path = address.rstrip(".,;:").partition("://")[2]
            assert address.startswith("https") or host_and_path.startswith(without_https), (page, address)
            assert re.fullmatch(r"[\w-]+(\.[\w-]+)+(/[\w.~%/?=&()-]*)?", host_and_path), (page, address)
            if host_and_path.startswith(("arxiv.org", "openreview.net", "doi.org")):
                assert re.fullmatch(papers, host_and_path), (page, address)


def test_public_names_exist_and_are_documented():
    for name in betavae.__all__:
        assert getattr(betavae, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = betavae.nonsense


def test_the_table_of_metrics_is_that_of_their_records():
    assert overview() in (ROOT / "docs/metrics.md").read_text(), "replace it by betavae.metrics.registry.overview()"
