"""A metric from outside the package: how well one latent ranks the values of each factor, by Spearman's correlation.

python examples/own_metric.py runs/own [steps], or: betavae --import examples/own_metric.py score RUN --metrics ranks
"""

import sys
import warnings

import numpy as np
from scipy.stats import spearmanr

from betavae import metrics
from betavae.config import Config
from betavae.experiment import experiment
from betavae.objectives.settings import Beta


def ranks(latents: np.ndarray, factors: np.ndarray, *, seed: int = 0, num_train: int = 10_000) -> dict[str, float]:
    """Mean over factors of the largest absolute rank correlation with a latent, and the least of them; 0 to 1.

    Latents (N, D) are floats, factors (N, K) integers, a row each image; what is random follows from the seed.
    """
    rows = np.random.default_rng(seed).choice(len(latents), min(num_train, len(latents)), replace=False)
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is constant correlates with nothing
        correlations = [[spearmanr(z, v).statistic for z in latents[rows].T] for v in factors[rows].T]
    best = np.abs(np.nan_to_num(correlations)).max(1)
    return {"mean": best.mean(), "least": best.min()}


question = "how well does one latent rank a factor's values?"
scores = {name: metrics.ScoreInfo(0, 1, True, question) for name in ("mean", "least")}
metrics.register(metrics.Metric("ranks", ranks, scores))

if __name__ == "__main__":
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 5_000
    settings = Config(objective=Beta(2.0), steps=steps, scores=("mig", "ranks"), validation_images=0.02)
    print(experiment(settings, sys.argv[1]).path("report.html"))
