"""What every readable report says of a trace: its devices, thread, kernels, path and changes."""

from __future__ import annotations

from collections.abc import Sequence

from trainprof.profiler.model.diagnosis import (
    CriticalPathTime,
    DeviceTime,
    KernelTime,
    SimulatedChange,
    ThreadTime,
)
from trainprof.reports import numbers
from trainprof.reports.text import SHORT, printable

LEAST_SHARE_SHOWN = 0.005
"""Of what a device did; less is left out of its table."""
LEAST_KERNEL_SHARE = 0.01
"""Of the time in which the device was busy; a family with less is left out of the table."""
MOSTLY = 0.95
"""From this part on a family has one precision."""
KERNELS_HEADING = "Kernels: shares of the time in which the device was busy"
CHANGE_HEADINGS = ("what if", "faster", "step then", "what bounds it then")


def device_heading(device: DeviceTime) -> str:
    """Which device, and what its shares refer to."""
    window = f"{printable(device.window, SHORT)}, {numbers.seconds(device.window_s)}"
    return f"Device {printable(device.device, SHORT)}: shares of {window}"


def device_lines(device: DeviceTime) -> list[tuple[str, float, float]]:
    """What a device did, as (label, share of the window, seconds); idle time by its causes too."""
    lines = [(name, share, share * device.window_s) for name, share in device.shares.items()]
    causes = sorted(device.idle.items(), key=lambda one: -one[1])
    shown = [(f"  {name}", share, share * device.window_s) for name, share in causes]
    return [line for line in [*lines, *shown] if line[1] >= LEAST_SHARE_SHOWN]


def thread_heading(thread: ThreadTime) -> str:
    """Which thread, and what its shares refer to."""
    window = f"{printable(thread.window, SHORT)}, {numbers.seconds(thread.window_s)}"
    name = thread.thread.removeprefix("thread ")  # Kineto calls it "thread 7 (python)"
    return f"Training thread {printable(name, SHORT)}: shares of {window}"


def thread_lines(thread: ThreadTime) -> list[tuple[str, float, float]]:
    """Label, share of the window and seconds of what it did; what it hardly did is left out."""
    return [
        (printable(label, SHORT), share, share * thread.window_s)
        for label, share in thread.shares.items()
        if share >= LEAST_SHARE_SHOWN
    ]


def kernel_lines(kernels: Sequence[KernelTime]) -> list[tuple[str, float, int, str, str, str]]:
    """Families of kernels: name, share, count, precision, part on tensor cores, an example.

    Those that take less than a hundredth are left out; JSON has them all.
    """
    lines = []
    for one in kernels:
        if one.share < LEAST_KERNEL_SHARE:
            continue
        precision = next(iter(one.precisions), "unknown")
        part = one.precisions.get(precision, 0.0)
        precision += f" {numbers.share(part)}" if part < MOSTLY else ""
        cores = "" if one.tensor_cores is None else numbers.share(one.tensor_cores)
        example = kernel_name(one.example)
        if one.operator:
            example = f"{one.operator.removeprefix('aten::')}: {example}"
        lines.append((one.family, one.share, one.count, precision, cores, example))
    return lines


def kernel_name(name: str) -> str:
    """A kernel's name without its result, namespaces and parameters.

    "void at::native::(anonymous namespace)::reduce_kernel<512, 1, ...>(...)" is "reduce_kernel";
    of CUTLASS's `Kernel<...>` the argument is the name.
    """
    plain = name.removeprefix("void ").replace("(anonymous namespace)::", "")
    base, _, rest = plain.partition("(")[0].partition("<")
    short = base.rsplit("::", 1)[-1]
    inner = rest.partition(">")[0].partition("<")[0].rsplit("::", 1)[-1]
    return inner if inner and short in ("Kernel", "Kernel2") else short or name


def path_heading(path: CriticalPathTime) -> str:
    """What the composition of a critical path refers to."""
    window, length = printable(path.window), numbers.seconds(path.window_s)
    return f"Critical path: shares of {window}, {length} until host and devices were done"


def path_lines(path: CriticalPathTime) -> list[tuple[str, float, float]]:
    """What lies on it, the largest first: label, share, seconds."""
    shares = sorted(path.shares.items(), key=lambda item: -item[1])
    return [
        (printable(part), share, share * path.window_s)
        for part, share in shares
        if share >= LEAST_SHARE_SHOWN
    ]


def change_cells(change: SimulatedChange) -> tuple[str, str, str, str]:
    """A simulated change: what it is, its gain, the step then, and what bounds it then."""
    after = "" if change.step_after_s is None else numbers.seconds(change.step_after_s)
    return (
        printable(change.text),
        numbers.ratio(change.gain.low, change.gain.high),
        after,
        printable(change.next_bottleneck),
    )
