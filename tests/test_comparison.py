"""The comparison of runs: groups, spread over seeds, matched traversals, one well-formed file."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from betavae.report.pages.comparison import Member, Traversal, group_runs, render_comparison
from betavae.report.pages.templates import policy_hash, read_asset
from betavae.report.published import DSPRITES
from tests.test_report import EVIL, Page


def member(seed=0, beta=4.0, mig=0.3, factors=("posX",), name=None) -> Member:
    images = np.full((5, 1, 8, 6), 10 * seed, np.uint8)
    return Member(
        name or f"b{beta}-s{seed}",
        {"seed": seed, "objective": {"name": "beta", "beta": beta}},
        {"mig": mig, "kl_nats": 12.5},
        [{"step": step, "split": "train", "loss": 9 - step, "reconstruction": 8, "rate": 1} for step in range(3)],
        {factor: Traversal(f"z{seed}", 0.876, images) for factor in factors},
    )


def test_runs_are_grouped_by_all_but_the_seed():
    configs = [member(seed, beta).config for seed in range(2) for beta in (1.0, 4.0)]
    assert group_runs(configs) == {"objective.beta 1.0": [0, 2], "objective.beta 4.0": [1, 3]}


def test_scores_stand_with_number_mean_interval_and_every_run():
    runs = [member(seed, mig=mig) for seed, mig in enumerate((0.2, 0.3, 0.4))] + [member(0, 1.0, None)]
    page = Page(render_comparison(runs, "dsprites", ["posX"]))
    assert "0.300 n = 3, 0.052 to 0.548" in page.text
    assert "undefined n = 0" in page.text
    dots = [circle["cx"] for circle in page.all("circle") if circle["class"] == "value"]
    assert dots == ["20.0", "30.0", "40.0"]  # kl_nats is no share
    assert "0.200, 0.300, 0.400" in [svg.get("aria-label") for svg in page.all("svg")]


def test_traversals_of_a_factor_stand_under_each_other():
    page = Page(render_comparison([member(1), member(2)], "dsprites", ["posX", "shape"]))
    strips = [image for image in page.all("img") if "moved through" in image["alt"]]
    assert [image["alt"][:18] for image in strips] == ["posX in b4.0-s1: z", "posX in b4.0-s2: z"]
    assert "z1 · 88 %" in page.text
    with Image.open(io.BytesIO(base64.b64decode(strips[1]["src"].split(",")[1]))) as strip:
        assert strip.size == (5 * 7 - 1, 8)
        assert strip.getpixel((0, 0)) == 20


def test_every_run_has_a_line_and_a_dot_and_links_to_its_report():
    runs = [member(seed, beta) for beta in (1.0, 4.0) for seed in range(2)]
    runs[0] = replace(runs[0], link="runs/b1%20s0/report.html")
    page = Page(render_comparison(runs, "dsprites", ["posX"], DSPRITES))
    links = [link["href"] for link in page.all("a") if not link["href"].startswith("#")]
    assert set(links) == {"runs/b1%20s0/report.html"}
    lines = json.loads(next(figure["data-chart"] for figure in page.all("figure") if "data-chart" in figure))["lines"]
    assert [line["name"] for line in lines] == [run.name for run in runs]
    assert [path["class"] for path in page.all("path") if path.get("class") in ("c0", "c1")][:4] == ["c0"] * 2 + [
        "c1"
    ] * 2
    assert "published: β-TCVAE" in page.text
    assert "0.239 ± 0.101" in page.text


def test_fifty_groups_have_short_names_in_the_charts():
    runs = [member(seed, float(beta)) for beta in range(50) for seed in range(2)]
    for run in runs:
        run.config["note"] = f"a long setting of the group {run.config['objective']['beta']} " * 2
    page = Page(render_comparison(runs, "dsprites", ["posX"]))
    assert "100 runs on dsprites" in page.text
    assert "group 50" in page.text


def test_what_is_missing_is_said():
    bare = Member("bare", {"seed": 0}, {}, [], {})
    text = Page(render_comparison([bare, bare], "dsprites", ["posX"])).text
    for sentence in ("None of the runs has scores.", "None of the runs has loss curves.", "latents cannot be matched"):
        assert sentence in text


def test_text_stays_text_and_nothing_comes_from_outside():
    text = render_comparison([member(name=EVIL, factors=[EVIL]), member(1, factors=[EVIL])], EVIL, [EVIL])
    script = text.split("<script>")[1].split("</script>")[0]
    assert script == read_asset("charts.js")
    assert f"script-src '{policy_hash(script)}';" in text
    assert text.count("<script") == 1
    assert "http" not in text.replace("http-equiv", "")
    assert all(image["src"].startswith("data:image/png") for image in Page(text).all("img"))


def test_one_run_is_no_comparison():
    with pytest.raises(ValueError, match="two runs or more, and got 1"):
        render_comparison([member()], "dsprites", [])
