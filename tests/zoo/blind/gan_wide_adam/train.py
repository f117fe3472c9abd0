"""Tiny GAN on vectors with two optimizers."""

import time

import torch
from torch import nn

LATENT, DATA, WIDTH, BATCH = 64, 256, 1024, 4


def mlp(inputs, outputs):
    return nn.Sequential(
        nn.Linear(inputs, WIDTH),
        nn.LeakyReLU(0.2),
        nn.Linear(WIDTH, WIDTH),
        nn.LeakyReLU(0.2),
        nn.Linear(WIDTH, outputs),
    )


class GAN:
    def __init__(self):
        self.gen = mlp(LATENT, DATA)
        self.disc = mlp(DATA, 1)
        self.opt_g = torch.optim.Adam(self.gen.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.opt_d = torch.optim.Adam(self.disc.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.bce = nn.BCEWithLogitsLoss()
        self.real = torch.ones(BATCH, 1)
        self.fake = torch.zeros(BATCH, 1)

    def step_discriminator(self, batch):
        with torch.no_grad():
            made = self.gen(torch.randn(BATCH, LATENT))
        loss = self.bce(self.disc(batch), self.real) + self.bce(self.disc(made), self.fake)
        self.opt_d.zero_grad()
        loss.backward()
        self.opt_d.step()
        return loss.item()

    def step_generator(self):
        self.disc.requires_grad_(False)
        loss = self.bce(self.disc(self.gen(torch.randn(BATCH, LATENT))), self.real)
        self.opt_g.zero_grad()
        loss.backward()
        self.opt_g.step()
        self.disc.requires_grad_(True)
        return loss.item()


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = torch.randn(2048, DATA) * 0.5 + 1
    gan = GAN()
    t0 = time.perf_counter()
    for i in range(160):
        rows = torch.randint(len(data), (BATCH,))
        loss_d = gan.step_discriminator(data[rows])
        loss_g = gan.step_generator()
        if i % 40 == 0:
            print(f"{i}: D {loss_d:.3f} G {loss_g:.3f}")
    print(f"GAN training {time.perf_counter() - t0:.2f} s")
