"""Language-model pretraining from a streaming shard reader."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class ShardStream(IterableDataset):
    def __init__(self, shards, chunks_per_shard, seq_len, vocab):
        super().__init__()
        self.shards = shards
        self.chunks = chunks_per_shard
        self.seq_len = seq_len
        self.vocab = vocab

    def read_chunk(self, shard, k):
        """Ask the blob service for one chunk of tokens (round trip simulated)."""
        time.sleep(0.0025)
        g = torch.Generator().manual_seed(shard * 1000 + k)
        return torch.randint(self.vocab, (self.seq_len + 1,), generator=g)

    def __iter__(self):
        info = get_worker_info()
        first, stride = (0, 1) if info is None else (info.id, info.num_workers)
        for shard in range(first, self.shards, stride):
            for k in range(self.chunks):
                chunk = self.read_chunk(shard, k)
                yield chunk[:-1], chunk[1:]


class GRULM(nn.Module):
    def __init__(self, vocab, width=128):
        super().__init__()
        self.emb = nn.Embedding(vocab, width)
        self.rnn = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, vocab)

    def forward(self, tokens):
        h, _ = self.rnn(self.emb(tokens))
        return self.out(h)


def train_step(model, batch, optimizer):
    tokens, target = batch
    logits = model(tokens)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=32)
    parser.add_argument("--vocab", type=int, default=400)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    stream = ShardStream(8, 200, args.seq_len, args.vocab)
    loader = DataLoader(stream, batch_size=args.batch_size, num_workers=args.workers)
    model = GRULM(args.vocab)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    begin = time.perf_counter()
    for step, batch in enumerate(loader):
        loss = train_step(model, batch, optimizer)
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.3f}")
    print(f"{step + 1} steps took {time.perf_counter() - begin:.2f} s")


if __name__ == "__main__":
    main()
