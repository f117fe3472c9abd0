"""Self-supervised: an encoder and its moving average, two views, a predictor; several models."""

import copy
import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
loader = DataLoader(TensorDataset(torch.randn(160, 8)), batch_size=8, shuffle=True)
encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
predictor = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
target = copy.deepcopy(encoder)
optimizer = torch.optim.SGD([*encoder.parameters(), *predictor.parameters()], lr=0.05)

for _ in range(2):
    for (rows,) in loader:
        first, second = rows + 0.1 * torch.randn_like(rows), rows + 0.1 * torch.randn_like(rows)
        with torch.no_grad():
            goals = target(second), target(first)
        guesses = predictor(encoder(first)), predictor(encoder(second))
        loss = -sum(
            nn.functional.cosine_similarity(guess, goal).mean()
            for guess, goal in zip(guesses, goals, strict=True)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), encoder.parameters(), strict=True):
                slow.lerp_(fast, 0.01)
        print(repr(loss.item()))

print(json.dumps({"steps": 40, "training_length": 160}))
