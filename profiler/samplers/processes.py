"""Looks at every process of a run's tree. Any of them may vanish at any moment."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from trainprof.profiler.model.records import CollectorStatus, ProcessSample
from trainprof.profiler.samplers.notes import CollectorNotes
from trainprof.profiler.samplers.procfs import (
    parse_major_faults,
    parse_run_delay,
    parse_table,
    read_text,
)

PSS_EVERY_LOOKS = 10
"""PSS makes the kernel walk a process's page tables, so only every tenth look asks for it ..."""

PSS_COST_SHARE_MAX = 0.001
"""... and more seldom where that would take more than this share of the time."""


class ProcessTree:
    """The command and all its descendants, also those whose parent has ended.

    A look lists the processes of the machine and examines only those it has not met before: a
    child that came and lost its parent between two looks is not recognised.

    Args:
        root_pid: The command.
        proc: Where /proc is.
    """

    def __init__(self, root_pid: int, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._notes = CollectorNotes("processes")
        self._met = set(psutil.pids())
        self._members: dict[int, psutil.Process] = {}
        self._looks = 0
        self._pss_due_s = 0.0
        try:
            root = psutil.Process(root_pid)
            self._members = {root_pid: root}
            self._members |= {child.pid: child for child in root.children(recursive=True)}
        except psutil.Error:
            self._notes.lack("root", "the command had ended before the first look")

    def sample(self) -> tuple[ProcessSample, ...]:
        """One sample per living process of the tree; zombies are left out."""
        self._admit_new()
        with_pss = self._looks % PSS_EVERY_LOOKS == 0 and time.monotonic() >= self._pss_due_s
        self._looks += 1
        samples = []
        for pid, process in list(self._members.items()):
            try:
                samples.append(self._look(process))
            except (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
                del self._members[pid]
            except (psutil.AccessDenied, PermissionError):
                self._notes.lack("process", f"process {pid} may not be looked at by this user")
        if samples:
            self._notes.deliver()
        return tuple(self._with_pss(samples) if with_pss else samples)

    def statuses(self) -> tuple[CollectorStatus, ...]:
        """What could be measured of the processes."""
        return (self._notes.status(),)

    def _admit_new(self) -> None:
        pids = set(psutil.pids())
        new = sorted(pids - self._met)
        self._met = pids
        parents = {pid: parent for pid in new if (parent := _parent(pid)) is not None}
        found = True
        while found:
            family = [pid for pid, parent in parents.items() if parent in self._members]
            found = bool(family)
            for pid in family:
                del parents[pid]
                try:
                    self._members[pid] = psutil.Process(pid)
                except psutil.Error:
                    continue

    def _look(self, process: psutil.Process) -> ProcessSample:
        if not process.is_running():  # also where the number was given to another process
            raise psutil.NoSuchProcess(process.pid)
        folder = self._proc / str(process.pid)
        with process.oneshot():
            status = process.status()
            if status == psutil.STATUS_ZOMBIE:
                raise psutil.NoSuchProcess(process.pid)
            cpu = process.cpu_times()
            switches = process.num_ctx_switches()
            traffic = self._traffic(process)
            return ProcessSample(
                pid=process.pid,
                parent_pid=process.ppid(),
                name=process.name(),
                cpu_total_s=round(cpu.user + cpu.system, 3),
                rss_bytes=process.memory_info().rss,
                threads=process.num_threads(),
                status=status,
                run_delay_total_ns=parse_run_delay(read_text(folder / "schedstat")),
                read_total_bytes=traffic.read_bytes if traffic else None,
                written_total_bytes=traffic.write_bytes if traffic else None,
                read_calls_total_bytes=traffic.read_chars if traffic else None,
                major_faults_total=parse_major_faults(read_text(folder / "stat")),
                switches_voluntary_total=switches.voluntary,
                switches_involuntary_total=switches.involuntary,
            )

    def _traffic(self, process: psutil.Process) -> Any:
        """IO counters of a process; None where its user or the system does not show them."""
        try:
            return process.io_counters()
        except (psutil.AccessDenied, PermissionError):
            self._notes.lack("io", "/proc/PID/io of another user's process may not be read")
        except AttributeError:
            self._notes.lack("io", "this system shows no IO counters of processes")
        return None

    def _with_pss(self, samples: list[ProcessSample]) -> list[ProcessSample]:
        started_s = time.monotonic()
        measured = [replace(sample, pss_bytes=self._pss(sample.pid)) for sample in samples]
        ended_s = time.monotonic()
        self._pss_due_s = ended_s + (ended_s - started_s) / PSS_COST_SHARE_MAX
        if samples and not any(sample.pss_bytes for sample in measured):
            self._notes.lack("pss", "/proc/PID/smaps_rollup cannot be read here: no PSS")
        return measured

    def _pss(self, pid: int) -> int | None:
        kilobytes = parse_table(read_text(self._proc / str(pid) / "smaps_rollup")).get("Pss")
        return None if kilobytes is None else kilobytes * 1024


def _parent(pid: int) -> int | None:
    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return None
