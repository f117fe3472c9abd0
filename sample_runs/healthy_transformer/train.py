"""Train a small language model: a log line per 100 steps, a checkpoint per epoch."""

import argparse
import logging
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

log = logging.getLogger("language-model")


class Text(Dataset):
    """Overlapping windows of one long sequence of tokens."""

    def __init__(self, tokens, window):
        self.tokens = tokens
        self.window = window

    def __len__(self):
        return (len(self.tokens) - 1) // self.window

    def __getitem__(self, index):
        start = index * self.window
        piece = self.tokens[start : start + self.window + 1]
        return piece[:-1], piece[1:]


class LanguageModel(nn.Module):
    """A decoder-only transformer."""

    def __init__(self, words, width, window, layers):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.positions = nn.Parameter(torch.zeros(window, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.head = nn.Linear(width, words)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(window))

    def forward(self, tokens):
        hidden = self.words(tokens) + self.positions
        for block in self.blocks:
            hidden = block(hidden, src_mask=self.mask, is_causal=True)
        return self.head(hidden)


def make_tokens(count, words):
    """A walk through the vocabulary with a few steps at random."""
    generator = torch.Generator().manual_seed(1)
    jumps = torch.rand(count, generator=generator) < 0.1
    sizes = torch.where(jumps, torch.randint(0, words, (count,), generator=generator), 1)
    return torch.cumsum(sizes, dim=0) % words


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=60_000)
    parser.add_argument("--window", type=int, default=48)
    parser.add_argument("--checkpoint", type=Path)
    args = parser.parse_args()

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    checkpoint = args.checkpoint or Path(tempfile.mkdtemp()) / "model.pt"
    torch.manual_seed(0)
    torch.set_num_threads(1)
    text = Text(make_tokens(args.tokens, words=96), args.window)
    loader = DataLoader(text, batch_size=12, shuffle=True, drop_last=True)
    model = LanguageModel(96, width=96, window=args.window, layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(loader))

    started = time.perf_counter()
    steps = 0
    for _ in range(args.epochs):
        for tokens, following in loader:
            optimizer.zero_grad()
            scores = model(tokens)
            loss = nn.functional.cross_entropy(scores.flatten(0, 1), following.flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            steps += 1
            if steps % 100 == 0:
                log.info("step %d loss %.4f", steps, loss.item())
        torch.save(model.state_dict(), checkpoint)
    print(f"{steps} steps in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
