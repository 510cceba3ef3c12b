"""The variational autoencoder: an encoder and a decoder of one architecture, float32 at both ends.

One rule for its methods: tensors in, tensors out, with gradients and in the mode of the module, as training needs them.
Everything else, such as NumPy arrays, is encoded and decoded in evaluation mode without gradients and gives NumPy
arrays. Float tensors (B, C, H, W) are taken as they are; all other images are told apart by `files.images`.
"""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from betavae.files.images import to_batch
from betavae.files.validation import check_name
from betavae.networks import weights
from betavae.networks.building import build_networks, check_networks, evaluation_mode
from betavae.networks.codebook import Codebook
from betavae.networks.decoded_images import Images, interpolated, traversed
from betavae.networks.layers import AffinePicture, ImageShape
from betavae.networks.likelihood import bernoulli_error
from betavae.networks.registry import ARCHITECTURES

try:
    import betavae.kernels as kernels
    from betavae.kernels import bernoulli_error
except ModuleNotFoundError:  # the folder may be deleted: training is slower then
    kernels = None  # type: ignore[assignment]

Likelihood = Literal["bernoulli", "gaussian"]


class Posterior(NamedTuple):
    """The diagonal Gaussian q(z|x) of each image."""

    mean: Float[Tensor, "batch latents"]
    log_var: Float[Tensor, "batch latents"]

    def sample(self, noise: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch latents"]:
        """Latents mean + standard deviation * noise, the noise being standard normal (Kingma & Welling 2014, eq. 4)."""
        return self.mean + torch.exp(0.5 * self.log_var) * noise

    def rotated(self, rotation: Float[Tensor, "latents latents"]) -> "Posterior":
        """That of latents R z, with no covariance either: log variances are mixed by the squares of R's entries."""
        return Posterior(self.mean @ rotation.T, self.log_var @ (rotation**2).T)


class LatentArrays(NamedTuple):
    """The latents of images as NumPy arrays: means and log variances of their posteriors, (N, D) float32 each."""

    mean: NDArray[np.float32]
    log_var: NDArray[np.float32]


class Output(NamedTuple):
    """Result of `VAE.forward`."""

    reconstruction: Tensor
    """Expected pixels in [0, 1], (B, C, H, W)."""
    posterior: Posterior
    """Posterior of each image."""
    latents: Tensor
    """The latents that were decoded, (B, D)."""
    logits: Tensor
    """Logits (Bernoulli) or means (Gaussian) of the pixels, (B, C, H, W), for the reconstruction loss."""


class VAE(nn.Module):
    """A variational autoencoder: images to posteriors, latents to images; float32 at both ends.

    Tensors in, tensors out, with gradients. Everything else in, NumPy arrays out; see the module.

    Args:
        name: architecture, a key of `ARCHITECTURES`; "" with networks of your own.
        image_shape: (channels, height, width).
        latent_dim: dimensions of the latent space.
        likelihood: `bernoulli`, whose pixel means are the sigmoid of the decoder's output, or `gaussian`, whose pixel
            means are that output.
        transform: module that maps posterior means to the latents that are decoded, such as a
            `betavae.networks.codebook.Codebook`. The latents then have no variance. Without one, latents are sampled.
        encoder: your own network, instead of a name: images (B, C, H, W) to means, then log variances (B, 2 D).
        decoder: your own network: latents (B, D) to the parameters of the likelihood (B, C, H, W).

    Raises:
        ValueError: unknown architecture, an image shape that it cannot take, networks that return other shapes, or more
            latents than an image has pixels.

    Example:
        >>> vae = VAE("burgess", (1, 64, 64), 10).eval()
        >>> images = np.zeros((5, 64, 64), np.uint8)
        >>> vae.encode(images).mean.shape, vae.traverse(images[0], steps=7).shape
        ((5, 10), (10, 7, 1, 64, 64))
        >>> encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 4))
        >>> decoder = nn.Sequential(nn.Linear(2, 784), nn.Unflatten(1, (1, 28, 28)))
        >>> VAE(image_shape=(1, 28, 28), latent_dim=2, encoder=encoder, decoder=decoder).sample(3, seed=0).shape
        (3, 1, 28, 28)
    """

    def __init__(
        self,
        name: str = "",
        image_shape: ImageShape = (1, 64, 64),
        latent_dim: int = 10,
        likelihood: Likelihood = "bernoulli",
        transform: nn.Module | None = None,
        *,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if (encoder is None) != (decoder is None) or (encoder is not None and name):
            raise ValueError("give either the name of an architecture, or both an encoder and a decoder")
        if encoder is None:
            check_name("model", name, ARCHITECTURES)
        if (dtype := torch.get_default_dtype()) != torch.float32:
            raise ValueError(f"networks are float32 here, and PyTorch's default is {dtype}: torch.set_default_dtype")
        if latent_dim > (pixels := math.prod(image_shape)):
            raise ValueError(
                f"latent_dim is {latent_dim}, and an image has {pixels:,} pixels: give at most that many latents"
            )
        self.name, self.image_shape, self.latent_dim, self.likelihood = name, image_shape, latent_dim, likelihood
        if encoder is None or decoder is None:
            encoder, decoder = build_networks(name, image_shape, latent_dim)
        else:
            check_networks(encoder, decoder, image_shape, latent_dim, "your own model")
        self.encoder, self.decoder = encoder, decoder
        if likelihood == "gaussian":
            for layer in self.decoder.modules():
                if isinstance(layer, AffinePicture):
                    layer.start_with_means()
        self.transform = transform
        if kernels is not None:
            kernels.fuse(self)
        elif os.environ.get("BETAVAE_KERNELS") == "require":
            raise RuntimeError("BETAVAE_KERNELS is require, and the package has no folder kernels: reinstall betavae")

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def forward(
        self, images: Float[Tensor, "batch channel height width"], noise: Float[Tensor, "batch latents"] | None = None
    ) -> Output:
        """Encode and decode images.

        Args:
            images: tensor of pixels in [0, 1].
            noise: standard normal noise for sampling the posterior. If None, it is drawn in training mode, and the
                posterior mean is decoded in evaluation mode.
        """
        posterior = self.encode(images)
        if noise is None and self.training:
            noise = torch.randn_like(posterior.mean)
        latents = posterior.mean if self.transform or noise is None else posterior.sample(noise)
        latents = latents if self.transform is None else self.transform(latents)
        logits = self.logits(latents)
        return Output(self._expected(logits), posterior, latents, logits)

    @overload
    def encode(self, images: Tensor) -> Posterior: ...
    @overload
    def encode(self, images: ArrayLike) -> LatentArrays: ...
    def encode(self, images: Any) -> Any:
        """Encode images: the posterior of each.

        Args:
            images: a float tensor (B, C, H, W) in [0, 1], as in training. Or images of any layout and number type: one
                or several, channels first or last, floats in [0, 1], bytes or bool; see `files.images.to_batch`.

        Returns:
            For tensors, the `Posterior`. For everything else, `LatentArrays`; with a transform, those are the
            transformed latents, with a log variance of minus infinity.

        Raises:
            TypeError: not an array of numbers, or another number type.
            ValueError: another shape, or floats outside [0, 1].
        """
        if isinstance(images, Tensor):
            if images.shape[1:] != self.image_shape or not images.is_floating_point():
                images = to_batch(images, self.image_shape)
            mean, log_var = self.encoder(images).float().chunk(2, dim=1)
            return Posterior(mean, log_var)
        return LatentArrays(*self._in_batches(to_batch(images, self.image_shape), self._represented))

    def logits(self, latents: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch channel height width"]:
        """Return what the likelihood is parameterised by: logits (Bernoulli) or means (Gaussian) of the pixels.

        Raises:
            TypeError: no tensor of floating-point numbers.
            ValueError: another shape.
        """
        if not isinstance(latents, Tensor) or not latents.is_floating_point():
            kind = latents.dtype if isinstance(latents, Tensor) else type(latents).__name__
            raise TypeError(f"latents are {kind}; they must be a tensor of floating-point numbers")
        if latents.shape[1:] != (self.latent_dim,):
            raise ValueError(
                f"latents have the shape {tuple(latents.shape)}; it must be (batch, {self.latent_dim}), a row per image"
            )
        logits: Tensor = self.decoder(latents).float()
        return logits

    def bernoulli_error(
        self,
        latents: Float[Tensor, "batch latents"],
        images: Float[Tensor, "batch channel height width"],
    ) -> Float[Tensor, " batch"]:
        """Negative log likelihood of images given the `logits` of latents, (B,), in nats."""
        if kernels is not None and isinstance(self.decoder, kernels.FusedSequential):
            return self.decoder.bernoulli_error(latents, images)
        return bernoulli_error(self.logits(latents), images)

    def represent(self, posterior: Posterior) -> Posterior:
        """The latents of images: their posterior, or what the transform makes of its mean, without variance."""
        if self.transform is None:
            return posterior
        return Posterior(self.transform(posterior.mean), torch.full_like(posterior.log_var, -math.inf))

    @overload
    def decode(self, latents: Tensor) -> Tensor: ...
    @overload
    def decode(self, latents: ArrayLike) -> Images: ...
    def decode(self, latents: Any) -> Any:
        """Decode latents (N, D), or one (D,), to images: the expected pixels, in [0, 1].

        Returns:
            For tensors, a tensor (N, C, H, W). For everything else, `Images`.

        Raises:
            ValueError: another shape, or numbers that are not finite.
        """
        if isinstance(latents, Tensor):
            return self._expected(self.logits(latents))
        return Images(self._decoded(self._checked(latents)))

    def sample(self, count: int = 1, *, seed: int | None = None) -> Images:
        """Decode latents that are drawn from the prior, a standard normal distribution.

        Args:
            count: number of images.
            seed: seed of the latents. If None, they differ at each call.
        """
        if count < 1:
            raise ValueError(f"count is {count}; it must be at least 1")
        latents = np.random.default_rng(seed).standard_normal((count, self.latent_dim), np.float32)
        if self.transform is not None:
            (latents,) = self._in_batches(latents, lambda batch: (self.transform(batch),))  # type: ignore[misc]
        return Images(self._decoded(latents))

    def reconstruct(self, images: Any) -> Images:
        """Decode the posterior means of images; `images` as for `encode`."""
        originals = _to_numpy(to_batch(images, self.image_shape))
        return Images(self._decoded(self.encode(originals).mean), originals)

    def interpolate(self, start: Any, end: Any, *, steps: int = 9) -> Images:
        """Decode latents on straight lines between the posterior means of images.

        Args:
            start: one image, or N; as for `encode`.
            end: as many images.
            steps: images on each line, ends included.

        Returns:
            Images (N, steps, C, H, W).
        """
        first, last = (self.encode(_to_numpy(to_batch(images, self.image_shape))).mean for images in (start, end))
        if len(first) != len(last) or steps < 2:
            raise ValueError(
                f"start has {len(first)} images, end has {len(last)}, and steps is {steps}; give as many images in "
                "both, and at least 2 steps"
            )
        return Images(self._decoded(interpolated(first, last, steps)))

    def traverse(
        self,
        image: Any = None,
        *,
        latents: Sequence[int] | None = None,
        steps: int = 9,
        low: float = -3,
        high: float = 3,
    ) -> Images:
        """Decode the latents of an image while one latent at a time takes other values.

        Args:
            image: one image, as for `encode`. If None, all other latents are 0.
            latents: numbers of the latents to vary. If None, all of them.
            steps: number of values.
            low: first value of the latent.
            high: last value of the latent.

        Returns:
            Images (latents, steps, C, H, W): a row for each latent.
        """
        at = np.zeros((1, self.latent_dim), np.float32)
        if image is not None:
            at = self.encode(_to_numpy(to_batch(image, self.image_shape))).mean
        chosen = list(range(self.latent_dim) if latents is None else latents)
        if len(at) != 1 or steps < 1 or not chosen or not set(chosen) <= set(range(self.latent_dim)):
            raise ValueError(
                f"got {len(at)} images, {steps} steps and latents {chosen}; give one image, at least one step, and "
                f"latents from 0 to {self.latent_dim - 1}"
            )
        values = np.linspace(low, high, steps, dtype=np.float32)
        labels = tuple(f"z{latent}" for latent in chosen), tuple(f"{value:+.2g}" if value else "0" for value in values)
        return Images(self._decoded(traversed(at[0], values)[chosen]), None, *labels)

    def save_pretrained(self, folder: str | Path, card: str = "") -> Path:
        """Write the model to a folder: config.json, model.safetensors and README.md. `from_pretrained` reads it.

        Args:
            folder: created if it does not exist. A model in it is replaced.
            card: text of README.md. If empty, a short one.

        Raises:
            FileExistsError: the folder holds other files than a saved model.
        """
        return weights.save(Path(folder), self._header(), self.state_dict(), card)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        commit_message: str = "Upload the model",
        revision: str | None = None,
        card: str = "",
    ) -> str:
        """Upload the model to the Hugging Face hub; returns its address. `betavae.load(repo_id)` loads it.

        Needs the extra `betavae[hub]` and a login: `hf auth login`, or a token in HF_TOKEN. `Run.push_to_hub`
        adds scores.

        Args:
            repo_id: "user/name", created if it does not exist.
            private: whether only you may read it, if it is created.
            commit_message: message of the commit.
            revision: branch, created if it does not exist. If None, the main branch.
            card: text of README.md. If empty, a short one.

        Raises:
            ModuleNotFoundError, ValueError, PermissionError, ConnectionError: as `integrations.hub.upload`.
        """
        from betavae.integrations import hub

        return hub.push(
            lambda folder: weights.save(folder, self._header(), self.state_dict(), card, repo_id),
            repo_id,
            private=private,
            commit_message=commit_message,
            revision=revision,
        )

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        revision: str | None = None,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        transform: nn.Module | None = None,
    ) -> "VAE":
        """Read a model that `save_pretrained` wrote, on the CPU and in evaluation mode.

        Args:
            folder: folder of the model, or a model of the Hugging Face hub as "user/name". `betavae.load` also takes
                runs and models of the zoo.
            revision: branch, tag or commit on the hub. If None, the newest.
            encoder: encoder of your own, untrained, if the model was made with one.
            decoder: decoder of your own.
            transform: latent transform of your own.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, or the weights do not fit.
        """
        from betavae.integrations import hub

        folder = hub.local_folder(folder, revision)
        if not folder.exists():
            raise FileNotFoundError(
                f"{folder}: no such folder; give a folder of save_pretrained, or 'user/name' of the Hugging Face hub; "
                "betavae.load also takes runs and models of the zoo"
            )
        saved = weights.read(folder, own_networks=encoder is not None, own_transform=transform is not None)

        def build(device: str) -> VAE:
            with torch.random.fork_rng(devices=[]), torch.device(device):  # keep the caller's random state
                return cls(
                    saved.architecture,
                    saved.image_shape,
                    saved.latent_dim,
                    saved.likelihood,
                    saved.transform if transform is None else transform,
                    encoder=encoder,
                    decoder=decoder,
                )

        if encoder is None:  # without memory for the weights, which a damaged file could ask for
            weights.check_shapes(build("meta"), saved)
        model = build("cpu")
        weights.restore(model, saved)
        return model.eval()

    def _header(self) -> weights.Header:
        """Contents of config.json of the saved model."""
        return weights.Header(
            library="betavae",
            format=weights.FORMAT,
            architecture=self.name,
            image_shape=self.image_shape,
            latent_dim=self.latent_dim,
            likelihood=self.likelihood,
            values_per_latent=self.transform.values.shape[1] if isinstance(self.transform, Codebook) else None,
            own_transform=not isinstance(self.transform, Codebook | None),
        )

    def _expected(self, output: Tensor) -> Tensor:
        return torch.sigmoid(output) if self.likelihood == "bernoulli" else output.clamp(0, 1)

    def _represented(self, images: Tensor) -> Posterior:
        return self.represent(self.encode(images))

    def _checked(self, latents: Any) -> NDArray[np.float32]:
        """Latents as an array (N, D) of finite numbers."""
        array = np.atleast_2d(np.asarray(latents, np.float32))
        if array.ndim != 2 or array.shape[1] != self.latent_dim or not np.isfinite(array).all():
            wrong = "has numbers that are not finite" if array.shape[1:] == (self.latent_dim,) else "does not fit"
            raise ValueError(
                f"latents of shape {np.shape(latents)}: it {wrong}; give finite numbers of shape "
                f"(N, {self.latent_dim}) or ({self.latent_dim},)"
            )
        return array

    def _decoded(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Decode latents (..., D) to images (..., C, H, W)."""
        flat = latents.reshape(-1, self.latent_dim)
        (images,) = self._in_batches(flat, lambda batch: (self.decode(batch),))
        return images.reshape(*latents.shape[:-1], *images.shape[1:])

    def _in_batches(
        self, rows: NDArray[np.float32], function: Callable[[Tensor], Sequence[Tensor]]
    ) -> list[NDArray[np.float32]]:
        """Apply a function of tensors to the rows, without gradients and in evaluation mode."""
        with torch.inference_mode(), evaluation_mode(self):
            parts = [
                [_to_numpy(part) for part in function(torch.from_numpy(rows[i : i + _BATCH]).to(self.device))]
                for i in range(0, len(rows), _BATCH)
            ]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


_BATCH = 256
"""Images that are encoded or decoded at a time."""


def _to_numpy(images: Any) -> NDArray[np.float32]:
    """Copy a tensor to NumPy; contiguous, as negative strides would be refused by PyTorch."""
    array = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
    return np.ascontiguousarray(array)
