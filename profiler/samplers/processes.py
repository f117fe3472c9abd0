"""Looks at every process of a run's tree. Any of them may vanish at any moment."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.records import ProcessSample
from trainprof.profiler.samplers.notes import CollectorNotes
from trainprof.profiler.samplers.procfs import (
    ProcessStat,
    parse_process_stat,
    parse_run_delay,
    parse_table,
    read_text,
)

PSS_EVERY_LOOKS = 10
"""PSS makes the kernel walk a process's page tables, so only every tenth look asks for it ..."""

PSS_COST_SHARE_MAX = 0.001
"""... and more seldom where that would take more than this share of the time ..."""

PSS_EARLY_LOOKS = 70
"""... but for these (35 s): loader workers copy the pages that they read soonest after their start,
and two readings tell of growth (of 2.6 GB only one was taken in 50 s)."""


class ProcessTree:
    """The command and all its descendants, also those whose parent has ended since.

    A look lists the processes of the machine and examines only those that the last look did not
    list: cheap, but a child that came and lost its parent between two looks is not recognised.

    Args:
        root_pid: The command.
        proc: Where /proc is.
    """

    def __init__(self, root_pid: int, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._notes = CollectorNotes("processes")
        self._members: dict[int, _Member] = {}
        self._looks = 0
        self._pss_due_s = 0.0
        self._met = set(psutil.pids())  # before the children: who comes meanwhile is new later
        try:
            root = psutil.Process(root_pid)
            for process in (root, *root.children(recursive=True)):
                self._admit(process)
        except psutil.Error:
            self._notes.lack("root", "the command had ended before the first look")

    def sample(self) -> tuple[ProcessSample, ...]:
        """One sample per living process of the tree; zombies are left out."""
        self._admit_new()
        samples = []
        for pid, member in list(self._members.items()):
            try:
                samples.append(self._look(member))
            except psutil.NoSuchProcess:
                del self._members[pid]
            except (psutil.AccessDenied, PermissionError):
                self._notes.lack("process", "some processes belong to another user")
        if samples:
            self._notes.deliver()
        due = self._looks < PSS_EARLY_LOOKS or time.monotonic() >= self._pss_due_s
        if self._looks % PSS_EVERY_LOOKS == 0 and due:
            samples = self._with_pss(samples)
        self._looks += 1
        return tuple(samples)

    def statuses(self) -> tuple[CollectorStatus, ...]:
        """What could be measured of the processes."""
        return (self._notes.status(),)

    def _stat(self, pid: int) -> ProcessStat | None:
        return parse_process_stat(read_text(f"{self._proc}/{pid}/stat"))

    def _admit(self, process: psutil.Process) -> None:
        self._members[process.pid] = _Member(process, self._stat(process.pid))

    def _admit_new(self) -> None:
        pids = set(psutil.pids())
        strangers: dict[int, tuple[psutil.Process, int]] = {}
        for pid in pids - self._met:
            try:
                process = psutil.Process(pid)
                strangers[pid] = (process, process.ppid())
            except psutil.Error:
                continue
        self._met = pids
        while kin := [pid for pid, (_, parent) in strangers.items() if parent in self._members]:
            for pid in kin:
                self._admit(strangers.pop(pid)[0])

    def _look(self, member: _Member) -> ProcessSample:
        process = member.process
        stat = self._stat(process.pid)
        if not member.still_is(stat):
            raise psutil.NoSuchProcess(process.pid)
        with process.oneshot():
            status = process.status()
            if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
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
                run_delay_total_ns=self._run_delay(process.pid),
                read_total_bytes=traffic.read_bytes if traffic else None,
                written_total_bytes=traffic.write_bytes if traffic else None,
                read_calls_total_bytes=traffic.read_chars if traffic else None,
                major_faults_total=stat.major_faults if stat else None,
                switches_voluntary_total=switches.voluntary,
                switches_involuntary_total=switches.involuntary,
                children_cpu_total_s=round(cpu.children_user + cpu.children_system, 3),
            )

    def _run_delay(self, pid: int) -> int | None:
        text = read_text(f"{self._proc}/{pid}/schedstat")
        if text is None:
            self._lack_unless_gone(
                pid, "schedstat", "no run-queue delay: this kernel keeps no /proc/PID/schedstat"
            )
        return parse_run_delay(text)

    def _traffic(self, process: psutil.Process) -> Any:
        """IO counters of a process; None where its user or the system does not show them."""
        try:
            return process.io_counters()
        except (psutil.AccessDenied, PermissionError):
            self._notes.lack("io", "no IO of processes of another user: /proc/PID/io is theirs")
        except (AttributeError, NotImplementedError):  # psutil's way of saying "not here"
            self._notes.lack("io", "this system shows no IO of processes")
        except (FileNotFoundError, ProcessLookupError):
            self._lack_unless_gone(
                process.pid, "io", "no IO of processes: there is no /proc/PID/io"
            )
        return None

    def _with_pss(self, samples: list[ProcessSample]) -> list[ProcessSample]:
        started_s = time.monotonic()
        measured = [replace(sample, pss_bytes=self._pss(sample.pid)) for sample in samples]
        ended_s = time.monotonic()
        self._pss_due_s = ended_s + (ended_s - started_s) / PSS_COST_SHARE_MAX
        return measured

    def _pss(self, pid: int) -> int | None:
        text = read_text(f"{self._proc}/{pid}/smaps_rollup")
        kilobytes = parse_table(text, ("Pss:",)).get("Pss")
        if kilobytes is None:
            self._lack_unless_gone(
                pid, "pss", "no PSS of some processes: /proc/PID/smaps_rollup cannot be read"
            )
            return None
        return kilobytes * 1024

    def _lack_unless_gone(self, pid: int, source: str, sentence: str) -> None:
        """A process that has just ended is no lack of the system's."""
        stat = self._stat(pid)
        if not self._proc.exists() or (stat is not None and stat.state not in ("Z", "X")):
            self._notes.lack(source, sentence)


class _Member:
    """A process of the tree, told from a later one with the same number by when it started."""

    def __init__(self, process: psutil.Process, stat: ProcessStat | None) -> None:
        self.process = process
        self._started_ticks = stat.started_ticks if stat else None

    def still_is(self, stat: ProcessStat | None) -> bool:
        """Whether the process still runs, given what /proc says of its number now."""
        if self._started_ticks is None:  # no /proc on this system: psutil knows another way
            return self.process.is_running()
        return stat is not None and stat.started_ticks == self._started_ticks
