"""Starts the scratch process for a finished run, watches its time and memory, keeps what it found.

The scratch process is the training's interpreter, in the training's folder, without accelerators,
without the agent, and with nowhere to print. What it has not found out when the time is up stays
unknown; it is killed with everything that it started.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from trainprof.profiler.launch import home
from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.records import Fact
from trainprof.profiler.probe.near_copies import compare_sketches
from trainprof.profiler.store.probe_file import write_probe

DEFAULT_BUDGET_S = 3.0
START_S, START_BUDGETS = 10.0, 3.0
"""For importing torch and loading the data set, before the budget begins: 10 s, or three times the
budget where that is more."""
POLL_S = 0.05
MOST_MEMORY_SHARE, MOST_MEMORY_BYTES = 0.5, 4 << 30
"""Resident memory of the scratch process: half of what is free, at most 4 GiB."""

START = Path(__file__).parent / "scratch" / "start.py"

NOT_COPIED = "the training was over before its data set could be copied"


@dataclass
class Found:
    """What a journal says.

    Attributes:
        data: Everything found out.
        problems: Why the rest was not.
        stage: The stage that was under way last; `ready` and `done`: how far it came.
    """

    data: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    stage: str = "start"
    ready: bool = False
    done: bool = False


@dataclass(frozen=True)
class Copy:
    """A data set that the agent copied, or did not.

    Attributes:
        folder: Of the process that trained.
        key: The loader's.
        name: Of the copy's files, without suffix; None where there is none, because of `reason`.
        python: The interpreter of the training.
        validates: It is the data set of a validation.
    """

    folder: Path
    key: str
    name: str | None
    reason: str | None
    python: str
    validates: bool = False

    @property
    def path(self) -> str:
        """The copy's files, without suffix."""
        return str(self.folder / str(self.name))


class Probe:
    """Looks at the data sets of a run.

    Args:
        run_folder: The finished run.
        budget_s: Time for all of them together, starting processes not counted.
        progress: Told one line before work begins, and an empty one after it.
        start: What the scratch process runs; tests replace it.
        most_bytes: Memory of the scratch process; by default half of what is free.
    """

    def __init__(
        self,
        run_folder: Path,
        budget_s: float,
        progress: Callable[[str], None] | None = None,
        *,
        start: Path = START,
        most_bytes: float | None = None,
    ) -> None:
        free = psutil.virtual_memory().available * MOST_MEMORY_SHARE
        self._most_bytes = most_bytes or min(free, float(MOST_MEMORY_BYTES))
        self._start = start
        self._folder = run_folder
        self._budget_s = budget_s
        self._tell = progress or (lambda line: None)

    def run(self) -> CollectorStatus:
        """Writes what it finds beside the training's facts. Never raises for what a data set does.

        Raises:
            OSError: the run folder cannot be written.
        """
        copies = find_copies(self._folder)
        trained = [copy for copy in copies if not copy.validates]
        if not trained:
            return CollectorStatus("probe", "missing", NOT_COPIED)
        reasons = []
        try:
            for copy in trained:
                if copy.name is None:
                    reasons.append(f"the data set was not looked at: {copy.reason}")
                    continue
                self._tell(f"trainprof: looking at the data set ({self._budget_s:g} s at most)")
                try:
                    held_out = _validation_of(copy, copies)
                    found = self._look(copy, held_out, self._budget_s / len(trained))
                finally:
                    self._tell("")
                if found.data:
                    fact = Fact("dataset", copy.key, time.perf_counter_ns(), found.data)
                    write_probe(copy.folder, [fact])
                reasons += found.problems
        finally:
            remove_copies(copies)
        if reasons:
            some = any(copy.name is not None for copy in trained)
            return CollectorStatus("probe", "partial" if some else "missing", "; ".join(reasons))
        return CollectorStatus("probe", "ok")

    def _look(self, copy: Copy, held_out: Copy | None, budget_s: float) -> Found:
        with tempfile.TemporaryDirectory(prefix="trainprof-probe-") as scratch:
            journal = Path(scratch) / "journal.jsonl"
            process = _started(self._start, copy, journal, budget_s, held_out)
            ended = _watch(process, journal, budget_s, self._most_bytes)
            found = read_journal(journal)
            if not found.done and not (found.problems and ended is None):
                found.problems.append(ended or _sudden_end(process, found))
            if held_out is not None and "validation_hashed" in found.data:
                found.data["validation"] = held_out.key
            found.data.update(compare_sketches(Path(f"{journal}.sketches")))
            return found


def _validation_of(copy: Copy, copies: Iterable[Copy]) -> Copy | None:
    """The copy of the data set by which the same process validates."""
    return next(
        (one for one in copies if one.validates and one.folder == copy.folder and one.name), None
    )


def find_copies(run_folder: Path) -> list[Copy]:
    """The copies that the agents of a run made or refused to make, in order of process folders."""
    copies = []
    for file in sorted(run_folder.glob("procs/*/facts.jsonl")):
        for fact in _facts(file):
            if fact.get("kind") == "copy":
                data = fact.get("data") or {}
                copies.append(
                    Copy(
                        file.parent,
                        str(fact.get("key")),
                        data.get("file"),
                        data.get("reason"),
                        _python_of(file.parent),
                        data.get("role") == "validation",
                    )
                )
    return copies


def _facts(file: Path) -> list[dict[str, Any]]:
    facts = []
    for line in file.read_text(errors="replace").splitlines():
        if '"copy"' in line:
            try:
                facts.append(json.loads(line))
            except ValueError:
                continue  # torn
    return [fact for fact in facts if isinstance(fact, dict)]


def _python_of(folder: Path) -> str:
    try:
        info = json.loads((folder / "proc.json").read_text())
    except (OSError, ValueError):
        return sys.executable
    return str(info.get("executable") or sys.executable)


def remove_copies(copies: Iterable[Copy]) -> None:
    """Removes the copies' files."""
    for copy in copies:
        if copy.name is not None:
            for suffix in (".pickle", ".buffers"):
                Path(copy.path + suffix).unlink(missing_ok=True)


def scratch_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's environment without accelerators and without the agent."""
    hidden = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "TRAINPROF_DISABLE": "1"}
    return {**environ, **hidden, "TOKENIZERS_PARALLELISM": "false"}


def _started(
    start: Path, copy: Copy, journal: Path, budget_s: float, held_out: Copy | None
) -> subprocess.Popen[bytes]:
    arguments = [str(home()), copy.path, str(journal), str(budget_s)]
    if held_out is not None:
        arguments.append(held_out.path)
    return subprocess.Popen(
        [copy.python, str(start), *arguments],
        env=scratch_environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _watch(
    process: subprocess.Popen[bytes], journal: Path, budget_s: float, most_bytes: float
) -> str | None:
    """Waits for its end; why it had to be ended, or None."""
    deadline, ready = time.monotonic() + _start_s(budget_s), False
    try:
        while True:
            try:
                process.wait(POLL_S)
                return None
            except subprocess.TimeoutExpired:
                pass  # it goes on
            if not ready and read_journal(journal).ready:
                deadline, ready = time.monotonic() + budget_s, True
            if time.monotonic() > deadline:
                return _out_of_time(read_journal(journal), budget_s)
            if _resident_bytes(process.pid) > most_bytes:
                return (
                    f"looking at the data set needed more than {most_bytes / 2**30:.2g} GiB of "
                    "memory and was ended"
                )
    finally:
        _end(process)


def _start_s(budget_s: float) -> float:
    return max(START_S, START_BUDGETS * budget_s)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the scratch process and whatever it started; its session is its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _resident_bytes(pid: int) -> int:
    try:
        root = psutil.Process(pid)
        return sum(one.memory_info().rss for one in (root, *root.children(recursive=True)))
    except psutil.Error:
        return 0


def _out_of_time(found: Found, budget_s: float) -> str:
    if not found.ready:
        return f"torch and the data set could not be loaded within {_start_s(budget_s):g} s"
    return f"the time of {budget_s:g} s was over before the stage {found.stage!r} had ended"


def _sudden_end(process: subprocess.Popen[bytes], found: Found) -> str:
    status = process.returncode
    how = signal.Signals(-status).name if status and status < 0 else f"status {status}"
    return f"the process that looked at the data set ended by itself ({how}) in {found.stage!r}"


def read_journal(path: Path) -> Found:
    """What the scratch process has written so far; a torn last line is left out."""
    found = Found()
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return found
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if not isinstance(line, dict):
            continue
        if isinstance(line.get("stage"), str):
            found.stage = line["stage"]
            found.ready = found.ready or found.stage == "ready"
        if isinstance(line.get("data"), dict):
            found.data.update(line["data"])
        if isinstance(line.get("problem"), str):
            found.problems.append(line["problem"])
        found.done = found.done or line.get("done") is True
    return found
