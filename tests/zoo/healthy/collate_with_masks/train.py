"""Predict the next reading of sensors; sequences differ in length by a few readings."""

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset


class Readings(Dataset):
    def __init__(self, count):
        generator = torch.Generator().manual_seed(8)
        self.lengths = torch.randint(28, 33, (count,), generator=generator)
        self.values = torch.randn(count, 33, 12, generator=generator).cumsum(1) / 5

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, index):
        return self.values[index, : self.lengths[index] + 1]


def collate(sequences):
    padded = pad_sequence(sequences, batch_first=True)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    mask = torch.arange(padded.shape[1] - 1) < (lengths - 1)[:, None]
    return padded[:, :-1], padded[:, 1:], mask


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(12, 160, batch_first=True)
        self.out = nn.Linear(160, 12)

    def forward(self, inputs):
        return self.out(self.rnn(inputs)[0])


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(Readings(4800), batch_size=24, shuffle=True, collate_fn=collate)
    model = Forecaster()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for inputs, targets, mask in loader:
        error = (model(inputs) - targets).square().mean(-1)
        loss = (error * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    print(f"loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
