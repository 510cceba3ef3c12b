"""All figures of a run: which files are written, and which are not."""

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from betavae.report.figures import all_figures
from betavae.report.figures.all_figures import Importance, LatentStatistics, ScoredImages, SeedImages
from tests.conftest import bright_column, line


def test_importing_figures_loads_neither_pyplot_nor_torch():
    latent = "import sys, betavae.report.figures.all_figures; print({'matplotlib.pyplot', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", latent], capture_output=True, text=True).stdout == "set()\n"


def arguments(latent_dim: int = 2) -> dict[str, object]:
    generator = np.random.default_rng(0)
    latents = generator.normal(size=(40, latent_dim)).astype(np.float32)
    seeds = np.column_stack([latents[:2], np.zeros((2, 2))])[:, :2]
    names = ("scale", "posX")
    return {
        "decode": lambda batch: bright_column(np.column_stack([batch, np.zeros((len(batch), 2))])),
        "seeds": SeedImages(bright_column(seeds), latents[:2]),
        "statistics": LatentStatistics(latents.mean(0), latents.std(0), np.linspace(0, 2, latent_dim + 1)[1:]),
        "scored": ScoredImages(latents, generator.integers(0, 3, (40, 2)), names),
        "importance": Importance(np.full((latent_dim, 2), 1 / latent_dim), names),
        "records": [line(0), line(1)],
    }


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_draw_all_writes_what_it_says_and_nothing_else(tmp_path, latent_dim):
    style = dict(matplotlib.rcParams)
    files = all_figures.draw_all(tmp_path / "figures", **arguments(latent_dim), steps=3, num_traversed=1)
    assert dict(matplotlib.rcParams) == style
    names = sorted(path.relative_to(tmp_path / "figures").as_posix() for path in files)
    assert names == sorted(p.relative_to(tmp_path / "figures").as_posix() for p in tmp_path.rglob("*.*"))
    charts = ["factor_strips", "importance", "kl_per_latent", "loss_curves", "reconstructions", "traversal_grid_0"]
    singles = [f"traversals/seed0_z{latent}_{kind}.gif" for latent in range(latent_dim) for kind in ("fitted", "fixed")]
    assert names == sorted([f"{chart}.png" for chart in charts] + ["traversals.gif", *singles])


def test_draw_all_leaves_out_what_has_no_data(tmp_path):
    given = arguments()
    for name in ("scored", "importance", "records"):
        del given[name]
    for name in ("importance.png", "mine.png"):  # of scores that are no more; the user's own
        (tmp_path / name).touch()
    files = all_figures.draw_all(tmp_path, **given, steps=2, num_traversed=0, formats=("svg",))
    assert [path.name for path in files] == ["reconstructions.svg", "kl_per_latent.svg"]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["mine.png"]


UNEQUAL = SeedImages(np.zeros((2, 1, 16, 16)), np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: all_figures.draw_all("nowhere", **arguments() | {"seeds": UNEQUAL}),
            r"seed images \(2, 1, 16, 16\), seed latents \(1, 2\) and kl \(2,\) do not match",
        ),
        (
            lambda: all_figures.draw_all("nowhere", **{**arguments(), "formats": "pdf"}),
            "formats is 'pdf'; it must be a list of png, pdf and svg",
        ),
    ],
)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not Path("nowhere").exists()
