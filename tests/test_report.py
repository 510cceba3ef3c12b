"""The report: one well-formed file, everything escaped, nothing from outside, missing parts named."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from betavae.config import Config
from betavae.model import VAE
from betavae.report.latent_meaning import Predictions
from betavae.report.pages.report import PAGE_BYTES, RunReport, render_report, write_report
from betavae.report.pages.templates import policy_hash
from betavae.report.pages.wording import verdict
from betavae.report.published import DSPRITES, Published
from betavae.report.run_comparison import compare_runs
from betavae.report.run_page import report_run
from betavae.runs import checkpoints
from betavae.runs.folder import create_run
from betavae.runs.latents import Latents, save_latents

EVIL = "<script>alert('x')</script>"
PNG = b"\x89PNG not really"


class Page(HTMLParser):
    """Collects tags and checks that they nest."""

    VOID = frozenset({"meta", "img", "rect", "circle", "path", "input", "link", "br", "wbr"})

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def full(tmp_path) -> RunReport:
    stills = ("loss_curves", "reconstructions", "kl_per_latent", "factor_strips", "importance")
    names = [f"{name}.png" for name in stills] + ["traversal_grid_0.png", "traversal_grid_1.png", "traversals.gif"]
    names += [
        f"seed{seed}_z{latent}_{kind}.gif" for seed in (0, 1) for latent in range(3) for kind in ("fixed", "fitted")
    ]
    for name in [*names, "loss_curves.pdf"]:
        (tmp_path / name).write_bytes(PNG + name.encode())
    return RunReport(
        title="tc-6",
        summary="Trained on dSprites.",
        config={"seed": 3, "objective": {"name": "tc", "beta": 6.0}, "sizes": [1, 2], "out": None},
        provenance={"versions": {"torch": "2.13"}},
        command="betavae train --seed 3",
        captures=["posX: z1", "shape: not captured"],
        scores={
            "dci.disentanglement": 0.4123,
            "dci.informativeness_train": 0.9,
            "mig": None,
            "sap": float("nan"),
            "kl_nats": 0.5,
            "fairness.unfairness": 0.25,
            "unsupervised.gaussian_total_correlation": 0.75,
        },
        intervals={"dci.disentanglement": (0.39, 0.44), "mig": (None, None)},
        chance={"dci.disentanglement": 0.02, "mig": None},
        protocol={
            "preset": "default",
            "latents": "sampled",
            "rows": 50000,
            "num_train": 10000,
            "num_test": 5000,
            "evaluations": 5,
            "factors": ["shape", "scale", "orientation (folded)"],
        },
        notes=["z_max_variance is left out: <too few rows>"],
        factor_names=["posX", "shape"],
        information={"z1": [0.84, 0.06], "z0": [0.0, 1.0]},
        records=[
            {"step": 0, "split": "train", "loss": 9.0, "reconstruction": 8.0, "rate": 1.0},
            {"step": 12000, "split": "train", "loss": 30.5, "reconstruction": 20.0, "rate": 10.5},
            {"step": 12000, "split": "validation", "loss": 31.0, "reconstruction": 20.25, "rate": 10.75},
        ],
        kl=[0.5, 3.0, 0.001],
        figures=sorted(tmp_path.iterdir()),
    )


def test_full_report_is_well_formed_and_accessible(full):
    page = Page(render_report(full))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"] for link in page.all("a")} <= {f"#{name}" for name in ids}
    assert all(image["alt"] for image in page.all("img"))
    assert all(attributes["aria-labelledby"] in ids for attributes in page.all("section"))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("nav")) == 1


def test_nothing_comes_from_outside(full):
    text = render_report(full)
    page = Page(text)
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "img-src data: blob:;" in policy
    script = text.split("<script>")[1].split("</script>")[0]
    assert f"script-src '{policy_hash(script)}';" in policy  # of the charts; without a model, no WebAssembly
    assert f"style-src '{policy_hash(text.split('<style>')[1].split('</style>')[0])}'" in policy
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert not re.search(r"https?://|@import|url\(", text)
    assert len(page.all("script")) == 1
    assert [link["href"] for link in page.all("link")] == ["data:,"]


def test_pictures_are_embedded_byte_for_byte(full):
    shown = {
        base64.b64decode(image["src"].split(",")[1]).removeprefix(PNG).decode()
        for image in Page(render_report(full)).all("img")
    }
    active = {f"seed{seed}_z{latent}_fitted.gif" for seed in (0, 1) for latent in (0, 1)}  # z2 is inactive
    stills = {path.name for path in full.figures if path.suffix == ".png"} - {"loss_curves.png"}  # drawn as SVG
    assert shown == stills | {"traversals.gif"} | active


def test_single_traversals_are_sorted_by_kl(full):
    alts = [image["alt"] for image in Page(render_report(full)).all("img") if "Traversal of" in image["alt"]]
    assert alts[:2] == ["Traversal of z1 from start image 1", "Traversal of z0 from start image 1"]


def test_what_would_make_the_file_too_large_is_counted(full):
    large = next(path for path in full.figures if path.name == "traversal_grid_1.png")
    large.write_bytes(bytes(PAGE_BYTES * 3 // 4))
    text = render_report(full)
    assert "One more image is in the folder figures of the run" in text
    assert len(text) < 1_000_000


def test_numbers_stand_in_the_tables(full):
    text = Page(render_report(full)).text
    for piece in ("0.412", "0.390 to 0.440", "0.020", "0.500", "12,000", "20.25", "objective.beta", "1, 2", "of 3"):
        assert piece in text
    assert text.count("undefined") == 3  # None and nan in the table, None in its tile; not their interval and chance
    assert "95 % interval" in text
    assert "Ceiling" not in text


def test_bars_are_drawn_only_for_shares(full):
    page = Page(render_report(full))
    widths = [rect["width"] for rect in page.all("rect") if rect["class"] == "value"]
    assert widths == ["80.8", "41.2", "25.0", "90.0"]  # the panel's bar is 196 wide; kl_nats and a total have none
    assert [rect["x"] for rect in page.all("rect") if rect["class"] == "interval"] == ["39.0"]


def test_scores_say_their_good_end_their_protocol_and_what_is_left_out(full):
    page = Page(render_report(full))
    cells = [text.strip() for text in re.findall(r'<td class="arrow">(.*?)</td>', render_report(full))]
    assert cells == ["↑", "↑", "", "", "↓", "↓", "↑"]
    assert "Does each latent capture only one factor?" in page.text
    assert "1 more scores" in page.text
    assert "default preset on the samples from the posteriors of 50,000 images, orientation modulo" in page.text
    assert "from 5 evaluations. Chance" in page.text
    assert "z_max_variance is left out: <too few rows>" in page.text
    old = Page(render_report(RunReport(title="old", scores={"mig": 0.3})))
    assert "Protocol" not in old.text
    assert "0.300" in old.text


def test_headline_scores_stand_beside_published_values(full):
    page = Page(render_report(replace(full, method="β-TCVAE", references=DSPRITES, caveat="Published: beware.")))
    assert "Published: β-TCVAE 0.353 ± 0.091; CFASL 0.465 ± 0.062 (best)" in page.text
    assert "beware" in page.text
    assert "DCI disentanglement" in page.text
    assert "Published" not in Page(render_report(full)).text


def test_the_table_of_latents_says_how_well_each_predicts_each_factor(full):
    predictions = Predictions(
        np.array([[0.1, 0.5], [0.97, 0.4], [0.0, 0.0]]), np.array([0, 0.25]), ("number", "class"), np.array([1.0, 0.8])
    )
    page = Page(render_report(replace(full, predictions=predictions)))
    heat = [cell["class"] for cell in page.all("td") if (cell.get("class") or "").startswith("heat")]
    assert heat[:4] == ["heat10", "heat2", "heat1", "heat3"]  # z1 has the largest KL; z2 is inactive
    assert "0.97" in page.text
    assert "50 %" in page.text
    assert "accuracy, at most 80 %" in page.text
    assert "R², at most" not in page.text
    assert "1 more latent is inactive" in page.text


def test_the_verdict_names_weak_latents_and_bad_reconstructions():
    captures = [{"factor": name, "kind": "captured"} for name in ("posX", "scale")]
    assert verdict(captures, ["scale"], 0.93) == [
        "1 of 2 factors are captured by one latent each: posX.",
        "Captured weakly: scale.",
        "The reconstructions explain 93 % of the variation of the pixels.",
    ]
    assert "explain only 2 %" in verdict([], explained=0.02)[0]
    assert verdict([], explained=float("nan")) == []


def test_details_are_folded(full):
    text = render_report(full)
    folded = "".join(re.findall(r"<details>.*?</details>", text, re.S))
    for word in ("objective.beta", "informativeness_<wbr>train", "betavae train --seed 3", "Information matrix"):
        assert word in folded


def test_the_information_matrix_is_shaded_by_share(full):
    cells = [cell["class"] for cell in Page(render_report(full)).all("td") if "heat" in (cell.get("class") or "")]
    assert cells == ["heat8", "heat1", "heat0", "heat10"]


def test_text_stays_text():
    report = RunReport(
        title=EVIL,
        about=[EVIL],
        verdict=[EVIL],
        prior_note=EVIL,
        references=[Published(EVIL, "mig", 0.3, 0.1, EVIL)],
        summary=EVIL,
        config={EVIL: EVIL},
        provenance={"argv": [EVIL]},
        command=EVIL,
        captures=[EVIL],
        scores={EVIL: 0.5, "mig": 0.3},
        records=[{"step": 1, "split": "train", "loss": 1.0}],
        factor_names=[EVIL],
        information={EVIL: [0.5]},
        no_explorer=EVIL,
    )
    text = render_report(report)
    assert text.count("<script") == 1  # the page's own
    assert Page(text).text.count(EVIL) == 19  # the title stands twice, a published method four times


def test_missing_parts_are_named():
    page = Page(render_report(RunReport(title="bare")))
    for sentence in (
        "Unknown: the run has no scores, or its data have no factors.",
        "No scores: the run was not scored, or its data have no factors.",
        "No explorer: there is no model.",
        "There are no loss curves.",
        "There are no traversals: the run has no model.",
        "There are no reconstructions: the run has no model.",
        "The settings of this run are missing.",
        "The provenance of this run is missing.",
    ):
        assert sentence in page.text
    assert not page.all("img")
    assert not page.all("table")


def test_report_is_written_whole_and_in_utf8(full, tmp_path):
    target = write_report(full, tmp_path / "report.html")
    assert target.read_text(encoding="utf-8") == render_report(full)
    assert not list(tmp_path.glob(".*"))


def test_a_figure_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r"gone.importance\.png"):
        render_report(RunReport(title="run", figures=[Path("gone/importance.png")]))


def written(folder: Path, data, *, model=True, latents=True, nan=False, **settings):
    """A run folder as it stands before anything was scored or drawn."""
    config = Config(data="small.npz", latent_dim=3, train_images=600, validation_images=100, device="cpu", **settings)
    run = create_run(folder, config)
    network = VAE("burgess", data.image_shape, 3)
    if nan:
        torch.nn.init.constant_(network.decoder[0].bias, float("nan"))
    if model:
        checkpoints.save_model(run, network)
    if latents:
        mean = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
        save_latents(run, Latents(np.arange(50), mean, np.full_like(mean, -1)))
    return run


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"model": False, "latents": False}, "No explorer: .*model.safetensors is missing"),
        ({"latents": False}, "No explorer: .*latents.npz is missing"),
        ({"nan": True}, "No explorer: .*decoder.0.bias has values that are not finite"),
    ],
)
def test_half_written_runs_are_reported_with_what_is_missing(small, tmp_path, parts, sentence):
    page = Page(report_run(written(tmp_path / "run", small, **parts), small).read_text(encoding="utf-8"))
    assert re.search(sentence, page.text)
    assert "training not finished" in page.text
    assert not page.all("canvas")


def test_a_run_without_scores_has_its_explorer(small, tmp_path):
    text = report_run(written(tmp_path / "run", small), small).read_text(encoding="utf-8")
    page = Page(text)
    assert len([button for button in page.all("button") if "data-start" in button]) == 2 + 16
    assert [float(slider["min"]) <= -2 for slider in page.all("input") if slider["type"] == "range"][:3] == [True] * 3
    assert f"script-src '{policy_hash(text.split('<script>')[1].split('</script>')[0])}' 'wasm-unsafe-eval';" in text


def test_runs_of_one_data_set_are_compared_and_others_refused(small, tmp_path):
    runs = [written(tmp_path / f"s{seed}", small, seed=seed) for seed in range(2)]
    assert "s0, s1" in Page(compare_runs(runs, small, tmp_path / "c.html").read_text(encoding="utf-8")).text
    runs.append(written(tmp_path / "again" / "s0", small))
    page = Page(compare_runs(runs, small, tmp_path / "c.html").read_text(encoding="utf-8"))
    assert "/s1, again/s0" in page.text
    other = create_run(tmp_path / "other", Config(data="other.npz"))
    with pytest.raises(ValueError, match=r"different data \(other.npz, small.npz\), so .* give runs on the same data"):
        compare_runs([*runs, other], small, tmp_path / "d.html")
