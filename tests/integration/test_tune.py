"""`trainprof tune` on real scripts: what is kept is really faster, and nothing stays behind."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("torch")

SLOW_READS = """
import sqlite3, time
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

class Remote(Dataset):
    def __len__(self):
        return 4000
    def __getitem__(self, index):
        time.sleep(0.002)
        generator = torch.Generator().manual_seed(index)
        return torch.randn(32, generator=generator), index % 3

def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    loader = DataLoader(Remote(), batch_size=16, shuffle=True)
    log = sqlite3.connect("log.db")
    log.execute("create table if not exists losses(value)")
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        log.execute("insert into losses values (?)", (loss.item(),))
        log.commit()
        torch.save(model.state_dict(), "model.pt")

if __name__ == "__main__":
    main()
"""

HEALTHY = """
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, fused=True)
rows = torch.randn(128, 512)
for step in range(300):
    optimizer.zero_grad()
    nn.functional.mse_loss(model(rows), rows).backward()
    optimizer.step()
"""


def tune(folder, script, *options):
    (folder / "train.py").write_text(script)
    command = [sys.executable, "-m", "trainprof", "tune", "--format", "json", "--out", "tuned"]
    done = subprocess.run(
        [*command, *options, "--", "train.py"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1000,
    )
    if "cannot be kept from writing" in done.stderr:
        pytest.skip(done.stderr)
    return done


def fingerprint(folder):
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if "tuned" not in path.parts and path.is_file():
            digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_workers_of_a_slow_store_are_proven_and_nothing_stays(tmp_path):
    (tmp_path / "train.py").write_text(SLOW_READS)
    (tmp_path / "notes.txt").write_text("mine")
    before = fingerprint(tmp_path)

    done = tune(tmp_path, SLOW_READS, "--budget", "600", "--quiet")

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    kept = {one["fix"] for one in result["kept"]}
    assert {"loader-workers"} <= kept <= {"loader-workers", "checkpoint-background"}
    assert result["speedup"] >= 1.4
    assert result["ci"][0] > 1.0
    assert result["pairs"] in (6, 10, 16)
    assert result["loss_check"]["passed"] is True
    assert fingerprint(tmp_path) == before
    plan = json.loads((tmp_path / "tuned" / "plan.json").read_text())
    lines = {one["fix"]: one["target"]["line"] for one in plan["applications"] if one["target"]}
    source = (tmp_path / "train.py").read_text().splitlines()
    assert "DataLoader(" in source[lines["loader-workers"] - 1]


@pytest.mark.slow
def test_a_healthy_script_is_told_to_change_nothing(tmp_path):
    done = tune(tmp_path, HEALTHY, "--budget", "200", "--quiet")

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["kept"] == []
    assert result["speedup"] is None
    assert result["plan"] is None


def test_a_dry_run_says_what_would_be_tried(tmp_path):
    asked = ("--fix", "gc-freeze", "--fix", "intra-op-threads:num_threads=2", "--steps", "40")
    done = tune(tmp_path, HEALTHY, "--dry-run", *asked)

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ended"] == "dry run"
    assert result["kept"] == []
    assert result["steps"] == 45  # with the warm-up
    assert [(one["fix"], one["params"], one["rule"]) for one in result["candidates"]] == [
        ("gc-freeze", {}, "asked for"),
        ("intra-op-threads", {"num_threads": 2}, "asked for"),
    ]


def test_a_fix_that_does_not_exist_is_told_before_anything_runs(tmp_path):
    done = tune(tmp_path, HEALTHY, "--fix", "make-it-fast")

    assert done.returncode == 2
    assert "there is no fix make-it-fast; these can be applied: " in done.stderr
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("raise SystemExit(3)", "the script fails unchanged (exit status 3: it printed nothing)"),
        ("print('no training')", "nothing can be tuned: Not enough evidence"),
    ],
)
def test_a_script_that_cannot_be_tuned_is_one_sentence(tmp_path, script, said):
    done = tune(tmp_path, script, "--quiet")

    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr


FEW_STEPS = HEALTHY.replace("range(300)", "range(60)")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_tune_that_was_killed_goes_on(tmp_path):
    (tmp_path / "train.py").write_text(FEW_STEPS)
    command = [sys.executable, "-m", "trainprof", "tune", "--budget", "250"]
    command += ["--fix", "gc-freeze", "--steps", "10"]
    journal = tmp_path / "tuned" / "trials.jsonl"
    killed = subprocess.Popen(
        [*command, "--out", "tuned", "--", "train.py"], cwd=tmp_path, start_new_session=True
    )
    while killed.poll() is None and not (journal.exists() and journal.read_text().count("\n") > 3):
        time.sleep(0.2)
    killed.kill()
    killed.wait()
    measured = journal.read_text().splitlines()

    done = subprocess.run(
        [*command[:6], "--resume", "--out", "tuned", "--format", "json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )

    assert done.returncode == 0, done.stderr
    assert f"going on with {len(measured) - 1} trials" in done.stderr
    assert journal.read_text().splitlines()[: len(measured)] == measured
    result = json.loads(done.stdout)
    assert result["aa"]["pairs"] == 4
    tried = [*result["inconclusive"], *result["rejected"], *result["kept"], *result["failed"]]
    assert [one["fix"] for one in tried] == ["gc-freeze"]

    (tmp_path / "train.py").write_text(FEW_STEPS + "# changed\n")
    changed = subprocess.run(
        [*command[:6], "--resume", "--out", "tuned"], cwd=tmp_path, capture_output=True, text=True
    )
    assert changed.returncode == 2
    assert "train.py was changed since that tune measured it" in changed.stderr


AUGMENTED = SLOW_READS.replace(
    "        generator = torch.Generator().manual_seed(index)\n"
    "        return torch.randn(32, generator=generator), index % 3\n",
    "        generator = torch.Generator().manual_seed(index)\n"
    "        row = torch.randn(32, generator=generator)\n"
    "        return row + 0.5 * torch.randn(32), index % 3\n",
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_workers_of_data_that_draws_random_numbers_are_kept(tmp_path):
    """The losses differ, and end where runs with other seeds end; no sample is left out."""
    done = tune(tmp_path, AUGMENTED, "--budget", "900", "--fix", "loader-workers:num_workers=2")

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [one["fix"] for one in result["kept"]] == ["loader-workers"], result
    assert "unchanged, seed 3" in done.stderr
    assert "in 4 unchanged runs" in result["loss_check"]["text"]
