"""What a user's script contains. mypy checks it strictly, as it would check the user's."""

from pathlib import Path

import numpy as np
import torch

import betavae
from betavae import TC, VAE, Config, FactorData, Run
from betavae.metrics import METRICS


def train(data: FactorData, folder: Path) -> Run:
    """Train a run and look at it."""
    run = betavae.experiment(Config(objective=TC(beta=6.0), steps=10), folder, data=data, callbacks=[print])
    value: float = run.scores["mig"]
    loss = run.curve["loss"].mean()
    print(value, loss, run.latents.mean.shape, run.latents.factors.shape, run.figures["traversals"].path)
    return run


def use(vae: VAE, images: np.ndarray) -> np.ndarray:
    """Encode and decode with arrays and with tensors."""
    latents = vae.encode(images)
    posterior = vae.encode(torch.from_numpy(images))
    decoded: torch.Tensor = vae.decode(posterior.mean)
    vae.traverse(images[0]).plot().savefig("traversal.png")
    vae.sample(16, seed=0).save("samples.png")
    print(decoded.shape)
    return vae.decode(latents.mean).array


def score(run: Run) -> dict[str, float]:
    """Score the latents of a run."""
    found = betavae.evaluate(run.latents.mean, run.latents.factors, metrics=list(METRICS)[:2], preset="dlib")
    return found.scores


def main() -> None:
    """Load a run, a model, and data."""
    vae: VAE = betavae.load("runs/x", device="cpu")
    run = betavae.open_run("runs/x")
    use(vae, run.data.images([0, 1]) / np.float32(255))
    train(betavae.load_data("dsprites"), Path("runs/again"))
    print(score(run), betavae.__version__)
