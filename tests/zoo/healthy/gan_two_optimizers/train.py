"""A generative adversarial network on rings of points."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

LATENT = 32


def network(inputs, outputs, width=384):
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, outputs),
    )


def ring(points):
    angle = 2 * math.pi * torch.rand(points, 1)
    radius = 1 + 0.05 * torch.randn(points, 1)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(TensorDataset(ring(12800)), batch_size=128, shuffle=True, drop_last=True)
    generator, critic = network(LATENT, 2), network(2, 1)
    to_generate = torch.optim.SGD(generator.parameters(), lr=0.01)
    to_tell = torch.optim.SGD(critic.parameters(), lr=0.02)
    criterion = nn.BCEWithLogitsLoss()
    real, fake = torch.ones(128, 1), torch.zeros(128, 1)

    for epoch in range(3):
        for (points,) in loader:
            made = generator(torch.randn(128, LATENT))

            to_tell.zero_grad()
            told_real = criterion(critic(points), real)
            told_fake = criterion(critic(made.detach()), fake)
            told_real.backward()
            told_fake.backward()
            to_tell.step()

            to_generate.zero_grad()
            fooled = criterion(critic(made), real)
            fooled.backward()
            to_generate.step()
        print(f"epoch {epoch}: critic {told_fake.item():.3f} generator {fooled.item():.3f}")


if __name__ == "__main__":
    main()
