"""What a comparison takes from the diagnosis of a run, and which runs it cannot use."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainprof.profiler.model.comparison import ComparedRun
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.records import RunInfo
from trainprof.rules.engine import LEAST_STEADY_STEPS
from trainprof.rules.experiments.delays import LEAST_SHARE, LEAST_TRIALS, TIMES_USUAL
from trainprof.rules.statistics.groups import LEAST_RUNS, Observation
from trainprof.rules.statistics.intervals import Z95

RUN_DEVIATION = 0.08
"""Between equal runs, in parts of their time, where fewer than three runs a group measure it. Of 20
pairs on two busy cores it was 0.08, without one that waited for a CPU (docs/compare-same.md)."""


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """A run's diagnosis, and what its run.json says besides."""

    diagnosis: Diagnosis
    info: RunInfo

    @property
    def samples_per_step(self) -> float | None:
        """Of one rank; None where samples were not counted."""
        samples = self._signal("step.samples").get("value")
        if not isinstance(samples, (int, float)) or not 0 < samples < math.inf:
            return None
        return float(samples)

    def problem(self) -> str | None:
        """Why its steps cannot be compared, None where they can."""
        steps = self.diagnosis.steps
        if steps.count == 0:
            return "no step was recorded"
        if steps.steady < LEAST_STEADY_STEPS:
            return (
                f"{steps.steady} of its steps came after the warm-up, and {LEAST_STEADY_STEPS} "
                "are needed"
            )
        if steps.mean_s is None or not math.isfinite(steps.mean_s) or steps.mean_s <= 0:
            return "its step time was not measured"
        return None

    def summary(self, problem: str | None) -> ComparedRun:
        """The run as a comparison shows it; `problem`: why its steps do not count."""
        run, steps = self.diagnosis.run, self.diagnosis.steps
        return ComparedRun(
            name=self.info.name,
            path=run.path or "",
            status=run.status,
            started_unix_s=run.started_unix_s,
            steps=steps.count,
            steady=steps.steady,
            mean_s=steps.mean_s,
            mean_s_low=steps.mean_s_low,
            mean_s_high=steps.mean_s_high,
            samples_per_step=self.samples_per_step,
            problem=problem,
        )

    def step_time(self, per: str) -> Observation:
        """Logarithm of the mean time of a step, or of a sample."""
        steps = self.diagnosis.steps
        relative = _deviation(steps.mean_s_low, steps.mean_s_high) / self._mean_s
        waited = min(self.waited_for_cpu, 0.99)
        between = math.hypot(RUN_DEVIATION, -math.log1p(-waited))
        return Observation(math.log(self._mean_s / self._unit(per)), relative, between)

    def phase_time(self, phase: str, per: str) -> Observation | None:
        """Mean seconds of a phase in a step, or for a sample; None where it was not measured."""
        time = self.diagnosis.steps.phases.get(phase)
        if time is None:
            return None
        seconds, unit = time.s_per_step, self._unit(per)
        share = self._signal(f"step.{phase}_share")
        sampling = _deviation(share.get("low"), share.get("high")) * self._mean_s
        between = seconds * math.hypot(RUN_DEVIATION, self.waited_for_cpu)
        return Observation(seconds / unit, sampling / unit, between / unit)

    @property
    def drifts(self) -> bool:
        """Whether its step times grew or shrank while it ran."""
        is_steady = self._signal("step.is_steady").get("value")
        return self.diagnosis.steps.steady > 0 and is_steady is False

    @property
    def _mean_s(self) -> float:
        return self.diagnosis.steps.mean_s or math.nan

    @property
    def waited_for_cpu(self) -> float:
        """Share of the step in which another program may have had the CPU; 0 where not known."""
        value = self._signal("step.run_queue_share").get("value")
        return float(value) if isinstance(value, (int, float)) and value > 0 else 0.0

    def _unit(self, per: str) -> float:
        return (self.samples_per_step or 1.0) if per == "sample" else 1.0

    def _signal(self, name: str) -> Mapping[str, object]:
        signals = self.diagnosis.facts.get("signals")
        found = signals.get(name) if isinstance(signals, Mapping) else None
        return found if isinstance(found, Mapping) else {}


def _deviation(low: object, high: object) -> float:
    """Standard deviation behind a 90 % interval; 0 where there is none."""
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        return 0.0
    return max(float(high) - float(low), 0.0) / (2.0 * Z95)


def problems(group: Sequence[JudgedRun]) -> list[str | None]:
    """Of each run why its steps do not count; None where they do.

    A run does not count either if it waited for a CPU more than three times as long as is usual in
    its group. Its time plays no part; of fewer than four runs nothing is usual.
    """
    found = [run.problem() for run in group]
    usable = [run for run, problem in zip(group, found, strict=True) if problem is None]
    if len(usable) < LEAST_TRIALS:
        return found
    usual = TIMES_USUAL * statistics.median(run.waited_for_cpu for run in usable)
    most = max(usual, LEAST_SHARE)
    spoilt = [run for run in usable if run.waited_for_cpu > most]
    if len(usable) - len(spoilt) < LEAST_RUNS:
        return found
    return [
        f"for {run.waited_for_cpu:.0%} of the time it waited for a CPU, more than three times as "
        "long as is usual in its group"
        if any(run is one for one in spoilt)
        else problem
        for run, problem in zip(group, found, strict=True)
    ]
