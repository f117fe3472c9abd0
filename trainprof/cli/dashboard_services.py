"""What the dashboard asks for: diagnoses, traces, stacks, pages and commands."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from trainprof.cli.looking_thread import step_back
from trainprof.errors import TrainprofError
from trainprof.profiler.model.diagnosis import Diagnosis, Finding
from trainprof.profiler.store.layout import BASELINE_FOLDER, DIAGNOSIS_FILE
from trainprof.profiler.store.lines import UNREADABLE
from trainprof.profiler.store.trace_files import DEFAULT_STEPS
from trainprof.reports.dashboard.services import Services
from trainprof.reports.source import short_path

STACKS_TIMEOUT_S = 20.0


def services_of(
    folder: Path, supervisor: int | None = None, *, calibration: bool = True
) -> Services:
    """The services of one run folder; `supervisor` is the process that Ctrl-C goes to."""
    return Services(
        diagnose=lambda: diagnosed(folder, calibration=calibration),
        recorded=lambda: recorded(folder),
        trace=lambda: _traced(folder),
        stacks=_stacks,
        page=_page,
        fix_command=lambda finding: fix_command(finding, folder),
        interrupt=None if supervisor is None else partial(_interrupt, supervisor),
    )


def services_of_tune(folder: Path, *, calibration: bool = True) -> Services:
    """The services of a tune: of its unchanged run, and no trace, which would disturb a trial."""
    disturbs = "A trace would disturb the trial that is measured now."
    services = services_of(folder / BASELINE_FOLDER, calibration=calibration)
    return replace(services, trace=lambda: disturbs)


def diagnosed(folder: Path, *, calibration: bool = True) -> Diagnosis | None:
    """What `trainprof diagnose --format json` says, by a process of its own.

    So the screen never waits for it, and what it takes of memory is given back.
    """
    command = [sys.executable, "-m", "trainprof", "diagnose", "--format", "json", str(folder)]
    if not calibration:
        command.append("--no-calibration")
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            preexec_fn=step_back,
        )
        return msgspec.json.decode(done.stdout, type=Diagnosis)
    except (OSError, msgspec.MsgspecError):
        return None


def recorded(folder: Path) -> Diagnosis | None:
    """What a run folder holds as the diagnosis of its run; None where it cannot be read."""
    try:
        return msgspec.json.decode((folder / DIAGNOSIS_FILE).read_bytes(), type=Diagnosis)
    except (OSError, *UNREADABLE):
        return None


def _interrupt(supervisor: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(supervisor, signal.SIGINT)


def _traced(folder: Path) -> str:
    from trainprof.cli.tracing import take_trace

    try:
        taken = take_trace(folder, DEFAULT_STEPS)
    except TrainprofError as error:
        return str(error)
    paths = ", ".join(short_path(str(path)) for path in taken.paths)
    return " ".join([f"{paths} opens in ui.perfetto.dev.", *(f"{one}." for one in taken.reasons)])


def _stacks(pid: int) -> str:
    from trainprof.profiler.samplers.stacks import find_py_spy

    program = find_py_spy()
    if program is None:
        return "There is no py-spy beside trainprof to read stacks with: pip install py-spy."
    try:
        done = subprocess.run(
            [program, "dump", "--nonblocking", "--pid", str(pid)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=STACKS_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"The stacks could not be read: {error}."
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return f"The stacks could not be read: {reason[-1] if reason else 'py-spy failed'}."
    return done.stdout.decode("utf-8", "replace")


def _page(rule: str) -> str:
    from trainprof.rules.catalogue import catalogue
    from trainprof.rules.pages import page

    for one in catalogue():
        if one.id == rule:
            return page(one)
    return "This rule has no page."


def fix_command(finding: Finding, folder: Path) -> str | None:
    """`trainprof fix RUN --fix ID` for the first fix that can be applied; None without one."""
    from trainprof.rules.fixes.registry import all_fixes

    known = all_fixes()
    for advice in finding.fixes:
        if advice.fix in known:
            run = shlex.quote(short_path(str(folder)))
            return f"trainprof fix {run} --fix {advice.fix}"
    return None
