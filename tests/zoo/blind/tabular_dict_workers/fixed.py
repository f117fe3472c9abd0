"""Click model on a table that sits in memory; every field is its own column."""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

COLUMNS = ["age", "income", "visits", "clicks", "dwell", "depth", "recency", "score"]


class Table(Dataset):
    def __init__(self, rows):
        g = torch.Generator().manual_seed(0)
        self.columns = {name: torch.randn(rows, generator=g) for name in COLUMNS}
        self.label = (sum(self.columns.values()) > 0).float()

    def __len__(self):
        return len(self.label)

    def __getitem__(self, i):
        item = {name: column[i] for name, column in self.columns.items()}
        item["label"] = self.label[i]
        return item


class ClickModel(nn.Module):
    def __init__(self, width=96):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(len(COLUMNS), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.head = nn.Linear(width, 1)

    def forward(self, item):
        x = torch.stack([item[name] for name in COLUMNS], dim=1)
        return self.head(self.net(x)).squeeze(1)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(Table(1600), batch_size=8, shuffle=True, num_workers=0)
    model = ClickModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    criterion = nn.BCEWithLogitsLoss()
    begin = time.perf_counter()
    for epoch in range(3):
        for item in loader:
            loss = criterion(model(item), item["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
    print(f"training {time.perf_counter() - begin:.2f} s")


if __name__ == "__main__":
    main()
