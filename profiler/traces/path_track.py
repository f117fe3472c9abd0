"""The critical path of a trace as a track: at each moment what the steps waited for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trainprof.profiler.model.tracks import Slice, Track
from trainprof.profiler.traces.critical_path import (
    COMMUNICATION,
    COMPUTATION,
    COPIES,
    GAP,
    LATENCY,
    OTHER,
    PARTS,
    SYNCHRONISATION,
    UNEXPLAINED,
    CriticalPath,
    critical_path,
    replay,
)
from trainprof.profiler.traces.dependencies import Dependencies, Node, dependencies
from trainprof.profiler.traces.events import Trace, Whole
from trainprof.profiler.traces.host_points import Point
from trainprof.profiler.traces.timeline import Timeline
from trainprof.profiler.traces.tracks import PROCESS
from trainprof.profiler.traces.what_if import replayed_span


def path_track(trace: Trace, found: Timeline) -> Track | None:
    """Of the steps that are replayed, as they were observed; None where there are none."""
    span = replayed_span(trace, found)
    if span is None:
        return None
    *_, start_ns, end_ns = span
    graph = dependencies(trace, start_ns, end_ns)
    if len(graph) < 2:
        return None
    path = critical_path(graph, replay(graph))
    if not len(path.nodes):  # nothing that was recorded takes any time
        return None
    return Track(PROCESS, "critical path", _slices(trace, graph, path, start_ns))


def _slices(trace: Trace, graph: Dependencies, path: CriticalPath, start: int) -> Iterator[Slice]:
    """For each node what lay before it, then what it is itself."""
    nodes = path.nodes
    at_ns = np.maximum.accumulate(graph.at_ns[nodes])
    before_ns = np.append(0, at_ns[:-1])
    begin_ns = np.clip(at_ns - graph.work_ns[nodes], before_ns, at_ns)
    between = _between(graph, nodes, path.by_other)
    own = np.select([graph.communicates[nodes], graph.copies[nodes]], [COMMUNICATION, COPIES])
    own = np.where(own == 0, COMPUTATION, own)
    rows = zip(
        (before_ns + start).tolist(),
        (begin_ns + start).tolist(),
        (at_ns + start).tolist(),
        between.tolist(),
        own.tolist(),
        graph.event[nodes].tolist(),
        strict=True,
    )
    for before, begin, end, lay_between, is_itself, event in rows:
        told = {"event": trace.names[trace.events.name[event]]} if event >= 0 else {}
        if begin > before:
            yield Slice(PARTS[lay_between], before, begin)
        if end > begin:
            yield Slice(PARTS[is_itself], begin, end, told)


def _between(graph: Dependencies, nodes: Whole, by_other: np.ndarray) -> Whole:
    """Which of `PARTS` lies before each node, most of all."""
    host = graph.kind[nodes] == Node.HOST
    parts = graph.parts_ns[nodes]
    most: Whole = parts.argmax(axis=1)
    most = np.where(graph.wait_ns[nodes] > parts.max(axis=1), SYNCHRONISATION, most)
    woken = graph.point[nodes] == Point.WOKEN
    of_host = np.where(by_other, np.where(woken, OTHER, COPIES), most)
    of_host = np.where(by_other & (graph.wait_ns[nodes] > 0), SYNCHRONISATION, of_host)
    of_device = np.where(by_other, LATENCY, GAP)
    explained_ns = np.where(by_other, graph.lag_ns[nodes], graph.gap_ns[nodes])
    of_device = np.where(graph.wait_ns[nodes] > explained_ns, UNEXPLAINED, of_device)
    found: Whole = np.where(host, of_host, of_device)
    return found
