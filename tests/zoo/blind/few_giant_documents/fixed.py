"""Bag-of-words model over documents; a handful of documents is enormous."""

import random
import time
import zlib

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

BUCKETS = 2048
KEEP = 400


def make_documents(n):
    rng = random.Random(4)
    words = [f"w{rng.randint(0, 10**6)}" for _ in range(5000)]
    documents = []
    for i in range(n):
        length = 300000 if i % 200 == 75 else rng.randint(100, KEEP)
        documents.append(" ".join(rng.choices(words, k=length)))
    return documents


class Documents(Dataset):
    def __init__(self, documents):
        self.documents = documents

    def __len__(self):
        return len(self.documents)

    def __getitem__(self, i):
        text = self.documents[i][: 12 * KEEP]
        ids = [zlib.crc32(word.encode()) % BUCKETS for word in text.split()]
        ids = (ids + [0] * KEEP)[:KEEP]
        return torch.tensor(ids), len(ids) % 2


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.EmbeddingBag(BUCKETS, 64)
        self.mlp = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU())
        self.out = nn.Linear(512, 2)

    def forward(self, ids):
        return self.out(self.mlp(self.emb(ids)))


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(Documents(make_documents(2400)), batch_size=8, shuffle=True)
    model = Bag()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    t0 = time.perf_counter()
    for step, (ids, labels) in enumerate(loader, 1):
        loss = nn.functional.cross_entropy(model(ids), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 60 == 0:
            print(f"{step:4d} {loss.item():.4f}")
    print(f"pass over the data: {time.perf_counter() - t0:.2f} s")
