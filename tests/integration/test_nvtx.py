"""`run --nvtx` with a library that stands in for NVIDIA's: a real training, which crashes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainprof.profiler.store.reader import read_run

SCRIPT = """
import torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = TensorDataset(torch.randn(64, 8), torch.randn(64, 1))
for epoch in range(2):
    for x, y in DataLoader(data, batch_size=8):
        loss = torch.nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item())
raise SystemError("as it happens")
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder with a libnvToolsExt.so.1 of our own."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    folder = tmp_path_factory.mktemp("nvtx")
    source = Path(__file__).with_name("fake_nvtx.c")
    target = folder / "libnvToolsExt.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", target, source], check=True)
    return folder


def test_every_range_is_ended_and_the_training_computes_the_same(tmp_path, library):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    log = tmp_path / "nvtx.log"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVTX": str(log)}
    plain = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=180, check=False
    )
    command = [sys.executable, "-m", "trainprof", "run", "--nvtx", "--quiet", "--trace", "off"]
    watched = subprocess.run(
        [*command, "--out", tmp_path / "run", sys.executable, script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert watched.stdout == plain.stdout
    assert watched.returncode == plain.returncode == 1
    lines = log.read_text().splitlines()
    names = [line.partition("trainprof: ")[2] for line in lines if line[0] in "+["]
    assert names.count("forward") == names.count("backward") == names.count("optimizer") == 16
    assert [one for one in names if one.startswith("step")][:16] == [
        f"step {number}" for number in range(16)
    ]
    assert names.count("data wait") == 18
    depth = 0
    for line in lines:
        depth += (line[0] == "+") - (line[0] == "-")
        assert depth >= 0
    assert depth == 0
    assert sum(line[0] == "[" for line in lines) == lines.count("]")
    (session,) = read_run(tmp_path / "run").sessions
    assert len(session.trainers[0].steps) == 16
    assert not [one for one in session.trainers[0].events if one.kind == "collector_failed"]
