"""Which article comes next? A bag of clicked articles predicts the section of the next one."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ARTICLES, SECTIONS, STEPS = 60_000, 12, 600

torch.set_num_threads(1)
torch.manual_seed(0)

clicks = torch.randint(ARTICLES, (16 * STEPS, 10))
sections = clicks[:, -1] % SECTIONS
loader = DataLoader(TensorDataset(clicks, sections), batch_size=16, shuffle=True)


class NextSection(nn.Module):
    """Mean of the embedded articles, and a linear layer."""

    def __init__(self, width=48):
        super().__init__()
        self.articles = nn.EmbeddingBag(ARTICLES, width, mode="mean")
        self.section = nn.Linear(width, SECTIONS)

    def forward(self, bags):
        return self.section(self.articles(bags))


model = NextSection()
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
loss_of = nn.CrossEntropyLoss()

for step, (bags, wanted) in enumerate(loader):
    optimizer.zero_grad()
    loss = loss_of(model(bags), wanted)
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"{step:4d}  {loss.item():.4f}")
