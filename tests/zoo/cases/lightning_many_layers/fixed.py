"""A deep and narrow residual network in Lightning."""

import logging

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        return x + torch.relu(self.fc(self.norm(x)))


class Deep(L.LightningModule):
    def __init__(self, depth=48, width=40):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(20, width), *[Residual(width) for _ in range(depth)], nn.Linear(width, 1)
        )

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.l1_loss(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3, fused=True)


if __name__ == "__main__":
    L.seed_everything(0)
    torch.set_num_threads(1)
    x = torch.randn(8000, 20)
    loader = DataLoader(TensorDataset(x, x.amax(1, keepdim=True)), batch_size=32, shuffle=True)
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Deep(), loader)
