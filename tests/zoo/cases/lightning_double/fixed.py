"""Interpolates a surface with Lightning, more exactly than anybody needs."""

import logging

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
PRECISION = "32-true"


class Surface(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, 512), nn.Tanh(), nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 1)
        )

    def training_step(self, batch, batch_idx):
        points, heights = batch
        return nn.functional.mse_loss(self.net(points), heights)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def main():
    L.seed_everything(0)
    torch.set_num_threads(1)
    points = torch.rand(25_600, 2)
    heights = torch.sin(5 * points).prod(dim=1, keepdim=True)
    loader = DataLoader(TensorDataset(points, heights), batch_size=128, shuffle=True)
    trainer = L.Trainer(
        max_epochs=1,
        precision=PRECISION,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Surface(), loader)


if __name__ == "__main__":
    main()
