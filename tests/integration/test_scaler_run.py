"""A real training whose GradScaler skips every fifth update, through the installed command."""

import json
import os
import subprocess
import sys
from pathlib import Path

TRAINPROF = str(Path(sys.executable).parent / "trainprof")

TRAINING = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
inputs = torch.randn(8 * 600, 64)
inputs[::40] = float("inf")
data = TensorDataset(inputs, torch.randn(len(inputs), 1))
model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=4)
for rows, targets in DataLoader(data, batch_size=8):
    optimizer.zero_grad()
    scaler.scale(nn.functional.mse_loss(model(rows), targets)).backward()
    scaler.step(optimizer)
    scaler.update()
"""


def test_skipped_updates_become_a_finding(tmp_path):
    (tmp_path / "train.py").write_text(TRAINING)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TRAINPROF_PROBE": "0"}
    command = [TRAINPROF, "run", "--out", "run", "--", sys.executable, "train.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    diagnosis = json.loads((tmp_path / "run" / "diagnosis.json").read_text())
    (finding,) = [one for one in diagnosis["findings"] if one["rule"] == "prec-scaler-skip"]
    assert "batches (20 %)" in finding["summary"]
    assert finding["gain"]["high"] > 1.2
