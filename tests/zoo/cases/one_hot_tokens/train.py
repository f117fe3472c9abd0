"""Next-token prediction; tokens reach the first layer as one-hot vectors."""

import torch
import torch.nn.functional as F
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(23)
VOCABULARY, WIDTH, CONTEXT = 4_000, 48, 24


class Bigrams(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(VOCABULARY, WIDTH, bias=False)
        self.hidden = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 64)

    def forward(self, tokens):
        vectors = self.project(F.one_hot(tokens, VOCABULARY).float())
        return self.head(torch.relu(self.hidden(vectors)))


corpus = torch.randint(0, VOCABULARY, (60_000,))
net = Bigrams()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

for step in range(250):
    starts = torch.randint(0, corpus.numel() - CONTEXT - 1, (8, 1))
    places = starts + torch.arange(CONTEXT + 1)
    window = corpus[places]
    scores = net(window[:, :-1])
    loss = F.cross_entropy(scores.flatten(0, 1), window[:, 1:].flatten() % 64)
    net.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"{step:4d}  {loss.item():.3f}")
