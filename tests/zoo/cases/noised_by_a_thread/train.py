"""Sentences are told apart by language, from trigrams, whatever the typing errors."""

import queue
import random
import threading
import zlib

import torch
from torch import nn

BATCH, STEPS, BUCKETS = 128, 800, 20_000
LETTERS = "abcdefghijklmnopqrstuvwxyz "


def mistyped(text, rng):
    """Drops, doubles and swaps letters, as hurried people do."""
    letters = list(text)
    typed = []
    for letter in letters:
        chance = rng.random()
        if chance < 0.03:
            continue
        if chance < 0.06 and typed:
            typed.insert(-1, letter)
        elif chance < 0.09:
            typed += (letter, letter)
        else:
            typed.append(letter)
    return "".join(typed)[:90].ljust(90)


def trigrams(text):
    return [zlib.crc32(text[at : at + 3].encode()) % BUCKETS for at in range(len(text) - 2)]


def make_batch(corpus, rng):
    chosen = [rng.choice(corpus) for _ in range(BATCH)]
    rows = [trigrams(mistyped(text, rng)) for text, _ in chosen]
    return torch.tensor(rows), torch.tensor([language for _, language in chosen])


class Prefetcher(threading.Thread):
    """Keeps a few batches ready while the model trains."""

    def __init__(self, corpus):
        super().__init__(daemon=True)
        self.corpus, self.rng = corpus, random.Random(7)
        self.ready = queue.Queue(maxsize=6)
        self.start()

    def run(self):
        while True:
            self.ready.put(make_batch(self.corpus, self.rng))

    def __iter__(self):
        for _ in range(STEPS):
            yield self.ready.get()


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x):
        return x + self.inner(self.norm(x))


class Languages(nn.Module):
    def __init__(self, width=96, depth=12, languages=5):
        super().__init__()
        self.bag = nn.EmbeddingBag(BUCKETS, width, sparse=True)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.out = nn.Linear(width, languages)

    def forward(self, rows):
        return self.out(self.blocks(self.bag(rows)))


def write_corpus(rng, count=2_000, languages=5):
    """Each language likes its own letters."""
    weights = [[rng.random() ** 3 for _ in LETTERS] for _ in range(languages)]
    texts = ((rng.choices(LETTERS, weights[n % languages], k=90), n) for n in range(count))
    return [("".join(letters), n % languages) for letters, n in texts]


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Languages()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    batches = Prefetcher(write_corpus(random.Random(1)))
    for step, (rows, languages) in enumerate(batches):
        loss = nn.functional.cross_entropy(model(rows), languages)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 300 == 0:
            print(f"step {step}: {loss.item():.3f}")


if __name__ == "__main__":
    main()
