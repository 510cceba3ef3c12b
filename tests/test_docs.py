"""Every page of the documentation is in a table of contents, its Python examples run, and its reference is complete."""

import doctest
import re
from pathlib import Path

import pytest

import betavae
from betavae import metrics

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if not {"_build", "gallery"} & set(page.relative_to(DOCS).parts))
EXAMPLES = {
    page: blocks
    for page in PAGES
    if (blocks := re.findall(r"```python\n(>>> .+?)```", page.read_text(encoding="utf-8"), re.DOTALL))
}
NAMED = set(re.findall(r"auto\w+:: [\w.]*?(\w+)$", "".join(p.read_text() for p in PAGES), re.MULTILINE))
WITHOUT_DOCSTRING = {"METRICS", "PRESETS", "RULES", "metrics"}


def reached(page: Path) -> set[Path]:
    """Pages that one reaches from a page through tables of contents."""
    text = page.read_text(encoding="utf-8")
    entries = [line for block in re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL) for line in block.split()]
    pages = {file for entry in entries if not entry.startswith(":") for file in page.parent.glob(f"{entry}.md")}
    return pages.union(*(reached(other) for other in pages - {page}))


def test_every_page_is_in_a_table_of_contents():
    assert reached(DOCS / "index.md") | {DOCS / "index.md"} == set(PAGES)


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_examples_run(page):
    example = doctest.DocTestParser().get_doctest("\n".join(EXAMPLES[page]), {}, page.name, str(page), 0)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0


@pytest.mark.parametrize("module", [betavae, metrics])
def test_the_reference_has_every_public_name(module):
    assert set(module.__all__) - WITHOUT_DOCSTRING <= NAMED
