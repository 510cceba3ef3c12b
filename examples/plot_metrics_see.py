"""
What each metric can see
========================

Take perfect latents, damage them in three ways, and see which metric notices.
"""

import matplotlib.pyplot as plt
import numpy as np

from betavae import metrics

# %%
# Perfect latents
# ---------------
# Four factors with six values each. Each latent is one factor, scaled to variance 1, and a little noise.

factors = np.stack(np.unravel_index(np.arange(6**4), (6,) * 4), 1)
noise = np.random.default_rng(0)
perfect = (factors - 2.5) / factors.std() + 0.05 * noise.standard_normal(factors.shape)


# %%
# Three kinds of damage
# ---------------------


def rotated(degrees: float) -> np.ndarray:
    """Latents 0 and 1, turned into each other. All information stays."""
    angle = np.deg2rad(degrees)
    latents = perfect.copy()
    latents[:, :2] = perfect[:, :2] @ [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return latents


tables = {
    "perfect": perfect,
    "rotated 45°": rotated(45),
    "a factor lost": perfect[:, :3],
    "latents copied": np.column_stack([perfect, perfect + 0.05 * noise.standard_normal(perfect.shape)]),
}

# %%
# Scores
# ------

names = ["mig", "dci", "factor_vae", "modularity", "mcc", "r2"]
shown = {
    "mig": "MIG",
    "dci.disentanglement": "DCI\ndisent.",
    "dci.completeness": "DCI\ncompl.",
    "dci.informativeness": "DCI\ninform.",
    "factor_vae.accuracy": "FactorVAE",
    "modularity": "modularity",
    "mcc.pearson": "MCC",
    "r2.linear": "R², linear",
}


def score(latents: np.ndarray) -> list[float]:
    found = metrics.evaluate(latents, factors, metrics=names, repeats=1, chance=False).scores
    return [found[name] for name in shown]


scores = np.array([score(latents) for latents in tables.values()])
figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
axis.imshow(scores, "RdYlGn", vmin=0, vmax=1, aspect="auto", alpha=0.7)
axis.set_xticks(range(len(shown)), shown.values(), fontsize=8)
axis.set_yticks(range(len(tables)), tables)
for row, column in np.ndindex(scores.shape):
    axis.text(column, row, f"{scores[row, column]:.2f}", ha="center", va="center")

# %%
# - A rotation keeps all information: informativeness and R² stay near 1. All others fall, because two latents share two
#   factors.
# - A lost factor lowers all scores but modularity, which asks only whether a latent is about one factor.
# - Copied latents lower the scores that ask for a single latent per factor: MIG falls to about 0, completeness falls.
#   The others do not notice.
#
# So no single number is enough. Read at least one score of each kind: one for each latent (modularity, DCI
# disentanglement), one for each factor (MIG, DCI completeness), and one for the information (informativeness, R²).

# %%
# A rotation, degree by degree
# ----------------------------

degrees = [0, 10, 20, 45]
curves = np.array([scores[0], score(rotated(10)), score(rotated(20)), scores[1]])
figure, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
for name, curve in zip(shown.values(), curves.T, strict=True):
    axis.plot(degrees, curve, "o-", label=name.replace("\n", " "))
axis.set_xlabel("rotation of two of four latents, degrees")
axis.set_ylabel("score")
axis.set_ylim(0, 1.03)
axis.legend(fontsize=8, ncols=2)
