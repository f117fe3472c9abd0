"""The machine: how many cores there are, who uses them, whether work waits for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from trainprof.profiler.model.records import MachineSample, Sample
from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.steps import thread_states
from trainprof.rules.signals.training import Training

MOST_PRESSURE_SHARE = 0.20
"""Time with some task short of CPU; a box with busy siblings showed 39 %."""

MOST_RUN_QUEUE_SHARE = 0.10
"""Part of the step that the training thread may wait for a CPU."""

MOST_OWN_USE = 0.80
"""Part of the usable cores; a tree of processes that uses more makes its own shortage."""

BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""Names in /proc/cpuinfo, the faster one first."""

DESCRIPTIONS = (
    Description("host.usable_cores", "cores", "min(CPU affinity, cgroup quota)."),
    Description("host.bf16_unit", "text", "The CPU's instructions for bfloat16 products."),
    Description("host.cxx_compiler", "text", "The C++ compiler that torch.compile would call."),
    Description("host.busy_share", "share", "Part of all the machine's cores in use, by anybody."),
    Description("host.own_cores", "cores", "Cores that the processes of this run use."),
    Description("host.other_cores", "cores", "Cores that other programs use."),
    Description(
        "host.idle_cores",
        "cores",
        "Usable cores that nobody uses; other programs are thought to fill unusable ones first.",
    ),
    Description("host.psi_cpu_share", "share", "Time with some task short of CPU (PSI)."),
    Description("host.psi_io_share", "share", "Time with some task waiting for a disk (PSI)."),
    Description("host.psi_memory_share", "share", "Time with some task waiting for memory (PSI)."),
    Description(
        "host.throttled_share", "share", "Periods in which the cgroup's quota was used up."
    ),
    Description(
        "host.throttled_time_share", "share", "Time in which the quota kept the processes waiting."
    ),
    Description("host.quota_cores", "cores", "CPU quota of the container (cgroup)."),
    Description("host.visible_cores", "cores", "Cores that the process may be put on."),
    Description(
        "host.major_faults_per_s",
        "count/s",
        "Pages that the run's processes had to read back from a disk.",
    ),
    Description("host.swap_read_bytes_per_s", "bytes/s", "Memory read back from swap, by anybody."),
    Description("host.memory_available_bytes", "bytes", "Free memory, as last seen."),
    Description("host.shm_free_bytes", "bytes", "Free space of /dev/shm, as last seen."),
    Description(
        "host.shm_free_first_bytes",
        "bytes",
        "The same at the first look, before there were batches.",
    ),
    Description("host.own_rss_bytes", "bytes", "The most memory that the run's processes held."),
    Description("host.process_cpu_per_step_s", "s", "CPU time of the run's processes per step."),
    Description(
        "host.contended",
        "bool",
        "Work waits for a CPU, and it is not this run that fills the cores.",
    ),
)

_TOO_SHORT = "the machine was sampled fewer than twice in the steady steps"


def measure(training: Training) -> dict[str, Signal]:
    """Signals host.*."""
    sheet = Sheet(DESCRIPTIONS)
    usable = training.run.info.hardware.usable_cores
    sheet.put("host.usable_cores", usable, reason="the run does not say on how many cores it ran")
    unit = next((flag for flag in BF16_FLAGS if flag in training.run.info.hardware.cpu_flags), None)
    sheet.put("host.bf16_unit", unit, reason="this CPU has none that is known")
    hardware = training.run.info.hardware
    compiler = hardware.cxx_compiler
    reason = "it was not looked for" if compiler is None else "there is none"
    sheet.put("host.cxx_compiler", compiler or None, reason=reason)
    sheet.put("host.quota_cores", hardware.cgroup_quota_cores, reason="no CPU quota is set")
    sheet.put("host.visible_cores", hardware.affinity_cores, reason="this system does not tell")
    samples = _samples(training)
    if not training.run.samples:
        return sheet.finish("the machine was not sampled")
    _memory(training, samples or training.run.samples, sheet)
    if len(samples) < 2:
        return sheet.finish(_TOO_SHORT)
    _pressure(samples, sheet)
    busy = _mean(samples, lambda machine: machine.cpu_busy_share)
    sheet.put("host.busy_share", busy, reason="this system does not tell")
    own = own_cores(samples)
    sheet.put("host.own_cores", own, samples=len(samples))
    steps_s = training.wall_s / len(training.window)
    sheet.put("host.process_cpu_per_step_s", own * steps_s, samples=len(samples))
    _cores(training, samples, sheet, busy, own)
    _contention(training, sheet)
    return sheet.finish("this system does not tell")


def _samples(training: Training) -> list[Sample]:
    """The samples inside the window."""
    if not training.has_window:
        return []
    start, end = training.span_ns
    return [sample for sample in training.run.samples if start <= sample.at_ns <= end]


def _mean(samples: Sequence[Sample], read: Callable[[MachineSample], float | None]) -> float | None:
    values = [value for one in samples if (value := read(one.machine)) is not None]
    return sum(values) / len(values) if values else None


def _growth(samples: Sequence[Sample], counter: str) -> tuple[int, int] | None:
    """How much a counter grew, and over how many nanoseconds; None where it was not kept."""
    seen = [
        (value, sample.at_ns)
        for sample in samples
        if (value := getattr(sample.machine, counter)) is not None
    ]
    if len(seen) < 2 or seen[-1][1] == seen[0][1]:
        return None
    return seen[-1][0] - seen[0][0], seen[-1][1] - seen[0][1]


def _memory(training: Training, samples: Sequence[Sample], sheet: Sheet) -> None:
    sheet.put(
        "host.shm_free_first_bytes",
        training.run.samples[0].machine.shm_free_bytes,
        reason="this system does not tell",
    )
    for name, attribute in (
        ("host.memory_available_bytes", "memory_available_bytes"),
        ("host.shm_free_bytes", "shm_free_bytes"),
    ):
        values = [getattr(sample.machine, attribute) for sample in samples]
        known = [value for value in values if value is not None]
        sheet.put(name, known[-1] if known else None, reason="this system does not tell")
    # Shared pages count once only where the proportional share was read (one look in ten).
    held = [
        sum(process.pss_bytes or 0 for process in sample.processes)
        for sample in samples
        if sample.processes and all(process.pss_bytes is not None for process in sample.processes)
    ] or [
        max(process.rss_bytes for process in sample.processes)
        for sample in samples
        if sample.processes
    ]
    sheet.put("host.own_rss_bytes", max(held, default=None), reason="no process was sampled")


def _pressure(samples: Sequence[Sample], sheet: Sheet) -> None:
    for resource in ("cpu", "io", "memory"):
        grown = _growth(samples, f"psi_{resource}_some_total_us")
        share = None if grown is None else grown[0] * 1e3 / grown[1]
        reason = "this kernel keeps no pressure statistics"
        sheet.put(f"host.psi_{resource}_share", share, reason=reason, samples=len(samples))
    periods = _growth(samples, "cgroup_periods_total")
    throttled = _growth(samples, "cgroup_throttled_periods_total")
    share = throttled[0] / periods[0] if periods and throttled and periods[0] else None
    sheet.put("host.throttled_share", share, reason="no CPU quota is set")
    throttled_us = _growth(samples, "cgroup_throttled_total_us")
    waited = None if throttled_us is None else min(throttled_us[0] * 1e3 / throttled_us[1], 1.0)
    sheet.put("host.throttled_time_share", waited, reason="no CPU quota is set")
    faults = _major_faults(samples)
    sheet.put("host.major_faults_per_s", faults, reason="this system does not tell")
    swapped = _growth(samples, "swap_in_total_bytes")
    rate = None if swapped is None else swapped[0] / (swapped[1] / 1e9)
    sheet.put("host.swap_read_bytes_per_s", rate, reason="this system does not tell")


def _major_faults(samples: Sequence[Sample]) -> float | None:
    """A second, of the processes seen in both of two looks."""
    faults, seen = 0, False
    for before, after in pairwise(samples):
        known = {process.pid: process.major_faults_total for process in before.processes}
        for process in after.processes:
            earlier, now = known.get(process.pid), process.major_faults_total
            if earlier is not None and now is not None:
                faults, seen = faults + max(now - earlier, 0), True
    seconds = (samples[-1].at_ns - samples[0].at_ns) / 1e9
    return faults / seconds if seen and seconds else None


def _with_ended_children_s(sample: Sample) -> float:
    """CPU seconds of all processes since their start, and of the children they have waited for."""
    return sum(
        process.cpu_total_s + (process.children_cpu_total_s or 0.0) for process in sample.processes
    )


def own_cores(samples: Sequence[Sample]) -> float:
    """CPU seconds a second of the run's processes; one that is new counts from its start.

    What a process used that came and went between two looks (a loader's worker of a short epoch) is
    in the times that its parent keeps of the children it has waited for.
    """
    used_s = 0.0
    for before, after in pairwise(samples):
        known = {process.pid: process.cpu_total_s for process in before.processes}
        seen_s = sum(
            max(process.cpu_total_s - known.get(process.pid, 0.0), 0.0)
            for process in after.processes
        )
        used_s += max(seen_s, _with_ended_children_s(after) - _with_ended_children_s(before))
    return used_s / ((samples[-1].at_ns - samples[0].at_ns) / 1e9)


def _cores(
    training: Training, samples: Sequence[Sample], sheet: Sheet, busy: float | None, own: float
) -> None:
    hardware = training.run.info.hardware
    counted = len(samples[-1].machine.cpu_busy_per_core)
    logical = counted or hardware.logical_cores
    if busy is None or not logical:
        return
    others = max(busy * logical - own, 0.0)
    sheet.put("host.other_cores", others, samples=len(samples))
    usable = hardware.usable_cores
    if usable is not None:
        pressed = max(others - max(logical - usable, 0.0), 0.0)
        sheet.put("host.idle_cores", max(usable - own - pressed, 0.0), samples=len(samples))


def _contention(training: Training, sheet: Sheet) -> None:
    own, usable = sheet.value("host.own_cores"), training.run.info.hardware.usable_cores
    pressure = sheet.value("host.psi_cpu_share")
    states = thread_states(training)
    waiting = states["run_queue"].mean if "run_queue" in states else None
    if not isinstance(own, float) or usable is None:
        return
    if pressure is None and waiting is None:
        sheet.miss("host.contended", "neither pressure nor scheduler statistics can be read here")
        return
    short = isinstance(pressure, float) and pressure > MOST_PRESSURE_SHARE
    short = short or (waiting is not None and waiting > MOST_RUN_QUEUE_SHARE)
    sheet.put("host.contended", short and own < MOST_OWN_USE * usable)
