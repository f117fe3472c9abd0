"""How long after a record is in the run folder the screen shows it, measured."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from trainprof.profiler.store.tail import RunTail
from trainprof.reports.dashboard.app import DashboardApp
from trainprof.reports.dashboard.services import Services

WRITER = Path(__file__).with_name("fast_writer.py")
PATIENCE_S = 60.0


def lags_s(folder, ranks, steps_per_s, seconds):
    """For each flush of the writer, until the screen was painted with its steps."""
    nothing = Services(
        lambda: None, lambda: None, str, lambda pid: "", lambda rule: "", lambda finding: None
    )
    command = [sys.executable, str(WRITER), str(folder), str(ranks), str(steps_per_s), str(seconds)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    painted, flushes = [], []

    class Painted(DashboardApp):
        def paint(self):
            super().paint()
            ranks = self.board.training()
            if ranks:
                painted.append((min(one.steps for one in ranks), time.perf_counter()))

    async def go():
        app = Painted(RunTail(folder), nothing, environment={})
        async with app.run_test(size=(100, 30)) as pilot:
            while writer.poll() is None:
                await pilot.pause(0.1)
            flushes.extend(line.split() for line in writer.communicate()[0].splitlines())
            until_s = time.monotonic() + PATIENCE_S
            while not painted or painted[-1][0] < int(flushes[-1][0]):
                assert time.monotonic() < until_s, "the last steps are not on the screen"
                await pilot.pause(0.05)

    while not (folder / "run.json").exists():
        assert writer.poll() is None, "the writer failed"
        time.sleep(0.02)
    asyncio.run(go())
    assert writer.returncode == 0
    return [
        next(at_s for steps, at_s in painted if steps >= int(written)) - float(flushed_s)
        for written, flushed_s in flushes
    ]
