"""Linear probing: only the head is trained, the backbone comes from elsewhere."""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(256, 768), nn.GELU(), nn.Linear(768, 768), nn.GELU(), nn.Linear(768, 128)
        )

    def forward(self, x):
        noise = torch.randn_like(x) * 0.1
        return self.body(x + noise)


def load_pretrained():
    backbone = Backbone()
    backbone.load_state_dict({k: v.clone() for k, v in backbone.state_dict().items()})
    return backbone.eval()


def train(epochs=3):
    data = TensorDataset(torch.randn(3200, 256), torch.randint(10, (3200,)))
    loader = DataLoader(data, batch_size=64, shuffle=True)
    backbone = load_pretrained()
    head = nn.Linear(128, 10)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    criterion = nn.CrossEntropyLoss()
    start = time.perf_counter()
    for epoch in range(epochs):
        for x, y in tqdm(loader, desc=f"epoch {epoch}", disable=None):
            features = backbone(x)
            loss = criterion(head(features), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(f"probe loss {loss.item():.3f} after {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train()
