"""What the run has to work with: CPU, cores it may use, memory, GPUs, and where its paths live."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import psutil

from trainprof.profiler.model.records import Hardware
from trainprof.profiler.samplers.cgroup import Cgroup
from trainprof.profiler.samplers.procfs import read_text

SHM = Path("/dev/shm")

GPU_WAIT_S = 2.0
"""The first call to a driver that nobody keeps loaded takes a second or more."""


def read_hardware(proc: Path = Path("/proc"), system: Path = Path("/sys")) -> Hardware:
    """The machine as this process may use it; what cannot be seen is None.

    Args:
        proc: Where /proc is.
        system: Where /sys is.
    """
    model, flags = parse_cpu_info(read_text(proc / "cpuinfo"))
    cgroup = Cgroup(os.getpid(), proc)
    limit = cgroup.memory()
    installed_bytes = _installed_bytes()
    return Hardware(
        cpu_model=model,
        cpu_flags=flags,
        logical_cores=psutil.cpu_count(),
        physical_cores=psutil.cpu_count(logical=False),
        affinity_cores=_affinity_cores(),
        cgroup_quota_cores=cgroup.quota_cores(),
        numa_nodes=_numa_nodes(system / "devices" / "system" / "node"),
        memory_total_bytes=min(
            (size for size in (installed_bytes, limit and limit[0]) if size), default=None
        ),
        shm_total_bytes=_shm_total_bytes(),
        gpus=_gpu_names(),
        cxx_compiler=_cxx_compiler(),
    )


def read_mounts(paths: Iterable[str]) -> dict[str, str]:
    """The kind of file system each path lives on: {"/data/train": "nfs4"}.

    Args:
        paths: Absolute or relative; they need not exist. What cannot be told is left out.
    """
    try:
        partitions = psutil.disk_partitions(all=True)
    except (OSError, RuntimeError, psutil.Error):
        return {}
    points = {
        Path(one.mountpoint): one.device.partition("trainprof:")[2] or one.fstype  # in a trial
        for one in partitions
    }
    kinds = {}
    for path in paths:
        try:
            real = Path(path).resolve()
        except (OSError, RuntimeError):  # links in a circle
            continue
        above = [folder for folder in (real, *real.parents) if folder in points]
        if above:
            kinds[path] = points[above[0]]
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


def _affinity_cores() -> int | None:
    if not hasattr(os, "sched_getaffinity"):  # macOS has none
        return None
    return len(os.sched_getaffinity(0))


def _cxx_compiler() -> str:
    """As inductor chooses it: $CXX, else the system's own; "" where it is not there."""
    default = "clang++" if sys.platform == "darwin" else "g++"
    return shutil.which(os.environ.get("CXX") or default) or ""


def _installed_bytes() -> int | None:
    try:
        return psutil.virtual_memory().total
    except (OSError, RuntimeError, ValueError):
        return None


def _numa_nodes(folder: Path) -> int | None:
    return sum(1 for _ in folder.glob("node[0-9]*")) or None


def _shm_total_bytes() -> int | None:
    try:
        status = os.statvfs(SHM)
    except OSError:
        return None
    return status.f_blocks * status.f_frsize


def _gpu_names() -> tuple[str, ...]:
    """Names by NVML, unless it does not answer in time: a lost driver may hang for ever."""
    from trainprof.profiler.samplers.gpu import GpuSampler

    names: list[str] = []
    asking = threading.Thread(target=lambda: names.extend(GpuSampler().names), daemon=True)
    asking.start()
    asking.join(GPU_WAIT_S)
    return tuple(names)
