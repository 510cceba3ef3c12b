"""Models leave the package: a folder with a model card, ONNX, torch.export. benchmarks/exports.py has all networks."""

import importlib.util

import numpy as np
import pytest
import torch

from betavae import Config
from betavae.cli.main import main
from betavae.integrations import exported_networks, onnx
from betavae.integrations.exported_networks import networks_to_export
from betavae.integrations.torch_export import export_torch
from betavae.kernels import FusedSequential
from betavae.model import VAE
from betavae.networks.codebook import Codebook
from betavae.runs.checkpoints import save_model
from betavae.runs.folder import create_run


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return VAE("tiny", (1, 32, 32), 4).eval()


@pytest.fixture
def run(vae, tmp_path):
    run = create_run(tmp_path / "mine", Config(model="tiny", latent_dim=4))
    save_model(run, vae)
    return run


def test_the_command_saves_a_model(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["export", str(run.folder)])
    assert capsys.readouterr().out == "README.md, config.json, model.safetensors in exported/mine\n"
    assert VAE.from_pretrained("exported/mine").sample(2, seed=0).shape == (2, 1, 32, 32)
    assert "| architecture | tiny |" in (tmp_path / "exported/mine/README.md").read_text()


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra betavae[onnx] is not installed",
)
def test_the_command_writes_onnx_for_batches_of_any_size(run, vae, tmp_path):
    """The exporter itself compares each network with the model; here once more from the files."""
    import onnxruntime

    main(["export", str(run.folder), "--onnx", "--out", str(tmp_path / "out")])
    images = np.random.default_rng(0).random((3, 1, 32, 32), np.float32)
    encoder, decoder = (
        onnxruntime.InferenceSession(tmp_path / "out" / f"{name}.onnx") for name in ("encoder", "decoder")
    )
    mean, log_var = encoder.run(["mean", "log_var"], {"images": images})
    np.testing.assert_allclose(mean, vae.encode(images).mean, atol=1e-4)
    np.testing.assert_allclose(log_var, vae.encode(images).log_var, atol=1e-4)
    (decoded,) = decoder.run(["images"], {"latents": mean})
    np.testing.assert_allclose(decoded, vae.reconstruct(images), atol=1e-4)
    run.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out/encoder.onnx").exists()  # it was of the model that is replaced


def test_torch_export_runs_for_batches_of_any_size(tmp_path):
    vae = VAE("tiny", (3, 8, 8), 4, transform=Codebook(4, 3)).eval()
    encoder, decoder = (torch.export.load(path).module() for path in export_torch(vae, tmp_path))
    images = torch.rand(3, 3, 8, 8)
    mean, _ = encoder(images)
    np.testing.assert_allclose(mean, vae.encode(images.numpy()).mean, atol=1e-5)
    np.testing.assert_allclose(decoder(mean)[0], vae.decode(mean.numpy()), atol=1e-5)


def test_the_model_itself_stays_fused(vae):
    networks_to_export(vae)
    assert isinstance(vae.encoder, FusedSequential)


def test_an_export_that_differs_is_not_written(vae):
    encoder, _ = networks_to_export(vae)
    with pytest.raises(RuntimeError, match="the ONNX encoder differs from the model in mean, so it is not written"):
        encoder.check(lambda sample: [np.zeros((len(sample), 4), np.float32)] * 2, "ONNX")
    assert exported_networks.TOLERANCE == 1e-4


def test_without_the_libraries_the_extra_is_named(vae, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"needs onnx, onnxscript, onnxruntime, which .*'betavae\[onnx\]'"):
        onnx.export_onnx(vae, tmp_path / "out")
    assert not (tmp_path / "out").exists()
