"""What each collector can and cannot see on this machine, and the remedy: `trainprof doctor`.

Every check takes one real look, with the samplers that a run uses. Nothing here raises, and nothing
is changed.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.records import Hardware
from trainprof.profiler.samplers.cgroup import Cgroup
from trainprof.profiler.samplers.gpu import GpuSampler
from trainprof.profiler.samplers.hardware import read_hardware
from trainprof.profiler.samplers.host import HostSampler
from trainprof.profiler.samplers.procfs import (
    parse_pressure,
    parse_run_delay,
    parse_table,
    read_text,
)
from trainprof.profiler.samplers.ptrace import read_permission
from trainprof.profiler.samplers.stacks import find_py_spy

PROC = Path("/proc")

SHM_ENOUGH_BYTES = 1 << 30
"""DataLoader workers hand batches over in shared memory; Docker's default of 64 MiB is too small
(https://docs.pytorch.org/docs/stable/multiprocessing.html), and 1 GiB holds most prefetching."""

GPU_WAIT_S = 10.0
"""A driver that nobody keeps loaded needs seconds for its first answer; a lost one may hang."""

MEASURED = {
    "processes": "CPU, memory, IO and faults of a run's processes can be measured.",
    "machine": "CPU, memory, swap, disks and network of the machine can be measured.",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a run needs or can use.

    Attributes:
        name: Short name.
        status: ok | partial | missing.
        seen: One sentence: what is there, or what is lost without it.
        remedy: One sentence: what to do. None where nothing need be done.
    """

    name: str
    status: str
    seen: str
    remedy: str | None = None


def check_machine(proc: Path = PROC) -> Iterator[Check]:
    """All checks of the machine, in the order of the report.

    Args:
        proc: Where /proc is.
    """
    hardware = read_hardware(proc)
    yield check_cores(hardware)
    yield from check_collectors(proc)
    yield check_pressure(proc)
    yield check_quota(proc)
    yield check_run_queue(proc)
    yield check_proportional_memory(proc)
    yield check_shared_memory(hardware.shm_total_bytes)
    yield check_gpus()
    yield check_tracing(proc)


def check_cores(hardware: Hardware) -> Check:
    """How many cores a run may use, and of what kind."""
    usable, logical = hardware.usable_cores, hardware.logical_cores
    if usable is None:
        seen = f"{logical or 'an unknown number of'} cores; which of them may be used is not shown"
        return Check("cores", "partial", f"{seen} by this system.")
    of = "" if logical is None else f" of {logical}"
    model = hardware.cpu_model or "a processor of unknown name"
    return Check("cores", "ok", f"{usable:g}{of} cores usable: {model}.")


def check_collectors(proc: Path = PROC) -> Iterator[Check]:
    """A look at this very process and at the machine, by the samplers of a run."""
    sampler = HostSampler(os.getpid(), proc)
    sampler.sample()
    remedies = {
        "processes": "Run trainprof as the user of the training, where /proc shows its processes.",
        "machine": "Mount /proc in the container; the figures named are missing in reports.",
    }
    for status in sampler.statuses():
        if status.name in remedies:
            yield _of_status(status, MEASURED[status.name], remedies[status.name])


def check_pressure(proc: Path = PROC) -> Check:
    """Pressure stall information: whether other programs take the machine's time."""
    if parse_pressure(read_text(proc / "pressure" / "cpu")):
        return Check("pressure", "ok", "The kernel counts stalls for CPU, memory and disks (PSI).")
    return Check(
        "pressure",
        "missing",
        "No pressure statistics (PSI): contention is judged from run-queue times alone.",
        "Boot a kernel of 4.20 or newer with `psi=1`, and mount /proc in the container."
        if _is_linux()
        else "Only Linux has them.",
    )


def check_quota(proc: Path = PROC) -> Check:
    """The cgroup's CPU quota, and whether its throttling is counted."""
    cgroup = Cgroup(os.getpid(), proc)
    quota = cgroup.quota_cores()
    if not cgroup.exists:
        return Check(
            "cpu quota",
            "missing",
            "No control group can be read: a CPU quota would go unseen.",
            "Mount /sys/fs/cgroup in the container." if _is_linux() else "Only Linux has them.",
        )
    if quota is None:
        return Check("cpu quota", "ok", "No CPU quota holds here.")
    return Check("cpu quota", "ok", f"A quota of {quota:g} cores; its throttling is counted.")


def check_run_queue(proc: Path = PROC) -> Check:
    """Scheduler statistics: how long a thread waited for a CPU."""
    if parse_run_delay(read_text(proc / "self" / "schedstat")) is not None:
        return Check("run queue", "ok", "The kernel counts how long threads wait for a CPU.")
    return Check(
        "run queue",
        "missing",
        "No schedstat: waiting for a CPU cannot be told from being blocked.",
        "Use a kernel with CONFIG_SCHED_INFO (sandboxes such as gVisor have none)."
        if _is_linux()
        else "Only Linux has it.",
    )


def check_proportional_memory(proc: Path = PROC) -> Check:
    """PSS: memory with shared pages counted once over all processes."""
    if "Pss" in parse_table(read_text(proc / "self" / "smaps_rollup")):
        return Check("shared pages", "ok", "Pages that workers share are counted once (PSS).")
    return Check(
        "shared pages",
        "missing",
        "No PSS: memory that workers share is counted once per process.",
        "Use Linux 4.14 or newer." if _is_linux() else "Only Linux has it.",
    )


def check_shared_memory(total_bytes: int | None) -> Check:
    """The size of /dev/shm, through which DataLoader workers hand over their batches."""
    if total_bytes is None and not _is_linux():
        return Check("/dev/shm", "ok", "This system needs no /dev/shm.")
    if total_bytes is None:
        return Check(
            "/dev/shm",
            "missing",
            "There is no /dev/shm: DataLoader workers cannot hand over batches.",
            "Mount a tmpfs there.",
        )
    size = f"{total_bytes / 2**30:.3g} GiB"
    if total_bytes >= SHM_ENOUGH_BYTES:
        return Check("/dev/shm", "ok", f"{size} of shared memory for DataLoader workers.")
    return Check(
        "/dev/shm",
        "partial",
        f"Only {size} of shared memory: DataLoader workers may die of a bus error.",
        "Start the container with `--shm-size=8g` or `--ipc=host`.",
    )


def check_gpus(wait_s: float = GPU_WAIT_S) -> Check:
    """NVIDIA's driver, through NVML.

    Args:
        wait_s: How long the driver may take to answer.
    """
    found: list[Check] = []
    asking = threading.Thread(target=lambda: found.append(_look_at_gpus()), daemon=True)
    asking.start()
    asking.join(wait_s)
    if found:
        return found[0]
    return Check(
        "gpu",
        "missing",
        f"The NVIDIA driver has not answered within {wait_s:g} s.",
        "Try `nvidia-smi`: where that hangs too, the GPU needs a reset or the machine a reboot.",
    )


def _look_at_gpus() -> Check:
    sampler = GpuSampler()
    samples = sampler.sample()
    (status,) = sampler.statuses()
    names = ", ".join(sorted({sample.name or "of unknown name" for sample in samples}))
    count = "1 GPU" if len(samples) == 1 else f"{len(samples)} GPUs"
    return _of_status(
        status,
        f"{count} seen through NVML: {names}.",
        "With an NVIDIA GPU, install its driver, and start containers with `--gpus all`; without "
        "one nothing is lost.",
    )


def check_tracing(proc: Path = PROC, program: str | None = None) -> Check:
    """How the stacks of a run will be sampled: by py-spy from outside, or by the agent.

    Args:
        proc: Where /proc is.
        program: Path of py-spy; None looks for it.
    """
    permission = read_permission(proc)
    inside = "`trainprof run` samples the training thread from inside instead, its workers not."
    if not permission.own_children:
        seen = f"{_sentence(permission.reason or 'Not permitted')} {inside}"
        return Check("stacks", "partial", seen, permission.remedy)
    if (program or find_py_spy()) is None:
        seen = f"There is no py-spy to sample stacks with. {inside}"
        return Check("stacks", "partial", seen, "pip install py-spy, beside trainprof.")
    if permission.any_process:
        return Check("stacks", "ok", "Stacks of your own programs may be sampled (py-spy).")
    return Check(
        "stacks",
        "partial",
        "Only a program's own children may be traced (ptrace_scope 1): a training started by "
        "`trainprof run` is sampled by py-spy, one that already runs cannot be.",
        permission.remedy,
    )


def _of_status(status: CollectorStatus, seen: str, remedy: str) -> Check:
    """A collector's own words; where it delivered all, `seen`."""
    word = "missing" if status.status == "failed" else status.status
    if word == "ok":
        return Check(status.name, "ok", seen)
    return Check(status.name, word, _sentence(status.reason or "It gave no reason"), remedy)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _is_linux() -> bool:
    return sys.platform == "linux"
