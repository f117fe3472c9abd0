"""Causal character model with its own attention."""

import time

import torch
from torch import nn

HEADS, WIDTH, LENGTH, VOCAB = 8, 128, 384, 96


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def attend(self, q, k, v):
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        return self.out(self.attend(q, k, v).transpose(1, 2).reshape(b, t, WIDTH))


class CharModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.head = nn.Linear(WIDTH, VOCAB)

    def forward(self, ids):
        x = self.emb(ids)
        return self.head(x + self.attention(self.norm(x)))


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    stream = torch.randint(VOCAB, (30000,))
    model = CharModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    start = time.perf_counter()
    for step in range(150):
        at = torch.randint(len(stream) - LENGTH - 1, (2,)).tolist()
        window = torch.stack([stream[i : i + LENGTH + 1] for i in at])
        logits = model(window[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 30 == 0:
            print(f"step {step} loss {loss.item():.3f}")
    print(f"finished, {time.perf_counter() - start:.2f} s")
