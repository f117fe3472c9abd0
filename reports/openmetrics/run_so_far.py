"""What a run has recorded so far, in totals: the work follows the new records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.phases import PHASES, PHASES_OF_COLLECTOR
from trainprof.profiler.model.records import NO_LOADER, Event, ProcessInfo, RunInfo, Sample
from trainprof.profiler.model.run import MISSING, ProcessRecord, Steps
from trainprof.profiler.store.sessions import build_sessions
from trainprof.profiler.store.tail import Look, NewRecords

if TYPE_CHECKING:
    Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

RECENT_NS = 10_000_000_000
"""The recent steps are those that ended in so long a time before the end of the latest."""
LATER_NS = 1 << 62
"""After whatever has happened by now, by any clock."""
COUNTED_EVENTS = ("checkpoint", "compile", "gc", "validation")


class RecentSteps:
    """The latest steps of one process."""

    def __init__(self) -> None:
        self._columns: Integers = np.zeros((3, 0), np.int64)

    def add(self, ends_ns: Integers, walls_ns: Integers, samples: Integers) -> None:
        """Takes further steps, in their order."""
        columns = np.concatenate([self._columns, np.stack([ends_ns, walls_ns, samples])], axis=1)
        self._columns = columns[:, columns[0] > columns[0, -1] - RECENT_NS]

    @property
    def mean_s(self) -> float:
        """Mean wall time of a step."""
        return float(self._columns[1].mean()) / 1e9

    @property
    def samples_per_s(self) -> float | None:
        """None where some of them did not tell their samples."""
        _, walls_ns, samples = self._columns
        if not walls_ns.sum() or (samples == MISSING).any():
            return None
        return float(samples.sum() / (walls_ns.sum() / 1e9))


@dataclass(slots=True)
class Trainer:
    """One training process.

    Attributes:
        phases_ns: By phase, of all steps. loaded: Whether any step asked a DataLoader.
        samples: None while no step has told them.
        lost: Phases whose collector was switched off. loss: The latest; it may be NaN.
        ready: Batches ready at the latest ask that tells it.
        events: How many of a kind, and how long they took in ns.
    """

    info: ProcessInfo
    steps: int = 0
    wall_ns: int = 0
    phases_ns: list[int] = field(default_factory=lambda: [0] * len(PHASES))
    loaded: bool = False
    samples: int | None = None
    loss: float | None = None
    ready: int | None = None
    last_end_ns: int = 0
    recent: RecentSteps = field(default_factory=RecentSteps)
    events: dict[str, tuple[int, int]] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    @property
    def unmeasured(self) -> set[str]:
        """Phases that say nothing."""
        return self.lost if self.loaded else {*self.lost, "data_wait"}

    def take(self, records: NewRecords) -> None:
        """Adds what the process has written since."""
        self.info = records.info
        if len(records.steps):
            self._take_steps(records.steps)
        if records.losses:
            self.loss = records.losses[-1][1]
        if records.queue:
            self.ready = records.queue[-1]
        for event in records.events:
            self._take_event(event)

    def _take_steps(self, steps: Steps) -> None:
        column = {name: np.frombuffer(values, np.int64) for name, values in steps.columns.items()}
        ends_ns = column["start_ns"] + column["wall_ns"]
        self.steps += len(steps)
        self.wall_ns += int(column["wall_ns"].sum())
        self.last_end_ns = int(ends_ns[-1])
        for place, phase in enumerate(PHASES):
            self.phases_ns[place] += int(column[f"{phase}_ns"].sum())
        self.loaded = self.loaded or bool((column["flags"] & NO_LOADER == 0).any())
        told = column["samples"][column["samples"] != MISSING]
        if len(told):
            self.samples = (self.samples or 0) + int(told.sum())
        self.recent.add(ends_ns, column["wall_ns"], column["samples"])

    def _take_event(self, event: Event) -> None:
        if event.kind == "collector_failed":
            collector = str(event.data.get("collector"))
            self.lost.update(PHASES_OF_COLLECTOR.get(collector, ()))
        told = counted(event)
        if told is not None:
            count, length_ns = self.events.get(event.kind, (0, 0))
            self.events[event.kind] = count + told[0], length_ns + told[1]


def counted(event: Event) -> tuple[int, int] | None:
    """How many an event stands for, and how long they took in ns; None: it is not counted.

    Long collections of garbage have events of their own beside the sums, which hold them too.
    """
    if event.kind not in COUNTED_EVENTS:
        return None
    if event.kind != "gc":
        return 1, event.duration_ns
    if not event.is_summary:
        return None
    return _sum(event.data.get("count")), _sum(event.data["total_ns"])


def _sum(per_generation: object) -> int:
    if not isinstance(per_generation, list):
        return 0
    return sum(one for one in per_generation if isinstance(one, int))


class Machine:
    """The samples of the machine.

    Attributes:
        latest: The newest and the one before: some figures need two readings, and the last sample
            of a run often lacks them.
    """

    def __init__(self) -> None:
        self.latest: tuple[Sample, ...] = ()
        self._cpu_s: dict[int, float] = {}
        self._cpu_before_s = 0.0

    def take(self, samples: Sequence[Sample]) -> None:
        """Adds further samples, in their order."""
        for sample in samples:
            for process in sample.processes:
                before_s = self._cpu_s.get(process.pid, 0.0)
                if process.cpu_total_s < before_s:  # another process with the number of an old one
                    self._cpu_before_s += before_s
                self._cpu_s[process.pid] = process.cpu_total_s
        self.latest = (*self.latest, *samples)[-2:]

    @property
    def cpu_s(self) -> float | None:
        """CPU time that the processes of the run were seen to have used."""
        return self._cpu_before_s + sum(self._cpu_s.values()) if self._cpu_s else None


@dataclass(frozen=True, slots=True)
class Ranks:
    """The ranks of one training. `number`: 1 is the training that began first."""

    number: int
    trainers: tuple[Trainer, ...]


class RunSoFar:
    """All that is served of one run.

    Args:
        info: Of the run, as it begins.

    Attributes:
        info: As in run.json now.
        diagnosis: The latest, and when it was made in Unix time; None before the first.
    """

    def __init__(self, info: RunInfo) -> None:
        self.info = info
        self.machine = Machine()
        self.diagnosis: tuple[Diagnosis, float] | None = None
        self._trainers: dict[str, Trainer] = {}
        self._grouped: tuple[object, tuple[Ranks, ...]] = (None, ())

    def take(self, look: Look) -> None:
        """Adds what a look at the run folder has found."""
        self.info = look.info or self.info
        for records in look.records:
            trainer = self._trainers.setdefault(records.folder, Trainer(records.info))
            trainer.take(records)
        self.machine.take(look.samples)

    @property
    def steps(self) -> int:
        """Of the process that has completed the most."""
        return max((one.steps for one in self._trainers.values()), default=0)

    def trainings(self) -> tuple[Ranks, ...]:
        """Those with steps, in the order in which they began, as in the diagnosis.

        One that crashed within its first step has its number there, and so it has here.
        """
        training = {
            name: one
            for name, one in self._trainers.items()
            if one.steps or one.info.role == "trainer"
        }
        key = [(name, bool(one.steps), _identity(one.info)) for name, one in training.items()]
        if self._grouped[0] != key:
            self._grouped = key, tuple(_group(training))
        return self._grouped[1]


def _identity(info: ProcessInfo) -> object:
    return info.rank, info.world_size, info.restart_count, info.launch_key, info.ended_ns


def _group(trainers: dict[str, Trainer]) -> Iterable[Ranks]:
    processes = [
        ProcessRecord(replace(one.info, role="trainer", ended_ns=_end_ns(one)), name)
        for name, one in trainers.items()
    ]
    sessions, _ = build_sessions(processes)
    for number, session in enumerate(sessions, 1):
        ranks = [trainers[one.folder] for one in session.trainers]
        with_steps = tuple(one for one in ranks if one.steps)
        if with_steps:
            yield Ranks(number, with_steps)


def _end_ns(trainer: Trainer) -> int:
    """When it ended or was last seen; one without a step may live still."""
    if trainer.info.ended_ns is not None:
        return trainer.info.ended_ns
    return trainer.last_end_ns if trainer.steps else LATER_NS
