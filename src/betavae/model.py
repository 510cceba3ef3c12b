"""The variational autoencoder: an encoder and a decoder of one architecture, float32 at both ends."""

import math
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from betavae.files.validation import check_name
from betavae.networks.architectures import ARCHITECTURES
from betavae.networks.layers import AffinePicture, ImageShape, forward

Likelihood = Literal["bernoulli", "gaussian"]


class Posterior(NamedTuple):
    """The diagonal Gaussian q(z|x) of each image."""

    mean: Float[Tensor, "batch codes"]
    log_var: Float[Tensor, "batch codes"]

    def sample(self, noise: Float[Tensor, "batch codes"]) -> Float[Tensor, "batch codes"]:
        """Codes mean + standard deviation * noise, the noise being standard normal (Kingma & Welling 2014, eq. 4)."""
        return self.mean + torch.exp(0.5 * self.log_var) * noise

    def rotated(self, rotation: Float[Tensor, "codes codes"]) -> "Posterior":
        """That of codes R z, with no covariance either: log variances are mixed by the squares of R's entries."""
        return Posterior(self.mean @ rotation.T, self.log_var @ (rotation**2).T)


class VAE(nn.Module):
    """A variational autoencoder: images to posteriors, codes to pixel logits; float32 at both ends.

    Args:
        name: architecture, a key of `ARCHITECTURES`.
        image_shape: (channels, height, width).
        num_codes: dimensions of the latent space.
        likelihood: `bernoulli`, whose pixel means are the sigmoid of the decoder's output, or `gaussian`, whose pixel
            means are that output.
        values_per_code: values that each code is rounded to by `quantise`; 0 for codes of any value.

    Raises:
        ValueError: unknown architecture, an image shape that it cannot take, or more codes than an image has pixels.
    """

    def __init__(
        self,
        name: str,
        image_shape: ImageShape,
        num_codes: int,
        likelihood: Likelihood = "bernoulli",
        values_per_code: int = 0,
    ) -> None:
        super().__init__()
        check_name("model", name, ARCHITECTURES)
        if (dtype := torch.get_default_dtype()) != torch.float32:
            raise ValueError(f"networks are float32 here, and PyTorch's default is {dtype}: torch.set_default_dtype")
        if num_codes > (pixels := math.prod(image_shape)):
            raise ValueError(f"codes is {num_codes}, and an image has {pixels:,} pixels: give at most that many codes")
        self.image_shape, self.num_codes, self.likelihood = image_shape, num_codes, likelihood
        try:
            networks: Any = ARCHITECTURES[name](image_shape, num_codes)
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
        self.code_values: nn.Parameter | None = None
        if values_per_code:
            self.code_values = nn.Parameter(torch.linspace(-0.5, 0.5, values_per_code).repeat(num_codes, 1))

    def encode(self, images: Float[Tensor, "batch channel height width"]) -> Posterior:
        """Posterior of each image; pixels in [0, 1].

        Raises:
            TypeError: no tensor of floating-point numbers.
            ValueError: another shape.
        """
        _check_tensor("images", images, self.image_shape)
        mean, log_var = forward(self.encoder, images).float().chunk(2, dim=1)
        return Posterior(mean, log_var)

    def decode(self, codes: Float[Tensor, "batch codes"]) -> Float[Tensor, "batch channel height width"]:
        """What the likelihood is parameterised by: logits (Bernoulli) or means (Gaussian) of the pixels.

        Raises:
            TypeError: no tensor of floating-point numbers.
            ValueError: another shape.
        """
        _check_tensor("codes", codes, (self.num_codes,))
        logits: Tensor = forward(self.decoder, codes).float()
        return logits

    def bernoulli_error(
        self,
        codes: Float[Tensor, "batch codes"],
        images: Float[Tensor, "batch channel height width"],
    ) -> Float[Tensor, " batch"]:
        """That of `likelihood.bernoulli_error` given what `decode` makes of codes; in less time than one by one."""
        return forward(self.decoder, codes, images)

    def quantise(self, codes: Float[Tensor, "batch codes"]) -> Float[Tensor, "batch codes"]:
        """Each code's nearest value; the codes themselves where they may have any. Gradients reach the values only."""
        if self.code_values is None:
            return codes
        distances = (codes.detach()[:, :, None] - self.code_values.detach()).abs()  # [image, code, value]
        return self.code_values.expand(len(codes), -1, -1).gather(2, distances.argmin(2, keepdim=True)).squeeze(2)

    def mean_images(self, codes: Float[Tensor, "batch codes"]) -> Float[Tensor, "batch channel height width"]:
        """Expected pixels given codes, in [0, 1]."""
        output = self.decode(codes)
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
