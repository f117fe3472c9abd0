"""Variational autoencoder on synthetic binary codes."""

import logging
import time

import torch
from torch import nn

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
logger = logging.getLogger("vae")


class VAE(nn.Module):
    def __init__(self, inputs=128, hidden=256, latent=16):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU())
        self.mean = nn.Linear(hidden, latent)
        self.logvar = nn.Linear(hidden, latent)
        self.dec = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, inputs))

    def forward(self, x):
        h = self.enc(x)
        mean, logvar = self.mean(h), self.logvar(h)
        z = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        return self.dec(z), mean, logvar


def elbo(x, logits, mean, logvar):
    rec = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum()
    return (rec + kl) / len(x)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    codes = (torch.rand(4096, 128) < 0.3).float()
    vae = VAE()
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3, fused=True)
    begin = time.perf_counter()
    for step in range(500):
        x = codes[torch.randint(4096, (32,))]
        loss = elbo(x, *vae(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            logger.info("step %d elbo %.2f", step, -loss.item())
    logger.info("500 steps in %.2f s", time.perf_counter() - begin)


if __name__ == "__main__":
    main()
