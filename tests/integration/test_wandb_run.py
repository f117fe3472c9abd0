"""`trainprof run --wandb` on a script that logs to W&B itself: one run, the script's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "store"))
from wandb_file import logged

pytest.importorskip("wandb")

SCRIPT = """
import torch, wandb

wandb.init(project="digits", name="mine", config={"lr": 0.1})
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(30):
    loss = model(torch.ones(4, 8)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    wandb.log({"loss": loss.item()})
"""


def test_the_script_s_run_gets_what_trainprof_measures(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    environment |= {f"WANDB_{name}_DIR": str(tmp_path / "w") for name in ("DATA", "CACHE")}
    environment |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(tmp_path)}
    environment |= {"OMP_NUM_THREADS": "1"}
    command = ["-m", "trainprof", "run", "--wandb", "--no-probe", "--trace", "off"]
    done = subprocess.run(
        [sys.executable, *command, "--out", "run", "train.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    paths = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    own, added = (logged(path) for path in paths)
    assert own.run.run_id == added.run.run_id
    assert (added.run.project, added.run.display_name) == ("digits", "")
    assert [list(row) for row in own.history if "loss" not in row] == []
    assert set(own.config) == {"lr", "_wandb"}
    assert set(added.config) == {"trainprof", "_wandb"}
    steps = [row["trainprof/step"] for row in added.history if "trainprof/step" in row]
    assert steps == list(range(30))
    (artifact,) = (one for one in added.artifacts if one.type == "trainprof")
    names = {entry.path for entry in artifact.manifest.contents}
    assert {"report.html", "diagnosis.json"} <= names
    assert f"{paths[1].parent.name}; `wandb sync` sends it" in done.stderr
