"""`tune --engine ray` on a Ray cluster of this machine, with two processors."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("ray")

TRAINING = """
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
rows = torch.randn(32, 64)
for step in range(120):
    optimizer.zero_grad()
    nn.functional.mse_loss(model(rows), rows).backward()
    optimizer.step()
open("written", "w").write("x")
"""


def tune(folder, address, *options):
    command = [sys.executable, "-m", "trainprof", "tune", "--engine", "ray", "--format", "json"]
    return subprocess.run(
        [*command, "--out", "tuned", *options, "--", "train.py"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=700,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_trials_run_on_the_cluster_and_only_ours_is_printed(tmp_path, cluster):
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text(TRAINING)

    done = tune(project, cluster, "--fix", "gc-freeze", "--steps", "20", "--budget", "500")

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["aa"]["pairs"] >= 2  # as many as the machine has time for
    tried = [*result["kept"], *result["inconclusive"], *result["rejected"]]
    assert [one["fix"] for one in tried] == ["gc-freeze"]
    assert all(line.startswith("trainprof: ") for line in done.stderr.splitlines()), done.stderr
    assert sorted(path.name for path in project.iterdir()) == ["train.py", "tuned"]


def test_no_cluster_is_one_sentence(tmp_path):
    (tmp_path / "train.py").write_text(TRAINING)

    done = tune(tmp_path, "127.0.0.1:1", "--fix", "gc-freeze")

    assert done.returncode == 2
    assert done.stderr.startswith("trainprof: no Ray cluster answers at 127.0.0.1:1, or ")
    assert done.stderr.count("\n") == 1
