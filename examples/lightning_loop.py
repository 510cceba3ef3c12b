"""The same training inside Lightning: any objective of betavae as the loss of a LightningModule.

python examples/lightning_loop.py FOLDER [steps]      (needs `pip install lightning`)
"""

import sys

import lightning
import torch
from torch.utils.data import DataLoader

from betavae import TC, VAE, load_data
from betavae.objectives.api import Batch
from betavae.objectives.needs import schedule_of
from betavae.objectives.registry import objective_of


class Training(lightning.LightningModule):
    """Minimises an objective that needs images and noise only."""

    def __init__(self, vae, objective, num_images):
        super().__init__()
        self.vae, self.objective, self.num_images = vae, objective, num_images
        self.loss = objective_of(objective).loss

    def training_step(self, images, index):
        noise = torch.randn(len(images), self.vae.latent_dim, device=self.device)
        schedule = schedule_of(self.objective, self.global_step)
        found = self.loss(self.objective, self.vae, Batch(images, noise, schedule, num_images=self.num_images))
        self.log_dict({name: float(term) for name, term in found.terms.items()})
        return found.loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


if __name__ == "__main__":
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 2_000
    data = load_data("dsprites")
    images = torch.from_numpy(data.images(slice(0, len(data), 100))).float() / data.max_value  # every hundredth
    training = Training(VAE("burgess", data.image_shape, 10), TC(beta=6.0), len(images))
    trainer = lightning.Trainer(
        max_steps=steps, logger=False, enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False
    )
    trainer.fit(training, DataLoader(images, batch_size=64, shuffle=True, drop_last=True))
    print(training.vae.save_pretrained(sys.argv[1]))
