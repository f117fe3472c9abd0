"""A GAN: two optimizers, three backwards per batch; `--critic N` updates the generator rarely."""

import argparse
import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--critic", type=int, default=1)
critic = parser.parse_args().critic

torch.manual_seed(0)
torch.set_num_threads(1)
loader = DataLoader(TensorDataset(torch.randn(160, 8) + 1), batch_size=8, shuffle=True)
generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))
discriminator = nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
generator_optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3)
discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
criterion = nn.BCEWithLogitsLoss()
real_label, fake_label = torch.ones(8, 1), torch.zeros(8, 1)

for _ in range(2):
    for number, (real,) in enumerate(loader):
        discriminator_optimizer.zero_grad()
        real_loss = criterion(discriminator(real), real_label)
        real_loss.backward()
        fake = generator(torch.randn(8, 4))
        fake_loss = criterion(discriminator(fake.detach()), fake_label)
        fake_loss.backward()
        discriminator_optimizer.step()
        print(repr(real_loss.item()), repr(fake_loss.item()))

        if number % critic == 0:
            generator_optimizer.zero_grad()
            loss = criterion(discriminator(fake), real_label)
            loss.backward()
            generator_optimizer.step()
            print(repr(loss.item()))

print(json.dumps({"steps": 40, "training_length": 160}))
