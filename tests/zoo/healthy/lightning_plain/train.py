"""Lightning on synthetic spectrograms."""

import logging

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Spectrograms(L.LightningModule):
    """A one-dimensional convolutional network over 40 mel bands."""

    def __init__(self, classes=6, lr=0.03):
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(
            nn.Conv1d(40, 96, 5, padding=2),
            nn.ReLU(),
            nn.Conv1d(96, 96, 5, padding=2),
            nn.ReLU(),
            nn.AdaptiveMaxPool1d(1),
            nn.Flatten(),
            nn.Linear(96, classes),
        )

    def training_step(self, batch, batch_idx):
        sounds, labels = batch
        return nn.functional.cross_entropy(self.net(sounds), labels)

    def validation_step(self, batch, batch_idx):
        sounds, labels = batch
        accuracy = (self.net(sounds).argmax(1) == labels).float().mean()
        self.log("accuracy", accuracy, prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


def sounds(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 6, (count,), generator=generator)
    voices = torch.randn(6, 40, 1, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(count, 40, 64, generator=generator)
    return TensorDataset(voices[labels] + noise, labels)


def main():
    L.seed_everything(5)
    torch.set_num_threads(1)
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(
        Spectrograms(),
        DataLoader(sounds(2560, 1), batch_size=32, shuffle=True),
        DataLoader(sounds(128, 2), batch_size=64),
    )
    print({name: float(value) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
