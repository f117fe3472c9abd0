"""How much memory is left, for fixes that trade it for time. Standard library only."""

from __future__ import annotations

from typing import Any

LEAST_SHARE = 0.1
"""Of the memory; what is less could be used up by the next large batch."""

MOST_BYTES_OF_ROWS = 1 << 27
MOST_OF_FREE_FOR_ROWS = 0.125
"""Of the memory that is free."""


def memory_is_short(torch: Any) -> bool:
    """Whether less than a tenth is left, on the host or on the device that is in use."""
    available, total = host_memory()
    if available is not None and total and available < LEAST_SHARE * total:
        return True
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return False
    whole = cuda.get_device_properties(cuda.current_device()).total_memory
    return bool(cuda.max_memory_reserved() > (1 - LEAST_SHARE) * whole)


def host_memory() -> tuple[int | None, int | None]:
    """Bytes available and bytes in all; the container's where it has a limit. None if unknown."""
    values: dict[str, int] = {}
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                name, _, rest = line.partition(":")
                if name in ("MemTotal", "MemAvailable"):
                    values[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return None, None
    available, total = values.get("MemAvailable"), values.get("MemTotal")
    limit, used = _number("memory.max"), _number("memory.current")
    if limit is not None and used is not None and total is not None and limit < total:
        reclaimable = _reclaimable()
        left = limit - used + reclaimable
        return min(left, available) if available is not None else left, limit
    return available, total


def room_for_rows() -> int:
    """Bytes in which one process may keep rows that are asked for again."""
    return min(MOST_BYTES_OF_ROWS, int(MOST_OF_FREE_FOR_ROWS * (host_memory()[0] or 0)))


def _number(name: str) -> int | None:
    """One of the control group's files, as seen inside of a container."""
    try:
        with open(f"/sys/fs/cgroup/{name}", encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _reclaimable() -> int:
    """Pages of files that the group would give back."""
    try:
        with open("/sys/fs/cgroup/memory.stat", encoding="ascii") as file:
            for line in file:
                name, _, rest = line.partition(" ")
                if name == "inactive_file":
                    return int(rest)
    except (OSError, ValueError):
        pass
    return 0
