"""Samples the Python stacks of a run from outside, with py-spy, in windows: stacks.jsonl.

py-spy runs as a process of its own. Each look stops a process of the run for about a quarter of a
millisecond, so stacks are sampled in short windows with pauses between them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.stacks import LockWindow, StackSample, StackWindow
from trainprof.profiler.samplers.chrometrace import read_trace
from trainprof.profiler.samplers.interpreter_lock import contended_process, read_holders
from trainprof.profiler.samplers.ptrace import Permission, read_permission
from trainprof.profiler.store.layout import PROCESSES_FOLDER, STACKS_FILE, STACKS_INSIDE_FILE
from trainprof.profiler.store.stack_file import StackFile

RATE_HZ = 20
"""Looks per second at each process, in a window."""

WINDOW_S = 5
"""Length of a window; what py-spy saw in it is written at its end."""

LOCK_WINDOW_S = 4
"""Of one that asks who holds the interpreter lock; only where a second thread computes."""

PAUSES_S = (10.0, 20.0, 40.0)
"""After the first windows, and always the last after that: a ninth of the time is sampled."""

POLL_S = 0.2
"""Between two looks for the first process that trains."""

END_WAIT_S = 1.0
"""py-spy ends at its next look once it is told to; later than this it is killed."""

RETRY_S = 0.5
"""After a window that gave nothing."""

MOST_FAILURES = 2
"""Windows in a row without a stack; then the agents sample their own processes instead."""

FILE_BYTES_MAX = 64_000_000
"""stacks.jsonl grows no further; at most 3 MB an hour were seen with two DataLoader workers."""

OUTPUT = ".stacks-window.json"


@dataclass(frozen=True, slots=True)
class StackPlan:
    """How stacks will be sampled here.

    Attributes:
        source: "py-spy", "agent" or "off".
        program: Path of py-spy.
        ask_permission: Processes of the run must allow it (Yama's ptrace_scope 1).
        reason: Why it is not py-spy.
    """

    source: str
    program: str | None = None
    ask_permission: bool = False
    reason: str | None = None

    def for_agent(self) -> str:
        """TRAINPROF_STACKS for the run: "inside", "outside", a process id to admit, or empty."""
        if self.source == "agent":
            return "inside"
        if self.source == "py-spy":
            return str(os.getpid()) if self.ask_permission else "outside"
        return ""


def plan_stacks(wanted: bool = True, permission: Permission | None = None) -> StackPlan:
    """Decides between py-spy and the agents themselves, by what is installed and permitted."""
    if not wanted:
        return StackPlan("off")
    program = find_py_spy()
    if program is None:
        return StackPlan("agent", reason="py-spy is not installed")
    allowed = read_permission() if permission is None else permission
    if not allowed.own_children:
        return StackPlan("agent", reason=allowed.reason)
    return StackPlan("py-spy", program, ask_permission=allowed.must_ask)


def find_py_spy() -> str | None:
    """The py-spy that was installed with trainprof, else the first on PATH."""
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("py-spy")


class StackSampler:
    """Samples the tree of `root_pid` until it is stopped.

    Args:
        run_folder: Where stacks.jsonl is written.
        root_pid: The command that runs.
        plan: From `plan_stacks`.
        window_s: Length of a window.
        pauses_s: Between windows; the last one repeats.
    """

    def __init__(
        self,
        run_folder: Path,
        root_pid: int,
        plan: StackPlan,
        window_s: int = WINDOW_S,
        pauses_s: tuple[float, ...] = PAUSES_S,
    ) -> None:
        self._folder = run_folder
        self._root_pid = root_pid
        self._plan = plan
        self._window_s = window_s
        self._pauses_s = pauses_s
        self._file = StackFile(str(run_folder / STACKS_FILE), time.perf_counter_ns())
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trainprof-stacks", daemon=True)
        self._samples = 0
        self._failure: str | None = None
        self._note: str | None = None

    def start(self) -> None:
        """Starts the thread that starts py-spy, where there is one; returns at once."""
        if self._plan.source == "py-spy":
            self._thread.start()

    def stop(self) -> None:
        """Ends py-spy and keeps what it saw; takes at most about a second."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(3 * END_WAIT_S)

    def statuses(self) -> tuple[CollectorStatus, ...]:
        """What was sampled, and by whom; nothing where stacks were not wanted."""
        if self._plan.source == "off":
            return ()
        return (self._status(),)

    def _status(self) -> CollectorStatus:
        why = self._plan.reason or self._failure
        if why is not None:
            reason = f"the training thread was sampled from inside, its workers not: {why}"
            return CollectorStatus("stacks", "partial", reason)
        if self._note is not None:
            return CollectorStatus("stacks", "partial", self._note)
        if not self._samples:
            return CollectorStatus("stacks", "missing", "the run ended before the first window did")
        return CollectorStatus("stacks", "ok")

    def _run(self) -> None:
        if not self._wait_for_training():
            return
        failures = windows = 0
        while failures < MOST_FAILURES:
            error = self._sample_window()
            if self._stopping.is_set():
                return
            if error is None:
                failures = 0
                if self._note is not None or self._file.size > FILE_BYTES_MAX:
                    return
            else:
                failures += 1
                self._failure = error if failures == MOST_FAILURES else None
            pause_s = self._pauses_s[min(windows, len(self._pauses_s) - 1)]
            if failures < MOST_FAILURES and self._stopping.wait(RETRY_S if error else pause_s):
                return
            windows += 1
        self._tell_agents()

    def _wait_for_training(self) -> bool:
        """Returns once a step was written; False when the run is over before."""
        while not any(self._folder.glob(f"{PROCESSES_FOLDER}/*/steps.jsonl")):
            if self._stopping.wait(POLL_S):
                return False
        return True

    def _tell_agents(self) -> None:
        try:
            (self._folder / STACKS_INSIDE_FILE).touch()
        except OSError as error:
            self._note = f"no stack was sampled: {self._failure} ({error.strerror})"

    def _sample_window(self) -> str | None:
        """One window of py-spy; why it gave nothing, or None."""
        output = self._folder / OUTPUT
        try:
            try:
                asked = ("--subprocesses", "--idle", "--format", "chrometrace")
                started_ns, said = self._record(output, self._root_pid, self._window_s, asked)
            except OSError as error:
                return f"py-spy cannot be started ({error.strerror})"
            try:
                samples = read_trace(output.read_bytes(), started_ns, 1_000_000_000 // RATE_HZ)
            except (OSError, ValueError) as error:
                return _why(said) or str(error)
            if not samples:
                return _why(said) or "py-spy saw no stack"
            self._keep(samples, started_ns)
            pid = contended_process(samples)
            if pid is not None and not self._stopping.is_set():
                self._ask_for_lock(output, pid)
        finally:
            output.unlink(missing_ok=True)
        return None

    def _ask_for_lock(self, output: Path, pid: int) -> None:
        """A window of its own: py-spy tells who holds the lock by leaving all others out."""
        asked = ("--gil", "--threads", "--format", "raw")
        try:
            started_ns, _ = self._record(output, pid, LOCK_WINDOW_S, asked)
            ended_ns = time.perf_counter_ns()
            holders = read_holders(output.read_text("utf-8", "replace"), pid)
        except OSError:  # the process has ended meanwhile
            return
        held = sum(holder.looks for holder in holders)
        looks = max(held, int((ended_ns - started_ns) * RATE_HZ / 1e9))
        self._file.lock_window(LockWindow(started_ns, ended_ns, pid, looks, holders))
        self._write()

    def _record(
        self, output: Path, pid: int, seconds: int, asked: tuple[str, ...]
    ) -> tuple[int, str]:
        """Runs py-spy for one window; when it began, and what it said."""
        output.unlink(missing_ok=True)
        command = [
            str(self._plan.program),
            *("record", "--pid", str(pid), "--full-filenames", *asked),
            *("--rate", str(RATE_HZ), "--duration", str(seconds), "--output", str(output)),
        ]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the script
        )
        started_ns = time.perf_counter_ns()
        deadline_s = time.monotonic() + seconds + 2 * END_WAIT_S
        while process.poll() is None and time.monotonic() < deadline_s:
            if self._stopping.wait(0.05):
                break
        said = _end(process)
        return started_ns, said.decode("utf-8", "replace")

    def _keep(self, samples: list[StackSample], started_ns: int) -> None:
        end_ns = max(sample.at_ns + sample.duration_ns for sample in samples)
        period_ns = 1_000_000_000 // RATE_HZ
        self._file.window(StackWindow(started_ns, end_ns, period_ns, "py-spy"))
        for sample in samples:
            self._file.sample(sample)
        if self._write():
            self._samples += len(samples)

    def _write(self) -> bool:
        try:
            self._file.write()
        except OSError as error:
            self._note = f"{STACKS_FILE} cannot be written ({error.strerror}): no stacks since"
        return self._note is None


def _end(process: subprocess.Popen[bytes]) -> bytes:
    """Asks py-spy to write what it has, waits for its end, and gives what it said."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=END_WAIT_S)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[1]


def _why(said: str) -> str | None:
    """The first of py-spy's own sentences that tells of an error."""
    for line in said.splitlines():
        if line.startswith("Error:") or "ermission" in line:
            return f"py-spy said: {line.removeprefix('Error:').strip()[:200]}"
    return None
