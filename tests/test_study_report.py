"""The page of a study, from made-up runs."""

import re

import pytest

from betavae.report import published
from betavae.studies.page import finish_study, scores_by_run
from betavae.studies.study import create_study
from tests import stubs

pytest.importorskip("pyarrow", reason="pyarrow is not installed; the extra betavae[study] has it")


def page_of(folder, recipe, skip=0, perform=stubs.quick):
    study = create_study(folder, recipe)
    runs = list(study.runs.items())
    for run, config in runs[: len(runs) - skip]:
        perform(config, study.path(run), lambda share: None)
    return finish_study(study).read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("betas")
    study = create_study(folder, {"seeds": 6, "grid": {"latent_dim": [4, 60]}})
    (folder / "failed").mkdir()
    (folder / "failed" / f"{list(study.runs)[-1]}.json").write_text('{"error": "RuntimeError: <loss> is not finite"}')
    return page_of(folder, {"seeds": 6, "grid": {"latent_dim": [4, 60]}}, skip=1)


def test_what_was_run(page):
    assert "11 of 12 runs are finished, 1 failed; 6 seeds per setting." in page
    assert re.search(r"latent_dim</th><td>4, 60<", page)
    assert "RuntimeError: &lt;loss&gt; is not finite" in page


def test_scores_comparisons_and_variance(page):
    # mig is latents/100 and at most 0.01 more: the wide setting always wins, and all the variance is the setting's
    assert re.search(r'mig</code></th>\s*<td class="number">0.0[45]\d+ <small>n = 6', page)
    row = re.search(r"<caption><span>mig:.*?<tbody>\s*<tr><th scope=\"row\">latent_dim 60</th>(.*?)</tr>", page, re.S)
    assert re.findall(r'class="(\w*)">([^<]+)<', row[1]) == [("", "—"), ("more", "1.00")]
    assert re.search(
        r"mig</code></th><td class=\"number\">0 %</td><td class=\"number\">100 %</td><td class=\"number\">0 %", page
    )


def test_a_score_that_is_undefined_everywhere(page):
    assert re.search(r"<code>sap</code></th>\s*<td class=\"number\">undefined <small>n = 0", page)


def test_charts_are_inside_and_nothing_is_fetched(page):
    assert page.count('<table class="dots">') == 4  # two scores, ELBO, active latents
    assert "<script" not in page
    assert "<img" not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # the stubs write no reports to link to


def test_runs_link_to_their_reports(tmp_path):
    def perform(config, folder, watch):
        stubs.quick(config, folder, watch)
        (folder / "report.html").write_text("a report")

    page = page_of(tmp_path, {"seeds": 3}, perform=perform)
    links = set(re.findall(r'href="(runs/[^"]+)"', page))
    assert len(links) == 3
    assert all((tmp_path / link).is_file() for link in links)


def test_correlations_are_a_shaded_table(page):
    assert re.search(r'<td class="heat10" title="mig and mig">1.0</td>', page)


def test_runs_that_are_selected_without_labels_have_their_scores_and_ranks(page):
    row = re.search(r"<code>held_out.elbo</code></th><td>([^<]+)</td>.*?</tr>", page)
    assert re.search(r"0\.\d{3} \(\d+(st|nd|rd|th) of 11\)", row[0])


def test_selection_without_labels(page):
    # active latents are latents - 1 and so ordered as mig is, but for ties within a setting
    cells = re.search(
        r"<code>active_latents</code></th><td class=\"number\">([^<]+)</td><td class=\"number\">([^<]+)<", page
    )
    assert cells[2] == "+0.87"


def test_published_scores_are_named_with_their_source_on_dsprites_only(page, tmp_path):
    assert "https://arxiv.org/abs/2401.08897" in page
    assert published.CAVEAT.split(":")[0] in page
    other = page_of(tmp_path, {"seeds": 2, "data": "shapes.npz"})
    assert "2401.08897" not in other
    assert "All runs have the same settings except the seed." in other
    assert "Fewer than three runs are finished" in other


def test_before_anything_is_finished(tmp_path):
    page = page_of(tmp_path, {"seeds": 2}, skip=2)
    assert "0 of 2 runs are finished, 2 are not finished yet" in page
    assert page.count("No run is finished yet.") == 2


def test_published_rows_are_shares():
    assert all(0 < row.mean < 1 and 0 < row.spread < 0.2 for row in published.DSPRITES)
    assert {row.grade for row in published.DSPRITES} == {"read", "quoted"}


def test_scores_by_run_keeps_metrics_that_are_never_defined():
    assert scores_by_run({"run": ["a"], "metric": ["sap"], "value": [None]}) == {"sap": {}}
