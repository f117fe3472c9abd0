"""Loaders that libraries make or ask for: the one that a target names is changed, and no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

TRANSFORMERS = """
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

class Rows(Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, index):
        return {"rows": torch.ones(8) * index, "labels": index % 4}

class Probe(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(8, 4)
    def forward(self, rows, labels=None):
        logits = self.net(rows)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

class Tell(TrainerCallback):
    def on_evaluate(self, args, state, control, train_dataloader, eval_dataloader, **kwargs):
        print("workers", train_dataloader.num_workers, eval_dataloader.num_workers)

if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = TrainingArguments(
        output_dir="out", max_steps=12, eval_strategy="steps", eval_steps=6, save_strategy="no",
        per_device_train_batch_size=8, report_to=[], disable_tqdm=True, use_cpu=True,
    )
    rows = Rows()
    trainer = Trainer(Probe(), arguments, train_dataset=rows, eval_dataset=rows, callbacks=[Tell()])
    trainer.train()
"""

LIGHTNING = """
import warnings
import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")

class Forecast(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(8, 1)
    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).square().mean()
    def validation_step(self, batch, batch_idx):
        pass
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

if __name__ == "__main__":
    torch.set_num_threads(1)
    rows = TensorDataset(torch.ones(64, 8))
    train, check = DataLoader(rows, batch_size=8), DataLoader(rows, batch_size=8)
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.fit(Forecast(), train, check)
    print("workers", trainer.train_dataloader.num_workers, trainer.val_dataloaders.num_workers)
"""


def run(folder, script, call, ordinal):
    """What the script prints of its workers, and what the diagnosis says of the fix."""
    (folder / "train.py").write_text(script)
    line = next(n for n, text in enumerate(script.split("\n"), 1) if text.strip().startswith(call))
    fix = f"loader-workers:num_workers=1,at=train.py:{line}{ordinal}"
    command = [sys.executable, "-m", "trainprof", "run", "--out", "run", "--no-probe"]
    done = subprocess.run(
        [*command, "--no-stacks", "--trace", "off", "--fix", fix, "train.py"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    said = {text for text in done.stdout.splitlines() if text.startswith("workers")}
    problems = json.loads((folder / "run" / "diagnosis.json").read_text())["problems"]
    return said, next(text for text in problems if text.startswith("loader-workers"))


@pytest.mark.slow
@pytest.mark.loops
def test_the_training_loader_of_a_trainer_can_be_named(tmp_path):
    pytest.importorskip("transformers")
    said, remark = run(tmp_path, TRANSFORMERS, "trainer.train()", "#0")
    assert said == {"workers 1 0"}
    assert remark == "loader-workers was applied and in force (num_workers=1)."


@pytest.mark.slow
@pytest.mark.loops
@pytest.mark.parametrize(("ordinal", "workers"), [("#0", "workers 1 0"), ("#1", "workers 0 1")])
def test_one_of_two_loaders_that_lightning_is_given_can_be_named(tmp_path, ordinal, workers):
    pytest.importorskip("lightning")
    said, remark = run(tmp_path, LIGHTNING, "train, check =", ordinal)
    assert said == {workers}
    assert remark == "loader-workers was applied and in force (num_workers=1)."


@pytest.mark.slow
@pytest.mark.loops
def test_without_a_name_neither_counts(tmp_path):
    pytest.importorskip("lightning")
    _, remark = run(tmp_path, LIGHTNING, "train, check =", "")
    assert "is not in force: several loaders are made at" in remark
