"""`Run`: what the store reads back from a run folder."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .phases import PHASES
from .records import (
    Event,
    Fact,
    Fetch,
    LossValue,
    MemoryPoint,
    MicroBatch,
    ProcessInfo,
    QueueDepth,
    RunInfo,
    Sample,
    StepRecord,
)
from .stacks import Stacks

STEP_COLUMNS = (
    "index",
    "start_ns",
    "wall_ns",
    *(f"{phase}_ns" for phase in PHASES),
    "cpu_ns",
    "run_queue_ns",
    "micro_batches",
    "samples",
    "flags",
    "inferred",
)
MISSING = -1
"""What a step column holds where the value was not measured."""


def _no_columns() -> dict[str, array[int]]:
    return {name: array("q") for name in STEP_COLUMNS}


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one process, one signed 64-bit column per name of `STEP_COLUMNS`.

    Columns because a run may have millions of steps; `numpy.frombuffer` views them without a copy.
    """

    columns: dict[str, array[int]] = field(default_factory=_no_columns)

    def __len__(self) -> int:
        return len(self.columns["index"])

    def record(self, position: int) -> StepRecord:
        """The step at `position` (not its index: steps may be missing) as a record."""
        row = {name: column[position] for name, column in self.columns.items()}

        def measured(name: str) -> int | None:
            return None if row[name] == MISSING else row[name]

        return StepRecord(
            index=row["index"],
            start_ns=row["start_ns"],
            wall_ns=row["wall_ns"],
            phases_ns=tuple(row[f"{phase}_ns"] for phase in PHASES),
            cpu_ns=measured("cpu_ns"),
            run_queue_ns=measured("run_queue_ns"),
            micro_batches=row["micro_batches"],
            samples=measured("samples"),
            flags=row["flags"],
            inferred=row["inferred"],
        )


@dataclass(frozen=True, slots=True)
class PhaseStates:
    """CPU and run-queue time per phase of one step (about one step in 16)."""

    step: int
    cpu_ns: tuple[int, ...]
    run_queue_ns: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """Everything one Python process of the run wrote.

    The sequences may be views that make a record when it is asked for: iterate and index them, and
    expect no more of them than of any `Sequence`.
    """

    info: ProcessInfo
    folder: str
    steps: Steps = field(default_factory=Steps)
    states: Sequence[PhaseStates] = ()
    micro: Mapping[int, tuple[MicroBatch, ...]] = field(default_factory=dict)
    losses: Sequence[LossValue] = ()
    queue: Sequence[QueueDepth] = ()
    memory: Sequence[MemoryPoint] = ()
    facts: tuple[Fact, ...] = ()
    events: tuple[Event, ...] = ()
    fetches: Sequence[Fetch] = ()

    def latest_facts(self, kind: str) -> dict[str, Fact]:
        """The latest fact of each key of `kind`, in order of first appearance."""
        return {fact.key: fact for fact in self.facts if fact.kind == kind}


@dataclass(frozen=True, slots=True)
class Session:
    """One training: the ranks that trained together, and their DataLoader workers.

    A command may hold several (two trainings in a shell script, an elastic restart); each is
    diagnosed by itself.
    """

    trainers: tuple[ProcessRecord, ...]
    workers: tuple[ProcessRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """A trace of a few steps that one process took, or was to take.

    Attributes:
        process: Name of its folder. first: Step that it begins with; -1 where that is not known.
        steps: How many, None where that is not known. path: None where there is no trace.
        reason: Why there is none; None where the process ended without a word.
    """

    process: str
    first: int
    steps: int | None = None
    path: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder, read.

    Attributes:
        status: complete | incomplete | crashed | stopped | running.
        sessions: Trainings in order of their start; empty when nothing trained.
        others: Python processes that never trained.
        samples: Host and GPU samples in time order.
        stacks: Sampled Python stacks.
        problems: What was torn, missing or unreadable, one sentence each.
        traces: Of a few steps, by step.
    """

    path: str
    info: RunInfo
    status: str
    sessions: tuple[Session, ...] = ()
    others: tuple[ProcessRecord, ...] = ()
    samples: tuple[Sample, ...] = ()
    stacks: Stacks = field(default_factory=Stacks)
    problems: tuple[str, ...] = ()
    traces: tuple[TraceRecord, ...] = ()
