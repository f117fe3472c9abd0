"""Notices loss graphs that outlive their step: direct evidence of a leak.

On the sampled steps a small object of ours is tied to the loss's autograd node and to the ones
right before it; it dies with the last of them. If it is alive many steps later, something of the
script still holds that step's graph (`total += loss`, a list of outputs).
"""

from __future__ import annotations

import weakref
from collections import deque
from time import perf_counter_ns
from typing import Any

from ..model.records import Event
from .location import caller_location
from .recorder import Recorder

AGE_STEPS = 32
"""A graph that is alive so many updates later is reported."""
MOST_WATCHED = 64
MOST_NODES = 6
"""Of one step: the loss's node, and those through which outputs of the model are reached."""
_KEY = "trainprof"


class _Sentinel:
    __slots__ = ("__weakref__",)


class GraphWatch:
    """Watches one loss graph per sampled step.

    Args:
        recorder: Tells which steps are sampled, and counts the updates.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._last_step = -1
        self._watched: deque[tuple[weakref.ref[_Sentinel], int, int, Any]] = deque()
        self._where: Any = None

    def watch(self, outputs: Any) -> None:
        """Ties a sentinel to the graph of this backward; called on sampled steps only."""
        step = self._recorder.updates
        if step == self._last_step or len(self._watched) >= MOST_WATCHED:
            return
        self._last_step = step
        tensor = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        fresh = [
            metadata
            for node in _last_nodes(getattr(tensor, "grad_fn", None))
            if (metadata := getattr(node, "metadata", None)) is not None
            # A node that an earlier step had already belongs to a graph that is used again.
            and metadata.pop(_KEY, None) is None
        ]
        if not fresh:
            return
        if self._where is None:
            self._where = caller_location()
        sentinel = _Sentinel()
        for metadata in fresh:
            metadata[_KEY] = sentinel
        self._watched.append((weakref.ref(sentinel), step, perf_counter_ns(), self._where))

    def take_events(self) -> list[Event]:
        """One event per graph that has outlived `AGE_STEPS` updates."""
        events = []
        updates = self._recorder.updates
        while self._watched and updates - self._watched[0][1] >= AGE_STEPS:
            reference, step, at_ns, where = self._watched.popleft()
            if reference() is not None:
                data = {"step_made": step, "age_steps": updates - step, "where": where}
                events.append(Event("graph_alive", at_ns, 0, data))
        return events


def _last_nodes(loss: Any) -> list[Any]:
    """The loss's node and some before it, breadth first; leaves belong to no step."""
    nodes = [loss] if loss is not None else []
    for node in nodes:
        for before, _ in node.next_functions:
            if len(nodes) >= MOST_NODES:
                return nodes
            if before is not None and before not in nodes and not hasattr(before, "variable"):
                nodes.append(before)
    return nodes
