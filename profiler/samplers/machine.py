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

from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.records import MachineSample
from trainprof.profiler.samplers.cgroup import Cgroup
from trainprof.profiler.samplers.notes import CollectorNotes
from trainprof.profiler.samplers.procfs import parse_pressure, parse_table, read_text

T = TypeVar("T")
CpuTimes = Any  # a named tuple; which fields it has depends on the system

SHM = Path("/dev/shm")

CPU_SPAN_MIN_S = 0.1
"""The kernel counts CPU time in ticks of 10 ms: over a shorter span a share means nothing."""

VIRTUAL_DISKS = ("loop", "ram", "zram")
"""Backed by files or memory: what they move is counted elsewhere, or moves nowhere."""


class MachineSampler:
    """Samples the machine as the process `pid` meets it: inside its cgroup's limits.

    Args:
        pid: The process whose cgroup counts.
        proc: Where /proc is.
        system: Where /sys is.
        shm: Where shared memory is mounted.
    """

    def __init__(
        self,
        pid: int,
        proc: Path = Path("/proc"),
        system: Path = Path("/sys"),
        shm: Path = SHM,
    ) -> None:
        self._proc = proc
        self._blocks = system / "block"
        self._shm = shm
        self._cgroup = Cgroup(pid, proc)
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._is_disk: dict[str, bool] = {}
        self._machine = CollectorNotes("machine")
        self._pressure = CollectorNotes("pressure")
        self._throttling = CollectorNotes("cgroup")
        self._cpu_before = _read_or_none(_cpu_times)

    def sample(self) -> MachineSample:
        """One look."""
        busy = self._busy_per_core()
        memory_total, memory_available = self._memory()
        swap_in, swap_out = self._swap()
        cpu, io, memory = (self._pressure_of(name) for name in ("cpu", "io", "memory"))
        throttling = self._cgroup.throttling()
        self._note_throttling(throttling.periods is not None)
        disk_read, disk_written = self._disk()
        received, sent = self._network()
        return MachineSample(
            cpu_busy_share=round(sum(busy) / len(busy), 4) if busy else None,
            cpu_busy_per_core=busy,
            memory_total_bytes=memory_total,
            memory_available_bytes=memory_available,
            swap_in_total_bytes=swap_in,
            swap_out_total_bytes=swap_out,
            psi_cpu_some_total_us=cpu.get("some"),
            psi_io_some_total_us=io.get("some"),
            psi_io_full_total_us=io.get("full"),
            psi_memory_some_total_us=memory.get("some"),
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
        """Busy share of each core since the last look; nothing where too little time has passed."""
        before, after = self._cpu_before, _read_or_none(_cpu_times)
        if after is None:
            self._machine.lack("cpu", "no CPU times: /proc/stat cannot be read here")
            return ()
        if before is None or len(before) != len(after):  # a core came or went
            self._cpu_before = after
            return ()
        shares = [busy_share(was, now) for was, now in zip(before, after, strict=True)]
        known = tuple(share for share in shares if share is not None)
        if len(known) < len(shares):
            return ()
        self._cpu_before = after
        self._machine.deliver()
        return known

    def _memory(self) -> tuple[int | None, int | None]:
        host = _read_or_none(psutil.virtual_memory)
        if host is None:
            self._machine.lack("memory", "no memory figures: /proc/meminfo cannot be read here")
            return None, None
        self._machine.deliver()
        limit = self._cgroup.memory()
        if limit is None:
            return host.total, host.available
        return min(host.total, limit[0]), min(host.available, limit[1])

    def _swap(self) -> tuple[int | None, int | None]:
        table = parse_table(read_text(self._proc / "vmstat"), ("pswpin", "pswpout"))
        if "pswpin" not in table or "pswpout" not in table:
            self._machine.lack("swap", "no swap counters: /proc/vmstat cannot be read here")
            return None, None
        return table["pswpin"] * self._page_bytes, table["pswpout"] * self._page_bytes

    def _pressure_of(self, resource: str) -> dict[str, int]:
        totals = parse_pressure(read_text(self._proc / "pressure" / resource))
        if totals:
            self._pressure.deliver()
        else:
            self._pressure.lack(
                "psi",
                "/proc/pressure cannot be read: it needs Linux 4.20 or newer, on some systems "
                "booted with psi=1",
            )
        return totals

    def _note_throttling(self, counted: bool) -> None:
        if counted or self._cgroup.exists:
            self._throttling.deliver()
        else:
            self._throttling.lack("cgroup", "no control group of the command is seen here")
        if not counted:
            self._throttling.remark("quota", "no CPU quota can be set for the command's group")

    def _disk(self) -> tuple[int | None, int | None]:
        """Bytes moved by the disks themselves, not again by partitions and volumes on them."""
        counters = _read_or_none(lambda: psutil.disk_io_counters(perdisk=True)) or {}
        disks = [counter for name, counter in counters.items() if self._counts(name)]
        if not disks:
            self._machine.remark("disk", "the system shows no disks")
            return None, None
        return sum(disk.read_bytes for disk in disks), sum(disk.write_bytes for disk in disks)

    def _counts(self, name: str) -> bool:
        if name not in self._is_disk:
            folder = self._blocks / name.replace("/", "!")
            stacked = any(folder.glob("slaves/*"))
            real = folder.exists() and not stacked and not name.startswith(VIRTUAL_DISKS)
            self._is_disk[name] = real or not self._blocks.exists()
        return self._is_disk[name]

    def _network(self) -> tuple[int | None, int | None]:
        interfaces = _read_or_none(lambda: psutil.net_io_counters(pernic=True)) or {}
        totals = [totals for name, totals in interfaces.items() if name not in ("lo", "lo0")]
        if not totals:
            self._machine.remark("network", "there is no network but the loopback")
            return None, None
        return sum(one.bytes_recv for one in totals), sum(one.bytes_sent for one in totals)

    def _shm_free(self) -> int | None:
        try:
            status = os.statvfs(self._shm)
        except OSError:
            self._machine.lack("shm", f"there is no {self._shm}")
            return None
        return status.f_bavail * status.f_frsize


def busy_share(before: CpuTimes, after: CpuTimes) -> float | None:
    """Share of one core that was neither idle nor waiting for a disk; None over too short a span.

    Args:
        before: psutil's CPU times of the core, in s.
        after: The same, later.
    """
    spent = {
        name: now - was
        for name, was, now in zip(after._fields, before, after, strict=True)
        if name not in ("guest", "guest_nice")  # user and nice hold them already
    }
    total: float = sum(spent.values())
    if total < CPU_SPAN_MIN_S:
        return None
    idle: float = spent["idle"] + spent.get("iowait", 0.0)
    return round(min(1.0, max(0.0, 1 - idle / total)), 3)


def _cpu_times() -> list[CpuTimes]:
    return list(psutil.cpu_times(percpu=True))


def _read_or_none(read: Callable[[], T]) -> T | None:
    """What psutil answers; None where the files it reads are absent or forbidden."""
    try:
        return read()
    except (OSError, RuntimeError, ValueError, psutil.Error):
        return None
