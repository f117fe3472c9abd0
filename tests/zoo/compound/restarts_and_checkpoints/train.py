"""Short epochs: a worker starts before each, and a slow checkpoint comes after each."""

import io
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Cells(Dataset):
    def __len__(self):
        return 160

    def __getitem__(self, index):
        time.sleep(0.0001)
        return torch.full((1, 20, 20), index / 160), index % 2


class Mount(io.BytesIO):
    """A network mount: the last bytes take their time."""

    delay_s = 0.12

    def flush(self):
        time.sleep(self.delay_s)
        self.delay_s = 0.0


def open_archive(worker_id):
    time.sleep(0.25)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(
        Cells(), batch_size=16, shuffle=True, num_workers=1, worker_init_fn=open_archive
    )
    model = nn.Sequential(
        nn.Conv2d(1, 48, 3),
        nn.ReLU(),
        nn.Conv2d(48, 48, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48 * 64, 2),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    started, starts_s = time.perf_counter(), 0.0
    for epoch in range(14):
        asked = time.perf_counter()
        for number, (cells, labels) in enumerate(loader):
            if number == 0:
                starts_s += time.perf_counter() - asked
            loss = nn.functional.cross_entropy(model(cells), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.save({"epoch": epoch, "model": model.state_dict()}, Mount())
    total_s = time.perf_counter() - started
    print(f"loss {loss.item():.4f}; starts {starts_s:.2f} of {total_s:.2f} s")
    print(f"planted share {starts_s / total_s:.4f}")


if __name__ == "__main__":
    main()
