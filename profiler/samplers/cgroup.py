"""The control group of a process, version 1 or 2: its CPU quota, throttling and memory limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trainprof.profiler.samplers.procfs import parse_integer, parse_table, read_text


@dataclass(frozen=True, slots=True)
class Throttling:
    """Cumulative counters of the CPU bandwidth controller (cpu.stat)."""

    periods: int | None = None
    throttled_periods: int | None = None
    throttled_us: int | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted cgroup hierarchy: which of its groups is seen at which folder."""

    version: int
    controllers: frozenset[str]
    root: PurePosixPath
    folder: Path


def parse_mounts(mountinfo: str | None) -> list[Mount]:
    """The cgroup mounts of a /proc/PID/mountinfo."""
    mounts = []
    for line in (mountinfo or "").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or not kind or kind[0] not in ("cgroup", "cgroup2"):
            continue
        options = kind[2].split(",") if len(kind) > 2 else []
        version = 2 if kind[0] == "cgroup2" else 1
        root = PurePosixPath(fields[3])
        mounts.append(Mount(version, frozenset(options), root, Path(fields[4])))
    return mounts


def parse_groups(text: str | None) -> dict[str, PurePosixPath]:
    """Controller -> group of a /proc/PID/cgroup; "" is the one group of version 2."""
    groups = {}
    for line in (text or "").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                groups[controller] = PurePosixPath(parts[2])
    return groups


class Cgroup:
    """The control group of one process, and those it lies in: a limit of any of them holds.

    Args:
        pid: The process; groups are looked up once.
        proc: Where /proc is.
        mount_prefix: Put before the mount points (a tree of a test).
    """

    def __init__(self, pid: int, proc: Path = Path("/proc"), mount_prefix: str = "") -> None:
        groups = parse_groups(read_text(proc / str(pid) / "cgroup"))
        mounts = parse_mounts(read_text(proc / str(pid) / "mountinfo"))
        self._prefix = mount_prefix
        self._cpu_version, self._cpu_folders = self._find("cpu", groups, mounts)
        self._memory_version, self._memory_folders = self._find("memory", groups, mounts)

    @property
    def exists(self) -> bool:
        """Whether the process is in a control group with a CPU controller that can be read."""
        return any((folder / "cpu.stat").exists() for folder in self._cpu_folders)

    def quota_cores(self) -> float | None:
        """The smallest CPU quota that holds for the process, in cores; None without one."""
        quotas = [self._quota_at(folder) for folder in self._cpu_folders]
        return min((quota for quota in quotas if quota is not None), default=None)

    def throttling(self) -> Throttling:
        """Counters of the group whose quota is the smallest, else of the process's own group."""
        if not self._cpu_folders:
            return Throttling()
        quotas = [(self._quota_at(folder), folder) for folder in self._cpu_folders]
        limited = [(quota, str(folder)) for quota, folder in quotas if quota is not None]
        folder = Path(min(limited)[1]) if limited else self._cpu_folders[0]
        table = parse_table(read_text(folder / "cpu.stat"))
        throttled_us = table.get("throttled_usec")
        if throttled_us is None and "throttled_time" in table:
            throttled_us = table["throttled_time"] // 1000  # version 1 counts nanoseconds
        return Throttling(table.get("nr_periods"), table.get("nr_throttled"), throttled_us)

    def memory(self) -> tuple[int, int] | None:
        """(limit, bytes left) of the tightest memory limit; None without one.

        Page cache that the kernel would give back first (inactive files) counts as left.
        """
        found = [self._memory_at(folder) for folder in self._memory_folders]
        return min((pair for pair in found if pair is not None), key=lambda p: p[1], default=None)

    def _find(
        self, controller: str, groups: dict[str, PurePosixPath], mounts: list[Mount]
    ) -> tuple[int, list[Path]]:
        for mount in mounts:
            if mount.version == 1 and controller in mount.controllers and controller in groups:
                return 1, list(self._upwards(mount, groups[controller]))
        for mount in mounts:
            if mount.version == 2 and "" in groups:
                return 2, list(self._upwards(mount, groups[""]))
        return 0, []

    def _upwards(self, mount: Mount, group: PurePosixPath) -> Iterator[Path]:
        """The group's folder and those above it, as far as they are mounted here."""
        top = Path(self._prefix + str(mount.folder))
        below = group.relative_to(mount.root) if group.is_relative_to(mount.root) else None
        if below is not None and ".." not in below.parts:
            yield from (
                top / part for part in (below, *below.parents) if part != PurePosixPath(".")
            )
        yield top

    def _quota_at(self, folder: Path) -> float | None:
        if self._cpu_version == 2:
            words = (read_text(folder / "cpu.max") or "").split()
            quota = parse_integer(words[0]) if words else None
            period = parse_integer(words[1]) if len(words) > 1 else 100_000
        else:
            quota = parse_integer(read_text(folder / "cpu.cfs_quota_us"))
            period = parse_integer(read_text(folder / "cpu.cfs_period_us"))
        if quota is None or quota <= 0 or not period:
            return None
        return quota / period

    def _memory_at(self, folder: Path) -> tuple[int, int] | None:
        names = ("memory.max", "memory.current", "inactive_file")
        if self._memory_version == 1:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        limit = parse_integer(read_text(folder / names[0]))
        used = parse_integer(read_text(folder / names[1]))
        if limit is None or used is None or limit >= 1 << 60:  # version 1 writes "no limit" so
            return None
        cache = parse_table(read_text(folder / "memory.stat")).get(names[2], 0)
        return limit, max(0, limit - max(0, used - cache))
