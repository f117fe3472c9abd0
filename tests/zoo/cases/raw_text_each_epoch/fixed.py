"""Sentiment of reviews with a bag of words."""

import random
import re

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

WORD = re.compile(r"[a-z]+|[0-9]+|[^\w\s]")


def make_reviews(count):
    rng = random.Random(11)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(2000)]
    texts = [" ".join(rng.choices(words, k=300)).capitalize() for _ in range(count)]
    return words, [(text, rng.randint(0, 1)) for text in texts]


def tokenize(text, vocabulary):
    return [vocabulary.get(word, 0) for word in WORD.findall(text.lower())]


class Reviews(Dataset):
    def __init__(self, count=1000):
        words, self.reviews = make_reviews(count)
        vocabulary = {word: number for number, word in enumerate(words, start=1)}
        self.tokens = [torch.tensor(tokenize(text, vocabulary)) for text, _ in self.reviews]

    def __len__(self):
        return len(self.reviews)

    def __getitem__(self, index):
        _, label = self.reviews[index]
        return self.tokens[index], label


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.EmbeddingBag(2001, 16)
        self.head = nn.Linear(16, 2)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


def train(epochs=10):
    torch.set_num_threads(1)
    torch.manual_seed(11)
    loader = DataLoader(Reviews(), batch_size=20, shuffle=True)
    model = Bag()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(epochs):
        total = 0.0
        for tokens, labels in loader:
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(tokens), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(epoch, round(total / len(loader), 4))


if __name__ == "__main__":
    train()
