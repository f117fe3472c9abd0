"""Next-token training of a small decoder; settings inherited from a larger run."""

import time

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.n1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.n2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(self.n1(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        a = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(a.transpose(1, 2).reshape(b, t, c))
        return x + self.down(nn.functional.gelu(self.up(self.n2(x))))


class Decoder(nn.Module):
    def __init__(self, vocab=256, width=128, depth=4, recompute=True):
        super().__init__()
        self.emb = nn.Embedding(vocab, width)
        self.layers = nn.ModuleList(Layer(width, 4) for _ in range(depth))
        self.out = nn.Linear(width, vocab)
        self.recompute = recompute

    def forward(self, ids):
        x = self.emb(ids)
        for layer in self.layers:
            if self.recompute and self.training:
                x = checkpoint(layer, x, use_reentrant=False)
            else:
                x = layer(x)
        return self.out(x)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    text = torch.randint(256, (20000,))
    model = Decoder(recompute=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    began = time.perf_counter()
    for step in range(150):
        at = torch.randint(len(text) - 65, (4,)).tolist()
        ids = torch.stack([text[i : i + 65] for i in at])
        logits = model(ids[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 30 == 0:
            print(f"step {step} loss {loss.item():.3f}")
    print(f"150 steps, {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
