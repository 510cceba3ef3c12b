"""What a user does with a model in a notebook: tensors in, tensors out; everything else in, arrays and pictures out."""

import io
import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from betavae.model import VAE, LatentArrays, Posterior
from betavae.networks.codebook import Codebook

GREY, COLOUR = (1, 16, 16), (3, 16, 16)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return VAE("tiny", GREY, 4)  # in training mode: arrays are handled in evaluation mode anyway


@pytest.fixture
def images():
    return np.random.default_rng(0).random((5, 16, 16)).astype(np.float32)


def test_arrays_give_arrays_and_tensors_give_tensors(vae, images):
    arrays, tensors = vae.encode(images), vae.encode(torch.from_numpy(images)[:, None])
    assert isinstance(arrays, LatentArrays)
    assert isinstance(tensors, Posterior)
    assert arrays.mean.shape == arrays.log_var.shape == (5, 4)
    assert np.array_equal(arrays.mean, tensors.mean.detach().numpy())
    assert tensors.mean.requires_grad
    decoded = vae.decode(arrays.mean)
    assert np.array_equal(decoded.array, vae.decode(tensors.mean).detach().numpy())
    assert decoded.array.dtype == np.float32
    assert 0 <= decoded.array.min() <= decoded.array.max() <= 1
    assert vae.decode(arrays.mean[0]).shape == (1, *GREY)
    assert vae.training


@pytest.mark.parametrize("name", ["NCHW", "NHWC", "bytes", "torch bytes", "list", "pillow"])
def test_every_way_to_give_an_image_gives_the_same_latents(vae, name):
    image = np.random.default_rng(1).integers(0, 256, (16, 16), np.uint8)
    ways = {
        "NCHW": image[None, None] / 255,
        "NHWC": image[None, :, :, None] / 255,
        "bytes": image,
        "torch bytes": torch.from_numpy(image),
        "list": (image / 255).tolist(),
        "pillow": Image.fromarray(image),
    }
    expected = vae.encode(torch.from_numpy(image / np.float32(255))[None, None]).mean
    found = vae.encode(ways[name]).mean
    np.testing.assert_allclose(torch.as_tensor(found).detach(), expected.detach(), atol=1e-6)


def test_many_images_are_encoded_in_batches_and_in_evaluation_mode():
    dropping = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(4, 2))
    decoder = nn.Sequential(nn.Linear(1, 4), nn.Unflatten(1, (1, 2, 2)))
    vae = VAE(image_shape=(1, 2, 2), latent_dim=1, encoder=dropping, decoder=decoder)
    images = np.random.default_rng(0).random((600, 2, 2))
    whole = vae.encode(images).mean
    np.testing.assert_allclose(whole[300:], vae.encode(images[300:]).mean, atol=1e-6)
    assert dropping.training


def test_samples_follow_their_seed(vae):
    assert np.array_equal(vae.sample(16, seed=0), vae.sample(16, seed=0))
    assert not np.array_equal(vae.sample(2), vae.sample(2))
    assert vae.sample(16, seed=0).shape == (16, *GREY)


def test_reconstructions_keep_their_originals(vae, images):
    pairs = vae.reconstruct((images * 255).astype(np.uint8))
    np.testing.assert_allclose(pairs.originals[:, 0], np.floor(images * 255) / 255, atol=1e-6)
    assert pairs.table().shape == (2, 5, *GREY)
    assert [label.get_text() for label in pairs.plot().axes[0].get_yticklabels()] == ["original", "decoded"]


def test_interpolation_goes_from_one_image_to_the_other(vae, images):
    lines = vae.interpolate(images[:2], images[2:4], steps=7)
    assert lines.shape == (2, 7, *GREY)
    ends = vae.reconstruct(images).array
    np.testing.assert_allclose(lines[:, 0], ends[:2], atol=1e-5)
    np.testing.assert_allclose(lines[:, -1], ends[2:4], atol=1e-5)
    assert vae.interpolate(torch.from_numpy(images[0]), images[1]).shape == (1, 9, *GREY)
    with pytest.raises(ValueError, match="start has 1 images, end has 2, and steps is 9; give as many"):
        vae.interpolate(images[0], images[:2])


def test_a_traversal_varies_one_latent_a_row(vae, images):
    rows = vae.traverse(images[0], steps=5, latents=[2, 0])
    assert rows.shape == (2, 5, *GREY)
    latent = vae.encode(images[0]).mean[0]
    latent[2] = -3
    np.testing.assert_allclose(rows[0, 0], vae.decode(latent)[0], atol=1e-5)
    labels = rows.plot().axes[0]
    assert [label.get_text() for label in labels.get_yticklabels()] == ["z2", "z0"]
    assert [label.get_text() for label in labels.get_xticklabels()] == ["-3", "-1.5", "+0", "+1.5", "+3"]
    assert vae.traverse().shape == (4, 9, *GREY)


def test_quantised_latents_are_decoded_as_they_are_trained():
    vae = VAE("tiny", GREY, 2, transform=Codebook(2, 3))
    found = vae.encode(np.random.default_rng(0).random((9, 16, 16)))
    assert set(found.mean.ravel().tolist()) <= {-0.5, 0, 0.5}
    assert np.isneginf(found.log_var).all()
    assert len(np.unique(vae.sample(50, seed=0), axis=0)) <= 9
    output = vae(torch.rand(3, *GREY))
    assert set(output.latents.flatten().tolist()) <= {-0.5, 0, 0.5}


def test_forward_is_named_and_differentiable(vae):
    images = torch.rand(3, *GREY)
    noise = torch.randn(3, 4)
    output = vae(images, noise)
    assert torch.equal(output.reconstruction, torch.sigmoid(output.logits))
    assert torch.equal(output.latents, output.posterior.sample(noise))
    output.reconstruction.sum().backward()
    assert next(vae.parameters()).grad is not None
    vae.zero_grad()
    assert not torch.equal(vae(images).latents, vae(images).latents)
    vae.eval()
    assert torch.equal(vae(images).latents, vae(images).posterior.mean)
    vae.train()


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_pictures_are_files_and_show_in_notebooks(shape, tmp_path):
    picture = VAE("tiny", shape, 4).sample(12, seed=0)
    with Image.open(io.BytesIO(picture._repr_png_())) as shown, Image.open(picture.save(tmp_path / "x.png")) as saved:
        assert saved.size == shown.size == picture.to_pil().size
        assert shown.mode == ("L" if shape == GREY else "RGB")
    assert repr(picture).startswith("Images of shape (12, ")
    with pytest.raises(ValueError, match=r"has the ending '.xyz'; give one of an image format"):
        picture.save(tmp_path / "samples.xyz")


def test_own_networks_are_checked():
    encoder, decoder = nn.Sequential(nn.Flatten(), nn.Linear(256, 7)), nn.Linear(4, 256)
    with pytest.raises(ValueError, match=r"your own model: its encoder returns the shape \(2, 7\) for a batch"):
        VAE(image_shape=GREY, latent_dim=4, encoder=encoder, decoder=decoder)
    for wrong in ({"encoder": encoder}, {"name": "tiny", "encoder": encoder, "decoder": decoder}):
        with pytest.raises(ValueError, match="give either the name of an architecture, or both an encoder and a"):
            VAE(**wrong)


# A model in a folder


def saved_equal(vae, again, images):
    assert not again.training
    assert np.array_equal(vae.encode(images).mean, again.encode(images).mean)
    assert np.array_equal(vae.sample(3, seed=0), again.sample(3, seed=0))


def test_a_saved_model_is_read_again(vae, images, tmp_path):
    state = torch.get_rng_state()
    folder = vae.save_pretrained(tmp_path / "model")
    saved_equal(vae, VAE.from_pretrained(folder), images)
    assert torch.equal(state, torch.get_rng_state())
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert "| latents | 4 |" in (folder / "README.md").read_text()
    vae.save_pretrained(folder)
    (folder / "mine.txt").touch()
    with pytest.raises(FileExistsError, match=r"holds other files than a saved model \(mine.txt\)"):
        vae.save_pretrained(folder)


def test_saved_quantised_and_own_networks(images, tmp_path):
    quantised = VAE("tiny", GREY, 2, "gaussian", Codebook(2, 3))
    saved_equal(quantised, VAE.from_pretrained(quantised.save_pretrained(tmp_path / "quantised")), images)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    decoder = nn.Sequential(nn.Linear(2, 256), nn.Unflatten(1, GREY))
    own = VAE(image_shape=GREY, latent_dim=2, encoder=encoder, decoder=decoder, transform=nn.Tanh())
    folder = own.save_pretrained(tmp_path / "own")
    networks = {"encoder": nn.Sequential(nn.Flatten(), nn.Linear(256, 4))}
    networks["decoder"] = nn.Sequential(nn.Linear(2, 256), nn.Unflatten(1, GREY))
    saved_equal(own, VAE.from_pretrained(folder, **networks, transform=nn.Tanh()), images)
    with pytest.raises(ValueError, match="was saved with networks of its own; give encoder and decoder"):
        VAE.from_pretrained(folder, transform=nn.Tanh())
    with pytest.raises(ValueError, match="was saved with a latent transform of its own; give transform"):
        VAE.from_pretrained(folder, **networks)


def _edit(change):
    def damage(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))

    return damage


def _with_nan(folder):
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    safetensors.torch.save_file(tensors, folder / "model.safetensors")


def _truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing; save the model again"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing; save the model again"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is damaged"),
        (_truncate, r"model.safetensors is damaged \("),
        (_with_nan, "has values that are not finite; save the model again"),
        (_edit({"format": 2}), "has format 2, and this version reads format 1"),
        (_edit({"architecture": "tony"}), "unknown model 'tony'; did you mean 'tiny'"),
        (_edit({"likelihood": "poisson"}), "unknown likelihood 'poisson'"),
        (_edit({"latent_dim": 5}), r"does not match config.json: decoder.0.weight has shape \(48, 4\)"),
        (_edit({"image_shape": [1, 4096, 4096]}), "does not match config.json: decoder.2.bias has shape"),
        (_edit({"image_shape": [1, 1 << 20, 1 << 20]}), "config.json is damaged .image_shape is"),
        (_edit({"latent_dim": 1 << 40}), "config.json is damaged .image_shape is"),
        (_edit({"values_per_latent": 1 << 40}), "config.json is damaged .image_shape is"),
        (_edit({"values_per_latent": 3}), "does not match config.json: transform.values has shape missing"),
        (_edit({"library": "other"}), "is not from betavae: library is 'other'"),
    ],
)
def test_damaged_models_are_refused_in_a_sentence(damage, message, vae, tmp_path):
    folder = vae.save_pretrained(tmp_path / "model")
    damage(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        VAE.from_pretrained(folder)
    shutil.rmtree(folder)
