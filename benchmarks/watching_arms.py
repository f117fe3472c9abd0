"""One training under `trainprof run`, watched in some way or not, in a pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pexpect
import psutil

from trainprof.profiler.model.records import COMPILED
from trainprof.profiler.model.run import MISSING
from trainprof.profiler.store.lines import Problems
from trainprof.profiler.store.reader import read_run, read_run_info
from trainprof.rules.statistics.steady import find_window

TRAINING = Path(__file__).with_name("overhead_training.py")
COMMON = ("--quiet", "--no-probe", "--no-stacks", "--trace", "off")
"""What costs at the end, or now and then, is left out of every arm alike."""
SIZE = "tiny-1ms"
COLUMNS, ROWS = 100, 30
LOOK_S = 0.25
PATIENCE_S = 600.0
QUIET_S = 6


@dataclass(frozen=True, slots=True)
class Watched:
    """One run.

    Attributes:
        step_s: Mean of its steady steps. thread_s: CPU time of the training thread in such a step.
        cores: CPU time of all processes but the training's, as a share of a core, while it trained.
    """

    step_s: float
    thread_s: float
    cores: float


def watched(options: tuple[str, ...], steps: int, folder: Path) -> Watched:
    """Runs the training in a fresh folder.

    Args:
        options: Of `trainprof run`, beside those of every arm.
        steps: That are timed; a tenth more before them.
        folder: Where the run is written.

    Raises:
        RuntimeError: the training failed, did not end, or was too short.
    """
    script = [str(TRAINING), "--size", SIZE, "--steps", str(steps), "--warm-up", str(steps // 10)]
    script += ["--block", str(steps)]
    command = ["-m", "trainprof", "run", *COMMON, *options, "--out", str(folder), "--"]
    child = pexpect.spawn(
        sys.executable,
        [*command, sys.executable, *script],
        dimensions=(ROWS, COLUMNS),
        env={**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "TERM": "xterm"},
        timeout=LOOK_S,
        cwd=folder.parent,
    )
    try:
        looks = list(_looks(child, folder, leaves="--tui" in options))
        status = child.wait()
    finally:
        child.close(force=True)
    if status != 0:
        told = status if status is not None else f"signal {child.signalstatus}"
        raise RuntimeError(f"{' '.join(options)}: the training ended with {told}")
    if len(looks) < 2:
        raise RuntimeError("the training was over before it could be looked at twice")
    (begun_s, begun_cpu_s), (ended_s, ended_cpu_s) = looks[0], looks[-1]
    return Watched(*steady_means(folder), (ended_cpu_s - begun_cpu_s) / (ended_s - begun_s))


def _looks(child: pexpect.spawn, folder: Path, *, leaves: bool) -> Iterator[tuple[float, float]]:
    """(time, CPU seconds of those who watch) while the training makes steps."""
    end_s = time.perf_counter() + PATIENCE_S
    while True:
        if time.perf_counter() > end_s:
            raise RuntimeError("the training does not end")
        try:
            child.read_nonblocking(1 << 20, timeout=LOOK_S)
        except pexpect.TIMEOUT:
            pass
        except pexpect.EOF:
            return
        time.sleep(LOOK_S)  # the terminal is read seldom, so that reading it costs little
        cpu_s = _watchers_cpu_s(child.pid)
        if cpu_s is not None and next(folder.glob("procs/*/steps.jsonl"), None):
            yield time.perf_counter(), cpu_s
        elif leaves and _has_ended(folder):
            child.send("q")  # the dashboard stays until it is left


def _has_ended(folder: Path) -> bool:
    """Whether the run says so: before that, `q` would leave a dashboard that still shows it."""
    info = read_run_info(folder, Problems())
    return info is not None and info.status != "running"


def _watchers_cpu_s(pid: int) -> float | None:
    """CPU time of a command and what it has started but the training.

    None where no training runs, or where one of them ended in this moment.
    """
    try:
        command = psutil.Process(pid)
        family = [command, *command.children(recursive=True)]
        trainings = [one for one in family if str(TRAINING) in one.cmdline()[:2]]
        if not trainings:
            return None
        training = {one.pid for top in trainings for one in (top, *top.children(recursive=True))}
        return sum(sum(one.cpu_times()[:4]) for one in family if one.pid not in training)
    except psutil.Error:
        return None


def steady_means(folder: Path) -> tuple[float, float]:
    """Mean steady step and CPU time of its thread, in seconds, from the steps of the run."""
    columns = read_run(folder).sessions[0].trainers[0].steps.columns
    kept = {name: np.frombuffer(columns[name], np.int64) for name in ("wall_ns", "cpu_ns", "flags")}
    window = find_window(kept["wall_ns"], (kept["flags"] & COMPILED) != 0, 0, 0)
    steady = slice(window.first, window.stop)
    cpu_ns = kept["cpu_ns"][steady]
    known = np.flatnonzero(cpu_ns != MISSING)
    # Each reading is since the one before it, so the first of them reaches back out of the window.
    thread_s = float(cpu_ns[known[1:]].sum()) / int(known[-1] - known[0]) / 1e9
    return float(kept["wall_ns"][steady].mean()) / 1e9, thread_s


def at_rest(folder: Path, looked_s: float = 15.0) -> float:
    """CPU time of `trainprof top` of a finished run, as a share of a core, once all is shown.

    Raises:
        RuntimeError: it does not come to rest.
    """
    command = ["-m", "trainprof", "top", str(folder)]
    child = pexpect.spawn(
        sys.executable,
        command,
        dimensions=(ROWS, COLUMNS),
        env={**os.environ, "TERM": "xterm"},
        timeout=LOOK_S,
    )
    try:
        process = psutil.Process(child.pid)
        _settle(child, process)
        begun_s, used_s = time.perf_counter(), sum(process.cpu_times()[:4])
        _drain(child, looked_s)
        return (sum(process.cpu_times()[:4]) - used_s) / (time.perf_counter() - begun_s)
    finally:
        child.close(force=True)


def _settle(child: pexpect.spawn, process: psutil.Process) -> None:
    """Until it has read the run, and nothing has been diagnosed for a while."""
    end_s = time.perf_counter() + PATIENCE_S
    quiet = 0
    while quiet < QUIET_S:
        _drain(child, 1.0)
        quiet = 0 if process.children() else quiet + 1
        if time.perf_counter() > end_s:
            raise RuntimeError("the dashboard does not come to rest")


def _drain(child: pexpect.spawn, seconds: float) -> None:
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        with contextlib.suppress(pexpect.TIMEOUT):
            child.read_nonblocking(1 << 20, timeout=LOOK_S)
