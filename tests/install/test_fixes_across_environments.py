"""Fixes through the wheel: applied, proven and written for a training in another environment."""

import json

import pytest

# Many tensors, one after another: the fused optimizer is about twice as fast on any machine.
TRAINING = """\
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
layers = [layer for _ in range(40) for layer in (nn.Linear(8, 8), nn.Tanh())]
model = nn.Sequential(*layers)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
rows = torch.randn(16, 8)
for step in range(600):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(rows), rows)
    loss.backward()
    optimizer.step()
print(loss.item())
"""
FUSED = TRAINING.replace("lr=1e-3)", "lr=1e-3, fused=True)")


@pytest.fixture
def project(tmp_path):
    (tmp_path / "train.py").write_text(TRAINING)
    return tmp_path


def test_without_the_extra_fix_says_what_to_install(tool, execute, project):
    done = execute([tool / "trainprof", "fix", "train.py", "--fix", "optimizer-fused"], project)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'trainprof[tune]'" in done.stderr


def test_a_fix_is_applied_read_back_and_written(editing_tool, training_bin, execute, project):
    python = training_bin / "python"
    options = ["--steps", "30", "--no-probe", "--no-stacks", "--out", "run"]
    command = [editing_tool / "trainprof", "run", "--fix", "optimizer-fused", *options]
    done = execute([*command, "--", python, "train.py"], project)
    assert done.returncode == 0, done.stderr
    assert "optimizer-fused was applied and in force" in done.stderr

    fix = [editing_tool / "trainprof", "fix", "train.py", "--fix", "optimizer-fused:at=train.py:8"]
    shown = execute(fix, project)
    assert shown.returncode == 0, shown.stderr
    assert "+optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)" in shown.stdout
    assert (project / "train.py").read_text() == TRAINING
    assert execute([*fix, "--write"], project).stdout == shown.stdout
    assert (project / "train.py").read_text() == FUSED
    assert execute([editing_tool / "trainprof", "fix", "--undo"], project).returncode == 0
    assert (project / "train.py").read_text() == TRAINING


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_tune_proves_a_fix_and_hands_over_plan_and_patch(
    tuning_tool, training_bin, execute, checked, project
):
    python, trainprof = training_bin / "python", tuning_tool / "trainprof"
    asked = ["--fix", "optimizer-fused:fused=true", "--steps", "100"]
    asked += ["--budget", "900", "--format", "json", "--out", "tuned"]  # also on a busy machine
    done = execute([trainprof, "tune", *asked, "--", python, "train.py"], project, timeout_s=1200)
    if "cannot be kept from writing" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    others = [found[name] for name in ("inconclusive", "rejected", "failed")]
    assert [one["fix"] for one in found["kept"]] == ["optimizer-fused"], (found["aa"], *others)
    assert found["speedup"] > 1.3
    assert found["ci"][0] > 1.0
    assert "fused=True" in found["patch"]

    options = ["--steps", "30", "--no-probe", "--no-stacks", "--plan", found["plan"]]
    applied = execute([trainprof, "run", *options, "--", python, "train.py"], project)
    assert "optimizer-fused was applied and in force" in applied.stderr
    assert checked([trainprof, "fix", found["plan"], "--write"], project) == found["patch"]
    assert "fused=True" in (project / "train.py").read_text()
    checked([python, "train.py"], project)
