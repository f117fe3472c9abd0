"""The course of a tune, written down for whoever watches it: a line for each thing that happens.

It proves nothing (`tune.json` does, at the end) and is not gone on with (the journal of trials is).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from trainprof.errors import TrainprofError
from trainprof.profiler.model.plan import Plan
from trainprof.profiler.model.tune_progress import (
    Attempt,
    TuneBegun,
    TuneEnded,
    TuneNoise,
    TunePlanned,
    TuneRun,
)
from trainprof.profiler.model.tuning import RefusedFix
from trainprof.profiler.store.encoded import encode_json
from trainprof.profiler.store.layout import FORMAT, TUNE_PROGRESS_FILE
from trainprof.rules.experiments.candidates import Refused
from trainprof.rules.experiments.experiment import Experiment
from trainprof.rules.experiments.result import noise_of, tried_fix
from trainprof.rules.experiments.trial_journal import append_line
from trainprof.rules.experiments.watching import Progress, Watch


class ProgressFile(Watch):
    """The file of one tune. Where it cannot be written any more, the tune goes on without it.

    Args:
        folder: Of the tune.
        clock: Unix time in seconds.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._path = folder / TUNE_PROGRESS_FILE
        self._clock = clock
        self._fails = False
        self._progress: Progress | None = None
        self._experiments: list[Experiment] = []
        self._written: dict[int, Attempt] = {}

    def begin(self, command: Sequence[str], budget_s: float) -> None:
        """It begins, or goes on; `command` is masked."""
        if not self._path.exists():
            self._append({"format": FORMAT})
        host = os.uname().nodename
        begun = TuneBegun(tuple(command), budget_s, host, os.getpid(), self._clock())
        self._add("begun", begun)

    def plan(self, steps: int, refused: Sequence[Refused]) -> None:
        """What is tried is known, and what is not."""
        left_out = tuple(RefusedFix(one.fix, one.rule, one.reason) for one in refused)
        self._add("planned", TunePlanned(steps, left_out))

    def tell(self, progress: Progress) -> None:
        """What the next trials are for."""
        self._progress = progress

    def starts(self, folder: Path, steps: int, label: str, plan: Plan) -> None:
        """A trial starts, as told by `tell`."""
        progress = self._progress
        if progress is None:
            return
        changed = progress.experiment is not None and not label.startswith("without ")
        last = plan.applications[-1:] if changed else ()
        run = TuneRun(
            progress.purpose,
            self._relative(folder),
            steps,
            self._number(progress.experiment) if progress.experiment is not None else None,
            changed,
            dict(last[0].params) if last else {},
            progress.pair,
            progress.pairs_at_most,
        )
        self._add("run", run)

    def starts_diagnosed(self, purpose: str, folder: Path, steps: int) -> None:
        """A run starts that is diagnosed, "baseline" or "kept"."""
        self._add("run", TuneRun(purpose, self._relative(folder), steps))

    def noise(self, equal_log_ratios: Sequence[float]) -> None:
        """There is one more pair of unchanged runs."""
        self._add("noise", TuneNoise(noise_of(equal_log_ratios)))

    def attempt(self, experiment: Experiment) -> None:
        """How far an experiment got, where that is new."""
        number = self._number(experiment)
        attempt = attempt_of(number, experiment)
        if self._written.get(number) != attempt:
            self._written[number] = attempt
            self._add("attempt", attempt)

    def end(self, ended: str, reason: str = "") -> None:
        """It is over."""
        self._add("ended", TuneEnded(ended, reason))

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Also says so where it ends by an error or an interrupt."""
        try:
            yield
        except KeyboardInterrupt:
            self.end("interrupted")
            raise
        except TrainprofError as error:
            self.end("failed", str(error))
            raise

    def _number(self, experiment: Experiment) -> int:
        """Counted from 1, in the order in which they were told of."""
        for number, one in enumerate(self._experiments, 1):
            if one is experiment:
                return number
        self._experiments.append(experiment)
        return len(self._experiments)

    def _relative(self, folder: Path) -> str:
        return str(folder.relative_to(self._folder))

    def _add(self, kind: str, data: object) -> None:
        self._append({"kind": kind, "at_unix_s": self._clock(), "data": data})

    def _append(self, line: object) -> None:
        if self._fails:
            return
        try:
            append_line(self._path, encode_json(line), forced=False)
        except OSError:  # the disk is full, say: what a tune proves does not depend on this
            self._fails = True


def attempt_of(number: int, experiment: Experiment) -> Attempt:
    """One experiment as it stands."""
    tried = tried_fix(experiment)
    fixes = tuple(one.application.fix for one in experiment.candidates)
    attempt = Attempt(
        number,
        fixes,
        verdict=experiment.verdict,
        speedup=tried.speedup,
        ci=tried.ci,
        pairs=tried.pairs,
        reason=tried.reason,
        loss_check=tried.loss_check,
        measured=tried.measured,
    )
    if len(fixes) > 1:
        return attempt
    return replace(
        attempt,
        params=tried.params,
        rule=tried.rule,
        predicted=tried.predicted,
        searched=tried.searched,
    )
