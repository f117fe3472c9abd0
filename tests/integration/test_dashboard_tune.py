"""A real tune, watched while it runs as `trainprof top` watches it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("textual")

from trainprof.cli.dashboard_services import services_of_tune
from trainprof.profiler.store.layout import BASELINE_FOLDER, TUNE_FILE
from trainprof.profiler.store.tail import RunTail
from trainprof.profiler.store.tune_progress import TuneTail, attempts_of, is_tune
from trainprof.profiler.store.tune_result import read_tune
from trainprof.reports.dashboard.app import DashboardApp

SCRIPT = """
import time
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Linear(64, 64)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
rows = torch.randn(16, 64)
for step in range(60):
    time.sleep(0.01)
    optimizer.zero_grad()
    nn.functional.mse_loss(model(rows), rows).backward()
    optimizer.step()
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_trial_is_seen_while_it_runs_and_the_result_at_the_end(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "trainprof", "tune", "--out", "tuned", "--budget", "300"]
    asked = ["--fix", "gc-freeze", "--steps", "20", "--quiet", "--no-calibration"]
    tune = subprocess.Popen(
        [*command, *asked, "--", "train.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    folder = tmp_path / "tuned"
    seen = asyncio.run(_watched(folder, tune))
    _, errors = tune.communicate()
    if b"cannot be kept from writing" in errors:
        pytest.skip(errors.decode())
    assert tune.returncode == 0, errors
    purposes = {purpose for purpose, _ in seen["steps"]}
    assert purposes >= {"baseline", "noise", "pair"}
    trials = {name for purpose, name in seen["steps"] if purpose in ("noise", "pair")}
    assert len(trials) >= 4
    assert seen["diagnosed"] >= {"noise", "pair"}  # beside the trial stands what the tune told
    assert seen["verdicts"] - {None}
    result = read_tune(folder)
    assert result is not None
    assert seen["last"].result == result
    told = {one.fixes: one for one in _told(folder)}
    for one in attempts_of(result):
        assert (told[one.fixes].speedup, told[one.fixes].pairs) == (one.speedup, one.pairs)
        assert told[one.fixes].verdict == one.verdict


async def _watched(folder, tune):
    """Shows the tune until it is over and its end is on the screen; gives what was seen."""
    while not is_tune(folder):
        assert tune.poll() is None, tune.stderr.read()
        await asyncio.sleep(0.05)
    services = services_of_tune(folder)

    def diagnose():
        assert (folder / TUNE_FILE).exists(), "diagnosed while the tune measures"
        return services.diagnose()

    app = DashboardApp(
        RunTail(folder / BASELINE_FOLDER),
        replace(services, diagnose=diagnose),
        tune=TuneTail(folder),
        environment={},
    )
    seen = {"steps": set(), "verdicts": set(), "diagnosed": set(), "last": None}
    async with app.run_test(size=(80, 24)) as pilot:
        while tune.poll() is None or app.board.tune is None or app.board.tune.result is None:
            board = app.board
            if board.tune is not None:
                seen["last"] = board.tune
                seen["verdicts"] |= {one.verdict for one in board.tune.attempts}
                if board.tune.run is not None and board.training():
                    seen["steps"].add((board.tune.run.purpose, board.tune.run.folder))
                    if board.diagnosis is not None:
                        seen["diagnosed"].add(board.tune.run.purpose)
            await pilot.pause(0.02)
            if tune.poll() not in (None, 0):
                break
        seen["last"] = app.board.tune
        seen["verdicts"] |= {one.verdict for one in app.board.tune.attempts}
    return seen


def _told(folder):
    """The attempts as `progress.jsonl` has them, without the result beside it."""
    (folder / "tune.json").rename(folder / "result.json")
    assert json.loads((folder / "result.json").read_text())["ended"] in ("complete", "budget")
    return TuneTail(folder).look().attempts
