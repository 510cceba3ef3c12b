"""Models go to the Hugging Face hub and come back, against a server on this machine."""

import sys
from functools import partial

import numpy as np
import pytest
from torch import nn

import betavae
from betavae.integrations import hub
from betavae.model import VAE
from tests.hub_server import local_hub

huggingface_hub = pytest.importorskip("huggingface_hub", reason="the extra betavae[hub] is not installed")


@pytest.fixture
def server(monkeypatch, tmp_path):
    with local_hub() as server:
        options = {"endpoint": server.url, "token": "hf_test"}
        download = partial(huggingface_hub.hf_hub_download, cache_dir=tmp_path / "cache", **options)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        monkeypatch.setattr(huggingface_hub, "HfApi", partial(huggingface_hub.HfApi, **options))
        yield server


def test_an_uploaded_model_is_loaded_by_name_and_then_from_the_cache(server, tmp_path):
    vae = VAE("tiny", (1, 16, 16), 4)
    folder = vae.save_pretrained(tmp_path / "model")
    assert hub.upload(folder, "ada/tiny-vae") == f"{server.url}/ada/tiny-vae"
    assert set(server.models["ada/tiny-vae"]) == {"config.json", "model.safetensors", "README.md"}
    again = betavae.load("ada/tiny-vae", device="cpu")
    assert np.array_equal(again.sample(3, seed=0), vae.sample(3, seed=0))
    betavae.load("ada/tiny-vae", device="cpu", revision="main")
    assert sum(request.startswith("GET") for request in server.requests) == 2
    server.shutdown()
    assert betavae.load("ada/tiny-vae", device="cpu", revision="0" * 40)


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("ada/none", None, r"ada/none: no such folder, and no such model on the Hugging Face hub \("),
        ("ada/here", "v2", "ada/here with revision 'v2': no such folder, and no such model"),
        ("ada/here", None, "no such folder, and no such model on the Hugging Face hub .*; if it is private, log in"),
        ("ada/-here-", None, "ada/-here-: no such folder, and no name of a model"),
    ],
)
def test_missing_models_are_said_in_a_sentence(name, revision, message, server):
    server.models["ada/here"] = {}
    with pytest.raises(FileNotFoundError, match=message):
        betavae.load(name, device="cpu", revision=revision)


def test_a_hub_that_cannot_be_reached_is_said_in_a_sentence(server, tmp_path, monkeypatch):
    folder = VAE("tiny", (1, 16, 16), 4).save_pretrained(tmp_path / "model")
    server.forbidden = True
    with pytest.raises(PermissionError, match=r"ada/x cannot be written to \(.*; log in with `hf auth login`"):
        hub.upload(folder, "ada/x")
    with pytest.raises(FileNotFoundError, match="is not a saved model; save one with save_pretrained"):
        hub.upload(tmp_path, "ada/x")
    with pytest.raises(ValueError, match="'a/b/c' is no name of a model"):
        hub.upload(folder, "a/b/c")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's tries
    closed = {"endpoint": "http://127.0.0.1:9"}
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", partial(huggingface_hub.hf_hub_download, **closed))
    with pytest.raises(ConnectionError, match="ada/x: no such folder, and the Hugging Face hub cannot be reached"):
        betavae.load("ada/x", device="cpu")
    monkeypatch.setattr(huggingface_hub, "HfApi", partial(huggingface_hub.HfApi, **closed))
    with pytest.raises(ConnectionError, match="the Hugging Face hub cannot be reached"):
        hub.upload(folder, "ada/x")


def test_a_model_is_pushed_under_the_name_that_its_card_loads(server):
    vae = VAE("tiny", (1, 16, 16), 4)
    assert vae.push_to_hub("ada/pushed", private=True, commit_message="First") == f"{server.url}/ada/pushed"
    assert b'VAE.from_pretrained("ada/pushed")' in server.models["ada/pushed"]["README.md"]
    for again in (betavae.load("ada/pushed", device="cpu"), VAE.from_pretrained("ada/pushed")):
        assert np.array_equal(again.sample(3, seed=0), vae.sample(3, seed=0))
    with pytest.raises(ValueError, match="'pushed to' is no name of a model"):
        vae.push_to_hub("pushed to")


def test_networks_of_ones_own_come_back_from_the_hub(server):
    def networks():
        decoder = nn.Sequential(nn.Linear(2, 256), nn.Unflatten(1, (1, 16, 16)))
        return {"encoder": nn.Sequential(nn.Flatten(), nn.Linear(256, 4)), "decoder": decoder}

    own = VAE(image_shape=(1, 16, 16), latent_dim=2, **networks())
    own.push_to_hub("ada/own", revision="try")
    assert any(request == "POST /api/models/ada/own/branch/try" for request in server.requests)
    again = VAE.from_pretrained("ada/own", **networks())
    assert np.array_equal(again.sample(3, seed=0), own.sample(3, seed=0))


def test_a_run_is_pushed_with_scores_and_traversals_and_then_used_offline(server):
    """With a model of the zoo, which is a run."""
    name = betavae.zoo.names()[0]
    run = betavae.zoo.open_entry(name)
    run.push_to_hub("ada/run")
    files = server.models["ada/run"]
    assert set(files) == {"config.json", "model.safetensors", "README.md", "traversals.gif"}
    card = huggingface_hub.ModelCard(files["README.md"].decode())
    assert card.data.library_name == "betavae"
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values["mig"] == pytest.approx(run.scores["mig"], abs=1e-4)
    for text in ('betavae.load("ada/run")', "![Traversals of the latents](traversals.gif)", "| seed |", "| command |"):
        assert text in card.text
    assert f"| mig | {run.scores['mig']:.3f} | " in card.text
    first = betavae.load("ada/run", device="cpu").sample(2, seed=0)
    server.shutdown()
    assert np.array_equal(betavae.load("ada/run", device="cpu", revision="0" * 40).sample(2, seed=0), first)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for use in (betavae.load, VAE.from_pretrained, VAE("tiny", (1, 16, 16), 4).push_to_hub):
        with pytest.raises(ModuleNotFoundError, match=r"need huggingface_hub, which .* pip install 'betavae\[hub\]'"):
            use("ada/x")
