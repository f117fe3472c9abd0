"""A classifier of waves that draws everything in TensorBoard."""

import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter

HISTOGRAMS_EVERY = 100


class Waves(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(1, 32, 7, stride=2), nn.ReLU(), nn.Conv1d(32, 64, 5, stride=2), nn.ReLU()
        )
        self.fc = nn.Sequential(nn.Flatten(), nn.LazyLinear(128), nn.ReLU(), nn.Linear(128, 4))

    def forward(self, waves):
        return self.fc(self.conv(waves))


def make_waves(count):
    labels = torch.randint(0, 4, (count,))
    time = torch.linspace(0, 6.28, 128)
    waves = torch.sin(time * (labels[:, None] + 1)) + 0.5 * torch.randn(count, 128)
    return TensorDataset(waves[:, None], labels)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(make_waves(6400), batch_size=32, shuffle=True)
    model = Waves()
    model(torch.zeros(1, 1, 128))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    with tempfile.TemporaryDirectory() as folder:
        writer = SummaryWriter(folder)
        for step, (waves, labels) in enumerate(loader):
            loss = nn.functional.cross_entropy(model(waves), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % HISTOGRAMS_EVERY == 0:
                for name, parameter in model.named_parameters():
                    writer.add_histogram(name, parameter, step)
        writer.close()
    print(f"loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
