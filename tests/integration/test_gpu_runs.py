"""The installed command on a real training beside the fake NVIDIA driver, from run to diagnosis.

The training runs on the CPU: no GPU is at hand. So the same run is diagnosed twice: as it is, when
it must be told nothing of a card that cannot concern it; and with one recorded fact changed, that
its model lies on the GPU, when every fault of the card has to be named.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

TRAINPROF = str(Path(sys.executable).parent / "trainprof")
HARDWARE = {"hw-throttle", "hw-pcie-width", "hw-ecc", "hw-shared", "hw-gpu-underused"}

TRAINING = """
import os, sys, time
import torch
from torch import nn

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, rows):
        time.sleep(0.02)
        return self.layer(rows)

with open(os.environ["FAKE_NVML_STATE"], "a") as state:
    state.write(f"0 0 pid0 {os.getpid()}\\n")
model = Slow()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
data = torch.utils.data.DataLoader(torch.randn(100_000, 8), batch_size=8)
end = time.monotonic() + float(sys.argv[1])
for rows in data:
    optimizer.zero_grad()
    model(rows).pow(2).mean().backward()
    optimizer.step()
    if time.monotonic() > end:
        break
print("trained to the end")
"""

TROUBLE = """
0 * count 1
0 0 utilization 95
0 0 reasons 0x60
0 0 sm_clock 990
0 0 temperature 90
0 0 width 4
0 0 received 10000000
3 0 ecc_uncorrected 2
0 0 pid1 999999999
0 0 pid1_use 45
"""
HANGS = """
0 * count 1
2 0 temperature hang
"""


def start(folder, library, scenario, seconds):
    """Runs the training under trainprof with a driver that fares so; the process and its time."""
    folder.mkdir()
    (folder / "train.py").write_text(TRAINING)
    (folder / "state").write_text(scenario)
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(library.parent),
        "FAKE_NVML_STATE": str(folder / "state"),
        "OMP_NUM_THREADS": "1",
        "TRAINPROF_PROBE": "0",
    }
    command = [TRAINPROF, "run", "--out", "run", "--", sys.executable, "train.py", str(seconds)]
    began_s = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done, time.monotonic() - began_s


@pytest.fixture(scope="module")
def runs(tmp_path_factory, nvml_library):
    """Both at once: they mostly sleep."""
    folder, library = tmp_path_factory.mktemp("gpu-runs"), nvml_library()
    with ThreadPoolExecutor(2) as together:
        trouble = together.submit(start, folder / "trouble", library, TROUBLE, 8)
        hangs = together.submit(start, folder / "hangs", library, HANGS, 4.5)
        return folder, trouble.result(), hangs.result()


def diagnosis_of(run):
    done = subprocess.run(
        [TRAINPROF, "diagnose", str(run), "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def rules_in(diagnosis):
    hidden = {rule for one in diagnosis["findings"] for rule in one["suppresses"]}
    return {one["rule"] for one in diagnosis["findings"]} | hidden


def test_a_training_on_the_cpu_is_told_nothing_of_a_card_beside_it(runs):
    folder, (done, _), _ = runs
    assert done.returncode == 0
    assert "trained to the end" in done.stdout
    for rule in HARDWARE | {"hw-no-accel"}:
        assert rule not in done.stdout + done.stderr
    diagnosis = diagnosis_of(folder / "trouble" / "run")
    assert not rules_in(diagnosis) & (HARDWARE | {"hw-no-accel"})
    assert not {one["rule"] for one in diagnosis["skipped_rules"]} & HARDWARE


def test_the_same_training_on_the_card_is_told_all_of_it(runs, tmp_path):
    folder = runs[0]
    copy = shutil.copytree(folder / "trouble" / "run", tmp_path / "run")
    (facts,) = [path for path in copy.glob("procs/*/facts.jsonl") if '"model"' in path.read_text()]
    text = facts.read_text()
    moved = text.replace('"devices":{"cpu":', '"devices":{"cuda:0":')
    assert moved != text
    facts.write_text(moved)

    diagnosis = diagnosis_of(copy)
    assert rules_in(diagnosis) >= HARDWARE - {"hw-gpu-underused"}
    summaries = {one["rule"]: one["summary"] for one in diagnosis["findings"]}
    assert "because of heat (up to 90 °C): its mean clock is 50 %" in summaries["hw-throttle"]
    assert "2 memory errors that could not be corrected" in summaries["hw-ecc"]
    assert "1 process of others" in summaries["hw-shared"]
    assert "4 of 16 lanes" in summaries["hw-pcie-width"]
    shown = subprocess.run(
        [TRAINPROF, "diagnose", str(copy)], capture_output=True, text=True, check=False
    )
    assert "90 °C" in shown.stdout


def test_a_driver_that_hangs_holds_up_neither_the_training_nor_its_end(runs):
    folder, _, (done, took_s) = runs
    assert done.returncode == 0
    assert "trained to the end" in done.stdout
    assert took_s < 60  # the driver would hang for ever
    info = json.loads((folder / "hangs" / "run" / "run.json").read_text())
    (status,) = [one for one in info["collectors"] if one["name"] == "gpu"]
    assert status["status"] == "failed"
    assert "has not answered for" in status["reason"]
    lines = (folder / "hangs" / "run" / "host.jsonl").read_text().splitlines()[1:]
    looks = [json.loads(line) for line in lines]
    assert [bool(look["gpus"]) for look in looks[:3]] == [True, True, False]
    assert len(looks) > 4  # the machine was looked at all the same
