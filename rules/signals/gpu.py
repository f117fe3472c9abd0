"""The GPUs that a training uses, as NVML saw them: clocks, heat, link, memory, errors, others.

What depends on the load is measured over busy looks only: an idle card lowers its clocks and its
link by itself. A utilisation tells how long some kernel ran, not how much of the card it filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trainprof.profiler.model.records import GpuSample
from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.own_gpus import OwnGpus, own_gpus
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

IDLE = 0x1
REASONS = {
    "power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "power_brake": 0x80,
}
"""Bits of NVML's clocks-event-reasons."""
HARDWARE = REASONS["hw_slowdown"] | REASONS["hw_thermal"] | REASONS["power_brake"]
"""Reasons for which the hardware lowers the clocks to half or less."""
LOWERED = HARDWARE | REASONS["sw_thermal"]

LEAST_BUSY = 0.30
"""Utilisation of a busy look; TraceML calls less a low one."""

LEAST_LOOKS = 5
"""Fewer busy looks prove nothing of a card."""

LEAST_STEPS = 10
"""On either side, to compare steps at lowered clocks with others."""

LONGEST_STEP = 3.0
"""Times the median: a longer step held a validation, or the start of an epoch."""

LANE_BYTES_PER_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
"""What a lane of PCI Express moves in each direction, by generation, line code taken off."""

UNTOLD = "the driver does not tell"

Look = tuple[int, GpuSample]
"""When, and what was seen."""

_REASON_TEXTS = {
    "power_cap": "the power limit (0x4), which is usual for large products",
    "hw_slowdown": "the hardware: heat, power or an external signal (0x8)",
    "sw_thermal": "the driver, against heat (0x20)",
    "hw_thermal": "the hardware, against heat (0x40)",
    "power_brake": "an external power brake (0x80)",
}

DESCRIPTIONS = (
    Description("gpu.devices", "text", "GPUs that this training uses, by NVML's numbers."),
    Description("gpu.count", "count", "How many these are."),
    Description("gpu.known_by", "text", "How they were told from other GPUs of the machine."),
    Description("gpu.name", "text", "Model of the first of them."),
    Description("gpu.mig", "bool", "One of them is split into instances (MIG)."),
    Description("gpu.looks", "count", "Looks at them in the steady steps."),
    Description("gpu.busy_looks", "count", "Looks at which they were busy."),
    Description("gpu.utilization_share", "share", "Time in which some kernel ran, on average."),
    Description("gpu.utilization_sum", "number", "The same, summed over these GPUs."),
    Description("gpu.memory_share", "share", "The most memory in use on the fullest, by anybody."),
    Description("gpu.power_share", "share", "Power as a part of its limit, while busy."),
    Description("gpu.slowest", "text", "The one with the lowest clocks while busy: gpu.clock_*."),
    Description("gpu.clock_share", "share", "Its clock as a part of its highest, while busy."),
    Description("gpu.clock_lowered_share", "share", "The same while heat or hardware lowered it."),
    Description("gpu.clock_full_share", "share", "The same while neither did, at any time."),
    Description("gpu.hardware_share", "share", "Busy looks with clocks lowered by the hardware."),
    *(
        Description(f"gpu.{name}_share", "share", f"Busy looks with clocks lowered by {text}.")
        for name, text in _REASON_TEXTS.items()
    ),
    Description("gpu.thermal_time_share", "share", "Time with clocks lowered against heat."),
    Description("gpu.power_time_share", "share", "Time with clocks lowered for want of power."),
    Description("gpu.slow_step_ratio", "ratio", "Mean steady step over steps at full clocks."),
    Description("gpu.temperature_max_c", "°C", "The highest temperature of any, while busy."),
    Description("gpu.temperature_slowdown_c", "°C", "At which the slowest lowers its clocks."),
    Description("gpu.pcie_device", "text", "The one with the slowest link: gpu.pcie_*."),
    Description("gpu.pcie_width", "lanes", "The most lanes of its link while busy."),
    Description("gpu.pcie_width_max", "lanes", "Lanes that card and slot could use."),
    Description("gpu.pcie_generation", "number", "Highest generation of the link while busy."),
    Description("gpu.pcie_generation_max", "number", "Highest that card and slot could use."),
    Description("gpu.pcie_speed_share", "share", "Speed of the link as a part of what could be."),
    Description("gpu.pcie_bytes_per_s", "bytes/s", "What these lanes can carry in one direction."),
    Description("gpu.pcie_load_share", "share", "Traffic to it as a part of what the link moves."),
    Description("gpu.pcie_replays", "count", "Packets sent again during the run, on all links."),
    Description("gpu.errors_uncorrected", "count", "Memory errors during the run, not corrected."),
    Description("gpu.errors_corrected", "count", "Memory errors during the run, corrected."),
    Description("gpu.rows_remapped", "count", "Memory rows replaced during the run."),
    Description("gpu.rows_remap_pending", "bool", "Rows wait for a reset to be replaced."),
    Description("gpu.rows_remap_failed", "bool", "A row could not be replaced."),
    Description("gpu.other_processes", "count", "Most processes of others on them at one look."),
    Description("gpu.other_memory_share", "share", "Most of a GPU's memory that others held."),
    Description("gpu.other_use_share", "share", "Multiprocessors' time that others took."),
    Description("gpu.own_use_share", "share", "Multiprocessors' time that this training took."),
    Description("gpu.numa_nodes", "text", "NUMA nodes nearest to them."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals gpu.*, all missing where the training uses no GPU that NVML shows."""
    sheet = Sheet(DESCRIPTIONS)
    own = own_gpus(training)
    if not own.indices:
        return sheet.finish(own.known_by)
    sheet.put("gpu.devices", ", ".join(map(str, sorted(own.indices))))
    sheet.put("gpu.count", len(own.indices))
    sheet.put("gpu.known_by", own.known_by)
    everything = looks_of(training, own, steady=False)
    _errors(everything, sheet)
    if not training.has_window:
        return sheet.finish("no step was completed")
    looks = looks_of(training, own, steady=True)
    first = next((one for seen in looks.values() for _, one in seen), None)
    if first is None:
        return sheet.finish("no GPU was looked at in the steady steps")
    sheet.put("gpu.name", first.name, reason=UNTOLD)
    _load(looks, sheet)
    _others(looks, own, sheet)
    busy = {index: [look for look in seen if is_busy(look[1])] for index, seen in looks.items()}
    sheet.put("gpu.busy_looks", sum(map(len, busy.values())))
    enough = {index: seen for index, seen in busy.items() if len(seen) >= LEAST_LOOKS}
    if not enough:
        return sheet.finish(f"there were fewer than {LEAST_LOOKS} busy looks at any GPU")
    _clocks(training, everything, enough, sheet)
    _link(enough, sheet)
    return sheet.finish(UNTOLD)


def looks_of(training: Training, own: OwnGpus, steady: bool) -> dict[int, list[Look]]:
    """Looks at each GPU of the training, in the steady steps or in the whole run."""
    start, end = training.span_ns if steady else (0, 2**63)
    looks: dict[int, list[Look]] = {index: [] for index in sorted(own.indices)}
    for sample in training.run.samples:
        for gpu in sample.gpus if start <= sample.at_ns <= end else ():
            if gpu.index in looks:
                looks[gpu.index].append((sample.at_ns, gpu))
    return looks


def is_busy(gpu: GpuSample) -> bool:
    """By utilisation, or where that is not told (MIG), by the driver's mark of idleness."""
    reasons = gpu.clock_event_reasons
    if reasons is not None and reasons & IDLE:
        return False
    if gpu.utilization_share is not None:
        return gpu.utilization_share >= LEAST_BUSY
    return reasons is not None


def reason_share(masks: Iterable[int | None], bits: int) -> float | None:
    """Part of the known masks in which any of the bits is set; None where none is known."""
    known = [mask for mask in masks if mask is not None]
    return sum(mask & bits != 0 for mask in known) / len(known) if known else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _load(looks: dict[int, list[Look]], sheet: Sheet) -> None:
    gpus = [gpu for seen in looks.values() for _, gpu in seen]
    sheet.put("gpu.looks", len(gpus))
    split = [gpu.mig_enabled for gpu in gpus if gpu.mig_enabled is not None]
    sheet.put("gpu.mig", any(split) if split else None, reason=UNTOLD)
    means = [_mean(gpu.utilization_share for _, gpu in seen) for seen in looks.values()]
    hidden = "a GPU that is split (MIG) tells no utilisation" if any(split) else ""
    sheet.put("gpu.utilization_share", _mean(means), reason=hidden, samples=len(gpus))
    known = [mean for mean in means if mean is not None]
    total = sum(known) if len(known) == len(means) else None
    sheet.put("gpu.utilization_sum", total, reason=hidden, samples=len(gpus))
    used = [_ratio(gpu.memory_used_bytes, gpu.memory_total_bytes) for gpu in gpus]
    most = max((share for share in used if share is not None), default=None)
    sheet.put("gpu.memory_share", most, reason=UNTOLD)
    nodes = sorted({gpu.numa_node for gpu in gpus if gpu.numa_node is not None})
    none = "this machine has one node, or does not tell"
    sheet.put("gpu.numa_nodes", ", ".join(map(str, nodes)) or None, reason=none)


def _clocks(
    training: Training,
    looks: dict[int, list[Look]],
    busy: dict[int, list[Look]],
    sheet: Sheet,
) -> None:
    """Of the GPU with the lowest clocks: it sets the pace."""
    shares = {index: _clock_share(gpu for _, gpu in seen) for index, seen in busy.items()}
    slowest = min(busy, key=lambda index: _or_one(shares[index]))
    seen = busy[slowest]
    gpus = [gpu for _, gpu in seen]
    count = len(gpus)
    sheet.put("gpu.slowest", f"GPU {slowest}")
    sheet.put("gpu.clock_share", shares[slowest], reason=UNTOLD, samples=count)
    lowered = [gpu for gpu in gpus if _is_lowered(gpu)]
    at_any_time = [gpu for _, gpu in looks[slowest] if is_busy(gpu)]
    full = [gpu for gpu in at_any_time if _is_lowered(gpu) is False]
    sheet.put("gpu.clock_lowered_share", _clock_share(lowered), reason="they were not lowered")
    sheet.put("gpu.clock_full_share", _clock_share(full), reason="they were lowered all the time")
    masks = [gpu.clock_event_reasons for gpu in gpus]
    sheet.put("gpu.hardware_share", reason_share(masks, HARDWARE), reason=UNTOLD, samples=count)
    for name, bit in REASONS.items():
        sheet.put(f"gpu.{name}_share", reason_share(masks, bit), reason=UNTOLD, samples=count)
    sheet.put(
        "gpu.power_share",
        _mean(_ratio(gpu.power_w, gpu.power_limit_w) for gpu in gpus),
        reason=UNTOLD,
    )
    hottest = [gpu.temperature_c for one in busy.values() for _, gpu in one]
    known = [value for value in hottest if value is not None]
    sheet.put("gpu.temperature_max_c", max(known, default=None), reason=UNTOLD)
    sheet.put("gpu.temperature_slowdown_c", gpus[-1].temperature_slowdown_c, reason=UNTOLD)
    for name in ("thermal", "power"):
        part = _growth_share(looks[slowest], f"{name}_violation_total_ns")
        sheet.put(f"gpu.{name}_time_share", part, reason=UNTOLD)
    ratio = slow_step_ratio(training, looks[slowest])
    few = "too few steps at lowered clocks, or at others"
    sheet.put("gpu.slow_step_ratio", ratio, reason=few)


def _clock_share(gpus: Iterable[GpuSample]) -> float | None:
    return _mean(_ratio(gpu.sm_clock_mhz, gpu.sm_clock_max_mhz) for gpu in gpus)


def _or_one(share: float | None) -> float:
    return 1.0 if share is None else share


def _is_lowered(gpu: GpuSample) -> bool | None:
    reasons = gpu.clock_event_reasons
    return None if reasons is None else bool(reasons & LOWERED)


def _growth_share(looks: Sequence[Look], counter: str) -> float | None:
    """Growth of a counter of nanoseconds, as a part of the time."""
    seen = [(at, value) for at, gpu in looks if (value := getattr(gpu, counter)) is not None]
    if len(seen) < 2 or seen[-1][0] <= seen[0][0]:
        return None
    share: float = (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])
    return min(max(share, 0.0), 1.0)


def slow_step_ratio(training: Training, looks: Sequence[Look]) -> float | None:
    """Mean steady step over the mean of steps between busy looks without lowered clocks.

    These are taken from the whole run: a card may be at full clocks before the steps are steady.
    Steps three times as long as the median (validation, compilation) are left out of both means.
    None with fewer than LEAST_STEPS of them, or of steady steps at lowered clocks.
    """
    first_ns, last_ns = training.span_ns
    starts, wall_ns = training.columns["start_ns"], training.columns["wall_ns"]
    steady = (starts >= first_ns) & (starts < last_ns)
    full, lowered = np.zeros(len(starts), np.bool_), np.zeros(len(starts), np.bool_)
    for (before_ns, before), (after_ns, after) in pairwise(looks):
        state = _is_lowered(after)
        if state is None or state != _is_lowered(before):
            continue
        if is_busy(before) and is_busy(after):
            within = (starts >= before_ns) & (starts < after_ns)
            (lowered if state else full)[within] = True
    if min(np.count_nonzero(full), np.count_nonzero(lowered & steady)) < LEAST_STEPS:
        return None
    return _usual_mean(wall_ns[steady]) / _usual_mean(wall_ns[full])


def _usual_mean(walls: NDArray[np.int64]) -> float:
    return float(walls[walls <= LONGEST_STEP * np.median(walls)].mean())


def _link(busy: dict[int, list[Look]], sheet: Sheet) -> None:
    """Of the GPU with the slowest link; at its best, as a link may rest for a moment."""
    speeds = {index: _link_speed([gpu for _, gpu in seen]) for index, seen in busy.items()}
    known = {index: speed for index, speed in speeds.items() if speed is not None}
    if not known:
        return
    slowest = min(known, key=lambda index: known[index][2])
    width, generation, share = known[slowest]
    gpus = [gpu for _, gpu in busy[slowest]]
    sheet.put("gpu.pcie_device", f"GPU {slowest}")
    sheet.put("gpu.pcie_width", width, samples=len(gpus))
    sheet.put("gpu.pcie_generation", generation, samples=len(gpus))
    sheet.put("gpu.pcie_width_max", gpus[-1].pcie_width_max)
    sheet.put("gpu.pcie_generation_max", gpus[-1].pcie_generation_max)
    sheet.put("gpu.pcie_speed_share", share, samples=len(gpus))
    moved = _mean(gpu.pcie_received_bytes_per_s for gpu in gpus)
    capacity = width * LANE_BYTES_PER_S.get(generation, 0.0)
    sheet.put("gpu.pcie_bytes_per_s", capacity, samples=len(gpus))
    sheet.put("gpu.pcie_load_share", _ratio(moved, capacity), reason="traffic was not measured")


def _link_speed(gpus: Sequence[GpuSample]) -> tuple[int, int, float] | None:
    """Lanes, generation, and the speed as a part of the highest; None where not all is told."""
    width, width_max = _most(gpus, "pcie_width"), _most(gpus, "pcie_width_max")
    generation = _most(gpus, "pcie_generation")
    generation_max = _most(gpus, "pcie_generation_max")
    if not width or not width_max or not generation or not generation_max:
        return None
    lane, lane_max = (LANE_BYTES_PER_S.get(one) for one in (generation, generation_max))
    if lane is None or lane_max is None:
        return None
    return width, generation, min(width * lane / (width_max * lane_max), 1.0)


def _most(gpus: Sequence[GpuSample], attribute: str) -> int:
    return max((getattr(gpu, attribute) or 0 for gpu in gpus), default=0)


def _errors(looks: dict[int, list[Look]], sheet: Sheet) -> None:
    """Counts of the whole run: an error in its first step counts too."""
    gpus = {index: [gpu for _, gpu in seen] for index, seen in looks.items()}
    for name, counter in (
        ("errors_uncorrected", "ecc_errors_uncorrected_total"),
        ("errors_corrected", "ecc_errors_corrected_total"),
        ("rows_remapped", "rows_remapped_total"),
        ("pcie_replays", "pcie_replays_total"),
    ):
        grown = [_growth(seen, counter) for seen in gpus.values()]
        known = [growth for growth in grown if growth is not None]
        sheet.put(f"gpu.{name}", sum(known) if known else None, reason=UNTOLD)
    for name in ("rows_remap_pending", "rows_remap_failed"):
        said = [getattr(gpu, name) for seen in gpus.values() for gpu in seen]
        told = [one for one in said if one is not None]
        sheet.put(f"gpu.{name}", any(told) if told else None, reason=UNTOLD)


def _growth(gpus: Sequence[GpuSample], counter: str) -> int | None:
    """Sum of the rises; a fall is a driver that was loaded anew."""
    seen: list[int] = [v for gpu in gpus if (v := getattr(gpu, counter)) is not None]
    if not seen:
        return None
    return sum(max(after - before, 0) for before, after in pairwise(seen))


def _others(looks: dict[int, list[Look]], own: OwnGpus, sheet: Sheet) -> None:
    """Processes that are none of this run's, where this run's own can be told from them."""
    gpus = [gpu for seen in looks.values() for _, gpu in seen]
    if not own.pids:
        reason = "this run's processes are not among those that the driver names (a container?)"
        for name in ("other_processes", "other_memory_share", "other_use_share", "own_use_share"):
            sheet.miss(f"gpu.{name}", reason)
        return
    counts = [sum(pid not in own.pids for pid in gpu.process_pids) for gpu in gpus]
    sheet.put("gpu.other_processes", max(counts, default=0))

    def theirs(pid: int) -> bool:
        return pid not in own.pids

    held = [
        _ratio(_of_processes(gpu, gpu.process_memory_bytes, theirs), gpu.memory_total_bytes)
        for gpu in gpus
    ]
    most = max((share for share in held if share is not None), default=None)
    sheet.put("gpu.other_memory_share", most, reason=UNTOLD)
    used = [_of_processes(gpu, gpu.process_sm_shares, theirs) for gpu in gpus]
    sheet.put("gpu.other_use_share", _mean(used), reason=UNTOLD)
    mine = [_of_processes(gpu, gpu.process_sm_shares, lambda pid: not theirs(pid)) for gpu in gpus]
    sheet.put("gpu.own_use_share", _mean(mine), reason=UNTOLD)


def _of_processes(
    gpu: GpuSample, values: Sequence[float], chosen: Callable[[int], bool]
) -> float | None:
    """Sum over the chosen processes of one look; None where the driver told it of none."""
    if not gpu.process_pids:
        return 0.0
    if len(values) != len(gpu.process_pids):
        return None
    of_chosen = [v for pid, v in zip(gpu.process_pids, values, strict=True) if chosen(pid)]
    known = [value for value in of_chosen if value >= 0]
    return float(sum(known)) if known or not of_chosen else None
