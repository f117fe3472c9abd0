"""Item recommendations from the last few items: a large table of item vectors."""

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(2)
ITEMS, WIDTH = 150_000, 32


class Recommender(nn.Module):
    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(ITEMS, WIDTH, sparse=True)
        self.tower = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))

    def forward(self, history):
        return self.tower(self.items(history).mean(dim=1)).squeeze(1)


history = torch.randint(0, ITEMS, (4_096, 6))
bought = torch.randint(0, 2, (4_096,)).float()
model = Recommender()
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
criterion = nn.BCEWithLogitsLoss()

for epoch in range(4):
    for start in range(0, 4_096, 64):
        rows = slice(start, start + 64)
        loss = criterion(model(history[rows]), bought[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch} loss {loss.item():.4f}")
