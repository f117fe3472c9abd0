"""Train a sequence tagger."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Tagger(nn.Module):
    """Embedding, two layers of attention, one label per token."""

    def __init__(self, words, width, labels):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
            for _ in range(2)
        )
        self.head = nn.Linear(width, labels)

    def forward(self, tokens):
        hidden = self.embedding(tokens)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden)


def make_sentences(sentences, length, words, labels):
    """Random sentences; a token's label depends on the token alone."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, words, (sentences, length), generator=generator)
    return TensorDataset(tokens, tokens % labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--sentences", type=int, default=1200)
    parser.add_argument("--words", type=int, default=500)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.autograd.set_detect_anomaly(True)
    data = make_sentences(args.sentences, length=16, words=args.words, labels=6)
    loader = DataLoader(data, batch_size=8, shuffle=True)
    model = Tagger(args.words, width=48, labels=6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, fused=True)
    criterion = nn.CrossEntropyLoss()

    started = time.perf_counter()
    steps = 0
    for epoch in range(args.epochs):
        for tokens, labels in loader:
            optimizer.zero_grad()
            scores = model(tokens)
            loss = criterion(scores.flatten(0, 1), labels.flatten())
            loss.backward()
            optimizer.step()
            steps += 1
        print(f"epoch {epoch}: loss {loss.item():.4f}")
    print(f"{steps} steps in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
