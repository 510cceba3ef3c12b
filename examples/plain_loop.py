"""A β-VAE in a plain PyTorch loop: your own networks, optimiser and schedule, with the loss functions of betavae alone.

python examples/plain_loop.py FOLDER [steps]
"""

import sys

import torch
from torch import nn

from betavae import VAE, Beta, load_data
from betavae.objectives.api import Batch
from betavae.objectives.elbo import beta

if __name__ == "__main__":
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 2_000
    torch.manual_seed(0)
    data = load_data("dsprites")
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(4096, 400), nn.ReLU(), nn.Linear(400, 20))
    decoder = nn.Sequential(nn.Linear(10, 400), nn.ReLU(), nn.Linear(400, 4096), nn.Unflatten(1, (1, 64, 64)))
    vae = VAE(image_shape=data.image_shape, latent_dim=10, encoder=encoder, decoder=decoder)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-3, total_steps=steps)
    for step in range(steps):
        images = torch.from_numpy(data.images(torch.randint(len(data), (64,)).numpy())).float() / data.max_value
        batch = Batch(images, noise=torch.randn(64, 10), schedule={"beta": 4.0})
        loss, terms, *_ = beta(Beta(), vae, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step}: {terms['reconstruction']:.1f} nats + 4 · {terms['rate']:.1f} nats")
    print(vae.save_pretrained(sys.argv[1]))
