"""A run in TensorBoard's folders: given as it grows, or all at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path, PurePath

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.records import ProcessInfo, RunInfo, Sample
from trainprof.profiler.model.run import Run, Steps
from trainprof.profiler.model.tuning import TuneResult
from trainprof.reports.tensorboard.conclusion import write_diagnosis, write_trials
from trainprof.reports.tensorboard.curves import Curves
from trainprof.reports.tensorboard.event_file import Chart, EventFile, remove_events
from trainprof.reports.tensorboard.means import Means, Point
from trainprof.reports.tensorboard.places import Places, is_one_of_several, part
from trainprof.reports.tensorboard.readings import Readings

LAYOUT: dict[str, tuple[Chart, ...]] = {
    "Where a step's time goes": (
        ("phases, share of the step", ("phase_share/.*",)),
        ("phases, seconds a step", ("phase_seconds/.*",)),
    ),
    "How fast": (
        ("steps per second", ("step/steps_per_s",)),
        ("seconds a step", ("step/seconds",)),
        ("samples per second", ("step/samples_per_s",)),
        ("loss", ("loss",)),
    ),
    "What the machine does": (
        ("CPU busy, share", ("machine/cpu_busy_share",)),
        ("CPU cores that the training uses", ("training/cpu_cores",)),
        ("memory, bytes", ("machine/memory_available_bytes", "training/resident_bytes")),
        ("GPU use, share", ("gpu_[0-9]+/utilization_share",)),
        ("GPU memory, bytes", ("gpu_[0-9]+/memory_used_bytes",)),
        ("disk and network, bytes/s", ("machine/.*_bytes_per_s",)),
    ),
    "Ranks": (("mean step by rank, seconds", ("ranks/step_seconds",)),),
}
"""Of the custom scalars."""


class _Trainer:
    """One training process: its file and its curves."""

    def __init__(self, file: EventFile, info: ProcessInfo, shift_s: float) -> None:
        self.curves = Curves(info.pid)
        self._file = file
        self._shift_s = shift_s

    def write(self, points: Iterable[Point]) -> None:
        for one in points:
            self._file.scalars(one.step, one.at_ns / 1e9 + self._shift_s, one.values)


class RunEvents:
    """Writes one run below a folder of TensorBoard's; what was written there before is removed.

    A run of one process is one run of TensorBoard's. Ranks, and the second and later training of a
    command, have folders of their own in it.

    Args:
        folder: Of this run. info: As in run.json, for its clock.

    Attributes:
        places: Which folder shows which process.

    Raises:
        UsageError: the folder cannot be written.
        OSError: a later write fails.
    """

    def __init__(self, folder: Path, info: RunInfo) -> None:
        self.places = Places()
        self._folder = folder
        self._info = info
        self._files: dict[str, EventFile] = {}
        self._trainers: dict[str, _Trainer] = {}
        self._early_losses: dict[str, list[tuple[int, float]]] = {}
        self._main: list[_Trainer] = []
        self._samples: list[Sample] = []
        remove_events(folder)
        self._file("").layout(info.started_unix_s, LAYOUT)

    def add(
        self,
        folder: str,
        info: ProcessInfo,
        steps: Steps,
        losses: Iterable[tuple[int, float]] = (),
    ) -> None:
        """What a training process has added: `folder` tells it from all others."""
        name = PurePath(folder).name
        if not len(steps) and name not in self._trainers:  # its first step has not been seen yet
            self._early_losses.setdefault(name, []).extend(losses)
            if info.role == "trainer":  # also one that never completes a step has its number
                self.places.place(name, info)
            return
        place = self.places.place(name, info)
        if place is None:
            return
        if name not in self._trainers:
            self._trainers[name] = self._new_trainer(place, info)
        trainer = self._trainers[name]
        trainer.write(trainer.curves.add_steps(steps))
        trainer.write(trainer.curves.add_losses(self._early_losses.pop(name, ())))
        trainer.write(trainer.curves.add_losses(losses))

    def add_samples(self, samples: Iterable[Sample]) -> None:
        """Further looks at the machine, after the steps that had ended by then."""
        self._samples += samples
        ends = [one.curves.latest_end_ns or 0 for one in self._main]
        until_ns = max(ends, default=-1)
        ready = list(takewhile(lambda one: one.at_ns <= until_ns, self._samples))
        del self._samples[: len(ready)]
        self._write_samples(ready)

    def flush(self) -> None:
        """Makes what was written visible."""
        for file in self._files.values():
            file.flush()

    def finish(self, diagnosis: Diagnosis, tune: TuneResult | None = None) -> None:
        """What is known at the end; nothing more may be added."""
        rest, self._samples = self._samples, []
        if self._main:
            self._write_samples(rest)
        else:
            self._write_without_steps(rest)
        for trainer in self._trainers.values():
            trainer.write(trainer.curves.finish())
        for one in (diagnosis, *diagnosis.other_sessions):
            number = one.run.session + 1
            write_diagnosis(self._file(part(number)), one)
        if tune is not None:
            write_trials(self._folder, self._info.started_unix_s, tune)
        self.close()

    def close(self) -> None:
        """Ends all files."""
        files, self._files = self._files, {}
        for file in files.values():
            file.close()

    def _file(self, place: str) -> EventFile:
        if place not in self._files:
            self._files[place] = EventFile(self._folder / place, self._info.started_unix_s)
        return self._files[place]

    def _new_trainer(self, place: str, info: ProcessInfo) -> _Trainer:
        trainer = _Trainer(self._file(place), info, self._shift_s(info))
        if info.host == self._info.host and not (is_one_of_several(info) and info.rank):
            self._main.append(trainer)
        return trainer

    def _shift_s(self, info: ProcessInfo) -> float:
        """What is added to a time of a process to have the time of day."""
        if info.host != self._info.host and {"unix_s", "perf_ns"} <= info.clock.keys():
            return float(info.clock["unix_s"] - info.clock["perf_ns"] / 1e9)
        return self._own_shift_s

    @property
    def _own_shift_s(self) -> float:
        return self._info.started_unix_s - self._info.started_ns / 1e9

    def _write_samples(self, samples: Sequence[Sample]) -> None:
        """Each to the training whose first step began last before it."""
        began = sorted(
            ((one.curves.first_step_ns or 0, place) for place, one in enumerate(self._main)),
            reverse=True,
        )
        for sample in samples:
            place = next((place for ns, place in began if ns <= sample.at_ns), began[-1][1])
            trainer = self._main[place]
            trainer.write(trainer.curves.add_samples([sample]))

    def _write_without_steps(self, samples: Sequence[Sample]) -> None:
        """There are no steps: seconds since the first look take their place."""
        readings, means = Readings(None), Means()
        for sample in samples:
            second = (sample.at_ns - samples[0].at_ns) // 1_000_000_000
            self._write_points(means.add(second, sample.at_ns, readings.values(sample)))
        self._write_points(means.finish())

    def _write_points(self, points: Iterable[Point]) -> None:
        for one in points:
            self._file("").scalars(one.step, one.at_ns / 1e9 + self._own_shift_s, one.values)


def write_run(folder: Path, run: Run, diagnosis: Diagnosis, tune: TuneResult | None = None) -> None:
    """A whole run, as far as it is there.

    Raises:
        UsageError: `folder` cannot be written.
        OSError: a later write fails.
    """
    events = RunEvents(folder, run.info)
    for session in run.sessions:
        for trainer in session.trainers:
            losses = ((one.step, one.value) for one in trainer.losses)
            events.add(trainer.folder, trainer.info, trainer.steps, losses)
    events.add_samples(run.samples)
    events.finish(diagnosis, tune)
