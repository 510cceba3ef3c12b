"""A β-VAE as a scikit-learn transformer: `BetaVAE().fit(images).transform(images)`.

It trains with the loop of all runs but writes no folder. Seeds give the same numbers on the same machine.
"""

import math
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from betavae.config import Config
from betavae.data.factor_data import FactorData
from betavae.files.images import find_layout, with_layout
from betavae.files.validation import check_name, short
from betavae.model import VAE, Likelihood, Posterior
from betavae.networks.layers import ImageShape
from betavae.objectives.needs import needs_of
from betavae.objectives.registry import OBJECTIVES
from betavae.objectives.terms import decoded_error, gaussian_kl
from betavae.training.loop import train
from betavae.training.progress import training_bar
from betavae.training.state import new_state

_BATCH = 256


class BetaVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A β-VAE that maps images, or rows of a table, to latents.

    X is an array of images, (N, H, W), (N, H, W, C) or (N, C, H, W), or one row per sample, (N, features). Rows are
    images if you give `image_shape`; else they are images of one line. Pixels are bytes, bool or floats in [0, 1].
    Rows of floats outside [0, 1] are scaled by the smallest and largest number of the training data. The network is
    trained on pixels rounded to 8 bits.

    Args:
        latent_dim: number of latents.
        objective: name of an objective with its default settings, or settings such as `betavae.TC(beta=6.0)`. It must
            need no labels.
        model: architecture; None takes `burgess` for square images of 32, 64 or 128 pixels and `higgins` for others.
        image_shape: (C, H, W) of the images in the rows of X. If None, it is that of the images in `fit`.
        likelihood: likelihood of the pixels, `bernoulli` or `gaussian`.
        steps: number of optimiser steps.
        batch_size: images per step, at most all of them.
        learning_rate: learning rate of Adam.
        random_state: seed, or NumPy generator, of weights, order and noise. If None, each fit differs.
        device: `cpu`, `cuda`, `mps`; auto takes the first accelerator found.
        precision: `auto`, `fp32` or `bf16`.
        verbose: show a progress bar.

    Attributes:
        model_: the trained `betavae.VAE`.
        image_shape_: (C, H, W).
        range_: the numbers that became 0 and 1.
        curve_: records of the training, a dict each.
        n_features_in_: number of pixels of an image.

    Example:
        >>> X = np.random.default_rng(0).random((40, 12))
        >>> vae = BetaVAE(latent_dim=2, steps=3, batch_size=8, random_state=0, device="cpu").fit(X)
        >>> vae.transform(X).shape, vae.inverse_transform(vae.transform(X)).shape
        ((40, 2), (40, 12))
    """

    def __init__(
        self,
        latent_dim: int = 10,
        objective: Any = "beta",
        *,
        model: str | None = None,
        image_shape: ImageShape | None = None,
        likelihood: Likelihood = "bernoulli",
        steps: int = 10_000,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        random_state: Any = None,
        device: str = "auto",
        precision: str = "auto",
        verbose: bool = False,
    ) -> None:
        self.latent_dim = latent_dim
        self.objective = objective
        self.model = model
        self.image_shape = image_shape
        self.likelihood = likelihood
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Train the model on X; `y` is not used.

        Raises:
            TypeError: X is not numeric, or images are not bytes, bool or floats.
            ValueError: the shape or the range of X, or a setting, is wrong.
        """
        rows, shape = self._rows(X, fitting=True)
        self.image_shape_ = shape
        self.range_ = _range_of(rows)
        pixels = np.round(255 * self._scaled(rows).reshape(len(rows), -1)).clip(0, 255).astype(np.uint8)
        data = FactorData("X", pixels, shape, 255, np.zeros((len(rows), 0), np.int32), (), ())
        config = self._config(len(rows))
        state = new_state(config, data)
        self.curve_ = []
        with training_bar(config, quiet=not self.verbose) as bar:
            for record in train(config, data, np.arange(len(rows)), np.arange(0), state):
                self.curve_.append(record.to_dict())
                if bar:
                    bar(record)
        self.model_: VAE = state.model.eval()
        self._n_features_out = self.latent_dim
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Encode X to posterior means (N, latent_dim)."""
        check_is_fitted(self)
        return self.model_.encode(self._images(X)).mean

    def inverse_transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Decode latents (N, latent_dim) to expected pixels: rows (N, features), in the range of the training data.

        `image_shape_` is the shape of each image, for `reshape`.
        """
        check_is_fitted(self)
        low, high = self.range_
        pixels = self.model_.decode(np.asarray(X, np.float32)).array
        return (low + (high - low) * pixels.reshape(len(pixels), -1)).astype(np.float32)

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return the evidence lower bound (ELBO) of X, averaged over its rows, in nats; larger is better.

        It is -(reconstruction + KL), with one sample of each posterior from a fixed seed. β is 1, whatever the
        objective, so models with different objectives can be compared.
        """
        check_is_fitted(self)
        images = self._images(X)
        noise = np.random.default_rng(0).standard_normal((len(images), self.latent_dim), np.float32)
        total = 0.0
        with torch.inference_mode():
            for start in range(0, len(images), _BATCH):
                batch, eps = (
                    torch.from_numpy(part[start : start + _BATCH]).to(self.model_.device) for part in (images, noise)
                )
                total += float(self._losses(batch, eps).sum())
        return -total / len(images)

    def _losses(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Negative ELBO of each image; quantised latents have no KL term."""
        posterior: Posterior = self.model_.encode(images)
        if self.model_.transform is not None:
            return decoded_error(self.model_, self.model_.represent(posterior).mean, images)
        error = decoded_error(self.model_, posterior.sample(noise), images)
        return error + gaussian_kl(*posterior).sum(1)

    def _rows(self, X: Any, *, fitting: bool) -> tuple[NDArray[Any], ImageShape]:
        """Check X and return it as (N, C * H * W), with the shape of an image."""
        axes = np.ndim(X) if isinstance(X, list | tuple) else getattr(X, "ndim", 2)
        if axes in (3, 4):  # images, of which scikit-learn knows nothing
            array = np.asarray(X)
            expected = self.image_shape if fitting else self.image_shape_
            images = with_layout(array, find_layout(array.shape, expected))
            X, shape = images.reshape(len(images), -1), images.shape[1:]
        else:
            shape = None
        kind = getattr(X, "dtype", None)
        numbers: Any = [np.float32, np.float64] if kind not in (np.uint8, np.bool_) else kind
        rows = validate_data(self, X, dtype=numbers, reset=fitting, ensure_min_samples=2 if fitting else 1)
        given = shape or (self.image_shape if fitting else self.image_shape_) or (1, 1, rows.shape[1])
        image_shape = (int(given[0]), int(given[1]), int(given[2]))
        if math.prod(image_shape) != rows.shape[1]:
            raise ValueError(
                f"image_shape is {image_shape}, which is {math.prod(image_shape)} pixels, but X has {rows.shape[1]} "
                "features; give (C, H, W) of the images in X"
            )
        return rows, image_shape

    def _images(self, X: Any) -> NDArray[np.float32]:
        """X as images (N, C, H, W), scaled as the training data."""
        rows, _ = self._rows(X, fitting=False)
        return np.ascontiguousarray(self._scaled(rows).reshape(-1, *self.image_shape_))

    def _scaled(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        low, high = self.range_
        return ((rows - np.float64(low)) / ((high - low) or 1)).astype(np.float32)

    def _config(self, num_rows: int) -> Config:
        """Settings of the training."""
        objective = self.objective
        if isinstance(objective, str):
            check_name("objective", objective, OBJECTIVES)
            objective = OBJECTIVES[objective].settings()
        if needs_of(objective).pairs or needs_of(objective).labelled_images:
            raise ValueError(
                f"objective is {short(objective)}, which needs known factors; take one without labels, such as 'beta' "
                "or 'tc', or use betavae.experiment"
            )
        square = self.image_shape_[1] == self.image_shape_[2] and self.image_shape_[1] in (32, 64, 128)
        return Config(
            objective,
            data="in memory",
            model=self.model or ("burgess" if square else "higgins"),
            validation_images=0,
            latent_dim=self.latent_dim,
            likelihood=self.likelihood,
            steps=self.steps,
            batch_size=min(self.batch_size, num_rows),
            learning_rate=self.learning_rate,
            seed=int(check_random_state(self.random_state).randint(1 << 31)),
            device=self.device,
            precision=self.precision,  # type: ignore[arg-type]  # Config checks it
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _range_of(rows: NDArray[Any]) -> tuple[float, float]:
    """The numbers that become 0 and 1: those of pixels, or the smallest and the largest of a table."""
    low, high = float(rows.min()), float(rows.max())
    if rows.dtype == np.uint8:
        return 0.0, 255.0 if high > 1 else 1.0
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
