# %% [markdown]
# # A first model
#
# Train a β-TCVAE on dSprites, see what each latent does, and score it. Some minutes on two cores; no GPU needed.

# %%
# %pip install -q betavae

# %%
import betavae

STEPS = 2_000

# %% [markdown]
# ## Data
#
# dSprites is generated: 737,280 images of one white sprite. Five factors decide an image.

# %%
data = betavae.load_data("dsprites")
print(f"{len(data):,} images; factors {dict(zip(data.factor_names, data.factor_sizes, strict=True))}")

# %% [markdown]
# ## Train
#
# β weighs the total correlation, the dependence between latents. `experiment` trains, encodes all images, scores and
# draws. The folder then has weights, curves, scores, figures and a report.

# %%
config = betavae.Config(
    objective=betavae.TC(beta=6.0, warmup_steps=STEPS // 5),
    steps=STEPS,
    learning_rate=1e-3,
    schedule="one-cycle",
    seed=1,
    validation_images=0.02,
    scores=("dci", "mig"),
    scored_images=20_000,
)
run = betavae.experiment(config, "runs/first", data=data, overwrite=True)
run

# %% [markdown]
# ## What each latent does
#
# Every row changes one latent of one image and leaves the others as they are. A good latent changes one thing only.

# %%
run.figures["traversals"]

# %% [markdown]
# ## Scores
#
# Compare each score with its chance level, which independent noise gets, and with its ceiling, not with 0 and 1.

# %%
run.scores.to_frame()

# %% [markdown]
# ## Use the model
#
# NumPy arrays in, NumPy arrays out.

# %%
vae = run.model
images = data.images([0, len(data) // 2, len(data) - 1])
latents = vae.encode(images).mean
print(latents.round(1))
vae.reconstruct(images)

# %%
vae.interpolate(images[0], images[2], steps=9)

# %% [markdown]
# Next: change β to 1 or 20 and run all cells again. With a large β, latents collapse and images blur; with a small one,
# factors are entangled.
