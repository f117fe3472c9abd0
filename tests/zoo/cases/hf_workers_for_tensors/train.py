"""Two loader workers, because the tutorial had them."""

import tempfile

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments


class Rows(Dataset):
    def __init__(self, count):
        generator = torch.Generator().manual_seed(1)
        self.rows = torch.randn(count, 4096, generator=generator)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return {"rows": self.rows[index], "labels": self.rows[index, :4].argmax()}


class Probe(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4096, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, rows, labels=None):
        logits = self.net(rows)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=300,
            per_device_train_batch_size=64,
            dataloader_num_workers=2,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        Trainer(model=Probe(), args=arguments, train_dataset=Rows(3000)).train()


if __name__ == "__main__":
    main()
