"""Lightning reads its rows from a database, one query each."""

import logging
import time
import warnings

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.simplefilter("ignore")


class Query(Dataset):
    def __len__(self):
        return 6400

    def __getitem__(self, index):
        time.sleep(0.0003)
        row = torch.sin(torch.arange(48.0) * (index % 97 + 1))
        return row, row[:4].sum()


class Forecast(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(48, 768), nn.ReLU(), nn.Linear(768, 768), nn.ReLU(), nn.Linear(768, 1)
        )

    def training_step(self, batch, batch_idx):
        rows, targets = batch
        return nn.functional.mse_loss(self.net(rows).squeeze(1), targets)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def train_dataloader(self):
        return DataLoader(Query(), batch_size=32, num_workers=4, persistent_workers=True)


if __name__ == "__main__":
    L.seed_everything(0)
    torch.set_num_threads(1)
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Forecast())
