"""
Traversals: what each latent does
=================================

Train a small β-VAE on images of a moving disc, then change one latent at a time and look at the decoded image.
"""

# sphinx_gallery_thumbnail_number = 2

import tempfile

import matplotlib.pyplot as plt
import numpy as np

from betavae import Beta, Config, FactorData, load_latents
from betavae.experiment import experiment

# %%
# The images
# ----------
# 1,024 images of 32x32 pixels. Three factors decide an image: column, row and radius of the disc.

sizes = (16, 16, 4)
factors = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), 1)
x, y, radius = (factors + np.array([8, 8, 3])).T[:, :, None, None]
rows, columns = np.mgrid[:32, :32]
images = ((columns - x) ** 2 + (rows - y) ** 2 <= radius**2).astype(np.uint8)
data = FactorData.from_arrays(images, factors, names=("x", "y", "radius"))

figure, axes = plt.subplots(1, 8, figsize=(8, 1.2))
for axis, image in zip(axes, images[::137], strict=True):
    axis.imshow(image, "gray")
    axis.axis("off")

# %%
# Train
# -----
# β = 4 penalises information in the latents. The model has six of them, more than there are factors. Rotating the
# latent space a few times during training helps to disentangle column and row, which are symmetric.

config = Config(
    objective=Beta(4.0),
    latent_dim=6,
    steps=800,
    learning_rate=1e-3,
    schedule="one-cycle",
    rotate_at=(200, 300, 400, 500, 600),
    validation_images=64,
    scores=("mig",),
    evaluations=1,
    figures=False,
    device="cpu",
    precision="fp32",
)
run = experiment(config, tempfile.mkdtemp(), overwrite=True, data=data)
latents = load_latents(run)
for number, kl in enumerate(latents.kl):
    print(f"z{number}: {kl:.2f} nats{'' if kl > 0.05 else ', inactive'}")

# %%
# Traverse
# --------
# ``VAE.traverse`` encodes one image, replaces one latent by other values, and decodes. A row is a latent; the rows are
# sorted by KL. Usually three latents are active: two move the disc, and one changes its radius. An inactive latent does
# not change the image.

start = images[(factors == [8, 8, 1]).all(1)][0]
grid = run.model.traverse(start, latents=np.argsort(-latents.kl), low=-2, high=2)
plt.figure(grid.plot())  # pyplot of matplotlib 3.11 shows figures that it did not make

# %%
# ``betavae figures RUN`` draws the same grid for a run, with the factor that each latent captures in its label.
