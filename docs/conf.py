"""Settings of the documentation site: `make docs` builds it into docs/_build/html."""

import os
import re
from importlib import metadata
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the gallery's batches are too small to share

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "examples"

project = "betavae"
author = "the betavae contributors"
release = version = metadata.version("betavae")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
suppress_warnings = ["ref.python"]  # axes in jaxtyping's shapes, such as "latents", are no names of Python objects
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature of a function with jaxtyping's shapes is unreadable; Args: says the same
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Source", "References")]

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(^|/)(?!plot_)[^/]+\.py$",
    "abort_on_example_error": True,
    "show_memory": False,
    "write_computation_times": False,
    "download_all_examples": False,
    "min_reported_time": 1_000,
    "remove_config_comments": True,
    "first_notebook_cell": "%pip install -q betavae",
}

html_theme = "furo"
html_title = "betavae"
html_copy_source = False
html_show_copyright = False
html_math_renderer = "mathml"
html_theme_options = {"navigation_with_keys": True}

_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")


def _links_on_site(app, docname, source):
    """Make links that work in the repository work on the site.

    Scripts of the gallery become its pages. Other files outside docs/ become downloads; folders and places in pages
    outside become text.
    """
    folder = (DOCS / docname).parent

    def on_site(link: re.Match[str]) -> str:
        text, path, anchor = link.groups()
        target = (folder / path).resolve()
        if target == EXAMPLES or (target.parent == EXAMPLES and target.name.startswith("plot_")):
            page = "index" if target == EXAMPLES else target.stem
            return f"[{text}]({os.path.relpath(DOCS / 'gallery' / f'{page}.rst', folder)})"
        outside = not target.is_relative_to(DOCS)
        return text if outside and (target.is_dir() or anchor) else link[0]

    source[0] = _LINK.sub(on_site, source[0])


def _to_restructured_text(app, what, name, obj, options, lines):
    """Convert docstrings, which have Markdown's `code`, and whose formulas have |bars|, stars* and subscripts_."""
    in_example = False
    for number, line in enumerate(lines):
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if not in_example:
            prose_and_code = re.split(r"``?([^`]+)``?", line)
            prose_and_code[::2] = [re.sub(r"(?<!\\)([|*]|_\b)", r"\\\1", part) for part in prose_and_code[::2]]
            prose_and_code[1::2] = [f"``{part}``" for part in prose_and_code[1::2]]
            lines[number] = "".join(prose_and_code)
    if what == "attribute":
        lines[:0] = ["..", ""]  # an empty comment; else napoleon takes what stands before a colon for a type


def _write_mathml(writer, node):
    """Write a formula as MathML, which browsers show without a script from the network."""
    block = node.tagname == "math_block"
    formula = tex2mathml(node.astext(), as_block=block)
    writer.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (_write_mathml, None), (_write_mathml, None))
    app.connect("source-read", _links_on_site)
    app.connect("autodoc-process-docstring", _to_restructured_text, priority=400)  # before napoleon
