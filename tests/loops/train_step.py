"""The loop is in a trainer class; the step hides in `train_step`, train() and eval() inside it."""

import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    """As found in many research repositories."""

    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        self.criterion = nn.MSELoss()

    def train_step(self, batch):
        self.model.train()
        inputs, targets = batch
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(inputs), targets)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def eval_step(self, batch):
        self.model.eval()
        inputs, targets = batch
        return self.criterion(self.model(inputs), targets).item()

    def fit(self, training, validation, epochs):
        for _ in range(epochs):
            for number, batch in enumerate(training):
                print(repr(self.train_step(batch)))
                if number == 9:
                    print("validation", repr(sum(map(self.eval_step, validation))))


torch.manual_seed(0)
torch.set_num_threads(1)
training = DataLoader(
    TensorDataset(torch.randn(160, 8), torch.randn(160, 1)), batch_size=8, shuffle=True
)
validation = DataLoader(TensorDataset(torch.randn(24, 8), torch.randn(24, 1)), batch_size=8)
Trainer(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))).fit(training, validation, 2)

expected = {
    "steps": 40,
    "training_length": 160,
    "validation_length": 24,
    "validation_in": [9, 29],
}
print(json.dumps(expected))
