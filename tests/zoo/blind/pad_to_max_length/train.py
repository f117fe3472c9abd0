"""Intent classification of short utterances with a small transformer encoder."""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader

MAX_LENGTH = 128
VOCAB = 1000


def make_utterances(n):
    g = torch.Generator().manual_seed(11)
    lengths = torch.randint(6, 30, (n,), generator=g)
    lengths[::200] = MAX_LENGTH
    out = []
    for length in lengths.tolist():
        ids = torch.randint(1, VOCAB, (length,), generator=g)
        out.append((ids, int(ids[0]) % 4))
    return out


def pad_batch(batch):
    longest = MAX_LENGTH
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    for row, (tokens, _) in enumerate(batch):
        ids[row, : len(tokens)] = tokens
    return ids, torch.tensor([label for _, label in batch])


class IntentModel(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.tok = nn.Embedding(VOCAB, width)
        self.pos = nn.Parameter(torch.randn(MAX_LENGTH, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 256, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(width, 4)

    def forward(self, ids):
        mask = ids == 0
        x = self.tok(ids) + self.pos[: ids.shape[1]]
        x = self.encoder(x, src_key_padding_mask=mask)
        keep = (~mask).unsqueeze(-1).float()
        return self.head((x * keep).sum(1) / keep.sum(1))


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(make_utterances(1600), batch_size=8, shuffle=True, collate_fn=pad_batch)
    model = IntentModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    began = time.perf_counter()
    for step, (ids, labels) in enumerate(loader):
        loss = nn.functional.cross_entropy(model(ids), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 40 == 0:
            print(f"step {step} loss {loss.item():.3f}")
    print(f"epoch took {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
