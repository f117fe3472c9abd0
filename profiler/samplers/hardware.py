"""What the run has to work with: CPU, cores it may use, memory, GPUs, and where its paths live."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import psutil

from trainprof.profiler.model.records import Hardware
from trainprof.profiler.samplers.cgroup import Cgroup
from trainprof.profiler.samplers.procfs import read_text

SHM = Path("/dev/shm")


def read_hardware(proc: Path = Path("/proc"), system: Path = Path("/sys")) -> Hardware:
    """The machine as this process may use it; what cannot be seen is None.

    Args:
        proc: Where /proc is.
        system: Where /sys is.
    """
    model, flags = parse_cpu_info(read_text(proc / "cpuinfo"))
    cgroup = Cgroup(os.getpid(), proc)
    limit = cgroup.memory()
    installed_bytes = psutil.virtual_memory().total
    return Hardware(
        cpu_model=model,
        cpu_flags=flags,
        logical_cores=psutil.cpu_count(),
        physical_cores=psutil.cpu_count(logical=False),
        affinity_cores=_affinity_cores(),
        cgroup_quota_cores=cgroup.quota_cores(),
        numa_nodes=_numa_nodes(system / "devices" / "system" / "node"),
        memory_total_bytes=min(installed_bytes, limit[0]) if limit else installed_bytes,
        shm_total_bytes=_shm_total_bytes(),
        gpus=_gpus(),
    )


def read_mounts(paths: Iterable[str], mountinfo: Path | None = None) -> dict[str, str]:
    """The file system each path lives on: {"/data/train": "nfs4"}; unknown ones are left out.

    Args:
        paths: Absolute or relative paths; they need not exist.
        mountinfo: The list of mounts, by default this process's own.
    """
    mounts = parse_file_systems(read_text(mountinfo or Path("/proc/self/mountinfo")))
    kinds = {}
    for path in paths:
        real = Path(path).resolve()
        inside = [point for point in mounts if real.is_relative_to(point)]
        if inside:
            kinds[path] = mounts[max(inside, key=lambda point: len(point.parts))]
    return kinds


def parse_cpu_info(text: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Model name and flags of the first processor in /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for line in (text or "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    model = fields.get("model name") or fields.get("Model")
    return model, tuple((fields.get("flags") or fields.get("Features") or "").split())


def parse_file_systems(text: str | None) -> dict[Path, str]:
    """Mount point -> kind of file system of a /proc/PID/mountinfo; a later mount hides others."""
    kinds = {}
    for line in (text or "").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) >= 5 and kind:
            kinds[Path(_unescape(fields[4]))] = kind[0]
    return kinds


def _unescape(path: str) -> str:
    """Blanks, tabs, line ends and backslashes are written as three octal digits."""
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        path = path.replace(f"\\{code}", character)
    return path


def _affinity_cores() -> int | None:
    if not hasattr(os, "sched_getaffinity"):  # macOS has none
        return None
    return len(os.sched_getaffinity(0))


def _numa_nodes(folder: Path) -> int | None:
    return sum(1 for _ in folder.glob("node[0-9]*")) or None


def _shm_total_bytes() -> int | None:
    try:
        status = os.statvfs(SHM)
    except OSError:
        return None
    return status.f_blocks * status.f_frsize


def _gpus() -> tuple[str, ...]:
    from trainprof.profiler.samplers.gpu import GpuSampler

    return GpuSampler().names
