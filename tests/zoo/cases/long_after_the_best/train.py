"""Classify noisy measurements; TensorBoard shows the curves."""

import tempfile

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

EPOCHS = 50
PATIENCE = None


def make_measurements(count, generator):
    x = torch.randn(count, 40, generator=generator)
    clean = (x[:, :3].sum(1) > 0).long()
    flipped = torch.rand(count, generator=generator) < 0.2
    return x, torch.where(flipped, 1 - clean, clean)


class Trainer:
    def __init__(self):
        torch.manual_seed(5)
        torch.set_num_threads(1)
        generator = torch.Generator().manual_seed(5)
        self.x, self.y = make_measurements(512, generator)
        self.x_val, self.y_val = make_measurements(768, generator)
        self.model = nn.Sequential(nn.Linear(40, 768), nn.ReLU(), nn.Linear(768, 2))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-4, fused=True)
        self.criterion = nn.CrossEntropyLoss()
        self.writer = SummaryWriter(tempfile.mkdtemp())

    def train_epoch(self):
        self.model.train()
        for rows in torch.randperm(len(self.x)).split(16):
            self.optimizer.zero_grad()
            self.criterion(self.model(self.x[rows]), self.y[rows]).backward()
            self.optimizer.step()

    @torch.inference_mode()
    def validate(self, epoch):
        self.model.eval()
        loss = self.criterion(self.model(self.x_val), self.y_val).item()
        self.writer.add_scalar("loss/val", loss, epoch)
        return loss

    def fit(self):
        best, waited = float("inf"), 0
        for epoch in range(EPOCHS):
            self.train_epoch()
            loss = self.validate(epoch)
            if loss < best - 1e-3:
                best, waited = loss, 0
                self.best = [p.detach().clone() for p in self.model.parameters()]
            else:
                waited += 1
            if PATIENCE and waited == PATIENCE:
                break
        self.writer.close()
        print(f"best validation loss {best:.3f} after {epoch + 1} epochs")


Trainer().fit()
