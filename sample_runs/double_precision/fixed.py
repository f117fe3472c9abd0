"""Learn a turbine's power from its measurements, which NumPy holds."""

import argparse
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Measurements(Dataset):
    """Rows of a NumPy table and the power that belongs to each."""

    def __init__(self, rows, columns):
        generator = np.random.default_rng(1)
        self.inputs = generator.standard_normal((rows, columns)).astype(np.float32)
        weights = (generator.standard_normal(columns) / columns**0.5).astype(np.float32)
        self.power = np.tanh(self.inputs @ weights)

    def __len__(self):
        return len(self.power)

    def __getitem__(self, index):
        return torch.from_numpy(self.inputs[index]), torch.tensor(self.power[index])


class PowerModel(nn.Module):
    """A multilayer perceptron."""

    def __init__(self, columns, hidden):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(columns, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, inputs):
        return self.layers(inputs).squeeze(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rows", type=int, default=6400)
    parser.add_argument("--batch-size", type=int, default=128)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = Measurements(args.rows, columns=64)
    loader = DataLoader(data, batch_size=args.batch_size, shuffle=True)
    model = PowerModel(columns=64, hidden=1024)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=True)
    criterion = nn.MSELoss()

    started = time.perf_counter()
    steps = 0
    for epoch in range(args.epochs):
        for inputs, power in loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), power)
            loss.backward()
            optimizer.step()
            steps += 1
        print(f"epoch {epoch}: loss {loss.item():.4f}")
    print(f"{steps} steps in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
