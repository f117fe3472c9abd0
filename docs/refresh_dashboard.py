"""Makes the pictures of the dashboard: `python docs/refresh_dashboard.py`, in a few minutes.

A sample training is run and looked at while it trains (dark) and afterwards (light); another is
tuned, and looked at once one fix is kept and another is tried (`tune` alone makes that picture).
Every number in a picture must be one of the diagnosis, or of the records where that holds none
(`shown_screen.py`).
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shown_numbers import Sources
from shown_screen import screen_differs, sources_of_screen

from trainprof.cli.dashboard_services import services_of, services_of_tune
from trainprof.profiler.store.layout import BASELINE_FOLDER
from trainprof.profiler.store.tail import RunTail
from trainprof.profiler.store.tune_progress import TuneTail, is_tune
from trainprof.reports.dashboard.app import DashboardApp

REPOSITORY = Path(__file__).resolve().parents[1]
PICTURES = REPOSITORY / "docs" / "pictures"
STORY = "sample_runs/slow_storage/train.py"
TUNED_STORY = "trainprof/cli/demo_training.py"
SIZE = (100, 30)
LEAST_DONE = 0.5
"""Of the steps of the trial that is shown must be done: there is something to see then."""
FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # fetched from elsewhere: nothing may be


class Painted(DashboardApp):
    """Keeps what might stand on the screen when it was painted, as the run goes on meanwhile."""

    sources: dict[str, Sources]

    def paint(self) -> None:
        """Shows the board."""
        super().paint()
        self.sources = sources_of_screen(self.board)


async def picture(folder: Path, name: str, *, light: bool, live: bool) -> None:
    """Opens the dashboard of a run, and keeps its screen once there is something to see."""
    environment = {"COLORFGBG": "0;15"} if light else {}
    app = Painted(RunTail(folder), services_of(folder), environment=environment)
    async with app.run_test(size=SIZE) as pilot:
        while app.is_running and not _is_ready(app, live):  # what ended it is raised at the end
            if live and app.board.over:
                raise SystemExit("the training was over before its bottleneck was seen")
            await pilot.pause(0.2)
        await pilot.pause(1.0)
        svg = FONTS.sub("", app.export_screenshot())
        wrong = screen_differs(svg, app.sources)
        assert not wrong, f"neither of the diagnosis nor of the records: {wrong}"
    (PICTURES / f"{name}.svg").write_text(svg, encoding="utf-8")


def _is_ready(app: DashboardApp, live: bool) -> bool:
    board = app.board
    if board.diagnosis is None or board.behind:
        return False
    if live:
        return not board.over and board.diagnosis.verdict == "bottleneck"
    return board.over and board.diagnosis.run.status == "complete"


async def tune_picture(folder: Path, tune: subprocess.Popen[bytes]) -> None:
    """Follows a tune, and keeps the screen once one fix is kept and another has two pairs."""
    app = Painted(
        RunTail(folder / BASELINE_FOLDER),
        services_of_tune(folder),
        tune=TuneTail(folder),
        environment={},
    )
    async with app.run_test(size=SIZE) as pilot:
        while app.is_running and not _shows_trials(app):  # what ended it is raised at the end
            if tune.poll() is not None:
                raise SystemExit(f"the tune was over ({tune.returncode}) before it was seen")
            await pilot.pause(0.05)
        svg = FONTS.sub("", app.export_screenshot())
        wrong = screen_differs(svg, app.sources)
        assert not wrong, f"neither of the diagnosis nor of the records: {wrong}"
    (PICTURES / "dashboard-tune.svg").write_text(svg, encoding="utf-8")


def _shows_trials(app: DashboardApp) -> bool:
    board = app.board
    if board.tune is None or board.diagnosis is None or board.tune.run is None:
        return False
    attempts = {one.verdict: one for one in board.tune.attempts}
    tried = attempts.get(None)
    steps = max((rank.steps for rank in board.training()), default=0)
    is_there = "keep" in attempts and tried is not None and tried.pairs >= 2
    return is_there and board.tune.run.changed and steps > LEAST_DONE * board.tune.run.steps


def tune_story() -> None:
    """Tunes the training of `trainprof demo`, up to the picture."""
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "tuned"
        shutil.copy(TUNED_STORY, Path(base) / "train.py")
        options = ["--out", str(folder), "--steps", "30", "--quiet", "--no-calibration"]
        fixes = ["--fix", "loader-workers:num_workers=2", "--fix", "optimizer-fused"]
        tune = subprocess.Popen(
            [sys.executable, "-m", "trainprof", "tune", *options, *fixes, "--", "train.py"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=base,
        )
        try:
            while not is_tune(folder):
                time.sleep(0.1)
            asyncio.run(tune_picture(folder, tune))
        finally:
            tune.send_signal(signal.SIGINT)
            tune.wait()


def main() -> None:
    """Makes all pictures, or that of the tune."""
    os.chdir(REPOSITORY)
    PICTURES.mkdir(exist_ok=True)
    if sys.argv[1:] != ["tune"]:
        run_story()
    tune_story()


def run_story() -> None:
    """Runs the training and makes both pictures."""
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
