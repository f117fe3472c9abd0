"""What is kept of each rank's trace while the others are read: enough to compare them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainprof.profiler.model.diagnosis import Diagnosis, StepSummary
from trainprof.profiler.traces.arrivals import Collectives, collectives
from trainprof.profiler.traces.events import Trace
from trainprof.profiler.traces.reading import TraceError
from trainprof.rules.trace_diagnosis import diagnosis_of, read, step_summary, trace_rules
from trainprof.rules.trace_signals.traced import Traced


@dataclass(frozen=True, slots=True)
class ToRead:
    """One file to read, and the rules to ask of it where it is no rank's.

    Attributes:
        path: Of the file. select, ignore: As of `trace_rules`. operators: As of `diagnosis_of`.
    """

    path: Path
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    operators: bool = False


@dataclass(frozen=True, slots=True)
class Unread:
    """A file that could not be read, and why, as a sentence."""

    path: Path
    why: str


@dataclass(frozen=True, slots=True)
class RankBrief:
    """One file in a few kilobytes.

    Attributes:
        path: Of the file. rank, world_size: None where it does not say both.
        process: Its id; 0 where it has none. window_ns: Length of its window.
        steps: The whole ones in it. shares: Of its window. collectives: Of the rank.
        torn: The file ends in the middle.
        alone: The diagnosis by itself, of a file that is no rank's.
    """

    path: Path
    rank: int | None
    world_size: int | None
    process: int
    window_ns: int
    steps: StepSummary
    shares: dict[str, float]
    collectives: Collectives
    torn: bool
    alone: Diagnosis | None


def brief(task: ToRead) -> RankBrief | Unread:
    """Reads a file, and forgets most of it; what goes wrong is told, not raised."""
    try:
        one = read(task.path)
    except TraceError as error:
        return Unread(task.path, str(error))
    except MemoryError:
        return Unread(task.path, f"{task.path} needs more memory than there is.")
    rank, world_size = _place(one.trace)
    main = one.trace.lanes[0][0] if one.trace.lanes else ""
    rules = trace_rules(task.select, task.ignore) if rank is None else ()
    return RankBrief(
        path=task.path,
        rank=rank,
        world_size=world_size,
        process=int(main) if main.isdecimal() else 0,
        window_ns=one.timeline.window.length_ns,
        steps=step_summary(one.timeline),
        shares=_shares(one),
        collectives=collectives(one.trace, one.timeline),
        torn=one.trace.torn,
        alone=diagnosis_of(one, rules, operators=task.operators) if rank is None else None,
    )


def _place(trace: Trace) -> tuple[int, int] | tuple[None, None]:
    said = trace.header.get("distributedInfo")
    if not isinstance(said, dict):
        return None, None
    rank, size = said.get("rank"), said.get("world_size")
    if type(rank) is int and type(size) is int and 0 <= rank < size:
        return rank, size
    return None, None


def _shares(one: Traced) -> dict[str, float]:
    whole = max(one.timeline.window.length_ns, 1)
    shares = {"data_wait": one.timeline.data_wait_ns / whole}
    if one.timeline.devices:
        shares["comm_exposed"] = one.timeline.devices[0].exposed_ns / whole
    return shares
