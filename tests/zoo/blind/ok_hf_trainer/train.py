"""Masked-position classification with the Hugging Face Trainer."""

import tempfile
import time

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments


class Sequences(Dataset):
    def __init__(self, n, length=64, vocab=200):
        g = torch.Generator().manual_seed(0)
        self.ids = torch.randint(vocab, (n, length), generator=g)
        self.labels = self.ids[:, 0] % 5

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return {"input_ids": self.ids[i], "labels": self.labels[i]}


class Classifier(nn.Module):
    def __init__(self, vocab=200, width=192, classes=5):
        super().__init__()
        self.emb = nn.Embedding(vocab, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, input_ids, labels=None):
        x = self.emb(input_ids)
        x = x + self.down(torch.relu(self.up(x)))
        logits = self.head(x.mean(1))
        loss = nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as out:
        args = TrainingArguments(
            output_dir=out,
            max_steps=150,
            per_device_train_batch_size=16,
            learning_rate=1e-3,
            logging_steps=50,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            optim="adamw_torch_fused",
            dataloader_pin_memory=False,
        )
        trainer = Trainer(model=Classifier(), args=args, train_dataset=Sequences(1200))
        start = time.perf_counter()
        trainer.train()
        print(f"trained in {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
