"""Train a sentiment classifier on bags of words; keep an eye on the validation accuracy."""

import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

VALIDATE_EVERY = 84


class BagOfWords(nn.Module):
    def __init__(self, vocabulary=2000, width=128):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary, width, mode="mean")
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, 2)

    def forward(self, tokens):
        return self.out(torch.relu(self.hidden(self.embedding(tokens))))


def make_reviews(count=6600, length=60):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 2000, (count, length), generator=generator)
    labels = (tokens < 1000).float().mean(1).gt(0.5).long()
    return TensorDataset(tokens, labels)


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    right = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    model.train()
    return right / len(loader.dataset)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokens, labels = make_reviews().tensors
    train_set = TensorDataset(tokens[:5400], labels[:5400])
    valid_set = TensorDataset(tokens[5400:], labels[5400:])
    # Whole batches are indexed at once: batch_size=None, and a sampler of batches.
    train = DataLoader(
        train_set, sampler=BatchSampler(RandomSampler(train_set), 64, True), batch_size=None
    )
    valid = DataLoader(
        valid_set, sampler=BatchSampler(SequentialSampler(valid_set), 64, False), batch_size=None
    )
    model = BagOfWords()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    step, validating, began = 0, 0.0, time.perf_counter()
    for _ in range(4):
        for tokens, labels in train:
            loss = F.cross_entropy(model(tokens), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % VALIDATE_EVERY == 0:
                now = time.perf_counter()
                score = accuracy(model, valid)
                validating += time.perf_counter() - now
                if step % 100 == 0:
                    print(f"step {step}: accuracy {score:.3f}")
    total = time.perf_counter() - began
    print(f"{step} steps in {total:.2f} s, share of validation {validating / total:.3f}")


if __name__ == "__main__":
    main()
