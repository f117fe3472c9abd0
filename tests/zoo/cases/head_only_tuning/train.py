"""Fit a new classifier on top of an encoder that stays as it is."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)


class Encoder(nn.Sequential):
    """Turns a row of measurements into features."""

    def __init__(self, columns=64, width=384, depth=4):
        layers = [nn.Linear(columns, width), nn.GELU()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.GELU()]
        super().__init__(*layers)


class Classifier(nn.Module):
    """The encoder and a small head for the new classes."""

    def __init__(self, encoder, classes):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.Linear(384, 64), nn.ReLU(), nn.Linear(64, classes))

    def forward(self, rows):
        return self.head(self.encoder(rows))


rows = torch.randn(6400, 64)
labels = (rows[:, :4].sum(dim=1) > 0).long() + 2 * (rows[:, 4] > 0).long()
loader = DataLoader(TensorDataset(rows, labels), batch_size=64, shuffle=True)

encoder = Encoder()  # in real life: encoder.load_state_dict(torch.load("encoder.pt"))
model = Classifier(encoder, classes=4)
optimizer = torch.optim.SGD(model.head.parameters(), lr=0.05, momentum=0.9)
criterion = nn.CrossEntropyLoss()

for epoch in range(5):
    for batch, wanted in loader:
        model.zero_grad()
        loss = criterion(model(batch), wanted)
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.4f}")
