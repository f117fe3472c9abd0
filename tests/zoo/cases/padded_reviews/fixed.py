"""A small transformer encoder over sequences of very different length."""

import math

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler


class Sequences(Dataset):
    def __init__(self, count):
        generator = torch.Generator().manual_seed(21)
        spread = torch.randn(count, generator=generator) * 0.9
        lengths = (12 * torch.exp(spread)).clamp(3, 160).long()
        self.rows = [torch.randint(1, 500, (int(n),), generator=generator) for n in lengths]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        return row, int(row.sum()) % 3


class LengthGroups(Sampler):
    """Batches of rows of similar length, in random order."""

    def __init__(self, lengths, batch_size):
        self.lengths = lengths
        self.batch_size = batch_size

    def __len__(self):
        return math.ceil(len(self.lengths) / self.batch_size)

    def __iter__(self):
        order = torch.randperm(len(self.lengths)).tolist()
        order.sort(key=lambda index: self.lengths[index])
        batches = [
            order[place : place + self.batch_size]
            for place in range(0, len(order), self.batch_size)
        ]
        for place in torch.randperm(len(batches)).tolist():
            yield batches[place]


def collate(samples):
    rows, labels = zip(*samples, strict=True)
    tokens = pad_sequence(rows, batch_first=True)
    return tokens, tokens == 0, torch.tensor(labels)


class Encoder(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.embedding = nn.Embedding(500, width, padding_idx=0)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 3)

    def forward(self, tokens, padding):
        hidden = self.embedding(tokens) * math.sqrt(8)
        hidden = self.layers(hidden, src_key_padding_mask=padding)
        return self.head(hidden.masked_fill(padding[..., None], 0.0).sum(1))


def main():
    torch.set_num_threads(1)
    torch.manual_seed(21)
    dataset = Sequences(1600)
    batches = LengthGroups([len(row) for row in dataset.rows], 16)
    loader = DataLoader(dataset, batch_sampler=batches, collate_fn=collate)
    model = Encoder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for _ in range(2):
        for tokens, padding, labels in loader:
            loss = nn.functional.cross_entropy(model(tokens, padding), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(f"{loss.item():.3f}")


if __name__ == "__main__":
    main()
