"""The operators of one training step, as the agent's window of torch's profiler saw them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.run import ProcessRecord

FORWARD, BACKWARD, BEFORE_UPDATE, BETWEEN = "forward", "backward", "before_update", "between"
"""Zones that patterns are looked for in; the others are torch's own loops."""

Shape = tuple[int, ...]

LEAST_ALIKE = 3
"""Calls of one kind that tell which of them is out of the ordinary."""

STALLED = 4.0
"""Times the median of its kind: the thread lost its CPU (a starting value)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operator that the training thread called by itself.

    Attributes:
        name: Without "aten::"; in the backward the name of the node.
        zone: Where in the step (see `profiler/agent/operator_events.py`).
        start_ns: Since the first operator of the step.
        wall_ns: With all that ran inside.
        backward_ns: Time of its nodes in the backward.
        rearranged_ns: Time of copies inside that bring elements into another order in memory.
        shapes, dtypes, storages: Of the first tensors that it was given.
    """

    name: str
    zone: str
    start_ns: int
    wall_ns: int
    backward_ns: int
    rearranged_ns: int
    shapes: tuple[Shape, ...]
    dtypes: tuple[str, ...]
    storages: tuple[int, ...]

    @property
    def total_ns(self) -> int:
        """Forward and backward together."""
        return self.wall_ns + self.backward_ns

    @property
    def end_ns(self) -> int:
        """When it returned."""
        return self.start_ns + self.wall_ns


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the user's source that called a function of torch.

    Attributes:
        function: The function of torch, as "softmax".
        direct: It stands in that line itself, not in a library that the line calls.
        calls: In one step.
    """

    function: str
    place: Location
    direct: bool
    calls: int


@dataclass(frozen=True, slots=True)
class OperatorTable:
    """One step under the profiler.

    Attributes:
        wall_ns: Length of that step without the time in which the thread waited for a CPU; longer
            than others for being watched.
        calls: In order of time; `truncated` if there were more.
        kernels: (zone, name, calls, self time) of whatever ran, also inside other operators.
        parameters, gradients: Numbers of their storages.
        lines: Where torch was called from, in the step after.
        windows: How many there are; this one is the shortest.
    """

    wall_ns: int
    calls: tuple[Call, ...]
    kernels: tuple[tuple[str, str, int, int], ...]
    parameters: frozenset[int]
    gradients: frozenset[int]
    lines: tuple[Line, ...]
    truncated: bool
    windows: int

    def in_zone(self, *zones: str) -> list[Call]:
        """The calls of some zones, in order."""
        return [call for call in self.calls if call.zone in zones]

    def share(self, calls: Iterable[Call]) -> float:
        """Part of the step that calls take, their backward included."""
        return min(sum(call.total_ns for call in calls) / self.wall_ns, 1.0)

    def place(self, functions: Iterable[str], *, direct: bool = False) -> Location | None:
        """The line that calls one of these functions most often; the first named goes first."""
        for function in functions:
            lines = [
                line
                for line in self.lines
                if line.function == function and (line.direct or not direct)
            ]
            if lines:
                return max(lines, key=lambda line: (line.direct, line.calls)).place
        return None


def read_table(trainer: ProcessRecord) -> OperatorTable | None:
    """The least disturbed window of a training, None where there is none."""
    facts = [data for key, data in _facts(trainer) if key != "status" and data.get("wall_ns")]
    if not facts:
        return None
    fact = min(facts, key=_running_ns)
    unit_ns = int(fact["unit_ns"])
    seen = list(_calls(fact, unit_ns))
    calls = without_stalls(seen)
    stalled_ns = sum(call.wall_ns for call in seen) - sum(call.wall_ns for call in calls)
    return OperatorTable(
        wall_ns=max(min(_running_ns(fact), int(fact["wall_ns"]) - stalled_ns), 1),
        calls=tuple(calls),
        kernels=tuple(
            (str(zone), _plain(name), int(count), int(self_time) * unit_ns)
            for zone, name, count, self_time in fact["kernels"]
        ),
        parameters=frozenset(fact["parameters"]),
        gradients=frozenset(fact["gradients"]),
        lines=tuple(
            Line(function, Location(file, line, around), bool(direct), int(calls))
            for function, file, line, around, direct, calls in fact["lines"]
        ),
        truncated=bool(fact.get("truncated")),
        windows=len(facts),
    )


def _running_ns(fact: Mapping[str, Any]) -> int:
    """The window without the time in which the thread waited for a CPU, where that is known."""
    return int(fact["wall_ns"]) - max(int(fact.get("run_queue_ns", -1)), 0)


def without_stalls(calls: Sequence[Call]) -> list[Call]:
    """The calls, with those cut short that took far longer than others of the same kind.

    On a busy machine the thread loses its CPU for milliseconds in the midst of an operator. A kind
    is the same operator on the same shapes in the same zone, seen at least `LEAST_ALIKE` times.
    """
    kinds: dict[tuple[object, ...], list[Call]] = {}
    for call in calls:
        kinds.setdefault((call.name, call.shapes, call.zone), []).append(call)
    most = {
        kind: (
            STALLED * statistics.median(call.wall_ns for call in alike),
            STALLED * statistics.median(call.backward_ns for call in alike),
        )
        for kind, alike in kinds.items()
        if len(alike) >= LEAST_ALIKE
    }
    unbounded = (math.inf, math.inf)
    cut = []
    for call in calls:
        wall_ns, backward_ns = most.get((call.name, call.shapes, call.zone), unbounded)
        if call.wall_ns > wall_ns or call.backward_ns > backward_ns:
            call = replace(
                call,
                wall_ns=int(min(call.wall_ns, wall_ns)),
                backward_ns=int(min(call.backward_ns, backward_ns)),
            )
        cut.append(call)
    return cut


def shapes_repeat(trainer: ProcessRecord) -> bool | None:
    """Whether all windows saw the same operators on the same shapes in their forwards."""
    seen = []
    for key, fact in _facts(trainer):
        if key != "status" and fact.get("wall_ns"):
            calls = _calls(fact, int(fact["unit_ns"]))
            seen.append({(call.name, call.shapes) for call in calls if call.zone == FORWARD})
    return all(one == seen[0] for one in seen) if len(seen) > 1 else None


def why_absent(trainer: ProcessRecord) -> str:
    """Why a training has no window."""
    reasons = [str(data["reason"]) for _, data in _facts(trainer) if data.get("reason")]
    return reasons[-1] if reasons else "no step was run under torch's profiler"


def _facts(trainer: ProcessRecord) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, fact in trainer.latest_facts("operators").items():
        yield key, fact.data


def _calls(fact: Mapping[str, Any], unit_ns: int) -> Iterator[Call]:
    operators: Sequence[Any] = [
        (_plain(name), tuple(tuple(shape) for shape in shapes), tuple(dtypes))
        for name, shapes, dtypes in fact["operators"]
    ]
    columns = fact["calls"]
    zones = fact["zones"]
    for operator, zone, start, wall, backward, rearranged, storages in zip(
        *(columns[name] for name in _COLUMNS), strict=True
    ):
        name, shapes, dtypes = operators[operator]
        yield Call(
            name,
            zones[zone],
            start * unit_ns,
            wall * unit_ns,
            backward * unit_ns,
            rearranged * unit_ns,
            shapes,
            dtypes,
            tuple(storages),
        )


_COLUMNS = ("operator", "zone", "start", "wall", "backward", "rearranged", "reads")


def _plain(name: str) -> str:
    return name.removeprefix("aten::")
