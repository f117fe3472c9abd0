"""The operators of one training step, as the agent's window of torch's profiler saw them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.run import ProcessRecord

FORWARD, BACKWARD, BEFORE_UPDATE, BETWEEN = "forward", "backward", "before_update", "between"
"""Zones that patterns are looked for in; the others are torch's own loops."""

Shape = tuple[int, ...]


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
        wall_ns: Length of that step, longer than others for being watched.
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
    fact = min(facts, key=lambda data: int(data["wall_ns"]))
    unit_ns = int(fact["unit_ns"])
    return OperatorTable(
        wall_ns=int(fact["wall_ns"]),
        calls=tuple(_calls(fact, unit_ns)),
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
