"""Contrastive learning with a momentum encoder and a queue of keys."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, KEYS, MOMENTUM = 96, 2048, 0.99


def encoder():
    return nn.Sequential(
        nn.Linear(WIDTH, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 64)
    )


def view(rows):
    return rows + 0.3 * torch.randn_like(rows)


@torch.no_grad()
def follow(slow, fast):
    """Moves the slow encoder a little towards the fast one."""
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1 - MOMENTUM)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = torch.randn(20_000, WIDTH)
    query_encoder = encoder()
    key_encoder = copy.deepcopy(query_encoder).requires_grad_(False)
    queue = F.normalize(torch.randn(KEYS, 64), dim=1)
    optimizer = torch.optim.SGD(query_encoder.parameters(), lr=0.05, momentum=0.9)
    head = 0
    for step in range(300):
        batch = rows[torch.randint(len(rows), (128,))]
        queries = F.normalize(query_encoder(view(batch)), dim=1)
        with torch.no_grad():
            follow(key_encoder, query_encoder)
            keys = F.normalize(key_encoder(view(batch)), dim=1)
        logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ queue.T], dim=1)
        loss = F.cross_entropy(logits / 0.2, torch.zeros(128, dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        queue[head : head + 128] = keys
        head = (head + 128) % KEYS
        if step % 75 == 0:
            print(f"{step:4d} {loss.item():.4f}")


if __name__ == "__main__":
    main()
