"""A recurrent tagger with a Trainer class that likes to talk."""

import sys

import torch
from torch import nn


class Tagger(nn.Module):
    def __init__(self, words=500, width=64, tags=12):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.gru = nn.GRU(width, 96, batch_first=True)
        self.out = nn.Linear(96, tags)

    def forward(self, tokens):
        return self.out(self.gru(self.embed(tokens))[0])


class Trainer:
    talk_every = 100

    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.step = 0

    def report(self, loss):
        print(f"step {self.step} loss {loss.item():.4f}", file=sys.stderr)
        print(self.model.out.weight.tolist(), file=sys.stderr, flush=True)

    def fit(self, tokens, tags, steps, batch=16):
        for _ in range(steps):
            rows = torch.randint(len(tokens), (batch,))
            logits = self.model(tokens[rows])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), tags[rows].flatten())
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            if self.step % self.talk_every == 0:
                self.report(loss)
            self.step += 1


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokens = torch.randint(0, 500, (2000, 16))
    Trainer(Tagger()).fit(tokens, tokens % 12, steps=300)
