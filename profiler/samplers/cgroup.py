"""The control group of a process, version 1 or 2: its CPU quota, throttling and memory limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trainprof.profiler.samplers.procfs import parse_integer, parse_table, read_text

NO_LIMIT_BYTES = 1 << 60
"""Version 1 writes a number of about 2**63 where there is no limit."""

DEFAULT_PERIOD_US = 100_000


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

    Which groups and limits there are is read once; counters and use at each call.

    Args:
        pid: The process.
        proc: Where /proc is.
        mount_prefix: Put before the mount points (a tree made by a test).
    """

    def __init__(self, pid: int, proc: Path = Path("/proc"), mount_prefix: str = "") -> None:
        groups = parse_groups(read_text(proc / str(pid) / "cgroup"))
        mounts = parse_mounts(read_text(proc / str(pid) / "mountinfo"))
        places = _Places(groups, mounts, mount_prefix)
        version, folders = places.of("cpu")
        quotas = [(quota, folder) for folder in folders if (quota := _quota(version, folder))]
        self._quota_cores = min(quotas)[0] if quotas else None
        cpu_folder = min(quotas)[1] if quotas else next(iter(folders), None)
        self._cpu_stat = None if cpu_folder is None else cpu_folder / "cpu.stat"
        version, folders = places.of("memory")
        limits = [_MemoryLimit.read(version, folder) for folder in folders]
        self._memory_limits = [limit for limit in limits if limit is not None]

    @property
    def exists(self) -> bool:
        """Whether a group with CPU statistics is seen here."""
        return self._cpu_stat is not None and self._cpu_stat.exists()

    def quota_cores(self) -> float | None:
        """The smallest CPU quota that holds for the process, in cores; None without one."""
        return self._quota_cores

    def throttling(self) -> Throttling:
        """Counters of the group whose quota is the smallest, else of the process's own group."""
        table = parse_table(read_text(self._cpu_stat)) if self._cpu_stat else {}
        throttled_us = table.get("throttled_usec")
        if throttled_us is None and "throttled_time" in table:
            throttled_us = table["throttled_time"] // 1000  # version 1 counts nanoseconds
        return Throttling(table.get("nr_periods"), table.get("nr_throttled"), throttled_us)

    def memory(self) -> tuple[int, int] | None:
        """(limit, bytes left) where least is left; None without a limit."""
        found = ((limit.limit_bytes, limit.left_bytes()) for limit in self._memory_limits)
        known = [(limit, left) for limit, left in found if left is not None]
        return min(known, key=lambda pair: pair[1], default=None)


class _Places:
    """The folders of a process's groups, innermost first."""

    def __init__(
        self, groups: dict[str, PurePosixPath], mounts: list[Mount], mount_prefix: str
    ) -> None:
        self._groups = groups
        self._mounts = mounts
        self._prefix = mount_prefix

    def of(self, controller: str) -> tuple[int, list[Path]]:
        """(version, folders) of the hierarchy that has the controller; (0, []) if none is seen.

        On systems with both versions mounted a controller is in only one of them.
        """
        for mount in self._mounts:
            if (
                mount.version == 1
                and controller in mount.controllers
                and controller in self._groups
            ):
                return 1, list(self._upwards(mount, self._groups[controller]))
        for mount in self._mounts:
            if mount.version == 2 and "" in self._groups:
                return 2, list(self._upwards(mount, self._groups[""]))
        return 0, []

    def _upwards(self, mount: Mount, group: PurePosixPath) -> Iterator[Path]:
        """The group's folder and those above it; only the top where the group lies elsewhere."""
        top = Path(self._prefix + str(mount.folder))
        if group.is_relative_to(mount.root):
            below = group.relative_to(mount.root)
            yield from (top / part for part in (below, *below.parents) if part.parts)
        yield top


@dataclass(frozen=True, slots=True)
class _MemoryLimit:
    """A memory limit of one group, and the files that tell how much of it is used."""

    limit_bytes: int
    used: Path
    statistics: Path
    cache_name: str

    @classmethod
    def read(cls, version: int, folder: Path) -> _MemoryLimit | None:
        names = ("memory.max", "memory.current", "inactive_file")
        if version == 1:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        limit = parse_integer(read_text(folder / names[0]))
        if limit is None or limit >= NO_LIMIT_BYTES:
            return None
        return cls(limit, folder / names[1], folder / "memory.stat", names[2])

    def left_bytes(self) -> int | None:
        """What is left; page cache that the kernel gives back first counts as left."""
        used = parse_integer(read_text(self.used))
        if used is None:
            return None
        table = parse_table(read_text(self.statistics), (self.cache_name,))
        return max(0, self.limit_bytes - max(0, used - table.get(self.cache_name, 0)))


def _quota(version: int, folder: Path) -> float | None:
    """The CPU quota of one group, in cores."""
    if version == 2:
        words = (read_text(folder / "cpu.max") or "").split()
        quota = parse_integer(words[0]) if words else None
        period = parse_integer(words[1]) if len(words) > 1 else DEFAULT_PERIOD_US
    else:
        quota = parse_integer(read_text(folder / "cpu.cfs_quota_us"))
        period = parse_integer(read_text(folder / "cpu.cfs_period_us"))
    if quota is None or quota <= 0 or not period or period < 0:
        return None
    return quota / period
