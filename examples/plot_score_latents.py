"""
Score the latents of any model
==============================

The metrics need two tables: latents and factors, one row per image. Here the "models" are PCA and
features made by hand.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from betavae import metrics

# %%
# Images with known factors
# -------------------------
# A blurred spot at 16 columns and 16 rows, with four brightnesses.

sizes = (16, 16, 4)
factors = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), 1)
x, y, brightness = (factors + np.array([4, 4, 1])).T[:, :, None, None]
rows, columns = np.mgrid[:24, :24]
images = brightness * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 50)
pixels = images.reshape(len(images), -1)

# %%
# Three representations
# ---------------------
# The centre of mass and the sum of the pixels describe these images completely. Noise shows what a useless
# representation scores.

total = images.sum((1, 2))
centre = [(images * columns).sum((1, 2)) / total, (images * rows).sum((1, 2)) / total]
tables = {
    "by hand": StandardScaler().fit_transform(np.stack([*centre, total], 1)),
    "PCA": PCA(5, random_state=0).fit_transform(pixels),
    "noise": np.random.default_rng(0).standard_normal((len(pixels), 5)),
}

# %%
# Evaluate
# --------
# ``evaluate`` returns scores, 95 % intervals and chance levels by name. A chance level is the score after shuffling the
# rows of the latents.

names = ["mig", "dci", "sap", "factor_vae"]
shown = ["mig", "dci.disentanglement", "dci.completeness", "sap.regression", "factor_vae.accuracy"]
results = {
    name: metrics.evaluate(table, factors, metrics=names, factor_names=["x", "y", "brightness"], repeats=2)
    for name, table in tables.items()
}
for name, result in results.items():
    print(name, {score: round(result.scores[score], 2) for score in shown})

# %%
# Compare with chance
# -------------------
# The bars are the scores, the thin lines the intervals, the ticks the chance levels. FactorVAE starts at 1 / 3, because
# a guess among three factors is right in a third of the cases.

figure, axis = plt.subplots(figsize=(8, 3.5), layout="constrained")
places = np.arange(len(shown))
for number, (name, result) in enumerate(results.items()):
    scores = np.array([result.scores[score] for score in shown])
    spread = [max(0, score - result.intervals[key][0]) for key, score in zip(shown, scores, strict=True)]
    axis.bar(places + 0.27 * (number - 1), scores, 0.25, yerr=spread, label=name)
    axis.scatter(places + 0.27 * (number - 1), [result.chance[score] for score in shown], marker="_", s=250, c="k")
axis.set_xticks(places, shown, fontsize=8)
axis.set_ylim(0, 1)
axis.legend()

# %%
# On the command line: ``betavae score --latents latents.npy --factors factors.csv``.
