"""The commands `data list`, `info`, `view`, `convert` and `fetch`."""

import re

import numpy as np
import pytest

from betavae.cli.main import main
from betavae.data.factor_data import FactorData
from betavae.data.loading import load_data
from betavae.report.explorer.gallery import choose_rows
from betavae.report.pages.data import write_data_page
from tests import layouts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return layouts.image_folder(tmp_path_factory.mktemp("images"))


def printed(capsys, *words):
    main([*map(str, words)])
    return re.sub(r"[\s│]+", " ", capsys.readouterr().out)


def test_list_has_licences_and_sources(capsys):
    text = printed(capsys, "data", "list")
    assert "smallnorb" in text
    assert "CC BY 4.0" in text
    assert "--data FOLDER of images" in text


def test_info_describes_factors_and_grid(capsys, folder):
    text = printed(capsys, "data", "info", folder, "--image-size", 8)
    assert "24 images of 8x8 pixels, colour" in text
    assert "factor size 4 values: 0, 0.5, 1, 1.5" in text
    assert "complete: each of the 24 combinations occurs once" in text


def test_info_tells_what_limits_scores_and_compares_checksums(capsys, tmp_path):
    images = np.repeat(layouts.pixels(6), 2, axis=0)
    np.savez(tmp_path / "3dshapes.npz", images=images, labels=layouts.grid(6, 2))
    text = printed(capsys, "data", "info", tmp_path / "3dshapes.npz")
    assert "distinct images 6 " in text
    assert "best accuracy factor_1 0.5000 highest MIG 0.5000" in text
    assert "not a known original file" in text
    source = layouts.shapes3d(tmp_path)
    assert "sha256 is" in (text := printed(capsys, "data", "info", source))
    assert "instead of 0a0f6ed9" in text


def test_the_page_has_each_combination_or_some_values(folder, tmp_path):
    page = write_data_page(load_data(folder), tmp_path / "all.html").read_text()
    assert page.count('class="slider"') == 3
    assert '"sizes": [3, 4, 2]' in page
    few = write_data_page(load_data(folder), tmp_path / "few.html", 10).read_text()
    assert "2 of 4 values" in few
    assert (
        "<script>alert"
        not in write_data_page(
            FactorData.from_arrays(layouts.pixels(4), [0, 1, 0, 1], ["<script>alert(1)"], name="<script>alert(2)"),
            tmp_path / "safe.html",
        ).read_text()
    )
    bare = FactorData.from_arrays(layouts.pixels(4)[..., 0])
    assert '"sizes": [4]' in write_data_page(bare, tmp_path / "bare.html").read_text()


def test_converted_data_are_the_same(capsys, folder, tmp_path):
    printed(capsys, "data", "convert", folder, tmp_path / "out.npz", "--channels", 1)
    converted, direct = load_data(tmp_path / "out.npz"), load_data(folder, channels=1)
    assert np.array_equal(converted.images(slice(None)), direct.images(slice(None)))
    assert np.array_equal(converted.factors, direct.factors)
    assert converted.factor_names == direct.factor_names


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["info", "shapes3"], "did you mean 'shapes3d'?"),
        (["fetch", "shapes3"], "unknown data set 'shapes3'; did you mean 'shapes3d'?"),
        (["view", "dsprites", "--images", "0"], "images is 0; it must be from 1 to 20,000"),
        (["info", "dsprites", "--image-size", "2"], "image_size is 2; it must be a number of at least 4"),
        (["fetsh", "x"], "unknown command 'fetsh'; did you mean 'fetch'?"),
    ],
)
def test_mistakes_end_in_one_sentence(capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main(["data", *words])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_forty_attributes_as_in_celeba_are_shown(tmp_path):
    """NumPy's grids have fewer axes."""
    attributes = np.random.default_rng(0).integers(0, 2, (60, 40))
    data = FactorData.from_arrays(layouts.pixels(60), attributes)
    assert len(choose_rows(data, 20)[0]) == 20
    assert '"sizes": [20]' in write_data_page(data, tmp_path / "faces.html", 20).read_text()
