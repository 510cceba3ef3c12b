"""The variational autoencoder: an encoder and a decoder of one architecture, float32 at both ends."""

import math
import os
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from betavae.files.validation import check_name
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


class VAE(nn.Module):
    """A variational autoencoder: images to posteriors, latents to pixel logits; float32 at both ends.

    Args:
        name: architecture, a key of `ARCHITECTURES`.
        image_shape: (channels, height, width).
        latent_dim: dimensions of the latent space.
        likelihood: `bernoulli`, whose pixel means are the sigmoid of the decoder's output, or `gaussian`, whose pixel
            means are that output.
        transform: module that maps posterior means to the latents that are decoded, such as a
            `betavae.networks.codebook.Codebook`. The latents then have no variance. Without one, latents are sampled.

    Raises:
        ValueError: unknown architecture, an image shape that it cannot take, or more latents than an image has pixels.
    """

    def __init__(
        self,
        name: str,
        image_shape: ImageShape,
        latent_dim: int,
        likelihood: Likelihood = "bernoulli",
        transform: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_name("model", name, ARCHITECTURES)
        if (dtype := torch.get_default_dtype()) != torch.float32:
            raise ValueError(f"networks are float32 here, and PyTorch's default is {dtype}: torch.set_default_dtype")
        if latent_dim > (pixels := math.prod(image_shape)):
            raise ValueError(
                f"latent_dim is {latent_dim}, and an image has {pixels:,} pixels: give at most that many latents"
            )
        self.image_shape, self.latent_dim, self.likelihood = image_shape, latent_dim, likelihood
        try:
            networks: Any = ARCHITECTURES[name](image_shape, latent_dim)
        except (ValueError, RuntimeError, MemoryError):  # these say what is wrong
            raise
        except Exception as error:
            raise ValueError(f"model {name} cannot be made ({type(error).__name__}: {error})") from error
        given = list(networks) if isinstance(networks, tuple | list) else [networks]
        if len(given) != 2 or not all(isinstance(network, nn.Module) for network in given):
            kinds = ", ".join(type(network).__name__ for network in given)
            raise ValueError(f"model {name} gives {kinds}; it must give an encoder and a decoder, two of nn.Module")
        self.encoder, self.decoder = given
        if likelihood == "gaussian":
            for layer in self.decoder.modules():
                if isinstance(layer, AffinePicture):
                    layer.start_with_means()
        self.transform = transform
        if kernels is not None:
            kernels.fuse(self)
        elif os.environ.get("BETAVAE_KERNELS") == "require":
            raise RuntimeError("BETAVAE_KERNELS is require, and the package has no folder kernels: reinstall betavae")

    def encode(self, images: Float[Tensor, "batch channel height width"]) -> Posterior:
        """Posterior of each image; pixels in [0, 1].

        Raises:
            TypeError: no tensor of floating-point numbers.
            ValueError: another shape.
        """
        _check_tensor("images", images, self.image_shape)
        mean, log_var = self.encoder(images).float().chunk(2, dim=1)
        return Posterior(mean, log_var)

    def decode(self, latents: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch channel height width"]:
        """What the likelihood is parameterised by: logits (Bernoulli) or means (Gaussian) of the pixels.

        Raises:
            TypeError: no tensor of floating-point numbers.
            ValueError: another shape.
        """
        _check_tensor("latents", latents, (self.latent_dim,))
        logits: Tensor = self.decoder(latents).float()
        return logits

    def bernoulli_error(
        self,
        latents: Float[Tensor, "batch latents"],
        images: Float[Tensor, "batch channel height width"],
    ) -> Float[Tensor, " batch"]:
        """Negative log likelihood of images given the logits that `decode` makes of latents, (B,), in nats."""
        if kernels is not None and isinstance(self.decoder, kernels.FusedSequential):
            return self.decoder.bernoulli_error(latents, images)
        return bernoulli_error(self.decode(latents), images)

    def represent(self, posterior: Posterior) -> Posterior:
        """The latents of images: their posterior, or what the transform makes of its mean, without variance."""
        if self.transform is None:
            return posterior
        return Posterior(self.transform(posterior.mean), torch.full_like(posterior.log_var, -math.inf))

    def mean_images(self, latents: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch channel height width"]:
        """Expected pixels given latents, in [0, 1]."""
        output = self.decode(latents)
        return torch.sigmoid(output) if self.likelihood == "bernoulli" else output.clamp(0, 1)


def _check_tensor(name: str, given: Any, shape: tuple[int, ...]) -> None:
    """Refuse what a network cannot take, in a sentence."""
    if not isinstance(given, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(given).__name__}: pass torch.from_numpy(...) of an array")
    if tuple(given.shape[1:]) != shape:
        raise ValueError(f"{name} must have the shape (batch, {', '.join(map(str, shape))}), got {tuple(given.shape)}")
    if not given.is_floating_point():
        cure = "divide pixels by their largest value, such as 255" if name == "images" else "convert them with .float()"
        raise TypeError(f"{name} must be floating-point numbers, got {given.dtype}: {cure}")
