"""Lightning on tabular data; somebody once looked for a NaN here."""

import logging

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Tabular(L.LightningModule):
    def __init__(self):
        super().__init__()
        blocks = [nn.Sequential(nn.Linear(96, 96), nn.BatchNorm1d(96), nn.ReLU()) for _ in range(6)]
        self.net = nn.Sequential(nn.Linear(32, 96), *blocks, nn.Linear(96, 1))

    def training_step(self, batch, batch_idx):
        rows, targets = batch
        return nn.functional.mse_loss(self.net(rows).squeeze(1), targets)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def main():
    L.seed_everything(3)
    torch.set_num_threads(1)
    rows = torch.randn(16_000, 32)
    loader = DataLoader(TensorDataset(rows, rows.norm(dim=1)), batch_size=64, shuffle=True)
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        detect_anomaly=True,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Tabular(), loader)


if __name__ == "__main__":
    main()
