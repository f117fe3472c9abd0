"""One training session laid out for measuring: columns, the steady window, sums over its units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.phases import PHASES, PHASES_OF_COLLECTOR
from trainprof.profiler.model.records import COMPILED, LAST, NO_LOADER, Event
from trainprof.profiler.model.run import ProcessRecord, Run, Session
from trainprof.profiler.store.trials import EarlierRun, Launch
from trainprof.rules.costs import Costs
from trainprof.rules.statistics.intervals import (
    Floats,
    Interval,
    block_length,
    ratio_intervals,
    unit_edges,
    unit_sums,
)
from trainprof.rules.statistics.steady import Window, find_window

NO_COSTS = Costs()

Column = NDArray[np.int64]

LIKE_RANK_ZERO = 0.9
"""The first rank stands for all as long as it has this part of the most steps."""

DISTURBANCES = ("operators", "window", "denormals")
"""Events of the time in which trainprof itself held the training up."""

LEAST_UNDISTURBED = 0.5
"""Part of the steps that must be left when those under the profiler are taken away."""

BLOCK_BATCHES_PER_WORKER = 4
"""Steps of a block per loader worker: batches of W workers come in bursts of W."""

SIGNALS_OF_COLLECTOR: dict[str, tuple[str, ...]] = {
    "flags": ("flags.",),
    "graphs": ("memory.graph_",),
    "hooks_scaler": ("scaler.",),
    "losses": ("loss.",),
    "metrics": ("learning.",),
    "hooks_metrics": ("learning.",),
    "loader facts": ("loader.",),
    "model facts": ("model.",),
    "optimizer facts": ("optimizer.",),
    "facts": ("flags.", "loader.", "model.", "optimizer.", "batch."),
    "batches": ("batch.",),
    "samples": ("host.", "gpu."),
    "gpu": ("gpu.",),
}
"""Beginnings of the signals that such a collector, or one of the samplers, leaves out."""


@dataclass(frozen=True, slots=True)
class TrainingLoader:
    """The DataLoader that feeds the training; `key` is None where no loader was seen."""

    key: str | None
    fact: Mapping[str, Any]

    @property
    def workers(self) -> int:
        """`num_workers`, 0 where it is not known."""
        return int(self.fact.get("num_workers") or 0)

    @property
    def prefetch_factor(self) -> int:
        """Batches that each worker prepares ahead; torch's default is 2."""
        return int(self.fact.get("prefetch_factor") or 2)


class Training:
    """A session of a run, seen through the rank that stands for it.

    Columns are views on the run's own memory and end before a step that the end of the training
    cut off; steps that trainprof itself lengthened are left out. All else is sums over units of
    them.

    Args:
        run: The run the session is part of.
        session: One training.
        costs: Prices from the settings.
        earlier_runs: Complete runs of the same script, this one included.
        launches: All its runs, in order.
    """

    def __init__(
        self,
        run: Run,
        session: Session,
        costs: Costs = NO_COSTS,
        earlier_runs: Sequence[EarlierRun] = (),
        launches: Sequence[Launch] = (),
    ) -> None:
        self.run = run
        self.session = session
        self.costs = costs
        self.earlier_runs = earlier_runs
        self.launches = launches
        self.trainer = representative(session)
        columns = {
            name: np.frombuffer(column, dtype=np.int64) if len(column) else np.empty(0, np.int64)
            for name, column in self.trainer.steps.columns.items()
        }
        self.count = len(columns["index"])
        whole = self.count
        if whole and columns["flags"][-1] & LAST:
            whole -= 1
        self.columns: dict[str, Column] = undisturbed(
            {name: c[:whole] for name, c in columns.items()},
            [event for event in self.trainer.events if event.kind in DISTURBANCES],
        )

    @cached_property
    def loader(self) -> TrainingLoader:
        """The training's loader: the one asked most often."""
        return _training_loader(self.trainer)

    @cached_property
    def window(self) -> Window:
        """The steps behind every mean."""
        compiled = (self.columns["flags"] & COMPILED).astype(bool)
        loader = self.loader
        return find_window(
            self.columns["wall_ns"], compiled, loader.workers, loader.prefetch_factor
        )

    @property
    def has_window(self) -> bool:
        """Whether there is at least one step to speak of."""
        return len(self.window) > 0

    def steady(self, column: str) -> Column:
        """A column inside the window."""
        return self.columns[column][self.window.first : self.window.stop]

    @cached_property
    def span_ns(self) -> tuple[int, int]:
        """When the window begins and ends."""
        start, wall = self.steady("start_ns"), self.steady("wall_ns")
        return int(start[0]), int(start[-1] + wall[-1])

    @cached_property
    def wall_s(self) -> float:
        """Seconds of the window's steps."""
        return float(self.steady("wall_ns").sum()) / 1e9

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """Where the units of the window begin."""
        return unit_edges(len(self.window))

    @cached_property
    def block(self) -> int:
        """Units in a bootstrap block."""
        steps_per_unit = int(self.edges[1]) if len(self.edges) > 1 else 1
        least = BLOCK_BATCHES_PER_WORKER * self.loader.workers
        return block_length(len(self.edges), steps_per_unit, least)

    def sums(self, column: str) -> Floats:
        """A column of the window, summed over units."""
        return unit_sums(self.steady(column), self.edges)

    def per_step(self, totals: Floats) -> Interval:
        """A series of unit sums as a mean per step."""
        steps = np.diff(np.append(self.edges, len(self.window))).astype(np.float64)
        return ratio_intervals([totals], steps, self.block)[0]

    @cached_property
    def phase_shares(self) -> dict[str, Interval]:
        """Share of each measured phase in the window's time."""
        names = [phase for phase in PHASES if phase not in self.unmeasured]
        series = [self.sums(f"{name}_ns") for name in names]
        intervals = ratio_intervals(series, self.sums("wall_ns"), self.block)
        return {
            name: Interval(
                interval.mean,
                interval.low,
                None if interval.high is None else min(interval.high, 1.0),
            )
            for name, interval in zip(names, intervals, strict=True)
        }

    @cached_property
    def unmeasured(self) -> dict[str, str]:
        """Phases that say nothing, and why."""
        reasons = dict(self.lost_phases)
        flags = self.steady("flags")
        if len(flags) and bool(np.all(flags & NO_LOADER)):
            reasons["data_wait"] = "no DataLoader was iterated"
        return reasons

    @cached_property
    def failures(self) -> dict[str, str]:
        """Collectors of agent and samplers that failed, and what to say of their signals."""
        failed = {
            status.name: status.reason
            for status in self.run.info.collectors
            if status.status == "failed"
        }
        for event in self.events("collector_failed"):
            failed[str(event.data.get("collector"))] = event.data.get("error")
        return {
            name: f"its collector failed ({reason or 'no error recorded'})"
            for name, reason in failed.items()
        }

    @cached_property
    def lost_phases(self) -> dict[str, str]:
        """Phases whose collector failed, and how."""
        return {
            phase: reason
            for collector, reason in self.failures.items()
            for phase in PHASES_OF_COLLECTOR.get(collector, ())
        }

    @cached_property
    def losses(self) -> NDArray[Any]:
        """Loss values with their steps: an array of (step, value)."""
        kind = np.dtype([("step", np.int64), ("value", np.float64)])
        losses = self.trainer.losses
        pairs = ((loss.step, loss.value) for loss in losses)
        return np.fromiter(pairs, dtype=kind, count=len(losses))

    def events(self, kind: str) -> list[Event]:
        """The trainer's events of one kind."""
        return [event for event in self.trainer.events if event.kind == kind]

    def steady_events(self, kind: str) -> list[Event]:
        """Those that began inside the window."""
        start, end = self.span_ns
        return [event for event in self.events(kind) if start <= event.start_ns < end]

    def overlapping(self, kind: str) -> Iterator[tuple[Event, float]]:
        """Summary events with the part of each that lies inside the window."""
        start, end = self.span_ns
        for event in self.events(kind):
            stop = event.start_ns + event.duration_ns
            inside = min(stop, end) - max(event.start_ns, start)
            if inside > 0:
                yield event, inside / event.duration_ns

    def position_of(self, at_ns: int) -> int:
        """Position of the step under way at a time, among all steps."""
        return int(np.searchsorted(self.columns["start_ns"], at_ns, side="right")) - 1


def representative(session: Session) -> ProcessRecord:
    """The rank that stands for the session: the first, unless it recorded far fewer steps."""
    most = max(len(trainer.steps) for trainer in session.trainers)
    return next(
        trainer for trainer in session.trainers if len(trainer.steps) >= LIKE_RANK_ZERO * most
    )


def undisturbed(columns: dict[str, Column], disturbances: Sequence[Event]) -> dict[str, Column]:
    """The columns without the steps that overlap one of the events; all if that leaves too few."""
    start = columns["start_ns"]
    kept = np.ones(len(start), dtype=np.bool_)
    for event in disturbances:
        end_ns = event.start_ns + event.duration_ns
        kept &= (start >= end_ns) | (start + columns["wall_ns"] <= event.start_ns)
    if kept.all() or np.count_nonzero(kept) < LEAST_UNDISTURBED * len(kept):
        return columns
    return {name: column[kept] for name, column in columns.items()}


def location(where: object) -> Location | None:
    """A place in the user's source from a fact's payload."""
    if not isinstance(where, Mapping):
        return None
    file, line, function = where.get("file"), where.get("line"), where.get("function")
    if not isinstance(file, str) or not isinstance(line, int):
        return None
    return Location(file, line, function if isinstance(function, str) else None)


def most_frequent_place(events: Sequence[Event]) -> Location | None:
    """The place named most often in events' payloads."""
    places = [place for event in events if (place := location(event.data.get("where")))]
    return max(places, key=places.count) if places else None


def evenly(length: int, most: int) -> range:
    """At most `most` positions of a long sequence, spread evenly."""
    return range(0, length, max(1, -(-length // most)))


def _training_loader(trainer: ProcessRecord) -> TrainingLoader:
    facts = {key: fact.data for key, fact in trainer.latest_facts("loader").items()}
    training = {key: data for key, data in facts.items() if data.get("role") == "training"}
    known = training or {k: data for k, data in facts.items() if data.get("role") == "unknown"}
    asks = [trainer.queue[position].loader for position in evenly(len(trainer.queue), 4_000)]
    if known:
        key = max(known, key=asks.count)
        return TrainingLoader(key, known[key])
    return TrainingLoader(max(asks, key=asks.count) if asks else None, {})
