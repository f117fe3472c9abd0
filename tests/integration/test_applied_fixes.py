"""`run --fix` and `run --plan`: applied to an unmodified script, and said to be in force or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")

TRAINING = """
import torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
data = TensorDataset(torch.randn(320, 4))
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
loader = DataLoader(data, batch_size=8, num_workers=1)
for (x,) in loader:
    optimizer.zero_grad()
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
print(f"{loss.item():.6f}")
"""


def run(folder, *options, script=TRAINING, **variables):
    (folder / "train.py").write_text(script)
    command = [sys.executable, "-m", "trainprof", "run", "--out", "run", "--no-probe", *options]
    return subprocess.run(
        [*command, "train.py"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def remarks(folder):
    diagnosis = json.loads((folder / "run" / "diagnosis.json").read_text())
    return [one for one in diagnosis["problems"] if "in force" in one]


def test_fixes_are_applied_and_read_back(tmp_path):
    done = run(tmp_path, "--fix", "loader-workers:num_workers=0", "--fix", "optimizer-fused")

    assert done.returncode == 0, done.stderr
    assert remarks(tmp_path) == [
        "loader-workers was applied and in force (num_workers=0).",
        "optimizer-fused was applied and in force (fused=True).",
    ]
    assert "loader-workers was applied and in force" in done.stderr
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert [one["fix"] for one in plan["applications"]] == ["loader-workers", "optimizer-fused"]


def test_the_losses_are_those_of_the_unchanged_script(tmp_path):
    plain = subprocess.run(
        [sys.executable, "-c", TRAINING], capture_output=True, text=True, check=True
    ).stdout

    done = run(tmp_path, "--fix", "optimizer-fused", "--fix", "gc-freeze", "--quiet")

    assert float(done.stdout) == pytest.approx(float(plain), rel=1e-4)


def test_a_stale_line_is_told_and_nothing_is_changed(tmp_path):
    done = run(tmp_path, "--fix", "loader-workers:num_workers=3,at=train.py:3")

    assert done.returncode == 0, done.stderr
    [remark] = remarks(tmp_path)
    assert remark.startswith("loader-workers was asked for and is not in force: no loader is made")
    assert "train.py:10" in remark


def test_an_unknown_fix_is_one_sentence_before_the_script_runs(tmp_path):
    done = run(tmp_path, "--fix", "make-it-fast")

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("trainprof: there is no fix make-it-fast; these can be applied: ")
    assert done.stderr.count("\n") == 1


def test_variables_are_set_before_python_starts(tmp_path):
    fixes = (
        "malloc-default",
        "tokenizers-parallelism:parallel=true",
        "allocator-segments",
        "openmp-threads:threads=2",
    )
    options = [word for fix in fixes for word in ("--fix", fix)]
    done = run(tmp_path, *options, PYTHONMALLOC="debug", PYTORCH_CUDA_ALLOC_CONF="")

    assert done.returncode == 0, done.stderr
    assert remarks(tmp_path) == [
        "malloc-default was applied and in force (PYTHONMALLOC=None).",
        "tokenizers-parallelism was applied and in force (TOKENIZERS_PARALLELISM=true).",
        "allocator-segments was asked for and is not in force: there is no CUDA device.",
        "openmp-threads was asked for and is not in force: the script sets torch's number of "
        "threads.",
    ]


@pytest.mark.parametrize(
    ("fix", "params", "message"),
    [
        ("openmp-threads", {"threads": 0}, "openmp-threads needs threads=N, one or more."),
        (
            "tokenizers-parallelism",
            {"LD_PRELOAD": "/tmp/theirs.so"},
            "tokenizers-parallelism has no parameter LD_PRELOAD.",
        ),
    ],
)
def test_a_plan_cannot_set_other_variables(tmp_path, fix, params, message):
    plan = {"format": 1, "applications": [{"fix": fix, "params": params}]}
    (tmp_path / "theirs.json").write_text(json.dumps(plan))

    done = run(tmp_path, "--plan", str(tmp_path / "theirs.json"))

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"trainprof: {message}\n"


DIVERGES = """
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(*[nn.Linear(32, 32) for _ in range(8)], nn.Linear(32, 1)){kind}
optimizer = torch.optim.SGD(model.parameters(), lr={rate})
x = {scale} * torch.randn(16, 32){kind}
for step in range(40):
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    loss.item()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "fix", "passed", "text"),
    [
        (
            {"kind": "", "rate": 50.0, "scale": 1.0},
            "optimizer-fused",
            None,
            "the losses are not finite without the change either",
        ),
        (
            {"kind": ".double()", "rate": 0.0, "scale": 1e25},
            "model-float32",
            False,
            "a loss became infinite or NaN",
        ),
    ],
)
def test_losses_that_diverge_prove_nothing(tmp_path, values, fix, passed, text):
    """Before the change already, or by it: in neither case can a fix be kept."""
    from trainprof.profiler.store.reader import read_run
    from trainprof.rules.experiments.loss_check import check_losses
    from trainprof.rules.experiments.trial import read_trial

    losses = []
    for options in ((), ("--fix", fix)):
        folder = tmp_path / str(len(options))
        folder.mkdir()
        done = run(folder, *options, script=DIVERGES.format(**values))
        assert done.returncode == 0, done.stderr
        trial = read_trial(read_run(folder / "run"), 40, 5)
        assert trial.problem is None
        losses.append([trial.losses])

    check = check_losses(*losses, safety="numerics", rounding=True)
    assert (check.passed, check.text) == (passed, text)
