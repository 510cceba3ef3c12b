"""The live page: what it answers, to whom, and that the training does not notice it."""

import json
import urllib.error
import urllib.request

import pytest
import torch

from betavae.config import Config
from betavae.experiment import train_run
from betavae.report.live import live_page
from betavae.runs.checkpoints import load_model
from betavae.runs.folder import create_run


def ask(address: str, path: str = "", **headers: str) -> bytes:
    request = urllib.request.Request(address + path, headers=headers)
    return urllib.request.urlopen(request, timeout=60).read()


@pytest.fixture(scope="module")
def settings(small):
    return Config(
        data="small.npz", model="tiny", latent_dim=3, steps=4, batch_size=16, validation_images=100, device="cpu"
    )


def trained(folder, settings, data, live: bool):
    run = create_run(folder, settings)
    pages = []

    def watch(record):
        if live:
            pages.append((ask(address), json.loads(ask(address, "state.json"))))

    with live_page(run.folder, data) as address:
        train_run(run, data, callbacks=[watch])
        packed = json.loads(ask(address, "model.json")) if live else {}
        state = json.loads(ask(address, "state.json"))
    return run, pages, packed, state


def test_a_live_page_shows_the_training_and_does_not_change_it(small, settings, tmp_path):
    watched, pages, packed, state = trained(tmp_path / "watched", settings, small, live=True)
    alone, *_ = trained(tmp_path / "alone", settings, small, live=False)
    first, second = (load_model(run).state_dict() for run in (watched, alone))
    assert all(torch.equal(first[name], second[name]) for name in first)
    page, _ = pages[-1]
    assert page.count(b"data-image") >= 10
    assert b"connect-src 'self'" in page
    assert packed["latents"] == 3
    assert packed["decoder"]["layers"]
    assert state["step"] == 4
    assert "data-chart" in state["charts"]
    assert not state["done"]


def test_it_becomes_the_report_and_answers_nobody_else(small, settings, tmp_path):
    run = create_run(tmp_path / "run", settings)
    with live_page(run.folder, small) as address:
        with pytest.raises(urllib.error.HTTPError, match="403"):
            ask(address, Host="elsewhere.example")
        for path in ("config.json", "../run/config.json"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                ask(address, path)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            ask(address, "model.json")  # there is no checkpoint yet
        assert b"Starting" in ask(address)
        run.path("report.html").write_text("the report")
        run.path("DONE").touch()
        assert json.loads(ask(address, "state.json"))["done"]
        assert ask(address) == b"the report"
