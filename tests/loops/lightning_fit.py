"""Lightning's Trainer.fit: accumulation over two batches, validation twice an epoch."""

import json
import logging
import warnings

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.simplefilter("ignore")


class Regression(lightning.LightningModule):
    """A small regression that remembers its losses."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        self.losses = []

    def forward(self, rows):
        return self.net(rows)

    def training_step(self, batch, batch_idx):
        rows, targets = batch
        loss = nn.functional.mse_loss(self(rows), targets)
        self.losses.append(repr(loss.item()))
        return loss

    def validation_step(self, batch, batch_idx):
        rows, targets = batch
        self.losses.append("validation " + repr(nn.functional.mse_loss(self(rows), targets).item()))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


torch.set_num_threads(1)
lightning.seed_everything(0, verbose=False)
training = DataLoader(
    TensorDataset(torch.randn(320, 8), torch.randn(320, 1)), batch_size=8, shuffle=True
)
validation = DataLoader(TensorDataset(torch.randn(24, 8), torch.randn(24, 1)), batch_size=8)
model = Regression()
trainer = lightning.Trainer(
    max_epochs=2,
    accelerator="cpu",
    accumulate_grad_batches=2,
    val_check_interval=20,
    num_sanity_val_steps=1,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, training, validation)

print("\n".join(model.losses))
expected = {
    "steps": 40,
    "micro_batches": 2,
    "training_length": 320,
    "validation_length": 24,
    "validation_in": [9, 29],
    "validation_before": [20],
}
print(json.dumps(expected))
