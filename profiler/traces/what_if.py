"""What changes of a training would gain, and what would bound it then: replays of one trace.

Each change is replayed by a pessimistic and an optimistic model. Where the graph does not explain
what was observed there is no replay of changes, but a sentence that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec
import numpy as np

from trainprof.profiler.traces.arrivals import Arrivals, collective_kernels
from trainprof.profiler.traces.changes import CHANGES
from trainprof.profiler.traces.critical_path import (
    PARTS,
    UNEXPLAINED,
    CriticalPath,
    Replay,
    critical_path,
    leaves_path,
    replay,
)
from trainprof.profiler.traces.dependencies import Dependencies, Node, dependencies
from trainprof.profiler.traces.device_model import device_model
from trainprof.profiler.traces.events import Kind, Trace, distinct
from trainprof.profiler.traces.simulated_changes import SIMULATED, Known
from trainprof.profiler.traces.timeline import LAUNCHES, Timeline

MOST_LAUNCHES = 12_000
"""That are replayed; of more, steps that take as long as the mean."""
MOST_THREADS = 256
"""Threads of the host that are replayed: each costs about a millisecond, whatever it did."""
MOST_OFF = 0.01
"""How far the unchanged replay may be from what was observed."""
MOST_UNEXPLAINED = 0.20
"""Of the critical path, that nothing in the trace accounts for (a starting value)."""
MOST_UNKNOWN = 0.50
"""Of the work of devices, whose launch is not in the trace (a starting value)."""
BY_THREAD = (Kind.OPERATOR, Kind.RUNTIME, Kind.ANNOTATION)
WORKERS = 4
"""That take the place of a loader in the training process."""


class Outcome(msgspec.Struct, frozen=True):
    """What a change would do.

    Attributes:
        change: Of `CHANGES`. low, high: T_old / T_new by the pessimistic and the optimistic model;
            per sample where the batch grows.
        parts_ns: Of the critical path after it, by the optimistic model.
        batches: How many of today's a step then takes.
    """

    change: str
    low: float
    high: float
    parts_ns: Mapping[str, int]
    batches: int = 1

    @property
    def next_bottleneck(self) -> str:
        """What the largest part of the critical path would be."""
        return bottleneck(self.parts_ns)


class WhatIf(msgspec.Struct, frozen=True):
    """The critical path of a trace, and what changes of it would do.

    Attributes:
        steps: How many were replayed; 0 where none are marked. all_steps: Whether that was all.
        observed_ns: From their beginning until host and devices had done their work.
        path: What decides how long they take. outcomes: By change, those that have anything to do.
        doubt: Why the outcomes are left out; None where they are not.
    """

    steps: int
    all_steps: bool
    observed_ns: int
    path: CriticalPath
    outcomes: Mapping[str, Outcome] = msgspec.field(default_factory=dict)
    doubt: str | None = None


def what_if(
    trace: Trace,
    found: Timeline,
    saved_ns: Mapping[int, tuple[int, int]] | None = None,
    tensor_cores: bool | None = None,
    workers: int = WORKERS,
    changes: Iterable[str] = CHANGES,
) -> WhatIf | None:
    """Replays the steps of a trace; None where they hold too much to be replayed.

    Args:
        trace: What a file holds.
        found: Its timeline.
        saved_ns: By place of a collective's event what it need not wait, as in `Known`.
        tensor_cores: The device has them; None for what the trace tells of it.
        workers: Into which a loader in the training process is put.
        changes: To replay, of `CHANGES`.
    """
    span = replayed_span(trace, found)
    if span is None or len(distinct(trace.of_kind(*BY_THREAD).lane)) > MOST_THREADS:
        return None
    first, last, start_ns, end_ns = span
    graph = dependencies(trace, start_ns, end_ns)
    if len(graph) < 2:
        return None
    unchanged = replay(graph)
    path = critical_path(graph, unchanged)
    result = WhatIf(
        steps=last - first,
        all_steps=last - first == len(found.steps),
        observed_ns=int(graph.at_ns.max()),
        path=path,
        doubt=_doubt(graph, unchanged, path),
    )
    if result.doubt is not None:
        return result
    known = Known(
        trace=trace,
        start_ns=start_ns,
        steps_ns=found.steps.start[first:last] - start_ns,
        tensor_cores=_has_tensor_cores(trace, found) if tensor_cores is None else tensor_cores,
        saved_ns=saved_ns or {},
    )
    outcomes = _outcomes(graph, known, changes, (unchanged, path), workers)
    return WhatIf(result.steps, result.all_steps, result.observed_ns, path, outcomes, result.doubt)


Replayed = Callable[[Trace, Timeline], WhatIf | None]
"""Does so, wherever that is done."""


def _has_tensor_cores(trace: Trace, found: Timeline) -> bool:
    model = device_model(trace, found)
    return model is not None and model.has_tensor_cores


def saved_of(
    trace: Trace, found: Timeline, together: Arrivals, rank: int
) -> dict[int, tuple[int, int]]:
    """What a rank need not wait at each collective, by the place of its event.

    Either number: if the last rank came with the last but one, and if all came at once.
    """
    row = together.ranks.index(rank)
    kernels = np.flatnonzero(collective_kernels(trace, found))[: len(together.names)]
    second = np.sort(together.waited_ns, axis=0)[1]  # how long the last but one waits
    waited = together.waited_ns[row]
    pairs = zip(np.minimum(waited, second).tolist(), waited.tolist(), strict=True)
    return dict(zip(kernels.tolist(), pairs, strict=True))


def replayed_span(trace: Trace, found: Timeline) -> tuple[int, int, int, int] | None:
    """First and last step to replay, their start and end: the whole window, or steps of it."""
    events, window, steps = trace.events, found.window, found.steps
    calls = events.start_ns[(events.kind == Kind.RUNTIME) & trace.named(LAUNCHES.search)]
    calls = calls[(calls >= window.start_ns) & (calls < window.end_ns)]
    if len(calls) <= MOST_LAUNCHES:
        return 0, len(steps), window.start_ns, window.end_ns
    count = len(steps) * MOST_LAUNCHES // len(calls)
    if count < 1:
        return None
    edges = np.append(steps.start, window.end_ns)
    lengths = edges[count:] - edges[:-count]
    mean = window.length_ns / len(steps) * count
    first = int(abs(lengths - mean).argmin())
    return first, first + count, int(edges[first]), int(edges[first + count])


def _doubt(graph: Dependencies, unchanged: Replay, path: CriticalPath) -> str | None:
    observed = max(int(graph.at_ns.max()), 1)
    if abs(unchanged.length_ns - observed) > MOST_OFF * observed:
        return "a replay of what was recorded does not take as long as it did"
    work = graph.kind == Node.WORK
    if work.any() and (graph.other[work] == 0).mean() > MOST_UNKNOWN:
        return "the trace does not tell what launched most work of the device"
    if path.parts_ns[PARTS[UNEXPLAINED]] > MOST_UNEXPLAINED * observed:
        return "nothing in the trace tells why the device waits"
    return None


def _outcomes(
    graph: Dependencies,
    known: Known,
    changes: Iterable[str],
    before: tuple[Replay, CriticalPath],
    workers: int,
) -> dict[str, Outcome]:
    found = {}
    unchanged, path = before
    for change in changes:
        both = SIMULATED[change](graph, known)
        if both is None:
            continue
        low, high = (unchanged if leaves_path(one, *before) else replay(one) for one in both)
        longest = path if high is unchanged else critical_path(both[1], high)
        parts = dict(longest.parts_ns)
        batches = 2 if change == "larger-batch" else 1
        lengths = [low.length_ns, high.length_ns]
        if change == "no-data-wait":
            left = [_wait_left(graph, known, one, workers) for one in lengths]
            parts["data wait"] += left[1]
            lengths = [length + wait for length, wait in zip(lengths, left, strict=True)]
        gains = sorted(batches * unchanged.length_ns / max(one, 1) for one in lengths)
        found[change] = Outcome(change, gains[0], gains[1], parts, batches)
    return found


def _wait_left(graph: Dependencies, known: Known, length_ns: int, workers: int) -> int:
    """What is waited for workers that take longer for a batch than the training.

    With W workers, each taking p for a batch that is used in c, the training waits
    max(0, p / W - c) a step; p is the wait for a loader in the training process.
    """
    if not known.in_process:
        return 0
    produce = int(graph.parts_ns[:, 0].sum())
    return max(0, produce // max(workers, 1) - length_ns)


_OF_HOST = ("allocator", "copy call", "launch call", "operator", "other work of the host")
_WORDS = {
    "data wait": "the wait for batches",
    "synchronisation": "synchronisations",
    "launch latency": "the latency of launches",
    "gaps between kernels": "gaps between kernels",
    "computation": "computation on the device",
    "communication": "communication",
    "copies": "copies",
    "unexplained wait": "waits that nothing explains",
}
_HOST_WORDS = {
    "allocator": "the host, allocating memory",
    "copy call": "the host, calling for copies",
    "launch call": "the host, launching",
    "operator": "the host, in operators",
    "other work of the host": "the host, outside of operators",
}


def bottleneck(parts_ns: Mapping[str, int]) -> str:
    """The largest part of a path, in words; the host's own work counts as one."""
    groups = {part: parts_ns.get(part, 0) for part in _WORDS}
    host = {part: parts_ns.get(part, 0) for part in _OF_HOST}
    largest = max(groups, key=lambda part: groups[part])
    if sum(host.values()) > groups[largest]:
        return _HOST_WORDS[max(host, key=lambda part: host[part])]
    return _WORDS[largest]
