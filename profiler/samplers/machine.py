"""Looks at the whole machine: CPU, memory, pressure, cgroup throttling, disk and network.

Through psutil where it knows the figure, else from /proc and the cgroup file systems. A source
that is absent leaves its fields None, and the collector's status says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from trainprof.profiler.model.records import CollectorStatus, MachineSample
from trainprof.profiler.samplers.cgroup import Cgroup
from trainprof.profiler.samplers.notes import CollectorNotes
from trainprof.profiler.samplers.procfs import parse_pressure, parse_table, read_text

T = TypeVar("T")
CpuTimes = Any  # a named tuple; which fields it has depends on the system

SHM = Path("/dev/shm")


class MachineSampler:
    """Samples the machine as the process `pid` meets it: inside its cgroup's limits.

    Args:
        pid: The process whose cgroup counts.
        proc: Where /proc is.
        shm: Where shared memory is mounted.
    """

    def __init__(self, pid: int, proc: Path = Path("/proc"), shm: Path = SHM) -> None:
        self._proc = proc
        self._shm = shm
        self._cgroup = Cgroup(pid, proc)
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._cpu_before = psutil.cpu_times(percpu=True)
        self._machine = CollectorNotes("machine")
        self._pressure = CollectorNotes("pressure")
        self._throttling = CollectorNotes("cgroup")

    def sample(self) -> MachineSample:
        """One look."""
        busy = self._busy_per_core()
        memory_total, memory_available = self._memory()
        swap_in, swap_out = self._swap()
        pressure = {name: self._pressure_of(name) for name in ("cpu", "io", "memory")}
        throttling = self._cgroup.throttling()
        disk_read, disk_written = self._disk()
        received, sent = self._network()
        self._note_throttling(throttling.periods is not None)
        return MachineSample(
            cpu_busy_share=round(sum(busy) / len(busy), 4) if busy else None,
            cpu_busy_per_core=busy,
            memory_total_bytes=memory_total,
            memory_available_bytes=memory_available,
            swap_in_total_bytes=swap_in,
            swap_out_total_bytes=swap_out,
            psi_cpu_some_total_us=pressure["cpu"].get("some"),
            psi_io_some_total_us=pressure["io"].get("some"),
            psi_io_full_total_us=pressure["io"].get("full"),
            psi_memory_some_total_us=pressure["memory"].get("some"),
            cgroup_periods_total=throttling.periods,
            cgroup_throttled_periods_total=throttling.throttled_periods,
            cgroup_throttled_total_us=throttling.throttled_us,
            disk_read_total_bytes=disk_read,
            disk_write_total_bytes=disk_written,
            net_received_total_bytes=received,
            net_sent_total_bytes=sent,
            shm_free_bytes=self._shm_free(),
        )

    def statuses(self) -> tuple[CollectorStatus, ...]:
        """What could be measured here: machine, pressure, cgroup."""
        return tuple(notes.status() for notes in (self._machine, self._pressure, self._throttling))

    def _busy_per_core(self) -> tuple[float, ...]:
        """Busy share of each core since the last look; nothing where the clock has not moved."""
        before, after = self._cpu_before, psutil.cpu_times(percpu=True)
        self._cpu_before = after
        if len(before) != len(after):  # a core came or went
            return ()
        shares = [_busy_share(was, now) for was, now in zip(before, after, strict=True)]
        self._machine.deliver()
        return tuple(share for share in shares if share is not None)

    def _memory(self) -> tuple[int | None, int | None]:
        host = psutil.virtual_memory()
        limit = self._cgroup.memory()
        if limit is None:
            return host.total, host.available
        return min(host.total, limit[0]), min(host.available, limit[1])

    def _swap(self) -> tuple[int | None, int | None]:
        table = parse_table(read_text(self._proc / "vmstat"))
        if "pswpin" not in table:
            self._machine.lack("swap", "no swap counters: /proc/vmstat cannot be read here")
            return None, None
        return table["pswpin"] * self._page_bytes, table["pswpout"] * self._page_bytes

    def _pressure_of(self, resource: str) -> dict[str, int]:
        totals = parse_pressure(read_text(self._proc / "pressure" / resource))
        if totals:
            self._pressure.deliver()
        else:
            self._pressure.lack(
                "psi", "/proc/pressure cannot be read: it needs Linux 4.20 with PSI (boot psi=1)"
            )
        return totals

    def _note_throttling(self, counted: bool) -> None:
        if counted:
            self._throttling.deliver()
        else:
            self._throttling.lack("cgroup", "no cgroup with a cpu.stat is mounted here")

    def _disk(self) -> tuple[int | None, int | None]:
        totals = _unless_unreadable(psutil.disk_io_counters)
        if totals is None:
            self._machine.lack("disk", "no disk counters: the system shows none here")
            return None, None
        return totals.read_bytes, totals.write_bytes

    def _network(self) -> tuple[int | None, int | None]:
        interfaces = _unless_unreadable(lambda: psutil.net_io_counters(pernic=True))
        totals = [c for name, c in (interfaces or {}).items() if not name.startswith("lo")]
        if not totals:
            self._machine.lack("network", "no network counters: no interface but the loopback")
            return None, None
        return sum(c.bytes_recv for c in totals), sum(c.bytes_sent for c in totals)

    def _shm_free(self) -> int | None:
        try:
            status = os.statvfs(self._shm)
        except OSError:
            self._machine.lack("shm", f"{self._shm} is not there")
            return None
        return status.f_bavail * status.f_frsize


def _unless_unreadable(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (OSError, RuntimeError, NotImplementedError, psutil.Error):
        return None


def _busy_share(before: CpuTimes, after: CpuTimes) -> float | None:
    """Share of one core that was neither idle nor waiting for a disk."""
    spent = {
        name: now - was
        for name, was, now in zip(after._fields, before, after, strict=True)
        if name not in ("guest", "guest_nice")  # user and nice hold them already
    }
    total: float = sum(spent.values())
    if total <= 0:
        return None
    idle: float = spent["idle"] + spent.get("iowait", 0.0)
    return round(min(1.0, max(0.0, 1 - idle / total)), 3)
