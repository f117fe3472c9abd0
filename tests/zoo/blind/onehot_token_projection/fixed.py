"""Skip-gram like model: predict a category from a window of tokens."""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

VOCAB = 2500


class TokenProjection(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(VOCAB, width) * 0.05)

    def forward(self, ids):
        return nn.functional.embedding(ids, self.weight)


class WindowModel(nn.Module):
    def __init__(self, width=64, window=12):
        super().__init__()
        self.tokens = TokenProjection(width)
        self.mlp = nn.Sequential(nn.Linear(width * window, 512), nn.ReLU(), nn.Linear(512, 20))

    def forward(self, ids):
        return self.mlp(self.tokens(ids).flatten(1))


def run(epochs=2):
    ids = torch.randint(VOCAB, (2880, 12))
    loader = DataLoader(TensorDataset(ids, ids.sum(1) % 20), batch_size=32, shuffle=True)
    model = WindowModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    t0 = time.perf_counter()
    for epoch in range(epochs):
        for window, label in loader:
            loss = nn.functional.cross_entropy(model(window), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} {loss.item():.3f}")
    print(f"elapsed {time.perf_counter() - t0:.2f} s")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    run()
