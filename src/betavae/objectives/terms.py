"""Loss terms: pure functions of tensors, in nats.

Terms are summed over pixels; objectives average them over the images of a batch.

The Bernoulli loss is in `betavae.networks.likelihood`; `betavae.kernels.likelihood` computes it in compiled code.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from betavae.model import VAE, Likelihood, bernoulli_error


def reconstruction_error(
    output: Float[Tensor, "*batch channel height width"],
    images: Float[Tensor, "*batch channel height width"],
    likelihood: Likelihood = "bernoulli",
) -> Float[Tensor, "*batch"]:
    """Compute the negative log likelihood of images, summed over pixels, in nats.

    Bernoulli: -Σ [x log σ(l) + (1 - x) log(1 - σ(l))] with logits l. Soft targets are allowed; their entropy is not
    subtracted. Gaussian with unit variance: Σ [(x - m)² / 2 + log(2π) / 2].

    Source:
        Auto-Encoding Variational Bayes (Kingma & Welling, 2014), appendix C. https://arxiv.org/abs/1312.6114

    Args:
        output: logits (Bernoulli) or means (Gaussian) of the pixels.
        images: pixels in [0, 1].
        likelihood: `bernoulli` or `gaussian`.

    Returns:
        One value per image, in nats; at least 0 for Bernoulli.

    Example:
        >>> reconstruction_error(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)) / math.log(2)
        tensor([4.])
    """
    if likelihood == "bernoulli":
        return bernoulli_error(output, images)
    error = 0.5 * (output - images) ** 2 + 0.5 * math.log(2 * math.pi)
    return error.sum((-3, -2, -1))


def decoded_error(
    model: VAE, latents: Float[Tensor, "batch latents"], images: Float[Tensor, "batch channel height width"]
) -> Float[Tensor, " batch"]:
    """Decode latents and compute the `reconstruction_error`, with a fused kernel if the model has one.

    Args:
        model: model with a decoder and a likelihood.
        latents: one row per image.
        images: pixels in [0, 1].

    Returns:
        One value per image, in nats.
    """
    if model.likelihood == "bernoulli":
        return model.bernoulli_error(latents, images)
    return reconstruction_error(model.logits(latents), images, model.likelihood)


def gaussian_kl(
    mean: Float[Tensor, "*batch latents"], log_var: Float[Tensor, "*batch latents"]
) -> Float[Tensor, "*batch latents"]:
    """Compute KL(N(μ, σ²) || N(0, 1)) = (μ² + σ² - log σ² - 1) / 2 for each latent, in nats.

    The result is not reduced. The KL term (rate) of an image is the sum over latents.

    Source:
        Auto-Encoding Variational Bayes (Kingma & Welling, 2014), appendix B. https://arxiv.org/abs/1312.6114

    Args:
        mean: mean μ of the Gaussian.
        log_var: natural logarithm of its variance σ².

    Returns:
        KL divergence in nats, at least 0, of the same shape.

    Example:
        >>> gaussian_kl(torch.tensor([1.0, 0.0]), torch.zeros(2))
        tensor([0.5000, 0.0000])
    """
    return 0.5 * (mean**2 + log_var.exp() - log_var - 1)


def gaussian_log_density(
    latents: Float[Tensor, "..."], mean: Float[Tensor, "..."], log_var: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """Compute the logarithm of the normal density elementwise, in nats.

    Source:
        Auto-Encoding Variational Bayes (Kingma & Welling, 2014), appendix C.2. https://arxiv.org/abs/1312.6114

    Example:
        >>> gaussian_log_density(torch.zeros(1), torch.zeros(1), torch.zeros(1))
        tensor([-0.9189])
    """
    return -0.5 * ((latents - mean) ** 2 * torch.exp(-log_var) + log_var + math.log(2 * math.pi))


def equivalent_betas(beta: float, latents: int, pixels: int) -> dict[str, float]:
    """Return the equivalent β of code that averages the reconstruction loss or the KL instead of summing them.

    betavae weighs the KL summed over latents against the loss summed over pixels. Scaling the whole loss changes
    nothing. So averaging over P pixels divides β by P, and averaging the KL over D latents multiplies it by D.

    Args:
        beta: β for sums.
        latents: D.
        pixels: P, channels counted.

    Example:
        >>> {name: round(beta, 5) for name, beta in equivalent_betas(4.0, 10, 4096).items()}
        {'pixels averaged': 0.00098, 'pixels and latents averaged': 0.00977, 'latents averaged': 40.0}
    """
    return {
        "pixels averaged": beta / pixels,
        "pixels and latents averaged": beta * latents / pixels,
        "latents averaged": beta * latents,
    }
