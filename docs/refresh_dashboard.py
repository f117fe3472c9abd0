"""Makes the pictures of the dashboard: `python docs/refresh_dashboard.py`, in about a minute.

A sample training is run and looked at while it trains (dark) and afterwards (light). Each share of
the diagnosis that is shown is looked for in the picture, so that no picture tells another number.
"""

from __future__ import annotations

import asyncio
import html
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trainprof.cli.dashboard_services import services_of
from trainprof.profiler.store.tail import RunTail
from trainprof.reports import numbers
from trainprof.reports.dashboard.app import DashboardApp

REPOSITORY = Path(__file__).resolve().parents[1]
PICTURES = REPOSITORY / "docs" / "pictures"
STORY = "sample_runs/slow_storage/train.py"
SIZE = (100, 30)
SHOWN_SHARE = 0.1
FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # fetched from elsewhere: nothing may be


async def picture(folder: Path, name: str, *, light: bool, live: bool) -> None:
    """Opens the dashboard of a run, and keeps its screen once there is something to see."""
    environment = {"COLORFGBG": "0;15"} if light else {}
    app = DashboardApp(RunTail(folder), services_of(folder), environment=environment)
    async with app.run_test(size=SIZE) as pilot:
        while not _is_ready(app, live):
            if live and app.board.over:
                raise SystemExit("the training was over before its bottleneck was seen")
            await pilot.pause(0.2)
        await pilot.pause(1.0)
        svg = FONTS.sub("", app.export_screenshot())
        _check(app, svg)
    (PICTURES / f"{name}.svg").write_text(svg, encoding="utf-8")


def _is_ready(app: DashboardApp, live: bool) -> bool:
    board = app.board
    if board.diagnosis is None or board.behind:
        return False
    if live:
        return not board.over and board.diagnosis.verdict == "bottleneck"
    return board.over and board.diagnosis.run.status == "complete"


def _check(app: DashboardApp, svg: str) -> None:
    """Raises where a larger share of the diagnosis, or its mean step, is not in the picture."""
    diagnosis = app.board.diagnosis
    assert diagnosis is not None
    text = html.unescape(svg).replace("\xa0", " ")
    shares = [one.share for one in diagnosis.steps.phases.values() if one.share >= SHOWN_SHARE]
    told = [numbers.share(one) for one in shares] + [numbers.seconds(diagnosis.steps.mean_s)]
    missing = [one for one in told if one not in text]
    assert not missing, f"not in the picture: {missing}"


def main() -> None:
    """Runs the training and makes both pictures."""
    os.chdir(REPOSITORY)
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "run"
        command = ["-m", "trainprof", "run", "--quiet", "--out", str(folder), "--name", "train"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        training = subprocess.Popen(
            [sys.executable, *command, STORY, "--epochs", "5"], env=environment
        )
        while not (folder / "run.json").exists():
            if training.poll() is not None:
                raise SystemExit(f"the training ended with {training.returncode}")
            time.sleep(0.1)
        asyncio.run(picture(folder, "dashboard", light=False, live=True))
        if training.wait() != 0:
            raise SystemExit(f"the training ended with {training.returncode}")
        asyncio.run(picture(folder, "dashboard-light", light=True, live=False))


if __name__ == "__main__":
    main()
