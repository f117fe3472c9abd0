"""What the dashboard shows, kept up to date from new records alone. No textual in here.

Shares and step times of the whole run come from the `Diagnosis`; what is computed here is what only
the moment has: the last seconds, and the machine now.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import Event, ProcessInfo, RunInfo, Sample
from trainprof.profiler.model.run import ProcessRecord, Steps
from trainprof.profiler.store.layout import BASELINE_FOLDER
from trainprof.profiler.store.sessions import build_sessions
from trainprof.profiler.store.tail import Look, NewRecords
from trainprof.profiler.store.tune_progress import TuneProgress
from trainprof.reports.dashboard.history import History
from trainprof.reports.dashboard.machine import Machine

LIVE_S = 10
"""What "now" means: steps that ended in the last so many seconds."""
MOST_EVENTS = 200
SHOWN_EVENTS = ("checkpoint", "gc", "compile", "validation", "window", "warning", "data_missing")
OVER = ("complete", "crashed", "stopped", "incomplete")


@dataclass(slots=True)
class Second:
    """The steps that ended in one second: how many, and what they took."""

    at_s: int
    steps: int
    wall_ns: int
    phases_ns: list[int]


@dataclass(slots=True)
class RankBoard:
    """One process that trains.

    Attributes:
        seconds: The last seconds in which steps ended.
        last_s: End of the latest step, in seconds of the run.
        loss: The latest value; None before the first.
        ready: Batches ready at the latest ask that could be read; None where none could.
        waits: Whether it has ever waited for a batch: without a loader that is not measured.
    """

    info: ProcessInfo
    steps: int = 0
    seconds: deque[Second] = field(default_factory=lambda: deque(maxlen=LIVE_S + 2))
    rate: History = field(default_factory=lambda: History(0.0))
    losses: History = field(default_factory=lambda: History(0.0))
    first_s: float | None = None
    last_s: float = 0.0
    loss: float | None = None
    ready: int | None = None
    waits: bool = False

    @property
    def rank(self) -> int:
        """Its rank; 0 where it has none."""
        return self.info.rank or 0


@dataclass(frozen=True, slots=True)
class Live:
    """The last seconds of one rank, or of all.

    Attributes:
        rate: Steps a second of one rank; None before the first step.
        step_s: Mean step; None where none ended.
        shares: Phase -> part of the time of these steps.
    """

    rate: float | None
    step_s: float | None
    shares: dict[str, float]


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """An event, when it was (seconds of the run) and whose."""

    at_s: float
    rank: int
    event: Event


class Board:
    """All that is shown of one run.

    Args:
        folder: Of the run, for the commands that are shown.

    Attributes:
        diagnosis: The latest one; None before the first.
        behind: The past of the run is still being read.
        tune: That the run belongs to; None where it is none of a tune.
        unix_s: Wall-clock time at the latest tick.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info: RunInfo | None = None
        self.status = "running"
        self.ranks: dict[str, RankBoard] = {}
        self.machine = Machine()
        self.events: deque[ShownEvent] = deque(maxlen=MOST_EVENTS)
        self.diagnosis: Diagnosis | None = None
        self.behind = False
        self.tune: TuneProgress | None = None
        self.unix_s = 0.0
        self._selected: int | None = None
        self._training: list[str] = []
        self._now_s = 0.0

    def take(self, look: Look) -> None:
        """Adds what a look at the run folder has found."""
        self.info = look.info or self.info
        self.behind = look.behind
        for records in look.records:
            self._take_records(records)
        for sample in look.samples:
            self._take_sample(sample)

    def tick(self, unix_s: float, status: str) -> None:
        """Moves the present on; that of a run that is over is its last record.

        Args:
            unix_s: Wall-clock time.
            status: As of `Run.status`.
        """
        self.status, self.unix_s = status, unix_s
        latest_s = max((rank.last_s for rank in self.ranks.values()), default=0.0)
        latest_s = max(latest_s, self.machine.at_s)
        if self.over or self.info is None:
            self._now_s = latest_s
        else:
            self._now_s = max(latest_s, unix_s - self.info.started_unix_s)

    @property
    def over(self) -> bool:
        """Whether the run has ended, in any way."""
        return self.status in OVER

    @property
    def goes_on(self) -> bool:
        """Whether something is still to come: of the run, or of its tune."""
        return not self.over if self.tune is None else not self.tune.over

    @property
    def own_diagnosis(self) -> Diagnosis | None:
        """The diagnosis, if it is that of the run: of a trial that of the unchanged script is."""
        return self.diagnosis if self.is_diagnosed else None

    @property
    def is_diagnosed(self) -> bool:
        """Whether diagnoses are of the run that is shown, not of the unchanged script."""
        return self.tune is None or self.folder == self.tune.folder / BASELINE_FOLDER

    def follow(self, tune: TuneProgress) -> Board:
        """The board of the run that the tune has come to: itself, or an empty one."""
        board = self
        if tune.run_folder != self.folder:
            board = Board(tune.run_folder)
            board.diagnosis, board.unix_s = self.diagnosis, self.unix_s
            board._selected = self._selected
        board.tune = tune
        return board

    @property
    def now_s(self) -> float:
        """The present, in seconds since the run began."""
        return self._now_s

    def training(self) -> list[RankBoard]:
        """The ranks of the training that began last, by rank."""
        return [self.ranks[name] for name in self._training]

    @property
    def selected(self) -> int | None:
        """The rank that is looked at; None for all, also until the one that was chosen trains."""
        return self._selected if self._selected in {one.rank for one in self.training()} else None

    def chosen(self) -> list[RankBoard]:
        """The ranks that are looked at."""
        selected = self.selected
        return [one for one in self.training() if selected in (None, one.rank)]

    def select(self, offset: int) -> None:
        """Goes on to the next rank, or back; all ranks together come before the first."""
        choices = [None, *(one.rank for one in self.training())]
        self._selected = choices[(choices.index(self.selected) + offset) % len(choices)]

    def live(self, ranks: Iterable[RankBoard]) -> Live:
        """The last `LIVE_S` seconds of these ranks together."""
        ranks = list(ranks)
        seconds = [
            second
            for rank in ranks
            for second in rank.seconds
            if self._now_s - LIVE_S <= second.at_s < self._now_s
        ]
        steps = sum(second.steps for second in seconds)
        wall_ns = sum(second.wall_ns for second in seconds)
        sums = [sum(second.phases_ns[i] for second in seconds) for i in range(len(PHASES))]
        shares = {name: value / wall_ns for name, value in zip(PHASES, sums, strict=True) if value}
        begun = [rank.first_s for rank in ranks if rank.first_s is not None]
        if not begun:
            return Live(None, None, {})
        span_s = max(1.0, min(float(LIVE_S), self._now_s - min(begun)))
        return Live(
            rate=steps / span_s / len(ranks),
            step_s=wall_ns / steps / 1e9 if steps else None,
            shares=shares if wall_ns else {},
        )

    def rates(self) -> list[float | None]:
        """Steps a second of one rank over the run, the mean of those looked at."""
        chosen = self.chosen()
        if not chosen:
            return []
        until_s = max(rank.last_s for rank in chosen) if self.over else self._now_s
        return mean_of([rank.rate.rates(until_s) for rank in chosen])

    def loss_means(self) -> list[float | None]:
        """The loss over the run, the mean of the ranks looked at."""
        return mean_of([rank.losses.means() for rank in self.chosen()])

    def _take_records(self, records: NewRecords) -> None:
        rank = self.ranks.get(records.folder)
        if len(records.steps) and rank is None:
            rank = self.ranks[records.folder] = RankBoard(records.info)
        if rank is None:
            return
        rank.info = records.info
        begins = rank.first_s is None
        if len(records.steps):
            self._take_steps(rank, records.steps)
        self._take_losses(rank, records)
        rank.ready = records.queue[-1] if records.queue else rank.ready
        for event in records.events:
            if event.kind in SHOWN_EVENTS and not event.is_summary:
                self.events.append(ShownEvent(self._run_s(event.start_ns), rank.rank, event))
        if begins:
            self._find_training()

    def _run_s(self, at_ns: int) -> float:
        return (at_ns - (self.info.started_ns if self.info else 0)) / 1e9

    def _take_steps(self, rank: RankBoard, steps: Steps) -> None:
        for second in by_second(steps, self.info.started_ns if self.info else 0):
            if rank.seconds and rank.seconds[-1].at_s == second.at_s:
                last = rank.seconds[-1]
                last.steps += second.steps
                last.wall_ns += second.wall_ns
                last.phases_ns = [
                    a + b for a, b in zip(last.phases_ns, second.phases_ns, strict=True)
                ]
            else:
                rank.seconds.append(second)
            rank.rate.add(second.at_s, second.steps)
        columns = steps.columns
        rank.waits = rank.waits or any(columns["data_wait_ns"])
        if rank.first_s is None:
            rank.first_s = self._run_s(columns["start_ns"][0])
        rank.last_s = self._run_s(columns["start_ns"][-1] + columns["wall_ns"][-1])
        rank.steps += len(steps)

    def _take_losses(self, rank: RankBoard, records: NewRecords) -> None:
        """At the end of their step; those of a step that is not written yet at the latest one's."""
        columns = records.steps.columns
        ends = {
            index: self._run_s(start_ns + wall_ns)
            for index, start_ns, wall_ns in zip(
                columns["index"], columns["start_ns"], columns["wall_ns"], strict=True
            )
        }
        for step, value in records.losses:
            if math.isfinite(value):
                rank.losses.add(ends.get(step, rank.last_s), value)
            rank.loss = value

    def _take_sample(self, sample: Sample) -> None:
        self.machine.take(sample, self._run_s(sample.at_ns))

    def _find_training(self) -> None:
        """The ranks that belong together; an elastic restart is a training of its own."""
        origin_ns = self.info.started_ns if self.info else 0
        processes = [
            ProcessRecord(
                replace(rank.info, role="trainer", ended_ns=int(rank.last_s * 1e9) + origin_ns),
                folder,
            )
            for folder, rank in self.ranks.items()
        ]
        sessions, _ = build_sessions(processes)
        self._training = [one.folder for one in sessions[-1].trainers]


def by_second(steps: Steps, origin_ns: int) -> list[Second]:
    """The steps by the second of the run in which they ended."""
    import numpy as np

    columns = {
        name: np.frombuffer(steps.columns[name], dtype=np.int64)
        for name in ("start_ns", "wall_ns", *(f"{phase}_ns" for phase in PHASES))
    }
    seconds = (columns["start_ns"] + columns["wall_ns"] - origin_ns) // 1_000_000_000
    begins = np.flatnonzero(np.diff(seconds, prepend=seconds[0] - 1))
    counts = np.diff(begins, append=len(seconds))
    walls = np.add.reduceat(columns["wall_ns"], begins)
    phases = [np.add.reduceat(columns[f"{phase}_ns"], begins) for phase in PHASES]
    return [
        Second(
            int(seconds[begin]),
            int(counts[i]),
            int(walls[i]),
            [int(one[i]) for one in phases],
        )
        for i, begin in enumerate(begins)
    ]


def mean_of(histories: list[list[float | None]]) -> list[float | None]:
    """The mean at each position, of those that have a value there."""
    result: list[float | None] = []
    for position in range(max(map(len, histories), default=0)):
        values = [
            value
            for one in histories
            if position < len(one) and (value := one[position]) is not None
        ]
        result.append(sum(values) / len(values) if values else None)
    return result
