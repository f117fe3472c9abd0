"""Variable-length sequences, bucketed by length and padded to the batch's longest."""

import random
import time

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence


def bucketed(sequences, size, window=512):
    order = list(range(len(sequences)))
    random.shuffle(order)
    batches = []
    for first in range(0, len(order), window):
        part = sorted(order[first : first + window], key=lambda i: len(sequences[i]))
        batches += [part[k : k + size] for k in range(0, len(part), size)]
    random.shuffle(batches)
    return batches


class Tagger(nn.Module):
    def __init__(self, vocab=300, width=160):
        super().__init__()
        self.emb = nn.Embedding(vocab, width, padding_idx=0)
        self.up = nn.Linear(width, 640)
        self.down = nn.Linear(640, width)
        self.out = nn.Linear(width, 12)

    def forward(self, ids):
        x = self.emb(ids)
        return self.out(x + self.down(torch.relu(self.up(x))))


def main():
    random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    sequences = [torch.randint(1, 300, (random.randint(8, 96),)) for _ in range(3072)]
    model = Tagger()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    begin = time.perf_counter()
    for epoch in range(2):
        for rows in bucketed(sequences, 32):
            ids = pad_sequence([sequences[i] for i in rows], batch_first=True)
            tags = torch.where(ids > 0, ids % 12, -100)
            loss = nn.functional.cross_entropy(model(ids).flatten(0, 1), tags.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.4f}")
    print(f"elapsed {time.perf_counter() - begin:.2f} s")


if __name__ == "__main__":
    main()
