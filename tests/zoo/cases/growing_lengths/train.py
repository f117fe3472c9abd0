"""A curriculum: sequences grow during the training, and the network is compiled for each length."""

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(17)


class Reader(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Embedding(100, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(10))
        self.head = nn.Linear(width, 2)

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = x + torch.relu(layer(x))
        return self.head(x.mean(dim=1))


reader = Reader()
network = torch.compile(reader, backend="eager", dynamic=False)
optimizer = torch.optim.SGD(reader.parameters(), lr=0.05)

for step in range(320):
    length = 8 + 4 * (step // 40)
    tokens = torch.randint(0, 100, (16, length))
    labels = (tokens[:, 0] > 50).long()
    loss = nn.functional.cross_entropy(network(tokens), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step} length {length} loss {loss.item():.4f}")
