# %% [markdown]
# # Your own images
#
# Train on a folder of images without labels, and look for latents that mean something. A minute or two on two cores.

# %%
# %pip install -q betavae

# %%
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import betavae

STEPS = 1_500
folder = Path("images")

# %% [markdown]
# ## A folder of images
#
# Replace this cell with a folder of your own: PNG or JPEG files of one size. A few thousand are enough to try. These
# are 2,000 discs of random place, size and brightness.

# %%
folder.mkdir(exist_ok=True)
for number, (x, y, size, light) in enumerate(np.random.default_rng(0).uniform(size=(2_000, 4))):
    picture = Image.new("L", (72, 96), 20)
    left, top, side = 4 + 32 * x, 16 + 32 * y, 16 + 20 * size
    ImageDraw.Draw(picture).ellipse((left, top, left + side, top + side), fill=int(100 + 155 * light))
    picture.save(folder / f"{number:04}.png")

# %% [markdown]
# ## Crop and resize
#
# Architectures take squares of 32, 64 or 128 pixels. `crop` cuts a square from the centre, `image_size` resizes it.

# %%
data = betavae.load_data(folder, crop=72, image_size=32)
print(len(data), data.image_shape)

# %% [markdown]
# ## Train
#
# Without labels there are no scores, but the held-out loss, the KL of each latent and the figures are there. β grows
# with the number of pixels and channels: start with 1 for small images.

# %%
config = betavae.Config(
    data=str(folder),
    crop=72,
    image_size=32,
    objective=betavae.Beta(beta=1.0, warmup_steps=STEPS // 5),
    latent_dim=6,
    steps=STEPS,
    learning_rate=1e-3,
    schedule="one-cycle",
    validation_images=0.1,
)
run = betavae.experiment(config, "runs/images", overwrite=True)
run.scores.details["held_out"]

# %% [markdown]
# ## Which latents carry information?
#
# The KL of a latent, in nats, is what it tells about the image. Latents near 0 are inactive, and that is normal.

# %%
mean, log_var = run.latents.mean, run.latents.log_var
kl = (0.5 * (mean**2 + np.exp(log_var) - log_var - 1)).mean(0)
for latent in kl.argsort()[::-1]:
    print(f"z{latent}: {kl[latent]:.2f} nats")

# %%
run.figures["traversals"]

# %% [markdown]
# ## New images
#
# Sample from the prior, or change the two most informative latents of an image.

# %%
vae = run.model
vae.sample(16, seed=0)

# %%
vae.traverse(data.images([0])[0], latents=kl.argsort()[::-1][:2].tolist(), steps=7)
