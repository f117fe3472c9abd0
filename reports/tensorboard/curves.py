"""A run as curves over training steps: the same points, whether it is read at once or as it grows.

The first 1,024 steps have a point each. Of later ones a point is the mean of 2 steps, from step
2,048 on of 4, from 4,096 on of 8, and so on: 100,000 steps make 4,366 points. The widths depend on
the number of the step alone, so a curve that is drawn while the training runs needs no correction
at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import NO_LOADER, Sample
from trainprof.profiler.model.run import MISSING, Steps
from trainprof.reports.tensorboard.means import Integers, Means, Point, StepEnds, bucket_starts
from trainprof.reports.tensorboard.readings import Readings

_SUMMED = ("wall_ns", *(f"{name}_ns" for name in PHASES), "samples")
_COLUMNS = ("index", "start_ns", "flags", *_SUMMED)


class Curves:
    """The curves of one training process.

    Records may be added in pieces of any size, steps before what happened during them. A point is
    given back when a record behind its steps is seen, so that it never changes afterwards.

    Args:
        pid: Of the process, whose resident memory is shown.
    """

    def __init__(self, pid: int) -> None:
        self._open: dict[str, Integers] = {name: np.zeros(0, np.int64) for name in _COLUMNS}
        self._seen_phases: set[str] = set()
        self._ends = StepEnds()
        self._losses = Means()
        self._losses_ahead: list[tuple[int, float]] = []
        self._looks = Means()
        self._readings = Readings(pid)
        self._first_step_ns: int | None = None

    def add_steps(self, steps: Steps) -> Iterator[Point]:
        """The points that are complete with these steps."""
        new = {
            name: np.frombuffer(steps.columns[name], np.int64) for name in _COLUMNS if len(steps)
        }
        if not new:
            return iter(())
        if self._first_step_ns is None:
            self._first_step_ns = int(new["start_ns"][0])
        self._ends.add(new["index"], new["start_ns"] + new["wall_ns"])
        rows = {name: np.concatenate([self._open[name], new[name]]) for name in _COLUMNS}
        starts = bucket_starts(rows["index"])
        last = int(np.searchsorted(starts, starts[-1]))
        self._open = {name: column[last:] for name, column in rows.items()}
        return self._points({name: column[:last] for name, column in rows.items()})

    def add_losses(self, losses: Iterable[tuple[int, float]]) -> Iterator[Point]:
        """The points behind which these losses (step, value) lie."""
        self._losses_ahead += losses
        latest = self._ends.latest
        if latest is not None:
            ready = [one for one in self._losses_ahead if one[0] <= latest[0]]
            self._losses_ahead = self._losses_ahead[len(ready) :]
            yield from self._of_losses(ready)

    def add_samples(self, samples: Iterable[Sample]) -> Iterator[Point]:
        """The points behind which these looks at the machine lie.

        They were taken before the latest step ended, or are the last ones before `finish`.
        """
        for one in samples:
            step = self._ends.step_at(one.at_ns)
            yield from self._looks.add(step, one.at_ns, self._readings.values(one))

    def finish(self) -> Iterator[Point]:
        """The points that are still open: nothing more will come."""
        yield from self._points(self._open)
        if self._ends.latest is not None:
            yield from self._of_losses(self._losses_ahead)
            yield from self._losses.finish()
            yield from self._looks.finish()

    @property
    def first_step_ns(self) -> int | None:
        """When the first step began."""
        return self._first_step_ns

    @property
    def latest_end_ns(self) -> int | None:
        """When the latest step ended."""
        latest = self._ends.latest
        return None if latest is None else latest[1]

    def _of_losses(self, losses: Sequence[tuple[int, float]]) -> Iterator[Point]:
        for step, value in losses:
            yield from self._losses.add(step, self._ends.end_of(step), {"loss": value})

    def _points(self, rows: Mapping[str, Integers]) -> Iterator[Point]:
        """One point of each bucket that the rows fill."""
        index = rows["index"]
        if not len(index):
            return
        starts = bucket_starts(index)
        edges = np.flatnonzero(np.diff(starts, prepend=starts[0] - 1))
        sums = {name: np.add.reduceat(rows[name], edges).tolist() for name in _SUMMED}
        counted = (np.minimum.reduceat(rows["samples"], edges) != MISSING).tolist()
        loaded = (np.bitwise_or.reduceat(rows["flags"], edges) & NO_LOADER == 0).tolist()
        ends = [*edges[1:].tolist(), len(index)]
        for place, (begin, end) in enumerate(zip(edges.tolist(), ends, strict=True)):
            bucket = {name: of_all[place] for name, of_all in sums.items()}
            if not counted[place]:
                del bucket["samples"]  # not measured, which is not zero
            if not loaded[place]:
                del bucket["data_wait_ns"]
            at_ns = int(rows["start_ns"][end - 1] + rows["wall_ns"][end - 1])
            yield Point(int(index[end - 1]), at_ns, self._values(bucket, end - begin))

    def _values(self, sums: Mapping[str, int], steps: int) -> dict[str, float]:
        """Of the steps of one bucket: a phase has a curve from the first time on that it takes."""
        wall_ns = sums["wall_ns"]
        values = {"step/seconds": wall_ns / 1e9 / steps}
        if wall_ns > 0:
            values["step/steps_per_s"] = steps / wall_ns * 1e9
            if "samples" in sums:
                values["step/samples_per_s"] = sums["samples"] / wall_ns * 1e9
        for phase in PHASES:
            of_phase_ns = sums.get(f"{phase}_ns", 0)
            if of_phase_ns > 0:
                self._seen_phases.add(phase)
            if phase in self._seen_phases and f"{phase}_ns" in sums and wall_ns > 0:
                values[f"phase_share/{phase}"] = of_phase_ns / wall_ns
                values[f"phase_seconds/{phase}"] = of_phase_ns / 1e9 / steps
        return values
