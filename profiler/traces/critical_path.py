"""Replays a graph of dependencies, and finds the path that decides how long it takes."""

from __future__ import annotations

import msgspec
import numpy as np

from trainprof.profiler.traces.dependencies import Dependencies, Node
from trainprof.profiler.traces.events import Flags, Whole
from trainprof.profiler.traces.host_points import Point
from trainprof.profiler.traces.timeline import CAUSES

PARTS = (
    *CAUSES,
    "launch latency",
    "gaps between kernels",
    "computation",
    "communication",
    "copies",
    "unexplained wait",
)
"""Of a path: of the host, then of a device."""
LATENCY, GAP, COMPUTATION, COMMUNICATION, COPIES, UNEXPLAINED = range(len(CAUSES), len(PARTS))
SYNCHRONISATION, OTHER = CAUSES.index("synchronisation"), len(CAUSES) - 1


class Replay(msgspec.Struct, frozen=True):
    """When each node is reached, in ns from the start."""

    reached_ns: Whole

    @property
    def length_ns(self) -> int:
        """Until host and devices have done all."""
        return int(self.reached_ns.max())


def replay(graph: Dependencies) -> Replay:
    """Each node as soon as what it depends on allows.

    Source: the recurrence of Daydream (Zhu et al., USENIX ATC 2020) on two edges a node.
    """
    own = graph.wait_ns + graph.work_ns
    reached = [0]
    append = reached.append
    rows = zip(
        graph.before[1:].tolist(),
        (graph.between_ns + own)[1:].tolist(),
        graph.other[1:].tolist(),
        (graph.lag_ns + own)[1:].tolist(),
        strict=True,
    )
    for before, after_before, other, after_other in rows:
        first = reached[before] + after_before
        second = reached[other] + after_other
        append(first if first > second else second)
    return Replay(np.array(reached, np.int64))


class CriticalPath(msgspec.Struct, frozen=True):
    """The longest path to the last node.

    Attributes:
        nodes: Their places, in order. by_other: Whether each was reached by its other edge.
        parts_ns: Its composition, by `PARTS`; sums to the replay's length.
    """

    nodes: Whole
    by_other: Flags
    parts_ns: dict[str, int]


def critical_path(graph: Dependencies, replayed: Replay) -> CriticalPath:
    """Walks backwards from the last node, always to the one that it had to wait for."""
    reached = replayed.reached_ns
    first = reached[graph.before] + graph.between_ns
    second = reached[graph.other] + graph.lag_ns
    by_other = second > first
    came_from = np.where(by_other, graph.other, graph.before).tolist()
    node = int(reached.argmax())
    nodes = []
    while node:
        nodes.append(node)
        node = came_from[node]
    path = np.array(nodes[::-1], np.int64)
    return CriticalPath(path, by_other[path], _composition(graph, path, by_other[path]))


def leaves_path(changed: Dependencies, replayed: Replay, path: CriticalPath) -> bool:
    """Whether a changed graph takes as long as before because the change is off the longest path.

    It does where no node is reached later than before, and each on the path is still reached from
    the one before it in the same time; to see that takes a fraction of a replay.

    Args:
        changed: The graph after the change, of the same nodes.
        replayed: The graph before it.
        path: Its longest path.
    """
    reached, own = replayed.reached_ns, changed.wait_ns + changed.work_ns
    first = reached[changed.before] + changed.between_ns + own
    second = reached[changed.other] + changed.lag_ns + own
    if (np.maximum(first, second)[1:] > reached[1:]).any():
        return False
    nodes = path.nodes
    came_from = np.where(path.by_other, changed.other[nodes], changed.before[nodes])
    arrives = np.where(path.by_other, second[nodes], first[nodes])
    same = (came_from == np.append(0, nodes[:-1])) & (arrives == reached[nodes])
    return bool(same.all())


def _composition(graph: Dependencies, path: Whole, by_other: Flags) -> dict[str, int]:
    found = np.zeros(len(PARTS), np.int64)
    before, other = path[~by_other], path[by_other]
    found[: len(CAUSES)] += graph.parts_ns[before].sum(axis=0)
    found[GAP] += graph.gap_ns[before].sum()
    on_host = graph.kind[other] == Node.HOST
    lag, woken = graph.lag_ns[other], graph.point[other] == Point.WOKEN
    found[LATENCY] += lag[~on_host].sum()
    found[OTHER] += lag[on_host & woken].sum()
    found[COPIES] += lag[on_host & ~woken].sum()
    host = graph.kind[path] == Node.HOST
    work, talks, copies = graph.work_ns[path], graph.communicates[path], graph.copies[path]
    found[COMPUTATION] += work[~talks & ~copies].sum()
    found[COMMUNICATION] += work[talks].sum()
    found[COPIES] += work[copies].sum()
    found[SYNCHRONISATION] += graph.wait_ns[path][host].sum()
    found[UNEXPLAINED] += graph.wait_ns[path][~host].sum()
    return dict(zip(PARTS, found.tolist(), strict=True))
