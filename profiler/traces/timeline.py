"""What the devices of a trace did, and what the host did while a device had nothing to do.

All times are whole nanoseconds on the clock of the trace, and every share names its window: whole
steps where the trace marks any, else from the first event to the last.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np

from trainprof.profiler.traces.events import Events, Kind, Trace, distinct
from trainprof.profiler.traces.intervals import Intervals, union

STEP = re.compile(r"ProfilerStep\s*#\s*\d+")
COMMUNICATION = re.compile(r"nccl|rccl|allreduce|all_reduce", re.IGNORECASE)
"""Kernels of NVIDIA's and AMD's collectives, and of those that older backends bring."""
DATA_WAIT = re.compile(r"enumerate\(DataLoader\)|DataLoaderIter\.__next__|^trainprof: data wait$")
"""As torch's loader names it, and the NVTX ranges of `trainprof run`."""
SYNCHRONISES = re.compile(
    r"^(cuda|hip|cu)(Device|Stream|Event|Ctx)Synchronize|^(cuda|hip)Memcpy(?!.*Async)"
)
ALLOCATES = re.compile(
    r"^(cuda|hip|cu)(Malloc|Free|MemAlloc|MemFree|HostAlloc|HostRegister|MemMap)"
)
LAUNCHES = re.compile(r"Launch|^(cuda|hip)(Memcpy|Memset).*Async|^hipMemcpyWithStream")
COMPILES = re.compile(
    r"\(dynamo_timed\)$|^entire_frame_compile$|^compile_fx|^_compile\.|^async_compile\.wait$"
    r"|^(cu|cuda|hip)(Module|Library)Load"
)
"""torch.compile at work, and code that the driver loads or translates when it is first called."""
SAVES = re.compile(
    r"torch/serialization\.py\(\d+\): save$|\btorch\.save\b|save_checkpoint|state_dict_saver"
    r"|^#* ?(save|checkpoint|saving|checkpointing) ?#*$",
    re.IGNORECASE,
)
"""Of a checkpoint, not of activations that are computed again: those say `checkpoint` too."""
COLLECTS = re.compile(r"^<built-in function collect>$|\bgc\.collect\b")
CAUSES = (
    "data wait",
    "checkpoint",
    "garbage collection",
    "compilation",
    "synchronisation",
    "allocator",
    "copy call",
    "launch call",
    "operator",
    "Python",
    "other work of the host",
)
"""Of idle time, in this order where several hold at once. Python is told by traces with stacks."""
MOST_DEVICES = 64
"""Of one file, those with most events: each is gone through by itself, and a machine has 16."""
ON_DEVICE = (Kind.KERNEL, Kind.MEMCPY, Kind.MEMSET)


class Window(msgspec.Struct, frozen=True):
    """What shares refer to.

    Attributes:
        start_ns, end_ns: On the trace's clock. steps: Whole steps in it; 0 where none is marked.
    """

    start_ns: int
    end_ns: int
    steps: int

    @property
    def length_ns(self) -> int:
        """From its start to its end."""
        return self.end_ns - self.start_ns

    @property
    def text(self) -> str:
        """As a report names it."""
        if not self.steps:
            return "the time from the first event to the last"
        return "one whole step" if self.steps == 1 else f"{self.steps} whole steps"


class DeviceTimeline(msgspec.Struct, frozen=True):
    """One device within the window; all in ns, and disjoint but for `busy` and `communication`.

    Attributes:
        device: Its number. busy: Any kernel, copy or fill ran. compute: A kernel that is no
            communication. communication: Of it, kernels of collectives. exposed: Of these, while
            nothing computed. copies: Copies and fills while no kernel ran. idle: The rest.
        causes: Idle time by what the host did, keys of `CAUSES`.
        gaps: The idle intervals. parts: Disjoint times that fill the window: computing, exposed
            communication, exposed copies, and idle time by cause.
    """

    device: int
    busy_ns: int
    compute_ns: int
    communication_ns: int
    exposed_ns: int
    copies_ns: int
    idle_ns: int
    gaps: Intervals
    causes: dict[str, int] = msgspec.field(default_factory=dict)
    parts: dict[str, Intervals] = msgspec.field(default_factory=dict)


class Timeline(msgspec.Struct, frozen=True):
    """What one file tells of time.

    Attributes:
        window: What all shares refer to. steps: Start and end of each whole step.
        devices: The busiest first; none in a trace of a CPU.
        data_wait_ns: The host waited for batches, in the window.
        left_out: Devices with fewer events than the `MOST_DEVICES` that are here.
    """

    window: Window
    steps: Intervals
    devices: tuple[DeviceTimeline, ...]
    data_wait_ns: int
    left_out: int = 0


def timeline(trace: Trace) -> Timeline:
    """The timeline of a trace that holds any events that last."""
    events = trace.events
    steps = find_steps(trace)
    window = _window(events, steps)
    start, end = window.start_ns, window.end_ns
    host, work = HostWork(trace), DeviceWork(trace)
    devices = [_device(work, number, host, window) for number in work.numbers]
    waits = events.where(on_host(events) & trace.named(DATA_WAIT.search))
    return Timeline(
        window=window,
        steps=steps,
        devices=tuple(sorted(devices, key=lambda one: one.busy_ns, reverse=True)),
        data_wait_ns=union(waits.start_ns, waits.end_ns).clipped(start, end).total,
        left_out=work.left_out,
    )


def find_steps(trace: Trace) -> Intervals:
    """The steps that the profiler has marked on the host, in order."""
    events = trace.events
    marked = events.where(on_host(events) & trace.named(STEP.match))
    return Intervals(marked.start_ns, marked.end_ns)


def on_host(events: Events) -> np.ndarray:
    """Which events are of the host."""
    return ~events.of(*ON_DEVICE, Kind.DEVICE_ANNOTATION)


def _window(events: Events, steps: Intervals) -> Window:
    if len(steps):
        return Window(int(steps.start.min()), int(steps.end.max()), len(steps))
    core = events.where(~events.of(Kind.OTHER, Kind.DEVICE_ANNOTATION))
    core = core if len(core) else events
    return Window(int(core.start_ns.min()), int(core.end_ns.max()), 0)


class DeviceStates(msgspec.Struct, frozen=True):
    """When a device did what, within a window; `communication` may overlap `compute`."""

    busy: Intervals
    compute: Intervals
    communication: Intervals

    @property
    def exposed(self) -> Intervals:
        """Communication while nothing computed."""
        return self.communication.minus(self.compute)

    @property
    def copies(self) -> Intervals:
        """Copies and fills while no kernel ran."""
        return self.busy.minus(self.compute).minus(self.communication)


class DeviceWork:
    """What the devices of a trace ran.

    Attributes:
        numbers: Of the devices, at most `MOST_DEVICES`. left_out: How many there are beyond.
    """

    def __init__(self, trace: Trace) -> None:
        chosen = trace.events.of(*ON_DEVICE)
        self._events = trace.events.where(chosen)
        self._talks = trace.named(COMMUNICATION.search)[chosen]
        numbers, counts = np.unique(self._events.device, return_counts=True)
        kept = np.sort(np.argsort(-counts, kind="stable")[:MOST_DEVICES])
        self.numbers: list[int] = numbers[kept].tolist()
        self.left_out = len(numbers) - len(self.numbers)

    def states(self, number: int, window: Window) -> DeviceStates:
        """What one device did in a window."""
        chosen = self._events.device == number
        own, talks = self._events.where(chosen), self._talks[chosen]

        def of(chosen: np.ndarray) -> Intervals:
            times = union(own.start_ns[chosen], own.end_ns[chosen])
            return times.clipped(window.start_ns, window.end_ns)

        kernels = own.kind == Kind.KERNEL
        return DeviceStates(
            busy=of(np.ones(len(own), bool)),
            compute=of(kernels & ~talks),
            communication=of(kernels & talks),
        )


def _device(work: DeviceWork, number: int, host: HostWork, window: Window) -> DeviceTimeline:
    states = work.states(number, window)
    busy, compute, exposed = states.busy, states.compute, states.exposed
    gaps = busy.gaps(window.start_ns, window.end_ns)
    charged = host.split(gaps)
    parts = {
        "computing": compute,
        "exposed communication": exposed,
        "exposed copies": busy.minus(compute).minus(states.communication),
    }
    return DeviceTimeline(
        device=number,
        busy_ns=busy.total,
        compute_ns=compute.total,
        communication_ns=states.communication.total,
        exposed_ns=exposed.total,
        copies_ns=busy.total - compute.total - exposed.total,
        idle_ns=gaps.total,
        gaps=gaps,
        causes={cause: held.total for cause, held in charged.items()},
        parts=parts | {f"idle: {cause}": held for cause, held in charged.items()},
    )


class HostWork:
    """What the threads that feed devices do, by cause."""

    def __init__(self, trace: Trace) -> None:
        events = trace.events
        host = on_host(events)
        calls = events.kind == Kind.RUNTIME
        launching = calls & trace.named(LAUNCHES.search)
        copying = launching & trace.named(lambda name: "emcpy" in name)
        operators = events.kind == Kind.OPERATOR
        feeding = np.isin(events.lane, distinct(events.lane[launching]))
        of_causes = (
            host & trace.named(DATA_WAIT.search),
            host & trace.named(SAVES.search),
            host & trace.named(COLLECTS.search),
            host & trace.named(COMPILES.search),
            calls & trace.named(SYNCHRONISES.search),
            calls & trace.named(ALLOCATES.search),
            copying,
            launching & ~copying,
            operators,
            (events.kind == Kind.PYTHON) & feeding,
        )
        self._causes = [
            union(events.start_ns[chosen], events.end_ns[chosen]) for chosen in of_causes
        ]

    def split(self, gaps: Intervals) -> dict[str, Intervals]:
        """The parts of gaps by cause; what no cause holds for comes last."""
        found = {}
        for cause, work in zip(CAUSES, self._causes, strict=False):
            found[cause] = gaps.common(work)
            gaps = gaps.minus(work)
        found[CAUSES[-1]] = gaps
        return found
